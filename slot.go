package polyvisor

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
)

// slot admits one operation at a time on one domain of a connection. It
// belongs to the domain, not to a handle, and exists only while it is used.
type slot struct {
	id   uuid.UUID
	refs int           // under Conn.mu: holders and waiters
	sem  chan struct{} // full while held

	// Of a Start under way, under Conn.mu: how to abort it, and when it is over.
	abort context.CancelCauseFunc
	ended chan struct{}
}

// errDestroyed ends a Start that Destroy aborts.
var errDestroyed = fmt.Errorf("%w: destroyed while it was starting", ErrInvalidState)

// acquire waits for the domain's slot until ctx ends.
func (c *Conn) acquire(ctx context.Context, id uuid.UUID) (*slot, error) {
	c.mu.Lock()
	s := c.slots[id]
	if s == nil {
		s = &slot{id: id, sem: make(chan struct{}, 1)}
		c.slots[id] = s
	}
	s.refs++
	c.mu.Unlock()
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
	}
}

// abortable runs a Start, in the domain's turn, so that Destroy can end it.
func (c *Conn) abortable(ctx context.Context, id uuid.UUID, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	c.mu.Lock()
	s := c.slots[id]
	s.abort, s.ended = cancel, ended
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		s.abort, s.ended = nil, nil
		c.mu.Unlock()
		close(ended)
		cancel(nil)
	}()
	err := f(ctx)
	if errors.Is(context.Cause(ctx), errDestroyed) && err != nil {
		return errDestroyed
	}
	return err
}

// abortStart ends a Start under way on the domain and waits until it is over.
// It reports whether there was one.
func (c *Conn) abortStart(ctx context.Context, id uuid.UUID) (bool, error) {
	c.mu.Lock()
	s := c.slots[id]
	if s == nil || s.abort == nil {
		c.mu.Unlock()
		return false, nil
	}
	s.abort(errDestroyed)
	ended := s.ended
	c.mu.Unlock()
	select {
	case <-ended:
		return true, nil
	case <-ctx.Done():
		return true, ctx.Err()
	}
}
