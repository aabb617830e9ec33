package conformance

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/polyvisor/polyvisor"
)

func eventCases() []Case {
	events := []polyvisor.Feature{polyvisor.FeatureEvents}
	return []Case{
		{
			Name: "events/order", Features: events,
			Rule: "Who subscribes before a command sees all that it does, once and in order, with the domain's name, UUID, state and time; a stop says why.",
			Run:  eventsOrder,
		},
		{
			Name: "events/others", Features: events,
			Rule: "Events are told whoever causes them, on whichever connection.",
			Run: func(c *C) {
				sub := c.subscribe(polyvisor.SubscribeOptions{})
				other := c.Open()
				d, err := other.Define(c.ctx, c.Config("foreign"))
				c.ok(err, "define on another connection")
				c.ok(d.Start(c.ctx), "start on another connection")
				c.ok(d.Destroy(c.ctx), "destroy on another connection")
				c.events(sub, "defined", "started", "stopped")
			},
		},
		{
			Name: "events/slow-reader", Features: events,
			Rule: "A subscriber that does not read holds nobody up: it keeps the first events and finds a gap that says how many it lost; after that the stream goes on. Sequence numbers rise by one.",
			Run:  eventsSlow,
		},
		{
			Name: "events/one-domain", Features: events,
			Rule: "A subscription to one domain has the events of that domain only.",
			Run: func(c *C) {
				d, e := c.define("heard"), c.define("unheard")
				sub := c.subscribe(polyvisor.SubscribeOptions{Domain: d})
				c.ok(e.Start(c.ctx), "start the other")
				c.ok(d.Start(c.ctx), "start")
				c.ok(e.Destroy(c.ctx), "destroy the other")
				c.ok(d.Destroy(c.ctx), "destroy")
				for _, ev := range c.events(sub, "started", "stopped") {
					c.check(ev.UUID == d.UUID(), "an event of %q", ev.Name)
				}
			},
		},
		{
			Name: "events/concurrent", Features: events,
			Rule: "While many domains change at once each subscriber sees the events of every single domain in order and complete.",
			Run:  eventsConcurrent,
		},
		{
			Name: "events/end", Features: events,
			Rule: "After Close a subscription gives what it still has and then fails with ErrClosed; the closing of the connection does the same, and the end of a reader's context loses nothing.",
			Run: func(c *C) {
				other := c.Open()
				sub, err := other.Subscribe(c.ctx, polyvisor.SubscribeOptions{})
				c.ok(err, "subscribe")
				_, err = sub.Next(c.soon(10 * time.Millisecond))
				c.fails(err, "Next without an event", polyvisor.CodeCanceled)
				c.define("last")
				c.eventsOf(sub, "defined")
				c.ok(other.Close(), "close the connection")
				_, err = sub.Next(c.ctx)
				c.fails(err, "Next of a closed connection", polyvisor.CodeClosed)
				c.ok(sub.Close(), "close")
				c.ok(sub.Close(), "close again")
			},
		},
		{
			Name: "events/changes", Features: events,
			Rule: "Changes of a domain's devices, labels, memory and name are told, with the device's or the new name.",
			Run:  eventsChanges,
		},
		{
			Name: "events/guest", Features: []polyvisor.Feature{polyvisor.FeatureEvents, polyvisor.FeatureConsole}, Talks: true,
			Rule: "What the guest does by itself is told as what is done to it: a reboot, then its power-off.",
			Run: func(c *C) {
				d := c.define("own-will")
				sub := c.subscribe(polyvisor.SubscribeOptions{})
				c.ok(d.Start(c.ctx), "start")
				t := c.talk(d)
				t.send(c.h.Guest.Reboot)
				t.await(c.h.Guest.Prompt)
				t.send(c.h.Guest.PowerOff)
				list := c.events(sub, "started", "rebooted", "stopped")
				last := list[len(list)-1]
				c.check(last.Stop != nil && last.Stop.Reason == polyvisor.StopShutdown, "the stop is told as %v, want shutdown", last.Stop)
			},
		},
	}
}

func (c *C) subscribe(o polyvisor.SubscribeOptions) *polyvisor.Subscription {
	sub, err := c.conn.Subscribe(c.ctx, o)
	c.ok(err, "subscribe")
	c.cleanup("closing a subscription", func() { _ = sub.Close() })
	return sub
}

// events reads events and checks their types.
func (c *C) events(sub *polyvisor.Subscription, want ...string) []polyvisor.Event {
	var list []polyvisor.Event
	var types []string
	for range want {
		e, err := sub.Next(c.ctx)
		if err != nil {
			c.Fatalf("the events are %q, want %q: %v", types, want, err)
		}
		list, types = append(list, e), append(types, string(e.Type))
		c.check(e.Seq == list[0].Seq+uint64(len(list)-1), "sequence number %d comes at place %d after %d", e.Seq, len(list), list[0].Seq)
	}
	if !slices.Equal(types, want) {
		c.Fatalf("the events are %q, want %q", types, want)
	}
	return list
}

func (c *C) eventsOf(sub *polyvisor.Subscription, want ...string) { c.events(sub, want...) }

