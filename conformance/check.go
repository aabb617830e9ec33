package conformance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/polyvisor/polyvisor"
)

// cleanTime bounds the removal of what a case has left.
func (h *Harness) cleanTime() time.Duration { return min(time.Minute, 5*h.Timeout) }

// within calls f and says what does not return in that time; f is then left
// behind.
func within(d time.Duration, what string, f func()) error {
	over := make(chan struct{})
	go func() {
		defer close(over)
		f()
	}()
	limit := time.NewTimer(d)
	defer limit.Stop()
	select {
	case <-over:
		return nil
	case <-limit.C:
		return fmt.Errorf("%s does not return within %s\n%s", what, d, stacks(true))
	}
}

// CheckOption is an option of Check.
type CheckOption func(*checkOptions)

type checkOptions struct {
	only     func(Case) bool
	progress func(Result)
}

// Only runs the cases for which f is true.
func Only(f func(Case) bool) CheckOption { return func(o *checkOptions) { o.only = f } }

// Progress calls f with each result as it comes.
func Progress(f func(Result)) CheckOption { return func(o *checkOptions) { o.progress = f } }

// Check runs the cases against one hypervisor, one after another, each on a
// connection of its own. If the suite cannot begin there is one failed result,
// named "begin". The end of ctx ends the run: cases that were not run are left
// out. Check does not call h.Close.
func Check(ctx context.Context, h Harness, opts ...CheckOption) []Result {
	var o checkOptions
	for _, f := range opts {
		f(&o)
	}
	var results []Result
	tell := func(r Result) {
		results = append(results, r)
		if o.progress != nil {
			o.progress(r)
		}
	}
	done, err := h.begin(ctx)
	if err != nil {
		tell(Result{Name: "begin", Status: Failed, Reason: err.Error()})
		return results
	}
	defer done()
	for _, c := range Cases() {
		if o.only != nil && !o.only(c) {
			continue
		}
		if ctx.Err() != nil {
			break
		}
		tell(h.run(ctx, c))
	}
	return results
}

// begin completes the harness and makes sure that the suite will not touch
// anybody's domains.
func (h *Harness) begin(ctx context.Context) (done func(), err error) {
	if h.Open == nil {
		return nil, errors.New("Harness.Open is nil")
	}
	if h.Timeout <= 0 {
		h.Timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	conn, err := h.Open(ctx)
	if err != nil {
		return nil, err
	}
	list, err := leftovers(ctx, conn)
	if err := errors.Join(err, h.close(conn)); err != nil {
		return nil, err
	}
	if len(list) > 0 {
		return nil, fmt.Errorf("there is a domain %q already, and the suite removes domains with names that begin with %s; remove it first if nobody needs it", list[0].Name(), Prefix)
	}
	if h.Config == nil {
		h.Config = &polyvisor.Config{Memory: max(64*polyvisor.MiB, polyvisor.Bytes(conn.Capabilities().MinMemory))}
	}
	done = func() {}
	if h.Dir == "" {
		dir, err := os.MkdirTemp("", "polyvisor-conformance-")
		if err != nil {
			return nil, err
		}
		h.Dir = dir
		done = func() { _ = os.RemoveAll(dir) }
	}
	return done, nil
}

func leftovers(ctx context.Context, conn *polyvisor.Conn) ([]*polyvisor.Domain, error) {
	all, err := conn.Domains(ctx, polyvisor.DomainFilter{})
	var ours []*polyvisor.Domain
	for _, d := range all {
		if strings.HasPrefix(d.Name(), Prefix) {
			ours = append(ours, d)
		}
	}
	return ours, err
}

// run runs one case to its end or to its time limit.
func (h *Harness) run(ctx context.Context, cs Case) (r Result) {
	r = Result{Name: cs.Name, Feature: cs.Feature(), Status: Passed}
	start := time.Now()
	defer func() { r.Time = time.Since(start) }()
	fail := func(format string, args ...any) Result {
		r.Status, r.Reason = Failed, fmt.Sprintf(format, args...)
		return r
	}
	ctx, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	conn, err := h.Open(ctx)
	if err != nil {
		return fail("open: %v", err)
	}
	if reason, required := cs.skip(h, conn.Capabilities()); reason != "" {
		if err := h.close(conn); err != nil {
			return fail("%v", err)
		}
		if required {
			return fail("%s, but it is required", reason)
		}
		r.Status, r.Reason = Skipped, reason
		return r
	}
	dir, err := os.MkdirTemp(h.Dir, "case-")
	if err != nil {
		return fail("%v", err)
	}
	c := newC(ctx, h, cs, conn, dir)
	if c.runToEnd() {
		c.finish()
		_ = os.RemoveAll(dir)
	}
	if reason := c.reason(); reason != "" {
		return fail("%s", reason)
	}
	return r
}

// runToEnd runs the case and reports whether it ended. One that does not is
// left behind with everything it holds.
func (c *C) runToEnd() bool {
	over := make(chan struct{})
	go func() {
		defer close(over)
		defer func() {
			if v := recover(); v != nil {
				c.Errorf("panic: %v\n%s", v, stacks(false))
			}
		}()
		c.cs.Run(c)
	}()
	// The context of the case ends first, so that most of what hangs returns.
	limit := time.NewTimer(c.h.Timeout + c.h.Timeout/4)
	defer limit.Stop()
	select {
	case <-over:
		return true
	case <-limit.C:
		c.Errorf("still running after %s, though its context has ended\n%s", c.h.Timeout+c.h.Timeout/4, stacks(true))
		return false
	}
}

// finish undoes what the case has done.
func (c *C) finish() {
	if c.ctx.Err() != nil && c.reason() != "" {
		c.Errorf("the time limit of %s is over", c.h.Timeout)
	}
	for _, u := range slices.Backward(c.cleanups) {
		if err := within(c.h.cleanTime(), u.what, u.do); err != nil {
			c.Errorf("after the case %v", err)
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), c.h.cleanTime())
	defer cancel()
	if err := c.h.clean(ctx); err != nil {
		c.Errorf("removing what the case has made: %v", err)
	}
}

// clean removes every domain of the suite, on a connection of its own.
func (h *Harness) clean(ctx context.Context) (err error) {
	conn, err := h.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.close(conn)) }()
	list, err := leftovers(ctx, conn)
	if err != nil {
		return err
	}
	for _, d := range list {
		if e := d.Remove(ctx); e != nil && !errors.Is(e, polyvisor.ErrNotFound) && !errors.Is(e, polyvisor.ErrInvalidState) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// close closes a connection that nothing is under way on.
func (h *Harness) close(conn *polyvisor.Conn) error {
	var err error
	late := within(h.cleanTime(), "closing a connection", func() { err = conn.Close() })
	if late != nil {
		return late
	}
	return err
}

// stacks gives the stacks of this goroutine or of all, as far as they fit.
func stacks(all bool) string {
	buf := make([]byte, 64<<10)
	return string(buf[:runtime.Stack(buf, all)])
}
