package blk

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/disk"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio"
)

// Helpers is how many goroutines of a device, beside one for each queue, may be in the storage at a time.
const Helpers = 16

// Device is a block device; it is a [virtio.Device].
type Device struct {
	c        Config
	image    disk.Image
	vectored disk.Vectored // or nil
	durable  disk.Durable  // or nil
	sectors  uint64
	space    [configSize]byte
	id       [idSize]byte
	epoch    time.Time

	writeback atomic.Uint32 // the byte in the configuration space
	syncing   sync.RWMutex  // held for writing by a flush, for reading by durable writes
	begun     atomic.Uint64 // flushes; changed with syncing held
	lost      atomic.Bool   // storage failed to make writes durable; set with syncing held
	counters  [MaxQueues]counters
	failures  failures

	// Of the run, from Start to Stop.
	features uint64
	stopping atomic.Bool
	jobs     chan *request
	mains    sync.WaitGroup // the queues' goroutines
	helpers  sync.WaitGroup
	handed   atomic.Int32 // requests in jobs or in the hands of helpers
	started  atomic.Int32 // helpers
}

var _ virtio.Device = (*Device)(nil)

// New makes a device of c.
func New(c Config) (*Device, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("disk %s: %w", c.Name, err)
	}
	d := &Device{c: c, image: c.Image, sectors: uint64(c.Image.Size() / disk.SectorSize), space: c.space(), epoch: time.Now()}
	d.vectored, _ = c.Image.(disk.Vectored)
	d.durable, _ = c.Image.(disk.Durable)
	copy(d.id[:], c.Serial)
	d.resetConfig()
	return d, nil
}

func (d *Device) ID() uint16       { return deviceID }
func (d *Device) Features() uint64 { return d.c.features() }
func (d *Device) ConfigSize() int  { return configSize }

func (d *Device) QueueSizes() []uint16 {
	sizes := make([]uint16, d.c.Queues)
	for i := range sizes {
		sizes[i] = queueSize
	}
	return sizes
}

func (d *Device) ReadConfig(off int, p []byte) {
	copy(p, d.space[off:])
	if i := configWriteback - off; i >= 0 && i < len(p) {
		p[i] = byte(d.writeback.Load())
	}
}

// WriteConfig switches the cache; all else is read-only. With cache mode writethrough the host has decided.
func (d *Device) WriteConfig(off int, p []byte) {
	if i := configWriteback - off; i >= 0 && i < len(p) && d.c.Cache != disk.Writethrough && d.c.Cache != disk.Unsafe {
		d.writeback.Store(uint32(p[i] & 1))
	}
}

func (d *Device) resetConfig() {
	on := uint32(1)
	if d.c.Cache == disk.Writethrough {
		on = 0
	}
	d.writeback.Store(on)
}

// writeThrough says whether a write must be on stable storage when it is answered.
func (d *Device) writeThrough() bool {
	switch {
	case d.c.Cache == disk.Unsafe:
		return false
	case d.c.Cache == disk.Writethrough || d.features&FeatureFlush == 0:
		return true
	}
	return d.features&FeatureConfigWCE != 0 && d.writeback.Load() == 0
}

// Start begins to serve the queues that the driver enabled.
func (d *Device) Start(r *virtio.Run) error {
	d.features = r.Features
	if r.Features&FeatureFlush == 0 {
		d.writeback.Store(0)
	}
	d.stopping.Store(false)
	d.jobs = make(chan *request, len(r.Queues)*slots)
	for i, vq := range r.Queues {
		if vq == nil {
			continue
		}
		q := newQueue(d, vq, &d.counters[i])
		d.mains.Go(func() { r.Work(q.run) })
	}
	return nil
}

// Stop waits for the I/O under way and drops what it would have answered.
func (d *Device) Stop() {
	if d.jobs == nil {
		return
	}
	d.stopping.Store(true)
	d.mains.Wait()
	close(d.jobs)
	d.helpers.Wait()
	d.jobs = nil
	d.handed.Store(0)
	d.started.Store(0)
	d.resetConfig()
}

// now is a time in nanoseconds that only goes forward.
func (d *Device) now() int64 { return int64(time.Since(d.epoch)) }
