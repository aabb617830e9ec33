package virtio

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq"
)

// Bits of the device status (section 2.1).
const (
	StatusAcknowledge = 1
	StatusDriver      = 2
	StatusDriverOK    = 4
	StatusFeaturesOK  = 8
	StatusNeedsReset  = 64
	StatusFailed      = 128
)

// Transport is how a device reaches its driver. The methods are for any goroutine and do not block.
type Transport interface {
	// QueueInterrupt tells the driver that a queue has used buffers.
	QueueInterrupt(queue int)
	// ConfigInterrupt tells the driver that the configuration or the status has changed.
	ConfigInterrupt()
}

// Config is what a Core is made of.
type Config struct {
	Device    Device
	Memory    virtq.Memory
	Transport Transport
	// Doorbells has one for each queue. They are the caller's to close, after Close.
	Doorbells []Doorbell
	// OnFail is told why a device cannot go on, in any goroutine, before the driver is; nil is nobody. It must not block.
	OnFail func(error)
}

// queueState is what the driver has said about a queue.
type queueState struct {
	size               uint16
	desc, driver, used uint64
	enabled            bool
}

// bell is a doorbell that can be silenced.
type bell struct {
	Doorbell
	stopped atomic.Bool
}

func (b *bell) wait() error {
	if b.stopped.Load() {
		return ErrStopped
	}
	if err := b.Doorbell.Wait(); err != nil {
		return fmt.Errorf("%w: %w", ErrStopped, err)
	}
	if b.stopped.Load() {
		return ErrStopped
	}
	return nil
}

// Core is the state of one device. Its methods are for any goroutine; those that the driver's registers lead to do not
// block.
type Core struct {
	cfg    Config
	offers uint64
	max    []uint16
	bells  []*bell

	// life is held while the device is started or stopped, which takes its time.
	life    sync.Mutex
	started bool // guarded by life
	work    sync.WaitGroup
	gate    gate

	// space is held while the device's configuration space is accessed: processors do so at the same time.
	space sync.Mutex

	mu         sync.Mutex // guards the following
	status     uint8
	features   uint64 // the driver's
	queues     []queueState
	generation uint8
	changed    bool // the configuration, since its generation was read last
	live       bool // Start was or is to be called, and Stop not yet
	resetting  bool
	closed     bool
	paused     bool
	owed       bool // a configuration interrupt, once it is not paused
}

// New makes the core of a device, which is as after a reset.
func New(cfg Config) (*Core, error) {
	c := &Core{cfg: cfg, max: cfg.Device.QueueSizes(), gate: gate{left: make(chan struct{}, 1)}}
	if own := cfg.Device.Features(); own&^uint64(featuresOfDevice) != 0 {
		return nil, fmt.Errorf("virtio device %d offers features that are not a device's: %#x", cfg.Device.ID(), own)
	}
	if len(cfg.Doorbells) != len(c.max) {
		return nil, fmt.Errorf("virtio device %d has %d queues and %d doorbells", cfg.Device.ID(), len(c.max), len(cfg.Doorbells))
	}
	c.offers = cfg.Device.Features() | featuresOfCore
	for _, d := range cfg.Doorbells {
		c.bells = append(c.bells, &bell{Doorbell: d})
	}
	c.clear()
	return c, nil
}

// clear makes everything as after a reset. c.mu is held, or the core is new.
func (c *Core) clear() {
	c.status, c.features, c.changed, c.live, c.resetting, c.owed = 0, 0, false, false, false, false
	c.queues = make([]queueState, len(c.max))
	for i := range c.queues {
		c.queues[i].size = c.max[i]
	}
}

// Offered are the features that the driver may choose from.
func (c *Core) Offered() uint64 { return c.offers }

// Features are those that the driver has chosen so far.
func (c *Core) Features() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.features
}

// SetFeatures is the driver's choice, of the low or the high 32 bits. Once the driver has said FEATURES_OK it stands.
func (c *Core) SetFeatures(high bool, bits uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status&StatusFeaturesOK != 0 {
		return
	}
	if high {
		c.features = c.features&0xffffffff | uint64(bits)<<32
	} else {
		c.features = c.features&^0xffffffff | uint64(bits)
	}
}

// Status is the device status. While a reset is under way it is what it was before.
func (c *Core) Status() uint8 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}

