//go:build race

package qcow2

// times is how often a test does what it does often: less with the race detector, which
// makes it many times as slow and looks for something else.
func times(n int) int { return n / 4 }
