package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polyvisor/polyvisor/internal/nestedvm"
	"github.com/stretchr/testify/require"
)

// play is a machine whose tests are known by name and do what is planned for their n-th run: "pass", "fail" or "hang".
type play struct {
	conv  string
	tests map[string][]string             // by package: leaves, as T or T/sub or T/sub/sub
	plan  func(test string, n int) string // n from 1
	runs  map[string]int
	log   []string // what each machine ran
	code  int      // exit code of runs in which all passes
}

// chosen plays go test's -run and -skip for patterns of whole names.
func chosen(test string, args []string) bool {
	matches := func(pattern string) (full bool) {
		for _, alternative := range strings.Split(pattern, "|") {
			ok := true
			names, parts := strings.Split(test, "/"), strings.Split(alternative, "/")
			for i := range min(len(names), len(parts)) {
				ok = ok && regexp.MustCompile(parts[i]).MatchString(names[i])
			}
			if ok && len(names) >= len(parts) {
				return true
			}
		}
		return false
	}
	run, skip := "", ""
	for _, a := range args {
		if p, ok := strings.CutPrefix(a, "-test.run="); ok {
			run = p
		}
		if p, ok := strings.CutPrefix(a, "-test.skip="); ok {
			skip = p
		}
	}
	return (run == "" || matches(run)) && (skip == "" || !matches(skip))
}

func (p *play) run(_ context.Context, cfg nestedvm.Config) (res nestedvm.Result, err error) {
	res.Kernel = "k"
	var ran []string
	defer func() { p.log = append(p.log, strings.Join(ran, " ")) }()
	for _, c := range cfg.Commands {
		var open, failed []string
		end := func(down int) {
			for len(open) > down {
				t := open[len(open)-1]
				open = open[:len(open)-1]
				fmt.Fprintf(c.Stdout, "\x16--- %s: %s (0.00s)\n", map[bool]string{true: "FAIL", false: "PASS"}[anyBelow(t, failed)], t)
			}
		}
		for _, test := range p.tests[c.Args[0]] {
			if !chosen(test, c.Args) {
				continue
			}
			p.runs[test]++
			ran = append(ran, test)
			names := strings.Split(test, "/")
			down := 0
			for down < len(open) && strings.HasPrefix(test, open[down]+"/") {
				down++
			}
			end(down)
			for i := down + 1; i < len(names); i++ {
				open = append(open, strings.Join(names[:i], "/"))
				fmt.Fprintf(c.Stdout, "\x16=== RUN   %s\n", open[i-1])
			}
			fmt.Fprintf(c.Stdout, "\x16=== RUN   %s\n", test)
			switch p.plan(test, p.runs[test]) {
			case "hang":
				return res, &nestedvm.Hang{What: "it hung", Registers: "RIP", Console: "c"}
			case "fail":
				failed = append(failed, test)
				fmt.Fprintf(c.Stdout, "    it failed\n\x16--- FAIL: %s (0.00s)\n", test)
			default:
				fmt.Fprintf(c.Stdout, "\x16--- PASS: %s (0.00s)\n", test)
			}
		}
		end(0)
		r := nestedvm.CommandResult{Elapsed: time.Second, ExitCode: p.code}
		fmt.Fprintf(c.Stdout, "\x16%s\n", map[bool]string{true: "FAIL", false: "PASS"}[len(failed) > 0])
		if len(failed) > 0 {
			r.ExitCode = 1
		}
		res.Commands = append(res.Commands, r)
		c.Ended(r)
	}
	return res, nil
}

