package console

import (
	"context"
	"runtime"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq"
)

// Input offers bytes to the guest and returns how many were taken: all that fit into the backlog, none on a closed
// console. It does not block; Feed does.
func (d *Device) Input(p []byte) int {
	d.mu.Lock()
	n := d.enqueue(p)
	q := d.input
	d.mu.Unlock()
	wake(q, n)
	return n
}

// Feed gives all of p to the guest and waits for room as long as that takes: until ctx ends (its error) or the console
// is closed (ErrClosed). n is how many bytes were taken, also with an error. Bytes of concurrent calls may interleave.
func (d *Device) Feed(ctx context.Context, p []byte) (n int, err error) {
	for {
		d.mu.Lock()
		if d.closed {
			d.mu.Unlock()
			return n, ErrClosed
		}
		took := d.enqueue(p[n:])
		n += took
		if n < len(p) && d.room == nil {
			d.room = make(chan struct{})
		}
		q, room := d.input, d.room
		d.mu.Unlock()
		wake(q, took)
		if n == len(p) {
			return n, nil
		}
		select {
		case <-room:
		case <-ctx.Done():
			return n, ctx.Err()
		}
	}
}

// wake tells the worker of n new bytes.
func wake(q *virtio.Queue, n int) {
	if q != nil && n > 0 {
		q.Wake()
	}
}

// Close ends all calls of Feed, present and future. The guest's side goes on working.
func (d *Device) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.release()
}

// release lets those who wait for room go on. With d.mu.
func (d *Device) release() {
	if d.room != nil {
		close(d.room)
		d.room = nil
	}
}

// enqueue copies what fits into the backlog. With d.mu.
func (d *Device) enqueue(p []byte) int {
	if d.closed {
		return 0
	}
	n := min(len(p), Backlog-d.n)
	tail := (d.head + d.n) % Backlog
	if c := copy(d.back[tail:], p[:n]); c < n {
		copy(d.back[:], p[c:n])
	}
	d.n += n
	return n
}

// waiting is how many bytes the backlog holds.
func (d *Device) waiting() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.n
}

// take moves bytes from the backlog to p and gives their number.
func (d *Device) take(p []byte) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	done := 0
	for d.n > 0 && done < len(p) {
		c := copy(p[done:], d.back[d.head:min(d.head+d.n, Backlog)])
		d.head = (d.head + c) % Backlog
		d.n -= c
		done += c
	}
	if d.n <= Backlog/2 {
		d.release()
	}
	return done
}

// receiver moves bytes from the backlog to the guest's buffers.
type receiver struct {
	d       *Device
	q       *virtio.Queue
	chain   virtq.Chain
	pending bool // pushed since the last Signal
}

// serve goes on until the device stops (virtio.ErrStopped) or fails.
func (w *receiver) serve() error {
	for {
		w.q.DisableKicks()
		full, err := w.deliver()
		if err != nil {
			return err
		}
		if w.pending {
			w.pending = false
			w.q.Signal()
		}
		switch {
		case !full && w.d.waiting() > 0:
			if err := w.q.Yield(); err != nil {
				return err
			}
			runtime.Gosched() // a batch is done, or input has come since
			continue
		case full && w.q.EnableKicks():
			continue
		}
		// Kicks matter only to input that waits for buffers; what else ends the wait is input.
		if err := w.q.Wait(); err != nil {
			return err
		}
	}
}

// deliver fills at most a batch of buffers; full means that input waits and the guest has no buffer.
func (w *receiver) deliver() (full bool, err error) {
	for range batch {
		if w.d.stopping.Load() {
			return false, virtio.ErrStopped
		}
		if w.d.waiting() == 0 {
			return false, nil
		}
		ok, err := w.q.Pop(&w.chain)
		switch {
		case err == nil && !ok:
			return true, nil
		case err != nil && virtio.IsBadChain(err) == nil:
			return false, err
		}
		n := 0
		if err == nil {
			for _, seg := range w.chain.Writable {
				n += w.d.take(seg)
			}
		}
		if n == 0 {
			w.d.errors.Add(1)
		}
		w.q.Push(&w.chain, uint32(n))
		w.pending = true
		w.d.bytesIn.Add(uint64(n))
	}
	return false, nil
}
