// Package rng is the entropy device (virtio 1.2, section 5.4): one queue of buffers that the device fills with random
// bytes.
package rng

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq"
)

const (
	queueSize = 64
	// maxRequest is the most bytes given for one request: a driver may be given less than it asked for, and one that
	// asks for all its memory must not keep the host busy.
	maxRequest = 4096
	// pause is the shortest time that a worker sleeps when the rate is used up.
	pause = time.Millisecond
)

// Config is what a device is made of.
type Config struct {
	// Source gives the bytes. It is read by one goroutine at a time and must not block for long.
	Source io.Reader
	// BytesPerSecond bounds what the guest gets, 0 means no bound. A second's worth may be taken at once after a rest.
	BytesPerSecond uint64
	// OnError is told that Source failed; the guest's request waits until it works again. Nil is nobody.
	OnError func(error)
}

// Stats counts since the device was made. They are read one by one.
type Stats struct {
	Requests uint64 `json:"requests"`
	Bytes    uint64 `json:"bytes"`
	Errors   uint64 `json:"errors"`
}

// Device is an entropy device.
type Device struct {
	cfg Config

	requests, bytes, errors atomic.Uint64

	stop chan struct{}
	work sync.WaitGroup
	// Of the worker; they outlive a reset, so that a guest does not get around the rate by one.
	allowance uint64
	refilled  time.Time
}

// New makes a device.
func New(cfg Config) *Device {
	return &Device{cfg: cfg, allowance: cfg.BytesPerSecond, refilled: time.Now()}
}

// ID implements virtio.Device.
func (d *Device) ID() uint16 { return virtio.IDEntropy }

// Features implements virtio.Device.
func (d *Device) Features() uint64 { return 0 }

// QueueSizes implements virtio.Device.
func (d *Device) QueueSizes() []uint16 { return []uint16{queueSize} }

// ConfigSize implements virtio.Device.
func (d *Device) ConfigSize() int { return 0 }

// ReadConfig implements virtio.Device.
func (d *Device) ReadConfig(int, []byte) {}

// WriteConfig implements virtio.Device.
func (d *Device) WriteConfig(int, []byte) {}

// Stats counts what the guest got.
func (d *Device) Stats() Stats {
	return Stats{Requests: d.requests.Load(), Bytes: d.bytes.Load(), Errors: d.errors.Load()}
}

// Start implements virtio.Device.
func (d *Device) Start(r *virtio.Run) error {
	d.stop = make(chan struct{})
	if q := r.Queues[0]; q != nil {
		s := &virtio.Server{Queue: q, Batch: 1} // a request may take its time
		s.Do = func(c *virtq.Chain, bad *virtq.ChainError) (uint32, error) {
			if bad != nil {
				d.errors.Add(1)
				return 0, nil
			}
			return d.fill(q, c)
		}
		d.work.Go(func() { r.Work(s.Serve) })
	}
	return nil
}

// Stop implements virtio.Device.
func (d *Device) Stop() {
	close(d.stop)
	d.work.Wait()
}

// fill writes random bytes into the first buffer of a request.
func (d *Device) fill(q *virtio.Queue, c *virtq.Chain) (uint32, error) {
	if len(c.Writable) == 0 {
		d.errors.Add(1)
		return 0, nil
	}
	b := c.Writable[0]
	n, err := d.allow(q, uint64(min(len(b), maxRequest)))
	if err != nil {
		return 0, err
	}
	for {
		_, err := io.ReadFull(d.cfg.Source, b[:n])
		if err == nil {
			d.requests.Add(1)
			d.bytes.Add(n)
			return uint32(n), nil
		}
		d.errors.Add(1)
		if d.cfg.OnError != nil {
			d.cfg.OnError(fmt.Errorf("random numbers of the host: %w", err))
		}
		// A driver given nothing asks again at once.
		if err := d.sleep(q, time.Second); err != nil {
			return 0, err
		}
	}
}

// allow waits until the rate lets some of the n bytes through, and says how many.
func (d *Device) allow(q *virtio.Queue, n uint64) (uint64, error) {
	rate := d.cfg.BytesPerSecond
	if rate == 0 {
		return n, nil
	}
	for {
		now := time.Now()
		// In whole bytes; what is left over counts next time.
		if fresh := uint64(min(now.Sub(d.refilled), time.Second)) * min(rate, 1<<30) / uint64(time.Second); fresh > 0 {
			d.allowance = min(d.allowance+fresh, rate)
			d.refilled = now
		}
		if got := min(n, d.allowance); got > 0 {
			d.allowance -= got
			return got, nil
		}
		if err := d.sleep(q, max(pause, time.Second/time.Duration(min(rate, 1000)))); err != nil {
			return 0, err
		}
	}
}

// sleep sleeps, and while the device is paused; virtio.ErrStopped if it is being stopped.
func (d *Device) sleep(q *virtio.Queue, t time.Duration) error {
	timer := time.NewTimer(t)
	defer timer.Stop()
	q.Leave()
	var err error
	select {
	case <-timer.C:
	case <-d.stop:
		err = virtio.ErrStopped
	}
	if in := q.Enter(); err == nil {
		err = in
	}
	return err
}

var _ virtio.Device = (*Device)(nil)
