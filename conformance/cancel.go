package conformance

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/polyvisor/polyvisor"
)

func cancelCases() []Case {
	list := []Case{
		{
			Name:  "cancel/during",
			Rule:  "A call with a context that has ended does nothing and fails with the context's error, in every state. When its context ends an operation returns, either done or with the context's error and undone: the domain is in the state before or after it, never between, and every operation goes on from there.",
			Seeds: []string{"thread safety"},
			Run:   cancelDuring,
		},
		{
			Name: "cancel/create", Features: []polyvisor.Feature{polyvisor.FeatureTransient},
			Rule: "A create that its context ends has either made a domain or leaves nothing behind, its name free.",
			Run: func(c *C) {
				for _, delay := range delays {
					ctx, cancel := context.WithTimeout(c.ctx, delay)
					d, err := c.conn.Create(ctx, c.Config("brief"))
					cancel()
					if err == nil {
						c.state(d, polyvisor.Running, "a create")
						c.ok(d.Destroy(c.ctx), "destroy")
						continue
					}
					c.fails(err, "create with a short time", polyvisor.CodeCanceled)
					_, err = c.conn.Domain(c.ctx, Prefix+"brief")
					c.fails(err, "lookup after a create that was ended", polyvisor.CodeNotFound)
				}
				c.ok(c.create("brief").Destroy(c.ctx), "destroy")
			},
		},
	}
	for _, i := range interruptions {
		list = append(list, i.testCase())
	}
	return list
}

// ended gives a context that has ended.
func ended(c *C) context.Context {
	ctx, cancel := context.WithCancel(c.ctx)
	cancel()
	return ctx
}

// delays are when contexts end.
var delays = []time.Duration{time.Nanosecond, 50 * time.Microsecond, 300 * time.Microsecond, time.Millisecond, 3 * time.Millisecond, 10 * time.Millisecond, 30 * time.Millisecond}

// step is an operation with the states around it.
type step struct {
	name     string
	need     polyvisor.Feature
	from, to polyvisor.State
	call     func(ctx context.Context, c *C, d *polyvisor.Domain) error
}

var steps = []step{
	{"start", "", polyvisor.Shutoff, polyvisor.Running, func(ctx context.Context, _ *C, d *polyvisor.Domain) error { return d.Start(ctx) }},
	{"suspend", polyvisor.FeatureSuspend, polyvisor.Running, polyvisor.Paused, func(ctx context.Context, _ *C, d *polyvisor.Domain) error { return d.Suspend(ctx) }},
	{"resume", polyvisor.FeatureSuspend, polyvisor.Paused, polyvisor.Running, func(ctx context.Context, _ *C, d *polyvisor.Domain) error { return d.Resume(ctx) }},
	{"destroy", "", polyvisor.Running, polyvisor.Shutoff, func(ctx context.Context, _ *C, d *polyvisor.Domain) error { return d.Destroy(ctx) }},
	{"save", polyvisor.FeatureSave, polyvisor.Running, polyvisor.Shutoff, func(ctx context.Context, c *C, d *polyvisor.Domain) error {
		path := c.path("saved")
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return err
		}
		err := d.Save(ctx, path)
		c.check((err == nil) == exists(path), "save gave %v, and the file is there: %t", err, exists(path))
		return err
	}},
	{"core dump", polyvisor.FeatureCoreDump, polyvisor.Running, polyvisor.Running, func(ctx context.Context, c *C, d *polyvisor.Domain) error {
		path := c.path("core")
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return err
		}
		err := d.CoreDump(ctx, path)
		c.check((err == nil) == exists(path), "core dump gave %v, and the file is there: %t", err, exists(path))
		return err
	}},
}

// bring takes a domain to a state by whichever way is open.
func bring(c *C, d *polyvisor.Domain, s polyvisor.State) {
	c.ok(d.SetState(c.ctx, s), "bring the domain to state %s", s)
}

func cancelDuring(c *C) {
	_, err := c.conn.Define(ended(c), c.Config("never"))
	c.fails(err, "define with an ended context", polyvisor.CodeCanceled)
	_, err = c.conn.Domain(c.ctx, Prefix+"never")
	c.fails(err, "lookup of what was not defined", polyvisor.CodeNotFound)
	d := c.define("interrupted")
	for _, s := range steps {
		if s.need != "" && !c.has(s.need) {
			continue
		}
		bring(c, d, s.from)
		c.fails(s.call(ended(c), c, d), s.name+" with an ended context", polyvisor.CodeCanceled)
		c.state(d, s.from, s.name+" with an ended context")
		for _, delay := range delays {
			bring(c, d, s.from)
			ctx, cancel := context.WithTimeout(c.ctx, delay)
			err := s.call(ctx, c, d)
			cancel()
			state, serr := d.State(c.ctx)
			c.ok(serr, "state after %s", s.name)
			allowed := []polyvisor.State{s.to}
			if err != nil {
				c.fails(err, fmt.Sprintf("%s with %s of time", s.name, delay), polyvisor.CodeCanceled)
				allowed = append(allowed, s.from)
			}
			c.check(slices.Contains(allowed, state), "%s with %s of time gave %v and left the domain %s", s.name, delay, err, state)
		}
	}
	_, err = d.State(ended(c))
	c.fails(err, "state with an ended context", polyvisor.CodeCanceled)
	c.fails(d.Undefine(ended(c)), "undefine with an ended context", polyvisor.CodeCanceled)
	c.persistent(d, true, "undefine with an ended context")
	bring(c, d, polyvisor.Shutoff)
	c.ok(d.Start(c.ctx), "start after all that")
}