// SetStatus is a write of the driver: 0 is a reset, other bits are added.
func (c *Core) SetStatus(s uint8) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.resetting || c.closed {
		return
	}
	if s == 0 {
		if !c.live {
			c.clear()
			return
		}
		c.resetting = true
		c.work.Go(c.reset)
		return
	}
	added := s &^ c.status
	if added&StatusFeaturesOK != 0 && (c.features&^c.offers != 0 || c.features&FeatureVersion1 == 0) {
		// The driver reads the bit again to see that its choice was refused (section 3.1.1).
		s &^= StatusFeaturesOK
	}
	s &^= StatusNeedsReset // the device's own
	c.status |= s
	if c.status&(StatusDriverOK|StatusFeaturesOK) == StatusDriverOK|StatusFeaturesOK && added&StatusDriverOK != 0 && !c.live {
		c.live = true
		c.work.Go(c.start)
	}
}

// start builds the queues and lets the device work.
func (c *Core) start() {
	c.life.Lock()
	defer c.life.Unlock()
	c.mu.Lock()
	// A reset may have been quicker, and another start after it.
	due := c.live && !c.resetting && !c.closed && !c.started
	features, queues := c.features, append([]queueState(nil), c.queues...)
	c.mu.Unlock()
	if !due {
		return
	}
	c.gate.over.Store(false)
	r := &Run{Features: features, Queues: make([]*Queue, len(queues)), Mem: c.cfg.Memory, core: c}
	for i, q := range queues {
		c.bells[i].stopped.Store(false)
		if !q.enabled {
			continue
		}
		vq, err := virtq.New(c.cfg.Memory, virtq.Config{
			Size: q.size, Desc: q.desc, Driver: q.driver, Device: q.used,
			Packed: features&FeaturePacked != 0, EventIdx: features&FeatureEventIdx != 0, Indirect: features&FeatureIndirect != 0,
		})
		if err != nil {
			c.fail(fmt.Errorf("queue %d: %w", i, err))
			return
		}
		r.Queues[i] = &Queue{Queue: vq, index: i, bell: c.bells[i], core: c}
	}
	if err := c.cfg.Device.Start(r); err != nil {
		c.fail(err)
		return
	}
	c.started = true
}

// reset stops the device and forgets all that the driver said.
func (c *Core) reset() {
	c.stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clear()
}

func (c *Core) stop() {
	c.life.Lock()
	defer c.life.Unlock()
	if !c.started {
		return
	}
	c.gate.over.Store(true)
	c.gate.open() // or workers would wait for ever
	for _, b := range c.bells {
		b.stopped.Store(true)
		b.Ring()
	}
	c.cfg.Device.Stop()
	c.started = false
}

// Close ends the device for good and returns when nothing of it is at work. The driver may not run any more.
func (c *Core) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.work.Wait()
	c.stop()
}

// Pause returns when nothing of the device touches queues or guest memory, and keeps it so until Resume: requests that are
// under way are finished, others wait in their queues, and no interrupt is sent. The driver may not run meanwhile. If ctx
// ends before, the device goes on and the error is ctx's. Only one of Pause and Resume at a time.
func (c *Core) Pause(ctx context.Context) error {
	c.mu.Lock()
	c.paused = true
	c.mu.Unlock()
	if err := c.gate.shut(ctx); err != nil && !errors.Is(err, ErrStopped) { // what has stopped is quiet
		c.Resume()
		return err
	}
	return nil
}

// Resume undoes Pause. On a device that is not paused it does nothing.
func (c *Core) Resume() {
	c.gate.open()
	c.mu.Lock()
	tell := c.owed && c.mayTell()
	c.paused, c.owed = false, false
	c.mu.Unlock()
	if tell {
		c.cfg.Transport.ConfigInterrupt()
	}
}

// mayTell says whether the driver can be told of a change. c.mu is held.
func (c *Core) mayTell() bool { return c.status&StatusDriverOK != 0 && !c.resetting && !c.closed }

// due says whether the driver is to be told of a change now; that of a paused device is told later. c.mu is held.
func (c *Core) due() bool {
	if c.paused {
		c.owed = true
		return false
	}
	return c.mayTell()
}

// fail sets DEVICE_NEEDS_RESET.
func (c *Core) fail(err error) {
	c.mu.Lock()
	known := c.status&StatusNeedsReset != 0
	c.status |= StatusNeedsReset
	tell := c.due()
	c.mu.Unlock()
	// The host first: it is not to hear of it from the guest.
	if c.cfg.OnFail != nil && !known {
		c.cfg.OnFail(err)
	}
	if tell {
		c.cfg.Transport.ConfigInterrupt()
	}
}

func (c *Core) configChanged() {
	c.mu.Lock()
	c.changed = true
	tell := c.due()
	c.mu.Unlock()
	if tell {
		c.cfg.Transport.ConfigInterrupt()
	}
}

func (c *Core) interrupt(queue int) { c.cfg.Transport.QueueInterrupt(queue) }
