package main

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/polyvisor/polyvisor/internal/nestedvm"
)

// suite is the tests of one package over all machines that they take.
type suite struct {
	pkg     *testPackage
	command nestedvm.Command
	rep     *report

	done    map[string]bool // tests that are not to run again; with one its subtests
	told    map[string]bool // tests whose result was reported
	failed  map[string]int  // how often, of tests that run again
	hung    map[string]int  // how often the machine hung in them
	parents map[string][]event
	bad     map[string]bool // tests with a subtest that failed for good
	held    *event          // the package's result by its last run
	faults  []string        // complaints about runs as a whole
	elapsed time.Duration
}

// maxHangs is how many machines may hang in one test before it counts as failed.
const maxHangs = 3

// job is one run of some of a suite's tests.
type job struct {
	suite *suite
	only  []string // "" means all that are not done
	fresh bool     // a second look at what failed, at all of the tests named
	moved []string // not in this job, although not done: they have one of their own
}

func newSuite(p *testPackage, c nestedvm.Command, rep *report) *suite {
	return &suite{
		pkg: p, command: c, rep: rep, done: map[string]bool{}, told: map[string]bool{}, failed: map[string]int{}, hung: map[string]int{},
		parents: map[string][]event{}, bad: map[string]bool{},
	}
}

// args are those of the test binary.
func (j *job) args() []string {
	args := slices.Clone(j.suite.command.Args)
	if len(j.only) > 0 {
		args = append(args, "-test.run="+exactly(j.only)) // the last one counts
	}
	skip := map[string]bool{}
	for _, t := range j.moved {
		skip[t] = true
	}
	if !j.fresh {
		maps.Copy(skip, j.suite.done)
	}
	top := slices.DeleteFunc(slices.Sorted(maps.Keys(skip)), func(t string) bool { return anyAbove(t, skip) })
	if len(top) == 0 {
		return args
	}
	pattern := exactly(top)
	for _, a := range args {
		if given, ok := strings.CutPrefix(a, "-test.skip="); ok {
			pattern = given + "|" + pattern
		}
	}
	return append(args, "-test.skip="+pattern)
}

// exactly is the pattern of these tests, for go test's -run and -skip.
func exactly(tests []string) string {
	var alternatives []string
	for _, t := range tests {
		names := strings.Split(t, "/")
		for i, n := range names {
			names[i] = "^" + regexp.QuoteMeta(n) + "$"
		}
		alternatives = append(alternatives, strings.Join(names, "/"))
	}
	return strings.Join(alternatives, "|")
}

// anyAbove says that one of the tests above t is in the set.
func anyAbove(t string, set map[string]bool) bool {
	for i := strings.LastIndexByte(t, '/'); i > 0; i = strings.LastIndexByte(t[:i], '/') {
		if set[t[:i]] {
			return true
		}
	}
	return false
}

// anyBelow says that one of the tests is below t.
func anyBelow(t string, tests []string) bool {
	return slices.ContainsFunc(tests, func(s string) bool { return strings.HasPrefix(s, t+"/") })
}

// outcome is what one run's events say.
type outcome struct {
	order  []string // as they began
	events map[string][]event
	result map[string]string // pass, fail or skip; nothing of those that did not end
}

func outcomeOf(events []event) *outcome {
	o := &outcome{events: map[string][]event{}, result: map[string]string{}}
	for _, e := range events {
		if _, known := o.events[e.Test]; !known && e.Test != "" {
			o.order = append(o.order, e.Test)
		}
		o.events[e.Test] = append(o.events[e.Test], e)
		if e.Action == "pass" || e.Action == "fail" || e.Action == "skip" {
			o.result[e.Test] = e.Action
		}
	}
	return o
}

func (o *outcome) withResult(result string) (tests []string) {
	for _, t := range o.order {
		if o.result[t] == result {
			tests = append(tests, t)
		}
	}
	return tests
}

// lowest leaves out the tests that have another one of them below.
func lowest(tests []string) []string {
	return slices.DeleteFunc(slices.Clone(tests), func(t string) bool { return anyBelow(t, tests) })
}

// ended takes in a run that came to its end, and returns the tests that are to run a second time: those that failed. The
// emulated SVM loses a guest now and then, whoever runs it (see the tests of package vmm), in ways that no test can tell from
// a fault of its subject. What an engine does wrong it does wrong again; a test that fails in two machines has failed. Each
// is told, and listed by internal/testsummary.
func (s *suite) ended(j *job, events []event, held *event, end nestedvm.CommandResult, retry bool) (again []string) {
	o := outcomeOf(events)
	s.elapsed += end.Elapsed
	s.held = held
	open := o.withResult("")
	retry = retry && len(open) == 0 && !end.TimedOut && len(end.Left) == 0 && end.Fault == ""
	failed := lowest(o.withResult("fail"))
	if retry {
		again = slices.DeleteFunc(slices.Clone(failed), func(t string) bool { return s.failed[t] > 0 || j.fresh })
	}
	s.settle(j, o, slices.Concat(again, open), nil)
	for _, t := range again {
		s.failed[t]++
	}
	for _, e := range o.events[""] {
		if len(again) == 0 {
			s.rep.event(e)
		}
	}
	faults := complaints(&end)
	if len(failed) > 0 && len(again) == len(failed) {
		faults = nil // the exit code says no more than that tests failed
	}
	if held == nil && end.ExitCode == 0 {
		faults = append(faults, "nestedtest: the test binary said no result")
	}
	s.faults = append(s.faults, faults...)
	if len(again) > 0 {
		s.shown(o, again)
		s.rep.again(s.pkg.ImportPath, fmt.Sprintf("%s, which failed as shown above", strings.Join(again, ", ")))
	}
	for _, t := range open { // the process ended in them
		s.fail(t, o.events[t], "nestedtest: the process ended in this test")
	}
	return again
}

