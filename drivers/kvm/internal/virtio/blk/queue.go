package blk

import (
	"sync"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio"
)

const (
	// slots is how many requests of a queue are taken from its ring at a time; others wait there.
	slots = 64
	// batch is how many answers one interrupt stands for at the most.
	batch = 32
	// brief is how long a request takes, in nanoseconds, that is not worth giving to a helper.
	brief = 25_000
	// wary is for how many requests after one that was not brief none of its kind is expected to be.
	wary = 16
)

// queue is the work on one virtqueue during a run.
type queue struct {
	d        *Device
	counters *counters

	mu         sync.Mutex // guards vq and what follows
	vq         *virtio.Queue
	free       []*request
	starved    bool // the goroutine stopped for want of a free request
	unsignaled int
	wary       [2]int // for reads and writes
}

func newQueue(d *Device, vq *virtio.Queue, c *counters) *queue {
	q := &queue{d: d, vq: vq, counters: c, free: make([]*request, slots)}
	all := make([]request, slots)
	for i := range all {
		all[i].q = q
		q.free[i] = &all[i]
	}
	return q
}

// run is the queue's goroutine.
func (q *queue) run() error {
	for {
		if err := q.vq.Wait(); err != nil {
			return err
		}
		if err := q.drain(); err != nil {
			return err
		}
	}
}

// drain takes requests until there are none. An error is the queue's end.
func (q *queue) drain() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.vq.DisableKicks()
	now := q.d.now()
	for !q.d.stopping.Load() {
		if len(q.free) == 0 {
			// Kicks stay off: whoever finishes a request wakes this goroutine.
			q.starved = true
			q.signal()
			return nil
		}
		r := q.free[len(q.free)-1]
		more, err := q.vq.Pop(&r.chain)
		if err != nil {
			if virtio.IsBadChain(err) != nil {
				// Without a place for a status byte that can be trusted there is nothing to say.
				q.counters.invalid.Add(1)
				q.give(r, 0)
				continue
			}
			return err
		}
		if !more {
			q.signal()
			if !q.vq.EnableKicks() {
				return nil
			}
			q.vq.DisableKicks()
			now = q.d.now()
			continue
		}
		q.free = q.free[:len(q.free)-1]
		r.arrived = now
		r.parse(q.d)
		if q.slow(r) {
			q.signal()
			q.vq.Hold() // until the helper is done
			q.d.hand(r)
			continue
		}
		q.mu.Unlock()
		r.execute(q.d)
		now = q.d.now()
		q.mu.Lock()
		if !q.finish(r, now, now-r.arrived) {
			break
		}
		if q.vq.Pausing() {
			q.signal()
			q.mu.Unlock()
			err = q.vq.Yield()
			q.mu.Lock()
			if err != nil {
				return err
			}
		}
	}
	return virtio.ErrStopped
}

// slow says whether a request is for a helper.
func (q *queue) slow(r *request) bool {
	switch r.op {
	case opNothing:
		return false
	case opRead, opWrite:
		return q.wary[r.op-opRead] > 0 || r.op == opWrite && q.d.writeThrough()
	}
	return true
}

// learn remembers how long a read or write took.
func (q *queue) learn(r *request, took int64) {
	if r.op != opRead && r.op != opWrite {
		return
	}
	if w := &q.wary[r.op-opRead]; took >= brief {
		*w = wary
	} else if *w > 0 {
		*w--
	}
}

// finish answers a request that took so many nanoseconds in the storage. A guest that stops the device gets no answer.
func (q *queue) finish(r *request, now, took int64) bool {
	if q.d.stopping.Load() {
		return false
	}
	q.learn(r, took)
	q.counters.add(r, now-r.arrived)
	q.free = append(q.free, r)
	q.give(r, r.written)
	if q.starved {
		q.starved = false
		q.vq.Wake()
	}
	if q.unsignaled >= batch {
		q.signal()
	}
	return true
}

func (q *queue) give(r *request, written uint32) {
	r.release()
	q.vq.Push(&r.chain, written)
	q.unsignaled++
}

// signal tells the driver of what was given back.
func (q *queue) signal() {
	if q.unsignaled == 0 {
		return
	}
	q.unsignaled = 0
	q.counters.batches.Add(1)
	q.vq.Signal()
}
