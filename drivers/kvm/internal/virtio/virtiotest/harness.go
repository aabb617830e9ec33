// Package virtiotest drives a virtio device in a test, without a transport and without KVM: it negotiates, sets queues
// up, kicks, waits for interrupts and resets, as a guest's driver does.
package virtiotest

import (
	"errors"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/guestmem"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq/virtqtest"
)

// Patience is how long a test waits for a device.
const Patience = 20 * time.Second

// Harness is a device with its driver. Its methods are for the test's goroutine.
type Harness struct {
	t       testing.TB
	Core    *virtio.Core
	Memory  *guestmem.Memory
	options Options
	bells   []*bell
	queues  []*virtqtest.Driver

	irqs []chan struct{} // one for each queue, then that of the configuration

	mu       sync.Mutex
	failures []error
}

// Options say how the driver is.
type Options struct {
	// Features are what the driver accepts of the device's own.
	Features uint64
	// Packed, EventIdx and Indirect are what it accepts of the others.
	Packed, EventIdx, Indirect bool
	// Size is the number of entries of each queue; 0 is the device's.
	Size uint16
	// Memory is the guest's, in bytes; 0 is 64 MiB. Each queue has Space of it, 0 is 4 MiB, from 1 MiB on.
	Memory, Space uint64
	// Queues are the ones that it enables; nil is all.
	Queues []int
}

const firstQueue = 1 << 20

// bell is a doorbell without a descriptor.
type bell struct {
	rings  chan struct{}
	closed chan struct{}

	asleep atomic.Bool
	waits  atomic.Uint64
}

func (b *bell) Wait() error {
	b.waits.Add(1)
	b.asleep.Store(true)
	defer b.asleep.Store(false)
	select {
	case <-b.rings:
		return nil
	case <-b.closed:
		return errors.New("the doorbell is closed")
	}
}

func (b *bell) Ring() {
	select {
	case b.rings <- struct{}{}:
	default:
	}
}

// QueueInterrupt implements virtio.Transport.
func (h *Harness) QueueInterrupt(queue int) { tell(h.irqs[queue]) }

// ConfigInterrupt implements virtio.Transport.
func (h *Harness) ConfigInterrupt() { tell(h.irqs[len(h.irqs)-1]) }

