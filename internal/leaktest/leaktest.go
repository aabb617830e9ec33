// Package leaktest fails a test binary that leaves goroutines or file
// descriptors behind.
//
// A package that starts goroutines or opens descriptors says
//
//	func TestMain(m *testing.M) { leaktest.Main(m) }
//
// Goroutines are compared on every system, descriptors on Linux, where
// /proc/self/fd names them. A binary that re-executes itself as something
// other than a test must branch off before it calls Main.
package leaktest

import (
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// settle bounds the wait for what is just about to end: goroutines that were
// told to stop and descriptors closed by them.
const settle = 2 * time.Second

// Main runs the tests of m and ends the process with their exit code, or with
// 1 and a list on standard error if the tests passed and left something
// behind. After failed tests it does not look: a test that ends early leaves
// things open, and the list would only hide the failure.
//
// What exists before Main is called counts as owned by somebody else. Main
// does not return.
func Main(m *testing.M) {
	os.Exit(Run(m))
}

// Run is Main without the end of the program, for a TestMain that has something to
// take away afterwards: it returns the exit code.
func Run(m *testing.M) int { return run(m.Run, os.Stderr) }

func run(tests func() int, out io.Writer) int {
	before := openDescriptors()
	known := goleak.IgnoreCurrent()
	if code := tests(); code != 0 {
		return code
	}
	// Goroutines first: they are what may still close descriptors.
	code := 0
	if err := goleak.Find(known); err != nil {
		fmt.Fprintf(out, "leaktest: goroutines outlived the tests; stop them and wait for their end before the test returns:\n%v\n", err)
		code = 1
	}
	if leaked := leakedDescriptors(before); len(leaked) != 0 {
		fmt.Fprintf(out, "leaktest: %d file descriptor(s) outlived the tests; close them in the test or by their owner:\n", len(leaked))
		for _, d := range leaked {
			fmt.Fprintf(out, "\t%s\n", d)
		}
		code = 1
	}
	return code
}

// leakedDescriptors lists what is open now and was not before, after waiting
// up to settle for it to be closed.
func leakedDescriptors(before map[int]string) []string {
	deadline := time.Now().Add(settle)
	for {
		leaked := newDescriptors(before, openDescriptors())
		if len(leaked) == 0 || time.Now().After(deadline) {
			return leaked
		}
		time.Sleep(10 * time.Millisecond)
	}
}