func eventsOrder(c *C) {
	sub := c.subscribe(polyvisor.SubscribeOptions{})
	begin := time.Now()
	d := c.define("told")
	want := []string{"defined", "started"}
	c.ok(d.Start(c.ctx), "start")
	if c.has(polyvisor.FeatureSuspend) {
		c.ok(d.Suspend(c.ctx), "suspend")
		c.ok(d.Resume(c.ctx), "resume")
		want = append(want, "suspended", "resumed")
	}
	c.ok(d.Destroy(c.ctx), "destroy")
	c.ok(d.Undefine(c.ctx), "undefine")
	want = append(want, "stopped", "undefined")
	states := map[polyvisor.EventType]polyvisor.State{
		polyvisor.EventDefined: polyvisor.Shutoff, polyvisor.EventStarted: polyvisor.Running, polyvisor.EventSuspended: polyvisor.Paused,
		polyvisor.EventResumed: polyvisor.Running, polyvisor.EventStopped: polyvisor.Shutoff,
	}
	for _, e := range c.events(sub, want...) {
		c.check(e.Name == d.Name() && e.UUID == d.UUID(), "event %s is about %q %s", e.Type, e.Name, e.UUID)
		c.check(e.Time.IsZero() || e.Time.After(begin.Add(-time.Hour)), "event %s was at %s", e.Type, e.Time)
		if s, ok := states[e.Type]; ok {
			c.check(e.State == s || e.State == polyvisor.Blocked && s == polyvisor.Running, "event %s has state %s, want %s", e.Type, e.State, s)
		}
		c.check((e.Stop != nil) == (e.Type == polyvisor.EventStopped), "event %s has the stop %v", e.Type, e.Stop)
		c.check(e.Stop == nil || e.Stop.Reason == polyvisor.StopKilled, "the stop is told as %v, want killed", e.Stop)
	}
	quiet(c, sub)
}

// quiet checks that no further event comes.
func quiet(c *C, sub *polyvisor.Subscription) {
	e, err := sub.Next(c.soon(50 * time.Millisecond))
	c.check(err != nil, "a further event: %+v", e)
}

func eventsSlow(c *C) {
	sub := c.subscribe(polyvisor.SubscribeOptions{Buffer: 2})
	d := c.define("noisy")
	for range 3 {
		c.ok(d.Start(c.ctx), "start")
		c.ok(d.Destroy(c.ctx), "destroy")
	}
	// Another subscriber tells when the last event has been delivered.
	marker := c.subscribe(polyvisor.SubscribeOptions{})
	c.ok(d.Undefine(c.ctx), "undefine")
	c.eventsOf(marker, "undefined")
	list := c.events(sub, "defined", "started", "gap")
	c.check(list[2].Lost == 6, "the gap says that %d events were lost, want 6", list[2].Lost)
	c.define("noisy")
	c.eventsOf(sub, "defined")
}

func eventsConcurrent(c *C) {
	const domains, rounds = 6, 3
	subs := []*polyvisor.Subscription{c.subscribe(polyvisor.SubscribeOptions{}), c.subscribe(polyvisor.SubscribeOptions{})}
	var wg sync.WaitGroup
	for i := range domains {
		wg.Go(func() {
			d, err := c.conn.Define(c.ctx, c.Config(fmt.Sprint("d", i)))
			for range rounds {
				if err == nil {
					err = d.Start(c.ctx)
				}
				if err == nil {
					err = d.Destroy(c.ctx)
				}
			}
			if err != nil {
				c.Errorf("domain %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	want := "defined" + strings.Repeat(" started stopped", rounds)
	for _, sub := range subs {
		seen := map[string][]string{}
		for range domains * (1 + 2*rounds) {
			e, err := sub.Next(c.ctx)
			c.ok(err, "next event; so far %v", seen)
			seen[e.Name] = append(seen[e.Name], string(e.Type))
		}
		for name, types := range seen {
			c.check(strings.Join(types, " ") == want, "the events of %s are %q, want %q", name, types, want)
		}
	}
}

func eventsChanges(c *C) {
	d := c.define("changing")
	sub := c.subscribe(polyvisor.SubscribeOptions{})
	if c.has(polyvisor.FeatureLabels) {
		c.ok(d.SetLabels(c.ctx, map[string]string{"a": "b"}), "set labels")
		c.eventsOf(sub, "labels")
	}
	if c.has(polyvisor.FeatureRename) {
		c.ok(d.Rename(c.ctx, Prefix+"changed"), "rename")
		e := c.events(sub, "renamed")[0]
		c.check(e.Name == Prefix+"changed", "the event tells the name %q", e.Name)
	}
	if c.has(polyvisor.FeatureDevices) {
		for _, k := range deviceKinds {
			if !c.has(k.need) {
				continue
			}
			dev := k.device(c, 2)
			c.ok(d.AttachDevice(c.ctx, dev), "attach")
			c.ok(d.DetachDevice(c.ctx, dev), "detach")
			for _, e := range c.events(sub, "device-added", "device-removed") {
				c.check(e.Device == dev.DeviceID(), "event %s names the device %q, want %q", e.Type, e.Device, dev.DeviceID())
			}
		}
	}
	if c.has(polyvisor.FeatureMemory, polyvisor.FeatureBalloon) {
		b := c.define("elastic", func(cfg *polyvisor.Config) {
			cfg.Balloon, cfg.Memory, cfg.MaxMemory = true, polyvisor.Bytes(c.caps.MinMemory)+64*polyvisor.MiB, 0
		})
		c.ok(b.Start(c.ctx), "start")
		c.eventsOf(sub, "defined", "started")
		c.ok(b.SetMemory(c.ctx, c.info(b).Memory-32*polyvisor.MiB), "set memory")
		c.eventsOf(sub, "memory")
	}
	c.ok(d.Undefine(c.ctx), "undefine")
	c.eventsOf(sub, "undefined")
}