// TestSchedule plays machines that hang and tests that fail: what is reported once, and what runs where.
func TestSchedule(t *testing.T) {
	conv, err := buildConverter(context.Background(), t.TempDir())
	require.NoError(t, err)
	tests := map[string][]string{"p": {"A", "B/x", "B/y/1", "B/y/2", "B/z", "C"}, "q": {"D"}}
	always := func(want, does string) func(string, int) string {
		return func(test string, _ int) string {
			if test == want {
				return does
			}
			return ""
		}
	}
	once := func(want, does string) func(string, int) string {
		return func(test string, n int) string {
			if test == want && n == 1 {
				return does
			}
			return ""
		}
	}
	all := "A=pass B=pass B/x=pass B/y=pass B/y/1=pass B/y/2=pass B/z=pass C=pass p=pass D=pass q=pass"
	for name, c := range map[string]struct {
		plan  func(string, int) string
		code  int
		limit time.Duration
		log   []string
		want  string
	}{
		"fine":        {always("", ""), 0, time.Hour, []string{"A B/x B/y/1 B/y/2 B/z C D"}, all},
		"hangs once":  {once("B/y/1", "hang"), 0, time.Hour, []string{"A B/x B/y/1", "B/y/1", "B/y/2 B/z C D"}, all},
		"first hangs": {once("A", "hang"), 0, time.Hour, []string{"A", "A", "B/x B/y/1 B/y/2 B/z C D"}, all},
		"last hangs":  {once("D", "hang"), 0, time.Hour, []string{"A B/x B/y/1 B/y/2 B/z C D", "D", ""}, all},
		"always hangs": {
			always("B/z", "hang"), 0, time.Hour, []string{"A B/x B/y/1 B/y/2 B/z", "B/z", "B/z", "C D"},
			"A=pass B=fail B/x=pass B/y=pass B/y/1=pass B/y/2=pass B/z=fail C=pass p=fail D=pass q=pass",
		},
		"fails once": {once("B/x", "fail"), 0, time.Hour, []string{"A B/x B/y/1 B/y/2 B/z C D", "B/x"}, all},
		"fails": {
			always("B/y/2", "fail"), 0, time.Hour, []string{"A B/x B/y/1 B/y/2 B/z C D", "B/y/2"},
			"A=pass B=fail B/x=pass B/y=fail B/y/1=pass B/y/2=fail B/z=pass C=pass p=fail D=pass q=pass",
		},
		"fails, then another one hangs": {
			func(test string, n int) string {
				return map[string]string{"B/x 1": "fail", "B/z 1": "hang"}[fmt.Sprint(test, " ", n)]
			}, 0, time.Hour,
			[]string{"A B/x B/y/1 B/y/2 B/z", "B/z", "C D", "B/x"}, all,
		},
		"an exit code of its own": {
			always("", ""), 3, time.Hour, []string{"A B/x B/y/1 B/y/2 B/z C D"},
			strings.ReplaceAll(all, "p=pass", "p=fail")[:strings.Index(all, "q=pass")] + "q=fail",
		},
		"the time is over": {
			once("B/x", "hang"), 0, 0, []string{},
			"p=fail q=fail",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			rep := newReport(&out, &options{json: true})
			p := &play{conv: conv, tests: tests, plan: c.plan, runs: map[string]int{}, code: c.code, log: []string{}}
			s := &schedule{run: p.run, conv: conv, rep: rep, retry: true, limit: c.limit}
			if c.limit == 0 {
				s.limit = -1
			}
			var suites []*suite
			for _, name := range []string{"p", "q"} {
				suites = append(suites, newSuite(&testPackage{ImportPath: name}, nestedvm.Command{Args: []string{name}}, rep))
			}
			_, err := s.all(context.Background(), suites)
			require.NoError(t, err)
			require.Equal(t, c.log, p.log)
			require.Equal(t, sorted(c.want), sorted(results(t, out.String())), out.String())
			require.Equal(t, strings.Contains(c.want, "fail"), rep.failed())
		})
	}
}

func sorted(words string) string {
	w := strings.Fields(words)
	slices.Sort(w)
	return strings.Join(w, " ")
}

// results lists the results in events, each as often as it was told.
func results(t *testing.T, events string) string {
	var words []string
	for line := range strings.Lines(events) {
		var e event
		require.NoError(t, json.Unmarshal([]byte(line), &e))
		if e.Action == "pass" || e.Action == "fail" || e.Action == "skip" {
			name := e.Test
			if name == "" {
				name = e.Package
			}
			words = append(words, name+"="+e.Action)
		}
	}
	return strings.Join(words, " ")
}

// A machine that never comes up, and one that cannot be had, end it.
func TestScheduleWithoutMachine(t *testing.T) {
	conv, err := buildConverter(context.Background(), t.TempDir())
	require.NoError(t, err)
	for name, c := range map[string]struct {
		err  error
		runs int
	}{
		"hangs at boot": {&nestedvm.Hang{What: "x"}, maxBoots},
		"no memory":     {errors.New("no memory"), 1},
	} {
		t.Run(name, func(t *testing.T) {
			rep := newReport(io.Discard, &options{})
			runs := 0
			s := &schedule{conv: conv, rep: rep, limit: time.Hour, run: func(context.Context, nestedvm.Config) (nestedvm.Result, error) {
				runs++
				return nestedvm.Result{}, c.err
			}}
			_, err := s.all(context.Background(), []*suite{newSuite(&testPackage{ImportPath: "p"}, nestedvm.Command{Args: []string{"p"}}, rep)})
			require.ErrorIs(t, err, c.err)
			require.Equal(t, c.runs, runs)
			require.True(t, rep.failed())
		})
	}
}
