package polyvisor

import (
	"context"
	"iter"
	"sync"
	"time"
)

// DefaultEventBuffer is how many events a Subscription keeps for a reader that
// is slow.
const DefaultEventBuffer = 1024

// SubscribeOptions are the options of Conn.Subscribe.
type SubscribeOptions struct {
	// Buffer is how many unread events are kept; DefaultEventBuffer if zero. When
	// more come, the newest are dropped and an EventGap says so.
	Buffer int
	// Domain limits the subscription to one domain; nil means all.
	Domain *Domain
}

// Subscription is a stream of events. It is safe for concurrent use, though
// each event goes to one reader only. The reader is never called back and never
// holds up a driver: a slow one loses events and is told so.
type Subscription struct {
	conn   *Conn
	cancel func()
	domain *Domain
	limit  int

	mu     sync.Mutex // protects the following
	queue  []Event
	seq    uint64
	lost   uint64
	closed error
	ready  chan struct{} // has an element when queue or closed have changed
}

// Subscribe starts a stream of events: everything that happens from its return
// on, whoever causes it. Subscribe before the operation whose events matter.
// ctx bounds the call, not the subscription. Close it; closing the Conn does
// so too.
func (c *Conn) Subscribe(ctx context.Context, o SubscribeOptions) (*Subscription, error) {
	if o.Buffer <= 0 {
		o.Buffer = DefaultEventBuffer
	}
	s := &Subscription{conn: c, domain: o.Domain, limit: o.Buffer, ready: make(chan struct{}, 1)}
	err := c.call(ctx, "subscribe", "", func(ctx context.Context) error {
		if err := c.need(FeatureEvents); err != nil {
			return err
		}
		src, ok := As[EventSource](c.driver)
		if !ok {
			return c.missing(FeatureEvents)
		}
		cancel, err := src.Subscribe(ctx, s.put)
		if err != nil {
			return err
		}
		s.cancel = sync.OnceFunc(cancel)
		c.mu.Lock()
		closed := c.closed
		if !closed {
			c.subscriptions[s] = struct{}{}
		}
		c.mu.Unlock()
		if closed {
			s.cancel()
			return ErrClosed
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// put is the driver's sink.
func (s *Subscription) put(e Event) {
	aboutAll := e.Type == EventGap || e.Type == EventResync
	if s.domain != nil && !aboutAll && e.UUID != s.domain.UUID() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed != nil {
		return
	}
	if s.lost > 0 || len(s.queue) >= s.limit {
		// Until the reader has caught up, so that the gap has one place.
		s.lost += max(e.Lost, 1)
		return
	}
	s.pushLocked(e)
}

func (s *Subscription) pushLocked(e Event) {
	s.seq++
	e.Seq = s.seq
	s.queue = append(s.queue, e)
	s.wake()
}

func (s *Subscription) wake() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// Next waits for the next event. After Close it gives what is left in the queue
// and then an error that matches ErrClosed; so does the closing of the Conn.
// The end of ctx ends the wait and loses nothing.
func (s *Subscription) Next(ctx context.Context) (Event, error) {
	for {
		e, ok, closed := s.take()
		switch {
		case ok:
			return e, nil
		case closed != nil:
			return Event{}, wrap("next event", s.conn.typ, "", closed)
		}
		select {
		case <-s.ready:
		case <-ctx.Done():
			return Event{}, wrap("next event", s.conn.typ, "", ctx.Err())
		}
	}
}

// take gives the next event if there is one. What was lost comes, as a gap,
// behind the events that were kept.
func (s *Subscription) take() (e Event, ok bool, closed error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 && s.lost > 0 {
		gap := Event{Type: EventGap, Time: time.Now(), Lost: s.lost}
		s.lost = 0
		s.pushLocked(gap)
	}
	if len(s.queue) > 0 {
		e, s.queue = s.queue[0], s.queue[1:]
		// Another reader may be waiting for the rest, or for the end.
		if len(s.queue) > 0 || s.lost > 0 || s.closed != nil {
			s.wake()
		}
		return e, true, nil
	}
	if s.closed != nil {
		s.wake()
	}
	return Event{}, false, s.closed
}

// All gives the events until ctx ends or the subscription is closed.
func (s *Subscription) All(ctx context.Context) iter.Seq[Event] {
	return func(yield func(Event) bool) {
		for {
			e, err := s.Next(ctx)
			if err != nil || !yield(e) {
				return
			}
		}
	}
}

// Close ends the subscription. It may be called more than once.
func (s *Subscription) Close() error {
	s.cancel()
	s.mu.Lock()
	if s.closed == nil {
		s.closed = ErrClosed
		s.wake()
	}
	s.mu.Unlock()
	s.conn.mu.Lock()
	delete(s.conn.subscriptions, s)
	s.conn.mu.Unlock()
	return nil
}
