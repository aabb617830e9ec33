package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/polyvisor/polyvisor/internal/nestedvm"
)

// report prints events and counts the results of tests, each subtest as one.
type report struct {
	mu      sync.Mutex
	out     io.Writer
	json    *json.Encoder
	verbose bool
	output  map[string][]string // of tests that run, by package and test
	counts  map[string]int      // by action
	failing map[string]int      // tests that failed, by package
	bad     bool
}

func newReport(out io.Writer, o *options) *report {
	r := &report{out: out, verbose: o.verbose || o.bench != "", output: map[string][]string{}, counts: map[string]int{}, failing: map[string]int{}}
	if o.json {
		r.json = json.NewEncoder(out)
	}
	return r
}

func (r *report) event(e event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.Action == "fail" {
		r.bad = true
	}
	if e.Test != "" {
		r.counts[e.Action]++
		if e.Action == "fail" {
			r.failing[e.Package]++
		}
	}
	if r.json != nil {
		_ = r.json.Encode(e)
		return
	}
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output":
		if r.verbose {
			if !e.shown {
				fmt.Fprint(r.out, e.Output)
			}
			return
		}
		r.output[key] = append(r.output[key], e.Output)
	case "pass", "skip":
		if e.Action == "skip" && e.Test != "" && !r.verbose {
			r.print(key)
		}
		delete(r.output, key)
	case "fail":
		if !r.verbose {
			r.print(key)
		}
	}
	if e.Test == "" {
		r.packageEnd(e)
	}
}

// live prints an event's output as it comes where a person watches.
func (r *report) live(e *event) {
	if r.verbose && r.json == nil && e.Action == "output" {
		r.mu.Lock()
		defer r.mu.Unlock()
		fmt.Fprint(r.out, e.Output)
		e.shown = true
	}
}

// aside prints what a test said whose result does not count.
func (r *report) aside(said string) {
	if !r.verbose || r.json != nil {
		fmt.Fprint(os.Stderr, said)
	}
}

// failedTests counts the tests of a package that failed for good.
func (r *report) failedTests(pkg string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failing[pkg]
}

// again tells that tests run once more.
func (r *report) again(pkg, what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	said := fmt.Sprintf("nestedtest: AGAIN in another machine: %s\n", what)
	if r.json == nil {
		fmt.Fprintf(r.out, "%s\t%s", pkg, said)
		return
	}
	_ = r.json.Encode(event{Action: "output", Package: pkg, Output: said})
	fmt.Fprintf(os.Stderr, "%s\t%s", pkg, said)
}

func (r *report) print(key string) {
	for _, line := range r.output[key] {
		if !strings.HasPrefix(line, "=== ") {
			fmt.Fprint(r.out, line)
		}
	}
	delete(r.output, key)
}

func (r *report) packageEnd(e event) {
	word := map[string]string{"pass": "ok  ", "fail": "FAIL", "skip": "?   "}[e.Action]
	if word == "" {
		return
	}
	var secs float64
	if e.Elapsed != nil {
		secs = *e.Elapsed
	}
	fmt.Fprintf(r.out, "%s\t%s\t%.3fs (nested)\n", word, e.Package, secs)
}

func (r *report) failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bad
}

func (r *report) summary(res nestedvm.Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	run := r.counts["pass"] + r.counts["fail"] + r.counts["skip"]
	fmt.Fprintf(r.out, "nested: %d tests run, %d passed, %d skipped, %d failed (kernel %s, up in %s)\n",
		run, r.counts["pass"], r.counts["skip"], r.counts["fail"], res.Kernel, res.Boot.Round(10*time.Millisecond))
}
