package virtio

import (
	"errors"
	"runtime"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq"
)

// Work runs a worker of the device, a goroutine of its own, until it ends: it waits while the device is paused, and fails
// the device for an error that is not ErrStopped. All that touches queues or guest memory is done in one, between calls of
// Leave and Enter if it waits for something else than a queue.
func (r *Run) Work(serve func() error) {
	err := r.core.gate.enter()
	if err == nil {
		err = serve()
	}
	r.core.gate.leave()
	if err != nil && !errors.Is(err, ErrStopped) {
		r.Fail(err)
	}
}

// Leave says that a worker is about to wait, and will not touch queues or guest memory before Enter.
func (q *Queue) Leave() {
	if q.core != nil { // a test's queue has none
		q.core.gate.leave()
	}
}

// Enter ends what Leave has begun: it waits while the device is paused. Once the device is to stop it is ErrStopped.
func (q *Queue) Enter() error {
	if q.core == nil {
		return nil
	}
	return q.core.gate.enter()
}

// Hold is Enter on behalf of another goroutine, which is given work and calls Leave when it is done: a pause waits for
// it.
func (q *Queue) Hold() {
	if q.core != nil {
		q.core.gate.hold()
	}
}

// Pausing says that somebody waits for the workers to leave.
func (q *Queue) Pausing() bool { return q.core != nil && q.core.gate.isShut() }

// Yield is Leave and Enter if the device is being paused, and nothing else. Workers that are never out of work call it.
func (q *Queue) Yield() error {
	if !q.Pausing() {
		return nil
	}
	q.Flush()
	q.Leave()
	return q.Enter()
}

// Flush tells the driver of what a Server has pushed.
func (q *Queue) Flush() {
	if q.pushed {
		q.pushed = false
		q.Signal()
	}
}

// Server is the worker of a queue whose requests are done one after the other.
type Server struct {
	Queue *Queue
	// Batch is how many requests are done before the driver is told and others get the processor.
	Batch int
	// Do does a request and says how many bytes it wrote. bad is nil, or why the request cannot be done: its chain
	// is then not to be used. An error ends the worker.
	Do func(c *virtq.Chain, bad *virtq.ChainError) (written uint32, err error)

	chain virtq.Chain
}

// Serve goes on until the device stops (ErrStopped) or the queue or Do has an error.
func (s *Server) Serve() error {
	q := s.Queue
	for {
		q.DisableKicks()
		drained, err := s.Step()
		if err != nil {
			return err
		}
		q.Flush()
		if !drained {
			if err := q.Yield(); err != nil {
				return err
			}
			runtime.Gosched()
			continue
		}
		if q.EnableKicks() {
			continue
		}
		if err := q.Wait(); err != nil {
			return err
		}
	}
}

// Step does at most a batch of requests and says whether there are no more.
func (s *Server) Step() (drained bool, err error) {
	q := s.Queue
	for range s.Batch {
		if q.bell != nil && q.bell.stopped.Load() {
			return false, ErrStopped
		}
		ok, err := q.Pop(&s.chain)
		var bad *virtq.ChainError
		switch {
		case err == nil && !ok:
			return true, nil
		case err != nil:
			if bad = IsBadChain(err); bad == nil {
				return false, err
			}
		}
		n, err := s.Do(&s.chain, bad)
		if err != nil {
			return false, err
		}
		q.Push(&s.chain, n)
		q.pushed = true
	}
	return false, nil
}

// IsBadChain tells an error of a single request, after which a queue goes on, from one of the ring, for which it is nil.
func IsBadChain(err error) *virtq.ChainError {
	bad, _ := errors.AsType[*virtq.ChainError](err)
	return bad
}