func tell(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// New makes the harness of a device, whose driver has done nothing yet. The device is closed at the end of the test.
func New(t testing.TB, dev virtio.Device, o Options) *Harness {
	t.Helper()
	if o.Memory == 0 {
		o.Memory = 64 << 20
	}
	if o.Space == 0 {
		o.Space = 4 << 20
	}
	h := &Harness{t: t, Memory: virtqtest.Memory(t, o.Memory), options: o}
	var bells []virtio.Doorbell
	for range dev.QueueSizes() {
		b := &bell{rings: make(chan struct{}, 1), closed: make(chan struct{})}
		h.bells = append(h.bells, b)
		bells = append(bells, b)
		h.irqs = append(h.irqs, make(chan struct{}, 1))
	}
	h.irqs = append(h.irqs, make(chan struct{}, 1))
	core, err := virtio.New(virtio.Config{Device: dev, Memory: h.Memory, Transport: h, Doorbells: bells, OnFail: func(err error) {
		h.mu.Lock()
		h.failures = append(h.failures, err)
		h.mu.Unlock()
	}})
	if err != nil {
		t.Fatal(err)
	}
	h.Core = core
	t.Cleanup(func() {
		core.Close()
		for _, b := range h.bells {
			close(b.closed)
		}
	})
	return h
}

// Start makes the harness of a device and lets its driver set it up, with all its queues.
func Start(t testing.TB, dev virtio.Device, o Options) *Harness {
	t.Helper()
	h := New(t, dev, o)
	h.Begin()
	return h
}

// Begin sets the device up, after New or Reset.
func (h *Harness) Begin() {
	h.t.Helper()
	h.Negotiate()
	h.queues = nil
	for i := range h.Core.Queues() {
		size := uint16(h.Core.Queue(i, virtio.QueueSize))
		if h.options.Size != 0 {
			size = min(size, h.options.Size)
		}
		space := h.options.Space
		d := virtqtest.New(h.t, h.Memory, firstQueue+space*uint64(i), space, size,
			virtqtest.Options{Packed: h.options.Packed, EventIdx: h.options.EventIdx, Indirect: h.options.Indirect})
		clear(d.Bytes(firstQueue+space*uint64(i), min(space, 1<<20))) // of a life before
		cfg := d.Config()
		for f, v := range map[virtio.QueueField]uint64{virtio.QueueSize: uint64(cfg.Size), virtio.QueueDesc: cfg.Desc,
			virtio.QueueDriver: cfg.Driver, virtio.QueueDevice: cfg.Device} {
			h.Core.SetQueue(i, f, v)
		}
		if h.options.Queues == nil || slices.Contains(h.options.Queues, i) {
			h.Core.SetQueue(i, virtio.QueueEnable, 1)
		}
		h.queues = append(h.queues, d)
	}
	h.Core.SetStatus(virtio.StatusDriverOK)
}

// Negotiate goes up to FEATURES_OK.
func (h *Harness) Negotiate() {
	h.t.Helper()
	h.Core.SetStatus(virtio.StatusAcknowledge | virtio.StatusDriver)
	f := h.options.Features | virtio.FeatureVersion1
	for bit, on := range map[uint64]bool{virtio.FeaturePacked: h.options.Packed, virtio.FeatureEventIdx: h.options.EventIdx, virtio.FeatureIndirect: h.options.Indirect} {
		if on {
			f |= bit
		}
	}
	h.Core.SetFeatures(false, uint32(f))
	h.Core.SetFeatures(true, uint32(f>>32))
	h.Core.SetStatus(virtio.StatusFeaturesOK)
	if h.Core.Status()&virtio.StatusFeaturesOK == 0 {
		h.t.Fatalf("virtiotest: the device refuses the features %#x, it offers %#x", f, h.Core.Offered())
	}
}

// Queue is the driver's side of a queue.
func (h *Harness) Queue(i int) *virtqtest.Driver { return h.queues[i] }

// Kick rings the doorbell of a queue, whether the device asked for that or not.
func (h *Harness) Kick(i int) { h.Core.Kick(i) }

// WaitInterrupt waits for an interrupt of a queue.
func (h *Harness) WaitInterrupt(i int) {
	h.t.Helper()
	select {
	case <-h.irqs[i]:
	case <-time.After(Patience):
		h.t.Fatalf("virtiotest: no interrupt of queue %d", i)
	}
}

// WaitConfigInterrupt waits for an interrupt of the configuration.
func (h *Harness) WaitConfigInterrupt() {
	h.t.Helper()
	h.WaitInterrupt(len(h.irqs) - 1)
}

// ConfigInterrupted says whether there was an interrupt of the configuration.
func (h *Harness) ConfigInterrupted() bool {
	select {
	case <-h.irqs[len(h.irqs)-1]:
		return true
	default:
		return false
	}
}

// Quiet pauses the device, lets do give it work in any way, and reports whether the device gave back any request of the
// queues or counted any meanwhile, which it may not. Then the device goes on.
func (h *Harness) Quiet(do func(), counts func() any, queues ...int) {
	h.t.Helper()
	if err := h.Core.Pause(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	for _, q := range queues {
		for ok := true; ok; {
			_, _, ok = h.queues[q].Used()
		}
	}
	before := counts()
	do()
	for range 5 { // nothing says that nothing comes
		time.Sleep(2 * time.Millisecond)
		for _, q := range queues {
			if id, _, ok := h.queues[q].Used(); ok {
				h.t.Errorf("virtiotest: request %d of queue %d is given back while the device is paused", id, q)
			}
		}
		if after := counts(); !reflect.DeepEqual(before, after) {
			h.t.Errorf("virtiotest: a paused device counts %+v, before it was %+v", after, before)
		}
	}
	h.Core.Resume()
}

// WaitUsed waits until the device gives a request of the queue back.
func (h *Harness) WaitUsed(i int) (id uint16, written uint32) {
	h.t.Helper()
	limit := time.After(Patience)
	for {
		if id, written, ok := h.queues[i].Used(); ok {
			return id, written
		}
		select {
		case <-h.irqs[i]:
		case <-time.After(time.Millisecond):
		case <-limit:
			h.t.Fatalf("virtiotest: queue %d gives nothing back", i)
		}
	}
}

// Do makes a request, kicks, waits for its end and gives what the device wrote.
func (h *Harness) Do(i int, readable [][]byte, writable ...int) []byte {
	h.t.Helper()
	id := h.queues[i].Add(readable, writable...)
	h.Kick(i)
	got, written := h.WaitUsed(i)
	if got != id {
		h.t.Fatalf("virtiotest: request %d came back in place of %d", got, id)
	}
	return h.queues[i].Written(id)[:written]
}

// Asleep waits until the worker of a queue waits for its doorbell, and goes on doing so: one that looks again and again for what
// does not come fails the test.
func (h *Harness) Asleep(i int) {
	h.t.Helper()
	b := h.bells[i]
	for limit := time.Now().Add(Patience); ; time.Sleep(time.Millisecond) {
		before := b.waits.Load()
		time.Sleep(10 * time.Millisecond)
		if b.asleep.Load() && b.waits.Load() == before {
			return
		}
		if time.Now().After(limit) {
			h.t.Fatalf("virtiotest: the worker of queue %d does not sleep", i)
		}
	}
}

// Reset resets the device and waits until it is.
func (h *Harness) Reset() {
	h.t.Helper()
	h.Core.SetStatus(0)
	for limit := time.Now().Add(Patience); h.Core.Status() != 0; time.Sleep(100 * time.Microsecond) {
		if time.Now().After(limit) {
			h.t.Fatal("virtiotest: the reset does not end")
		}
	}
}

// ReadConfig reads n bytes of the configuration space.
func (h *Harness) ReadConfig(off, n int) []byte {
	p := make([]byte, n)
	h.Core.ReadConfig(off, p)
	return p
}

// Failures are the errors that the device could not go on after.
func (h *Harness) Failures() []error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]error(nil), h.failures...)
}
