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
	// Buffer is how many unread events are kept; DefaultEventBuffer if it is not
	// positive. What comes when they are that many is dropped until the reader
	// has caught up, and one EventGap behind them stands for it.
	Buffer int
	// Domain limits the subscription to one domain of the connection; nil means
	// all.
	Domain *Domain
}

// Subscription is a stream of events. It is safe for concurrent use, though
// each event goes to one reader only. The reader is never called back and never
// holds up a driver: a slow one loses events and is told so. It holds no
// goroutine.
type Subscription struct {
	conn   *Conn
	cancel func()
	domain *Domain
	limit  int

	// ready wakes a reader. It has an element whenever there is something to take
	// and no reader is on its way to take it: who takes something and leaves
	// something puts the element back.
	ready chan struct{}

	mu        sync.Mutex // protects the following
	queue     []Event
	seq       uint64
	lost      uint64 // events that a gap behind the queue stands for
	uncounted bool   // there were more: a driver could not count its own
	closed    bool
}

// Subscribe starts a stream of events: everything that happens from its return
// on, whoever causes it. Subscribe before the operation whose events matter.
// ctx bounds the call, not the subscription. Close it; closing the Conn does
// so too. ErrInvalidConfig for a Domain of another connection.
func (c *Conn) Subscribe(ctx context.Context, o SubscribeOptions) (*Subscription, error) {
	if o.Buffer <= 0 {
		o.Buffer = DefaultEventBuffer
	}
	s := &Subscription{conn: c, domain: o.Domain, limit: o.Buffer, ready: make(chan struct{}, 1)}
	err := c.call(ctx, "subscribe", "", func(ctx context.Context) error {
		src, err := offered[EventSource](c, c.driver, FeatureEvents)
		if err != nil {
			return err
		}
		if o.Domain != nil && o.Domain.conn != c {
			return badArg("domain %q is of another connection, whose events these are not; look it up on this one", o.Domain.Name())
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
	if e.Stop != nil {
		e.Stop = new(*e.Stop) // the driver may tell it to many
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	if s.lost > 0 || len(s.queue) >= s.limit {
		s.lost += max(e.Lost, 1)
		s.uncounted = s.uncounted || e.Type == EventGap && e.Lost == 0
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
	const op = "next event"
	if ctx == nil {
		return Event{}, wrap(op, s.conn.typ, "", checkContext(ctx))
	}
	for {
		e, ok, closed := s.take()
		switch {
		case ok:
			return e, nil
		case closed:
			return Event{}, wrap(op, s.conn.typ, "", ErrClosed)
		}
		select {
		case <-s.ready:
		case <-ctx.Done():
			return Event{}, wrap(op, s.conn.typ, "", s.conn.causeOf(ctx, ctx.Err()))
		}
	}
}

// take gives the next event if there is one. What was lost comes, as a gap,
// behind the events that were kept.
func (s *Subscription) take() (e Event, ok, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 && s.lost > 0 {
		gap := Event{Type: EventGap, Time: time.Now(), Lost: s.lost}
		if s.uncounted {
			gap.Lost = 0
		}
		s.lost, s.uncounted = 0, false
		s.pushLocked(gap)
	}
	if len(s.queue) > 0 {
		e, ok = s.queue[0], true
		s.queue[0] = Event{}
		s.queue = s.queue[1:]
	}
	// Another reader may be waiting for the rest, or for the end.
	if len(s.queue) > 0 || s.lost > 0 || s.closed {
		s.wake()
	}
	return e, ok, s.closed
}

// All gives the events until ctx ends or the subscription is closed and all
// that was left in it has been given.
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

// Close ends the subscription. It may be called more than once, also while
// others read.
func (s *Subscription) Close() error {
	s.cancel() // without s.mu: it may wait for a put
	s.mu.Lock()
	s.closed = true
	s.wake()
	s.mu.Unlock()
	s.conn.mu.Lock()
	delete(s.conn.subscriptions, s)
	s.conn.mu.Unlock()
	return nil
}
