// Package sample is a subject for the test of nestedtest: its tests pass, fail and are skipped on purpose, and so
// run only when that test sets NESTEDTEST_SAMPLE.
package sample

// Double is what coverage is measured on.
func Double(n int) int {
	if n == 0 {
		return 0
	}
	return 2 * n
}
