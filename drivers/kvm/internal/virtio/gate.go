package virtio

import (
	"context"
	"sync"
	"sync/atomic"
)

// gate is where workers of a device wait while it is paused. A worker is inside while it may touch guest memory or a
// queue; whoever shuts the gate waits until all are outside.
type gate struct {
	state atomic.Int64  // how many are inside, plus shut
	over  atomic.Bool   // the device is being stopped
	left  chan struct{} // the last one has left a shut gate; holds one

	mu     sync.Mutex
	opened chan struct{} // closed when the gate opens; nil while it is open
}

const shut = 1 << 32

// enter waits while the gate is shut. The caller is inside also with an error, ErrStopped.
func (g *gate) enter() error {
	for g.state.Add(1) >= shut {
		g.leave()
		g.mu.Lock()
		opened := g.opened
		g.mu.Unlock()
		if opened != nil {
			<-opened
		}
	}
	if g.over.Load() {
		return ErrStopped
	}
	return nil
}

// hold is enter for somebody else, by one who is inside.
func (g *gate) hold() { g.state.Add(1) }

func (g *gate) leave() {
	if g.state.Add(-1) == shut {
		select {
		case g.left <- struct{}{}:
		default:
		}
	}
}

// isShut is what one who is inside looks at, so that nobody waits for long.
func (g *gate) isShut() bool { return g.state.Load() >= shut }

// shut waits until nobody is inside: until ctx ends, which opens the gate again (its error), or somebody else opens it
// (ErrStopped). On a gate that is shut it does nothing.
func (g *gate) shut(ctx context.Context) error {
	g.mu.Lock()
	if g.opened != nil {
		g.mu.Unlock()
		return nil
	}
	opened := make(chan struct{})
	g.opened = opened
	g.state.Add(shut)
	g.mu.Unlock()
	for {
		select {
		case <-opened:
			return ErrStopped
		default:
		}
		if g.state.Load() == shut {
			return nil
		}
		select {
		case <-g.left:
		case <-opened:
			return ErrStopped
		case <-ctx.Done():
			g.open()
			return context.Cause(ctx)
		}
	}
}

// open lets all in. On an open gate it does nothing.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened != nil {
		g.state.Add(-shut)
		close(g.opened)
		g.opened = nil
	}
}
