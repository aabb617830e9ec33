package conformance_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/polyvisor/polyvisor"
)

func narrowStoredFaults() []fault {
	return []fault{
		{name: "what was undefined comes back transient", of: "save/undefined-meanwhile", says: "Info.Persistent is not true",
			op: on("restore", func(c *call, next func() error) error {
				before := map[string]bool{}
				list, err := c.d.Driver.List(c.ctx)
				for _, i := range list {
					before[i.UUID().String()] = true
				}
				if err = errors.Join(err, next()); err != nil || before[(*c.result).UUID().String()] {
					return err
				}
				if i, err := (*c.result).Info(c.ctx); err != nil || !i.Persistent {
					return err
				}
				return (*c.result).Undefine(c.ctx)
			})},
		{name: "XML of what is active without the title", of: "xml/create", says: "the domain made of the XML is",
			op: before("xml", func(c *call) {
				if i := c.d.byUUID(c.config.UUID); i != nil && (&call{inst: i, ctx: context.Background()}).active() {
					c.config.Title = ""
				}
			})},
		{name: "XML is understood where it was written alone", of: "xml/early", says: "open another connection",
			op: func(c *call, next func() error) error {
				switch here := fmt.Sprint(c.d.n); {
				case c.op == "xml":
					c.d.h.note(1, "wrote", here)
				case c.op == "parse xml" && c.d.h.get("wrote", here) == 0:
					return polyvisor.ErrInvalidConfig
				}
				return next()
			}},
	}
}

func narrowEventFaults() []fault {
	return []fault{
		{name: "others' starts are not told", of: "events/others", says: "the events are",
			op: before("start", func(c *call) { c.d.h.note(c.d.n, "started by", c.id()) }),
			told: func(d *wrongDriver, e polyvisor.Event) []polyvisor.Event {
				if e.Type == polyvisor.EventStarted && d.h.get("started by", e.UUID.String()) != d.n {
					return nil
				}
				return []polyvisor.Event{e}
			}},
		{name: "the third start of a domain is told twice", of: "events/slow-reader", says: "events were lost, want 6",
			told: func(d *wrongDriver, e polyvisor.Event) []polyvisor.Event {
				if e.Type == polyvisor.EventStarted && d.h.add(1, fmt.Sprint(d.n), "starts", e.UUID.String()) == 3 {
					return []polyvisor.Event{e, e}
				}
				return []polyvisor.Event{e}
			}},
		{name: "a start is told of every domain", of: "events/one-domain", says: "the events are",
			told: func(d *wrongDriver, e polyvisor.Event) []polyvisor.Event {
				all := []polyvisor.Event{e}
				if e.Type == polyvisor.EventStarted {
					for _, id := range d.h.defined() {
						if id != e.UUID.String() {
							other := e
							if err := other.UUID.UnmarshalText([]byte(id)); err == nil {
								all = append(all, other)
							}
						}
					}
				}
				return all
			},
			op: notesDefined},
		{name: "with many domains events come twice", of: "events/concurrent", says: "the events of",
			told: func(d *wrongDriver, e polyvisor.Event) []polyvisor.Event {
				if len(d.h.defined()) > 3 {
					return []polyvisor.Event{e, e}
				}
				return []polyvisor.Event{e}
			},
			op: notesDefined},
		{name: "a connection that was subscribed to does not close well", of: "events/end", says: "close the connection",
			op: func(c *call, next func() error) error {
				err := next()
				switch here := fmt.Sprint(c.d.n); {
				case c.op == "subscribe":
					c.d.h.note(1, "subscribed", here)
				case c.op == "close" && c.d.h.get("subscribed", here) > 0:
					err = errPlain
				}
				return err
			}},
	}
}

// notesDefined keeps the UUIDs of what is defined for host.defined.
func notesDefined(c *call, next func() error) error {
	switch c.op {
	case "define":
		c.d.h.note(1, "defined", c.id())
	case "undefine":
		c.d.h.note(0, "defined", c.id())
	}
	return next()
}

func narrowLoadFaults() []fault {
	return []fault{
		{name: "two connections cannot start domains at once", of: "load/many-domains", says: "start of domain",
			op: on("start", func(c *call, next func() error) error {
				here := fmt.Sprint(c.d.n)
				all, own := c.d.h.add(1, "starting"), c.d.h.add(1, "starting", here)
				defer func() { c.d.h.add(-1, "starting"); c.d.h.add(-1, "starting", here) }()
				time.Sleep(5 * time.Millisecond)
				if all > own {
					return polyvisor.ErrNoResource
				}
				return next()
			})},
		{name: "info fails during a start", of: "load/one-domain", says: "an operation among others",
			op: func(c *call, next func() error) error {
				switch c.op {
				case "start":
					c.d.h.add(1, "starting", c.id())
					defer c.d.h.add(-1, "starting", c.id())
					time.Sleep(5 * time.Millisecond)
				case "info":
					if c.d.h.get("starting", c.id()) > 0 {
						return polyvisor.ErrNoResource
					}
				}
				return next()
			}},
		{name: "who loses a race for a start is told that it won", of: "load/start-race", says: "of 8 started the domain",
			op: on("start", func(c *call, next func() error) error {
				time.Sleep(10 * time.Millisecond) // for the other connection to come
				err := next()
				if errors.Is(err, polyvisor.ErrInvalidState) {
					return nil
				}
				return err
			})},
		{name: "a start that is aborted comes up all the same", of: "load/destroy-while-starting", says: "after destroy during a start the domain is running",
			op: comesUpLater()},
		{name: "no statistics of inactive domains on a read-only connection", of: "matrix/shutoff", says: "Stats of a domain that is shutoff",
			op: on("stats", func(c *call, next func() error) error {
				if c.d.readOnly && !c.active() {
					return polyvisor.ErrPermission
				}
				return next()
			})},
		{name: "no statistics of running domains on a read-only connection", of: "matrix/running", says: "Stats of a domain that is running",
			op: on("stats", func(c *call, next func() error) error {
				if c.d.readOnly && c.active() {
					return polyvisor.ErrPermission
				}
				return next()
			})},
		{name: "no statistics of paused domains", of: "matrix/paused", says: "Stats of a domain that is paused",
			op: on("stats", func(c *call, next func() error) error {
				if s, _ := c.inst.State(c.ctx); s == polyvisor.Paused {
					return polyvisor.ErrBusy
				}
				return next()
			})},
		{name: "no vCPUs of transient domains", of: "matrix/transient", says: "VCPUs of a domain that is transient",
			op: on("vcpus", func(c *call, next func() error) error {
				if i, err := c.inst.Info(c.ctx); err == nil && !i.Persistent {
					return polyvisor.ErrNotFound
				}
				return next()
			})},
	}
}

// comesUpLater starts a domain though its start is aborted, after the abort has
// found it inactive.
func comesUpLater() func(*call, func() error) error {
	var mu sync.Mutex
	late := map[string]bool{}
	return func(c *call, next func() error) error {
		switch c.op {
		case "start":
			select {
			case <-time.After(10 * time.Millisecond):
			case <-c.ctx.Done():
				if errors.Is(context.Cause(c.ctx), polyvisor.ErrInvalidState) { // Destroy, and not the end of the caller's time
					mu.Lock()
					defer mu.Unlock()
					late[c.id()] = true
					return errors.Join(c.ctx.Err(), c.inst.Start(context.Background(), *c.start))
				}
			}
		case "state":
			mu.Lock()
			lie := late[c.id()]
			delete(late, c.id())
			mu.Unlock()
			if lie {
				*c.state = polyvisor.Shutoff
				return nil
			}
		}
		return next()
	}
}
