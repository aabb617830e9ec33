// Command testsummary reads what go test -json prints, from the files named or standard input, any number of
// runs one after the other, and prints what a person wants to know: a line for each package, the output of
// what failed, every skipped test with its reason, and a last line
//
//	total: N passed, M failed, K skipped
//
// A test with subtests is counted by its subtests; itself it counts only if it failed, or was skipped, and none
// of them did. A package that failed though no test of it did (it does not build, its TestMain said no) counts as
// one failure. A test that was skipped in one run and ran in another, for example in the nested machine, is
// not counted as skipped.
//
// -require names what must not be missing: with -require nested,libvirt a skip whose reason begins with "needs the
// nested", "needs nested", "needs libvirt" or "needs the libvirt" is a failure. The default is the variable POLYVISOR_REQUIRE,
// or "nested,libvirt" if that is empty and CI=true: of all that tests need, a machine in CI may lack only /dev/kvm.
//
// The exit code is 1 if anything failed or the input held no test at all, 2 if it could not be read.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	require := flag.String("require", defaultRequire(os.Getenv), "comma-separated `names` of what must not be missing")
	flag.Parse()
	code, err := summarize(flag.Args(), os.Stdin, os.Stdout, *require)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testsummary:", err)
	}
	os.Exit(code)
}

func defaultRequire(getenv func(string) string) string {
	if r := getenv("POLYVISOR_REQUIRE"); r != "" {
		return r
	}
	if getenv("CI") == "true" {
		return "nested,libvirt"
	}
	return ""
}

func summarize(files []string, stdin io.Reader, out io.Writer, require string) (code int, err error) {
	t := newTally(out, splitNames(require))
	if len(files) == 0 {
		err = t.read(stdin)
	}
	for _, name := range files {
		if err = readFile(t, name); err != nil {
			break
		}
	}
	// What was read is worth printing even if the rest could not be.
	ok := t.finish()
	switch {
	case err != nil:
		return 2, err
	case !ok:
		return 1, nil
	}
	return 0, nil
}

func readFile(t *tally, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := t.read(f); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func splitNames(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}
