package polyvisor

import (
	"context"
	"fmt"

	"github.com/google/uuid"
)

// slot admits one operation at a time on one domain of a connection. It
// belongs to the domain, not to a handle, and exists only while it is used.
type slot struct {
	id   uuid.UUID
	refs int           // under Conn.mu: holders and waiters
	sem  chan struct{} // full while held

	// Of a Start under way, under Conn.mu: its call, and what tells that it is
	// over.
	start *callContext
	ended chan struct{} // nil while nobody waits for it
}

// errDestroyed ends a Start that Destroy aborts.
var errDestroyed = fmt.Errorf("%w: destroyed while it was starting", ErrInvalidState)

// acquire waits for the domain's slot until ctx ends.
func (c *Conn) acquire(ctx context.Context, id uuid.UUID) (*slot, error) {
	c.mu.Lock()
	s := c.slots[id]
	if s == nil {
		s = c.newSlotLocked(id)
		c.slots[id] = s
	}
	s.refs++
	c.mu.Unlock()
	select {
	case s.sem <- struct{}{}:
		return s, nil
	default: // wait, which costs more
	}
	select {
	case s.sem <- struct{}{}:
		return s, nil
	case <-ctx.Done():
		c.unref(s)
		return nil, fmt.Errorf("waiting for another operation on the domain: %w", ctx.Err())
	}
}

func (c *Conn) release(s *slot) {
	<-s.sem
	c.unref(s)
}

func (c *Conn) unref(s *slot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.refs--; s.refs == 0 {
		delete(c.slots, s.id)
		if len(c.spare) < maxSpare {
			c.spare = append(c.spare, s)
		}
	}
}

// maxSpare is how many slots are kept to be used again.
const maxSpare = 64

func (c *Conn) newSlotLocked(id uuid.UUID) *slot {
	last := len(c.spare) - 1
	if last < 0 {
		return &slot{id: id, sem: make(chan struct{}, 1)}
	}
	s := c.spare[last]
	c.spare = c.spare[:last]
	s.id = id
	return s
}

// abortable runs a Start, in the domain's turn, so that Destroy can end it.
func (c *Conn) abortable(ctx context.Context, id uuid.UUID, f func(ctx context.Context) error) error {
	c.mu.Lock()
	s := c.slots[id]
	s.start, _ = ctx.(*callContext)
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if s.ended != nil {
			close(s.ended)
		}
		s.start, s.ended = nil, nil
	}()
	err := f(ctx)
	if err != nil && ctx.Err() != nil && context.Cause(ctx) == errDestroyed {
		return errDestroyed
	}
	return err
}

// abortStart ends a Start under way on the domain and waits until it is over.
// It reports whether there was one.
func (c *Conn) abortStart(ctx context.Context, id uuid.UUID) (bool, error) {
	c.mu.Lock()
	s := c.slots[id]
	if s == nil || s.start == nil {
		c.mu.Unlock()
		return false, nil
	}
	if s.ended == nil {
		s.ended = make(chan struct{})
	}
	start, ended := s.start, s.ended
	c.mu.Unlock()
	start.abort(errDestroyed)
	select {
	case <-ended:
		return true, nil
	case <-ctx.Done():
		return true, ctx.Err()
	}
}
