//go:build linux

package net

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio"
)

const (
	deviceID      = 1
	dataQueueSize = 256
	ctrlQueueSize = 64

	toldDown, toldUp = 1, 2

	// batch is how much is done before the guest is told and others get the processor.
	batch = 64
)

// Device is a virtio.Device. SetLink, Lose and Stats may be called at any time from any goroutine.
type Device struct {
	c     Config
	pairs []*pair

	link     atomic.Bool
	told     atomic.Int32 // link as the driver has read it last: toldDown or toldUp, 0 before it has
	lost     atomic.Bool
	stopping atomic.Bool
	active   atomic.Int32  // pairs that the driver uses
	offloads atomic.Uint64 // guest offloads that the driver takes now

	mu   sync.Mutex  // guards run, and the deadlines of the files
	run  *virtio.Run // nil unless started
	done sync.WaitGroup

	ctrlErrors atomic.Uint64
}

// New makes a device with its link up. It fails on a configuration that cannot work and on files that are not
// non-blocking; it keeps the files, which remain the caller's to close.
func New(c Config) (*Device, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	d := &Device{c: c}
	for i, f := range c.Backend.Files {
		p, err := newPair(f)
		if err != nil {
			return nil, fmt.Errorf("network device: back end file %d: %w", i, err)
		}
		d.pairs = append(d.pairs, p)
	}
	d.link.Store(true)
	return d, nil
}

// ID is the device type.
func (d *Device) ID() uint16 { return deviceID }

// Features offers what the configuration and the back end allow. Filtering by address is not offered: the device is
// promiscuous, and the guest drops what is not for it.
func (d *Device) Features() uint64 {
	f := uint64(MAC | Status | MrgRxbuf)
	if d.c.MTU != 0 {
		f |= MTU
	}
	if d.c.Backend.Offloads {
		f |= Csum | GuestCsum | GuestTSO4 | GuestTSO6 | HostTSO4 | HostTSO6 | CtrlVQ | CtrlGuestOffloads
	}
	if len(d.pairs) > 1 {
		f |= MQ | CtrlVQ
	}
	return f
}

// QueueSizes: receive and transmit queues in turn, then the control queue.
func (d *Device) QueueSizes() []uint16 {
	var s []uint16
	for range d.pairs {
		s = append(s, dataQueueSize, dataQueueSize)
	}
	if d.Features()&CtrlVQ != 0 {
		s = append(s, ctrlQueueSize)
	}
	return s
}

// effective is what the negotiated features come to: a bit without the one that it requires (virtio 1.2 section
// 5.1.3.1) counts for nothing.
func effective(f uint64) uint64 {
	if f&Csum == 0 {
		f &^= HostTSO4 | HostTSO6
	}
	if f&GuestCsum == 0 {
		f &^= GuestTSO4 | GuestTSO6
	}
	if f&CtrlVQ == 0 {
		f &^= MQ | CtrlGuestOffloads
	}
	return f
}

// Start begins to carry frames. The driver uses one pair until it asks for more.
func (d *Device) Start(r *virtio.Run) error {
	features := effective(r.Features)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopping.Store(false)
	if !d.lost.Load() {
		for _, p := range d.pairs {
			if err := p.file.SetDeadline(time.Time{}); err != nil {
				return fmt.Errorf("network device: %w", err)
			}
		}
	}
	if err := d.setOffloads(features & guestOffloads); err != nil {
		return err
	}
	if err := d.setPairs(1); err != nil {
		return err
	}
	d.run = r
	if told := d.told.Load(); told != 0 && (told == toldUp) != d.link.Load() {
		r.ConfigChanged() // it has changed since the driver looked, with nobody to tell
	}
	pairs := 1
	if features&MQ != 0 {
		pairs = len(d.pairs)
	}
	for i, p := range d.pairs[:pairs] {
		if q := queue(r, 2*i); q != nil {
			w := newRx(d, p, i, q, features)
			d.done.Go(func() { d.work(r, w.serve) })
		}
		if q := queue(r, 2*i+1); q != nil {
			w := newTx(d, p, q, features)
			d.done.Go(func() { d.work(r, w.Serve) })
		}
	}
	if features&CtrlVQ != 0 {
		if q := queue(r, 2*pairs); q != nil {
			w := newCtrl(d, q, features)
			d.done.Go(func() { d.work(r, w.Serve) })
		}
	}
	return nil
}

func queue(r *virtio.Run, i int) *virtio.Queue {
	if i >= len(r.Queues) {
		return nil
	}
	return r.Queues[i]
}

// errLost ends a worker that has nothing left to do, as the back end has gone.
var errLost = errors.New("back end is gone")

// work runs a worker and fails the device for what only a reset mends.
func (d *Device) work(r *virtio.Run, serve func() error) {
	r.Work(func() error {
		err := serve()
		if err == nil || errors.Is(err, errLost) {
			return nil
		}
		return fmt.Errorf("network device: %w", err)
	})
}

// Stop ends all workers, also those that wait for the back end.
func (d *Device) Stop() {
	d.mu.Lock()
	d.stopping.Store(true)
	d.interrupt()
	d.mu.Unlock()
	d.done.Wait()
	d.mu.Lock()
	d.run = nil
	d.mu.Unlock()
}

// interrupt ends all waiting for the back end, until the deadlines are cleared. With d.mu.
func (d *Device) interrupt() {
	for _, p := range d.pairs {
		_ = p.file.SetDeadline(time.Unix(1, 0)) // fails on a closed file, on which nobody waits
	}
}

// SetLink plugs the cable in or out, as the guest sees it. A lost back end's link stays down.
func (d *Device) SetLink(up bool) {
	d.mu.Lock()
	run := d.run
	changed := (!up || !d.lost.Load()) && d.link.Swap(up) != up
	d.mu.Unlock()
	if changed && run != nil { // not under the lock: whoever starts and stops the device may hold one of theirs
		run.ConfigChanged()
	}
}

// Lose says that the back end has gone for good, for those who learn it elsewhere (a helper that has died). The device
// finds out by itself where the file tells. The link goes down, and what the guest sends is dropped and counted.
func (d *Device) Lose(err error) {
	if d.lost.Swap(true) {
		return
	}
	d.mu.Lock()
	d.interrupt()
	d.mu.Unlock()
	d.SetLink(false)
	if d.c.Lost != nil {
		d.c.Lost(fmt.Errorf("network back end: %w", err))
	}
}

// setOffloads tells the back end which offloads the guest takes.
func (d *Device) setOffloads(features uint64) error {
	if d.c.SetOffloads != nil {
		if err := d.c.SetOffloads(features); err != nil {
			return fmt.Errorf("network device: set the back end's offloads: %w", err)
		}
	}
	d.offloads.Store(features)
	return nil
}

// setPairs tells the back end how many of its files carry frames.
func (d *Device) setPairs(n int) error {
	if d.c.SetPairs != nil {
		if err := d.c.SetPairs(n); err != nil {
			return fmt.Errorf("network device: use %d queues of the back end: %w", n, err)
		}
	}
	d.active.Store(int32(n))
	return nil
}
