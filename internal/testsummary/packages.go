package main

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// endPackage counts the tests of a package that has ended and prints what there is to say of it.
func (t *tally) endPackage(p *packageRun, e event) {
	passed, failed, skipped := t.passed, t.failed, len(t.skipped)
	for _, name := range p.order {
		r := p.tests[name]
		if r.result == "" {
			r.output.add("testsummary: the test began and did not end\n")
			r.result = fail
		}
		t.count(p, name, r)
	}
	if e.Action == fail && t.failed == failed {
		t.failed++
		t.printFailure(p.name, t.builds[cmp.Or(e.FailedBuild, p.name)], &p.output)
	} else if e.Action == fail {
		t.printFailure(p.name, &p.output)
	}
	word := map[string]string{pass: "ok", fail: "FAIL", skip: "-"}[e.Action]
	counts := fmt.Sprintf("%d passed", t.passed-passed)
	if n := t.failed - failed; n > 0 {
		counts += fmt.Sprintf(", %d failed", n)
	}
	if n := len(t.skipped) - skipped; n > 0 {
		counts += fmt.Sprintf(", %d skipped", n)
	}
	if len(p.order) == 0 && e.Action != fail {
		counts = "no tests"
	}
	fmt.Fprintf(t.out, "%-4s  %s  %.1fs  %s\n", word, p.name, e.Elapsed, counts)
}

// count adds one result, if the test is not told by its subtests.
func (t *tally) count(p *packageRun, name string, r *testRun) {
	key := p.name + " " + name
	subtests := map[string]int{}
	for _, other := range p.order {
		if strings.HasPrefix(other, name+"/") {
			subtests[cmp.Or(p.tests[other].result, fail)]++
		}
	}
	told := len(subtests) > 0 && (r.result == pass || subtests[r.result] > 0)
	switch r.result {
	case pass:
		if !told {
			t.passed++
		}
		t.ran[key] = true
	case fail:
		if !told {
			t.failed++
		}
		t.ran[key] = true
		t.printFailure(key, &r.output)
	case skip:
		if !told {
			t.skipped[key] = skipReason(string(r.output.text))
		}
	}
}

// printFailure prints the outputs of something that failed, without the marks of the test runner.
func (t *tally) printFailure(what string, outputs ...*output) {
	var lines []string
	for _, o := range outputs {
		if o == nil {
			continue
		}
		if o.cut {
			lines = append(lines, "[the beginning of the output is left out]")
		}
		for _, l := range strings.Split(strings.TrimRight(string(o.text), "\n"), "\n") {
			if !runnerMark.MatchString(l) {
				lines = append(lines, l)
			}
		}
	}
	if len(lines) > 0 {
		fmt.Fprintf(t.out, "--- FAIL: %s\n%s\n", what, strings.Join(lines, "\n"))
	}
}

// runnerMark matches lines of the test runner that the events say better.
var runnerMark = regexp.MustCompile(`^(=== (RUN|PAUSE|CONT|NAME|ATTR|ARTIFACTS) |\s*--- (PASS|FAIL|SKIP): |(PASS|FAIL)$|(ok|FAIL|\?)\s+\S+\s|coverage: |$)`)

// position matches where a message of a test comes from.
var position = regexp.MustCompile(`^\s*[^\s:]+\.go:\d+: `)

// skipReason finds the reason in the output of a skipped test: its last message, which may have several lines.
func skipReason(out string) string {
	var reason []string
	for _, l := range strings.Split(out, "\n") {
		switch {
		case position.MatchString(l):
			reason = []string{strings.TrimSpace(position.ReplaceAllString(l, ""))}
		case runnerMark.MatchString(l):
		case len(reason) > 0:
			reason = append(reason, strings.TrimSpace(l))
		}
	}
	return cmp.Or(strings.Join(reason, "\n"), "no reason given")
}

// requiredBy returns the name of names that the reason of a skip says is missing, or "".
func requiredBy(reason string, names []string) string {
	for _, n := range names {
		for _, begin := range []string{"needs the " + n, "needs " + n, "needs /dev/" + n} {
			rest, ok := strings.CutPrefix(reason, begin)
			if ok && (rest == "" || !wordByte(rest[0])) {
				return n
			}
		}
	}
	return ""
}

func wordByte(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '_'
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
