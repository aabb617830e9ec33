package fake

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/polyvisor/polyvisor"
)

// subscriber is one sink. It keeps a connection's sinks apart for outages.
type subscriber struct {
	conn *driver

	mu   sync.Mutex // protects sink, and is held while it is called
	sink func(polyvisor.Event)
}

// delivery is an event with those who subscribed when it happened.
type delivery struct {
	to    []*subscriber
	event polyvisor.Event
}

// Subscribe calls sink for every event from its return on. sink is called by
// whoever makes an event happen, without any lock of the hypervisor; it must not
// call cancel.
func (c *driver) Subscribe(ctx context.Context, sink func(polyvisor.Event)) (cancel func(), err error) {
	err = c.do(ctx, opSubscribe, nil, "", func(*verdict) error {
		s := &subscriber{conn: c, sink: sink}
		cancel = func() { c.h.unsubscribe(s) }
		c.h.mu.Lock()
		defer c.h.unlock()
		c.h.subs = append(slices.Clone(c.h.subs), s)
		return nil
	})
	if err != nil && cancel != nil {
		cancel()
	}
	return cancel, err
}

func (h *Hypervisor) unsubscribe(s *subscriber) {
	h.mu.Lock()
	h.subs = slices.DeleteFunc(slices.Clone(h.subs), func(o *subscriber) bool { return o == s })
	h.unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sink = nil
}

// tellLocked queues an event about a domain, whose state it fills in.
func (h *Hypervisor) tellLocked(d *domain, e polyvisor.Event) {
	if len(h.subs) == 0 {
		return
	}
	e.Name, e.UUID, e.State, e.Time = d.name, d.id, d.stateLocked(), time.Now()
	if h.lose > 0 {
		if h.lost++; h.lost >= h.lose {
			gap := polyvisor.Event{Type: polyvisor.EventGap, Time: e.Time, Lost: uint64(h.lost)}
			h.lose, h.lost = 0, 0
			h.queueLocked(gap, h.subs)
		}
		return
	}
	h.queueLocked(e, h.subs)
}

func (h *Hypervisor) queueLocked(e polyvisor.Event, to []*subscriber) {
	h.queue = append(h.queue, delivery{to, e})
}

// unlock releases the hypervisor. If events are queued and nobody else is at
// it, it calls the sinks, in the order of happening and without the lock.
func (h *Hypervisor) unlock() {
	if len(h.queue) == 0 || h.delivering {
		h.mu.Unlock()
		return
	}
	h.delivering = true
	for len(h.queue) > 0 {
		batch := h.queue
		h.queue = nil
		h.mu.Unlock()
		for _, d := range batch {
			for _, s := range d.to {
				s.deliver(d.event)
			}
		}
		h.mu.Lock()
	}
	h.delivering = false
	h.mu.Unlock()
}

func (s *subscriber) deliver(e polyvisor.Event) {
	if s.conn.down.Load() && e.Type != polyvisor.EventResync {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sink != nil {
		s.sink(e)
	}
}

// LoseEvents loses the next n events of all subscriptions; then comes an
// EventGap.
func (h *Hypervisor) LoseEvents(n int) {
	h.mu.Lock()
	defer h.unlock()
	h.lose += max(n, 0)
}

var errConnLost = fmt.Errorf("%w: the fake hypervisor is out of reach", polyvisor.ErrConnLost)

// DropConnections makes all connections lose the hypervisor for a time: calls
// and open consoles fail with ErrConnLost, and no events are told. Then they are
// back, and an EventResync comes.
func (h *Hypervisor) DropConnections(outage time.Duration) {
	h.mu.Lock()
	conns := make([]*driver, 0, len(h.conns))
	for c := range h.conns {
		conns = append(conns, c)
	}
	h.unlock()
	for _, c := range conns {
		c.drop(outage)
	}
}

// drop loses the connection for a time.
func (c *driver) drop(outage time.Duration) {
	n, ok := c.lose(outage)
	if ok && outage <= 0 {
		c.comeBack(n)
	}
}

// lose begins an outage and gives its number.
func (c *driver) lose(outage time.Duration) (n int, ok bool) {
	c.h.mu.Lock()
	defer c.h.unlock()
	if c.closed {
		return 0, false
	}
	for con := range c.consoles {
		con.failLocked(errConnLost)
	}
	c.down.Store(true)
	if c.back != nil {
		c.back.Stop()
	}
	c.outages++
	n = c.outages
	if outage > 0 {
		c.back = time.AfterFunc(outage, func() { c.comeBack(n) })
	}
	return n, true
}

// comeBack ends an outage, unless another has begun since.
func (c *driver) comeBack(n int) {
	c.h.mu.Lock()
	defer c.h.unlock()
	if n != c.outages || c.closed {
		return
	}
	c.back = nil
	c.down.Store(false)
	var own []*subscriber
	for _, s := range c.h.subs {
		if s.conn == c {
			own = append(own, s)
		}
	}
	if len(own) > 0 {
		c.h.queueLocked(polyvisor.Event{Type: polyvisor.EventResync, Time: time.Now()}, own)
	}
}
