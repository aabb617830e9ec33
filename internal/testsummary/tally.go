package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// event is a line of go test -json (go doc test2json).
type event struct {
	Action      string
	Package     string
	ImportPath  string // of build-output and build-fail
	Test        string
	Elapsed     float64
	Output      string
	FailedBuild string
}

// maxOutput bounds what is kept of one test's output, in bytes; the end of it is kept.
const maxOutput = 1 << 20

// againMark is in what a test or nestedtest says when it tries again what the emulator may have lost. Each is listed: a
// fault that is tried away must not go unseen.
const againMark = "AGAIN"

// Results of tests and packages, as test2json calls them.
const (
	pass = "pass"
	fail = "fail"
	skip = "skip"
)

// tally counts the tests of all runs.
type tally struct {
	out      io.Writer
	require  []string
	packages map[string]*packageRun // those that run
	builds   map[string]*output     // what the compiler said, by the package's name in go's words
	passed   int
	failed   int
	ran      map[string]bool   // tests that passed or failed in some run
	skipped  map[string]string // reasons, by test
	again    []string          // what was tried more than once
	anything bool
}

type packageRun struct {
	name   string
	output output
	tests  map[string]*testRun
	order  []string
}

type testRun struct {
	output output
	result string
}

// output keeps the end of what was printed.
type output struct {
	text []byte
	cut  bool
}

func (o *output) add(s string) {
	o.text = append(o.text, s...)
	if len(o.text) > maxOutput {
		o.text = append(o.text[:0], o.text[len(o.text)-maxOutput/2:]...)
		o.cut = true
	}
}

func newTally(out io.Writer, require []string) *tally {
	return &tally{
		out: out, require: require, packages: map[string]*packageRun{}, builds: map[string]*output{},
		ran: map[string]bool{}, skipped: map[string]string{},
	}
}

// read takes one stream of events. A line that is no event is printed as it is.
func (t *tally) read(r io.Reader) error {
	for b := bufio.NewReaderSize(r, 64<<10); ; {
		line, err := b.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			t.line(line)
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

func (t *tally) line(line []byte) {
	var e event
	if err := json.Unmarshal(line, &e); err != nil || e.Action == "" {
		fmt.Fprintf(t.out, "%s\n", bytes.TrimRight(line, "\n"))
		return
	}
	t.anything = true
	switch e.Action {
	case "build-output":
		if t.builds[e.ImportPath] == nil {
			t.builds[e.ImportPath] = &output{}
		}
		t.builds[e.ImportPath].add(e.Output)
		return
	case "build-fail":
		return
	}
	if e.Action == "output" && strings.Contains(e.Output, againMark) {
		t.again = append(t.again, strings.TrimSpace(e.Package+" "+e.Test)+": "+strings.TrimSpace(e.Output))
		if e.Test == "" {
			return // it may come after the package's end
		}
	}
	p := t.packages[e.Package]
	if p == nil {
		p = &packageRun{name: e.Package, tests: map[string]*testRun{}}
		t.packages[e.Package] = p
	}
	if e.Test == "" {
		t.packageEvent(p, e)
		return
	}
	r := p.tests[e.Test]
	if r == nil || r.result != "" && e.Action == "run" { // the second time with -count
		if r != nil {
			t.count(p, e.Test, r)
		}
		r = &testRun{}
		if !slices.Contains(p.order, e.Test) {
			p.order = append(p.order, e.Test)
		}
		p.tests[e.Test] = r
	}
	switch e.Action {
	case "output":
		r.output.add(e.Output)
	case pass, fail, skip:
		r.result = e.Action
	}
}

func (t *tally) packageEvent(p *packageRun, e event) {
	switch e.Action {
	case "output":
		p.output.add(e.Output)
	case pass, fail, skip:
		t.endPackage(p, e)
		delete(t.packages, p.name)
	}
}

// finish ends what the input left open, prints the skips and the last line, and says whether all is well.
func (t *tally) finish() bool {
	for _, name := range sortedKeys(t.packages) {
		p := t.packages[name]
		p.output.add("testsummary: the input ended before this package did\n")
		t.endPackage(p, event{Action: fail})
	}
	if !t.anything {
		fmt.Fprintln(t.out, "testsummary: no test events in the input; did go test -json run?")
	}
	t.printSkips()
	if len(t.again) > 0 {
		fmt.Fprintf(t.out, "tried again, %d:\n  %s\n", len(t.again), strings.Join(t.again, "\n  "))
	}
	fmt.Fprintf(t.out, "total: %d passed, %d failed, %d skipped\n", t.passed, t.failed, len(t.skipped))
	return t.failed == 0 && t.anything
}

// printSkips lists the skips; those that are not allowed become failures.
func (t *tally) printSkips() {
	for key := range t.skipped {
		if t.ran[key] {
			delete(t.skipped, key)
		}
	}
	var refused []string
	if len(t.skipped) > 0 {
		fmt.Fprintln(t.out, "skipped:")
	}
	for _, key := range sortedKeys(t.skipped) {
		reason := t.skipped[key]
		fmt.Fprintf(t.out, "  %s: %s\n", key, strings.ReplaceAll(reason, "\n", "\n    "))
		if name := requiredBy(reason, t.require); name != "" {
			refused = append(refused, fmt.Sprintf("  %s: skipped for want of %q, which is required here", key, name))
			delete(t.skipped, key)
		}
	}
	if len(refused) > 0 {
		fmt.Fprintf(t.out, "failed:\n%s\n", strings.Join(refused, "\n"))
		t.failed += len(refused)
	}
}