// lost takes in a run during which the machine hung, and returns what is left to do: what it hung in, what failed and,
// if the run was of all tests, the rest.
func (s *suite) lost(j *job, events []event) (culprits []string, again []string) {
	o := outcomeOf(events)
	culprits = lowest(o.withResult(""))
	again = lowest(o.withResult("fail"))
	var beyond []string
	for _, t := range culprits {
		if s.hung[t]++; s.hung[t] >= maxHangs {
			beyond = append(beyond, t)
		}
	}
	s.settle(j, o, slices.Concat(culprits, again), o.withResult(""))
	for _, t := range beyond {
		s.fail(t, o.events[t], fmt.Sprintf("nestedtest: %d machines hung in this test", s.hung[t]))
	}
	culprits = slices.DeleteFunc(culprits, func(t string) bool { return s.done[t] })
	for _, t := range again {
		s.failed[t]++
	}
	s.shown(o, again)
	if what := slices.Concat(culprits, again); len(what) > 0 {
		s.rep.again(s.pkg.ImportPath, strings.Join(what, ", ")+", in or before which the machine hung")
	}
	return culprits, again
}

// settle reports the results that are final: those of tests without subtests at once, those of others as soon as nothing
// below them is left to do.
func (s *suite) settle(j *job, o *outcome, pending, open []string) {
	failed := o.withResult("fail")
	for _, t := range o.order {
		if o.result[t] == "" || slices.Contains(pending, t) || s.told[t] {
			continue
		}
		partial := anyBelow(t, slices.Concat(pending, open, j.only, j.moved))
		if anyBelow(t, o.order) || partial {
			s.parents[t] = o.events[t]
			if o.result[t] == "fail" && !anyBelow(t, failed) {
				s.bad[t] = true
				s.blame(t)
			} else if !partial && o.result[t] != "fail" {
				s.done[t] = true
			}
			continue
		}
		s.done[t] = true
		s.tell(t, o.events[t])
		if o.result[t] == "fail" {
			s.blame(t)
		}
	}
}

// fail ends a test that has no result of its own.
func (s *suite) fail(test string, events []event, why string) {
	now := time.Now()
	s.done[test] = true
	s.tell(test, append(slices.Clone(events), event{Time: &now, Action: "output", Package: s.pkg.ImportPath, Test: test, Output: "    " + why + "\n"},
		event{Time: &now, Action: "fail", Package: s.pkg.ImportPath, Test: test}))
	s.blame(test)
}

// blame marks the tests above one that failed for good.
func (s *suite) blame(test string) {
	for i := strings.LastIndexByte(test, '/'); i > 0; i = strings.LastIndexByte(test[:i], '/') {
		s.bad[test[:i]] = true
	}
}

func (s *suite) tell(test string, events []event) {
	if s.told[test] {
		return
	}
	s.told[test] = true
	for _, e := range events {
		s.rep.event(e)
	}
}

// shown prints on standard error what failed tests said whose result does not count yet.
func (s *suite) shown(o *outcome, tests []string) {
	for _, t := range tests {
		for _, e := range o.events[t] {
			if e.Action == "output" {
				s.rep.aside(e.Output)
			}
		}
	}
}

// close reports the tests that have subtests, and the package. missing says why tests were not run, if some were not.
func (s *suite) close(missing string) {
	now := time.Now()
	for _, t := range slices.SortedFunc(maps.Keys(s.parents), func(a, b string) int {
		return cmp.Or(strings.Count(b, "/")-strings.Count(a, "/"), cmp.Compare(a, b))
	}) {
		events := slices.Clone(s.parents[t])
		for i, e := range events {
			// Of what failed and was tried again only the last result counts.
			if e.Action == "fail" && !s.bad[t] {
				events[i].Action = "pass"
			} else if e.Action == "pass" && s.bad[t] {
				events[i].Action = "fail"
			}
		}
		s.tell(t, events)
	}
	for t := range s.bad { // those that never came to an end
		s.tell(t, []event{{Time: &now, Action: "fail", Package: s.pkg.ImportPath, Test: t}})
	}
	result := event{Time: &now, Action: "fail", Package: s.pkg.ImportPath}
	if s.held != nil {
		result.Action, result.Elapsed = "pass", s.held.Elapsed
		if s.held.Action == "skip" {
			result.Action = "skip"
		}
	}
	if missing != "" {
		s.faults = append(s.faults, missing)
	}
	if len(s.faults) > 0 || s.rep.failedTests(s.pkg.ImportPath) > 0 {
		result.Action = "fail"
	}
	for _, line := range s.faults {
		s.rep.event(event{Time: &now, Action: "output", Package: s.pkg.ImportPath, Output: line + "\n"})
	}
	secs := s.elapsed.Seconds()
	result.Elapsed = &secs
	s.rep.event(result)
}
