package conformance_test

import (
	"errors"
	"time"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/conformance"
)

// The narrow faults are wrong only in what the rule of their case says, so that
// no case before it catches them.

// ofRun tells whether the operation is about an active persistent domain.
func (c *call) ofRun() bool {
	i, err := c.inst.Info(c.ctx)
	return err == nil && i.Persistent && i.State.Active()
}

// neverRan tells whether the domain has not run yet.
func (c *call) neverRan() bool {
	i, err := c.inst.Info(c.ctx)
	return err == nil && i.LastStop == nil && !i.State.Active()
}

func narrowLifeFaults() []fault {
	return []fault{
		{name: "the end of a run is seen by who ended it alone", of: "connection/shared", says: "after a destroy on another connection the domain is running",
			op: onlySeenByItself},
		{name: "an ID that is not there is an error without a class", of: "lookup/not-found", says: `the code is "unknown error"`,
			op: on("lookup", func(c *call, next func() error) error {
				err := next()
				if c.key.ID > 0 && errors.Is(err, polyvisor.ErrNotFound) {
					return errPlain
				}
				return err
			})},
		{name: "the default memory is another", of: "config/defaults", says: "want 256MiB of 256MiB",
			op: before("define", func(c *call) {
				if c.config.Memory == polyvisor.DefaultMemory {
					c.config.Memory, c.config.MaxMemory = 2*polyvisor.DefaultMemory, 2*polyvisor.DefaultMemory
				}
			})},
		{name: "a list that was empty has a domain", of: "config/refused", says: "left a domain",
			op: func(c *call, next func() error) error {
				if c.op == "define" {
					c.d.h.note(1, "any")
				}
				if c.op == "list" && c.d.h.count("lists") == 2 && c.d.h.get("any") == 0 {
					cfg := (&polyvisor.Config{Name: conformance.Prefix + "ghost"}).WithDefaults()
					if _, err := c.d.Driver.Define(c.ctx, cfg); err != nil {
						return err
					}
				}
				return next()
			}},
		{name: "another CID than the one asked for", of: "config/vsock", says: "want CID 4711",
			config: func(c *polyvisor.Config) {
				if c.Vsock != nil {
					c.Vsock = &polyvisor.VsockConfig{CID: 5}
				}
			}},
		{name: "a domain keeps its ID for ever", of: "id/rising", says: "comes after",
			op: on("info", func(c *call, next func() error) error {
				err := next()
				if err == nil && c.info.ID > 0 {
					if first := c.d.h.get("ID", c.id()); first > 0 {
						c.info.ID = first
					}
					c.d.h.note(c.info.ID, "ID", c.id())
				}
				return err
			})},
		{name: "what is suspended uses CPU time", of: "life/suspend-resume", says: "of CPU time",
			op: on("info", func(c *call, next func() error) error {
				err := next()
				if err == nil && c.info.State == polyvisor.Paused {
					c.info.CPUTime += time.Duration(c.d.h.add(1, "asked")) * time.Second
				}
				return err
			})},
		{name: "a name keeps its UUID for ever", of: "life/persistent", says: "got the UUID of the one that was removed", op: keepsUUIDs()},
		{name: "undefine destroys what is persistent", of: "life/persistent-to-transient", says: "state after undefine",
			op: before("undefine", func(c *call) {
				if c.ofRun() {
					_ = destroy(c)
				}
			})},
		{name: "redefine restarts what is persistent", of: "life/redefine", says: "after a redefinition the run has ID",
			op: on("define", func(c *call, next func() error) error {
				old := c.d.byUUID(c.config.UUID)
				runs := old != nil && (&call{inst: old, ctx: c.ctx}).ofRun()
				if err := next(); err != nil || !runs {
					return err
				}
				return errors.Join(old.Destroy(c.ctx), old.Start(c.ctx, polyvisor.StartOptions{}))
			})},
		{name: "what has never run cannot be removed", of: "life/remove", says: "after remove",
			op: on("undefine", func(c *call, next func() error) error {
				if c.neverRan() {
					return nil
				}
				return next()
			})},
		{name: "what was started paused is not suspended again", of: "life/set-state", says: "after set state paused the domain is running",
			op: func(c *call, next func() error) error {
				switch {
				case c.op == "start" && c.start.Paused:
					c.d.h.note(1, "paused", c.id())
				case c.op == "start":
					c.d.h.note(0, "paused", c.id())
				case c.op == "suspend" && c.d.h.get("paused", c.id()) > 0:
					return nil
				}
				return next()
			}},
		{name: "wait invents an end of what has never run", of: "life/inactive", says: "wait of an inactive domain: succeeded",
			op: on("wait", func(c *call, next func() error) error {
				if c.neverRan() {
					return nil
				}
				return next()
			})},
		{name: "a race for a name has many winners", of: "unique/race", says: "of 8 defined the same name",
			op: on("define", func(c *call, next func() error) error {
				name := c.config.Name
				first := c.d.h.add(1, "defining", name) == 1
				defer c.d.h.add(-1, "defining", name)
				time.Sleep(10 * time.Millisecond) // for the others to come
				err := next()
				if !first && errors.Is(err, polyvisor.ErrExists) {
					*c.result, err = c.d.byName(name), nil
				}
				return err
			})},
	}
}

// onlySeenByItself tells other connections than the one that destroyed a domain
// that it runs.
func onlySeenByItself(c *call, next func() error) error {
	switch c.op {
	case "start":
		c.d.h.note(0, "destroyed", c.id())
	case "destroy":
		c.d.h.note(c.d.n, "destroyed", c.id())
	case "state":
		if by := c.d.h.get("destroyed", c.id()); by > 0 && by != c.d.n {
			err := next()
			*c.state = polyvisor.Running
			return err
		}
	}
	return next()
}

// keepsUUIDs gives a domain that is defined anew the UUID that one of its name
// had.
func keepsUUIDs() func(*call, func() error) error {
	known := map[string]*polyvisor.Config{}
	return before("define", func(c *call) {
		c.d.h.mu.Lock()
		defer c.d.h.mu.Unlock()
		if old := known[c.config.Name]; old != nil && c.d.byUUID(old.UUID) == nil {
			c.config.UUID = old.UUID
		} else {
			known[c.config.Name] = c.config.Clone()
		}
	})
}
