package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/polyvisor/polyvisor/internal/nestedvm"
)

// schedule runs suites in as many machines as they take: the emulator and the kernel in it hang now and then, which is no
// test's fault. What had a result keeps it, the test in which a machine hung runs alone in the next one, and then the rest.
type schedule struct {
	cfg   nestedvm.Config // without commands
	run   func(context.Context, nestedvm.Config) (nestedvm.Result, error)
	conv  string
	rep   *report
	retry bool          // tests that failed run a second time
	limit time.Duration // no machine is started any more after it

	begin    time.Time
	machines [][]*job // each for a machine of its own
	second   []*job   // for the last machine
	boots    int      // machines one after the other that did not come up
	dumped   bool     // where the processors of a hung machine were, once
}

// maxBoots is how many machines may fail to come up, one after the other.
const maxBoots = 3

func (s *schedule) all(ctx context.Context, suites []*suite) (last nestedvm.Result, err error) {
	s.begin = time.Now()
	var first []*job
	for _, u := range suites {
		first = append(first, &job{suite: u})
	}
	s.machines = [][]*job{first}
	missing := ""
	for n := 1; len(s.machines) > 0 || len(s.second) > 0; n++ {
		if over := time.Since(s.begin); over > s.limit {
			missing = fmt.Sprintf("nestedtest: not all tests were run: machines hung, and the %v for all of them are over", s.limit)
			break
		}
		if len(s.machines) == 0 {
			s.machines, s.second = [][]*job{s.second}, nil
		}
		jobs := s.machines[0]
		s.machines = s.machines[1:]
		last, err = s.machine(ctx, jobs)
		if errors.Is(err, nestedvm.ErrHung) && ctx.Err() == nil {
			if s.boots >= maxBoots {
				break
			}
			fmt.Fprintf(os.Stderr, "nestedtest: starting machine %d for the rest\n", n+1)
			err = nil
			continue
		}
		if err != nil {
			missing = "nestedtest: the machine ended before these tests did"
			break
		}
	}
	for _, u := range suites {
		why := ""
		if missing != "" && s.unfinished(u) {
			why = missing
		}
		u.close(why)
	}
	return last, err
}

// unfinished says that some of the suite's tests were not run.
func (s *schedule) unfinished(u *suite) bool {
	of := func(j *job) bool { return j.suite == u }
	return u.held == nil || slices.ContainsFunc(slices.Concat(s.machines...), of) || slices.ContainsFunc(s.second, of)
}

// machine runs jobs in one machine and plans what is left of them.
func (s *schedule) machine(ctx context.Context, jobs []*job) (nestedvm.Result, error) {
	cfg := s.cfg
	var streams []*stream
	for _, j := range jobs {
		st := newStream(s.conv, j.suite.pkg.ImportPath)
		st.live = s.rep.live
		streams = append(streams, st)
		c := j.suite.command
		c.Args, c.Stdout, c.Stderr = j.args(), st, st
		c.Ended = func(nestedvm.CommandResult) { st.close() }
		cfg.Commands = append(cfg.Commands, c)
	}
	res, err := s.run(ctx, cfg)
	hung := errors.Is(err, nestedvm.ErrHung)
	if hung {
		s.tellHang(err)
	}
	var faults error
	for i, j := range jobs {
		streams[i].close()
		switch {
		case i < len(res.Commands):
			if streams[i].fault != nil {
				faults = errors.Join(faults, streams[i].fault)
			}
			if again := j.suite.ended(j, streams[i].events, streams[i].held, res.Commands[i], s.retry); len(again) > 0 {
				s.second = append(s.second, &job{suite: j.suite, only: again, fresh: true})
			}
		case !hung: // the machine is not to be had
			o := outcomeOf(streams[i].events)
			j.suite.settle(j, o, nil, o.withResult(""))
			s.machines = append(s.machines, []*job{j})
		}
	}
	if s.boots++; len(res.Commands) > 0 || res.Kernel != "" {
		s.boots = 0
	}
	if hung {
		s.plan(jobs[len(res.Commands):], streams[len(res.Commands):])
	}
	if faults != nil {
		return res, errors.Join(err, faults)
	}
	return res, err
}

// plan puts what a machine left undone first of what is to come: the first of the jobs ran when it hung.
func (s *schedule) plan(jobs []*job, streams []*stream) {
	if len(jobs) == 0 {
		return
	}
	j := jobs[0]
	culprits, again := j.suite.lost(j, streams[0].events)
	if len(again) > 0 {
		s.second = append(s.second, &job{suite: j.suite, only: again, fresh: true})
	}
	var next [][]*job
	for _, c := range culprits {
		if len(j.only) == 0 || !slices.Equal(j.only, []string{c}) || !j.fresh {
			next = append(next, []*job{{suite: j.suite, only: []string{c}}})
		} else {
			next = append(next, []*job{j})
		}
	}
	rest := &job{suite: j.suite, only: j.only, fresh: j.fresh, moved: slices.Concat(j.moved, culprits, again)}
	if len(j.only) > 0 {
		// A test that was named and had its turn is not to run again.
		rest.only = slices.DeleteFunc(slices.Clone(j.only), func(t string) bool {
			return j.suite.done[t] || slices.Contains(culprits, t) || slices.Contains(again, t) || anyBelow(t, culprits)
		})
	}
	var more []*job
	if len(j.only) == 0 || len(rest.only) > 0 {
		more = append(more, rest)
	}
	if more = append(more, jobs[1:]...); len(more) > 0 {
		next = append(next, more)
	}
	s.machines = append(next, s.machines...)
}

// tellHang says how a machine hung; where its processors were once is enough.
func (s *schedule) tellHang(err error) {
	var h *nestedvm.Hang
	if errors.As(err, &h) && h.Registers != "" {
		if s.dumped {
			err = &nestedvm.Hang{What: h.What, Console: h.Console}
		}
		s.dumped = true
	}
	fmt.Fprintf(os.Stderr, "nestedtest: %v\n", err)
}
