//go:build linux

package vsock

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq"
)

const (
	// featureStream says that there are stream sockets.
	featureStream = 1 << 0

	queueSize = 256
	rxQueue   = 0
	txQueue   = 1

	// MaxConnections bounds those of one guest, also those half open.
	MaxConnections = 2048
	// maxGreetings bounds host programs that have connected but not said what they want.
	maxGreetings = 128
	// maxResets bounds refusals that wait for the guest to take them; when there are more, the guest's packets wait.
	maxResets = 64
	// batch is the most packets moved in one hold of the mutex.
	batch = 64
)

// Config is what a device is made of.
type Config struct {
	// CID is the guest's address, 3 to 1<<32 - 2.
	CID uint64
	// Listener is a listening unix stream socket, non-blocking, through which host programs reach the guest. It belongs to the
	// caller, and must stay open as long as the device. Nil if there is none.
	Listener *os.File
	// Connect opens a connection to what serves a port on the host: a connected unix stream socket, non-blocking, which becomes
	// the device's. It must not block. An error refuses the guest; nil refuses all.
	Connect func(port uint32) (fd int, err error)
}

// Stats counts since the device was made. They are read one by one.
type Stats struct {
	// Open is how many connections there are now.
	Open uint64 `json:"open"`
	// Accepted and Dialed are connections that were established: opened by the guest, by the host.
	Accepted uint64 `json:"accepted"`
	Dialed   uint64 `json:"dialed"`
	// Refused are those that one of the sides did not want.
	Refused uint64 `json:"refused"`
	// ToGuest and FromGuest are bytes of data.
	ToGuest   uint64 `json:"to_guest"`
	FromGuest uint64 `json:"from_guest"`
	// Errors are packets of the guest that were wrong.
	Errors uint64 `json:"errors"`
}

// Device is a socket device.
type Device struct {
	cfg Config

	accepted, dialed, refused, toGuest, fromGuest, faults atomic.Uint64
	open                                                  atomic.Int64
	wakeups                                               atomic.Uint64 // of the goroutine that waits for sockets

	stopping atomic.Bool
	work     sync.WaitGroup
	poller   *poller

	mu       sync.Mutex // guards all below
	rx, tx   *virtio.Queue
	streams  table
	ready    queue     // streams that have something for the guest
	resets   resetList // refusals of what is no stream
	nextPort uint32

	in       virtq.Chain // packet of the guest
	out      virtq.Chain // buffer for the guest, kept until there is something for it
	have     bool        // out is popped
	starving bool        // the guest has given no buffers: a kick will come
	blocked  bool        // the guest's packets wait for room in resets
	vector   [][]byte
	head     [headerLen]byte
}

// aPastTime is a deadline that ends blocked calls at once.
var aPastTime = time.Unix(1, 0)

// New makes a device.
func New(cfg Config) (*Device, error) {
	if cfg.CID <= hostCID || cfg.CID >= 1<<32-1 {
		return nil, fmt.Errorf("vsock CID %d is not for guests (3 to 4294967294 are)", cfg.CID)
	}
	return &Device{cfg: cfg, nextPort: firstHostPort, vector: make([][]byte, 0, 8)}, nil
}

// ID implements virtio.Device.
func (d *Device) ID() uint16 { return virtio.IDSocket }

// Features implements virtio.Device.
func (d *Device) Features() uint64 { return featureStream }

// QueueSizes implements virtio.Device. The third queue is for events, of which a guest gets none before it is restored from an image.
func (d *Device) QueueSizes() []uint16 { return []uint16{queueSize, queueSize, 16} }

// ConfigSize implements virtio.Device.
func (d *Device) ConfigSize() int { return 8 }

// ReadConfig implements virtio.Device: the guest's address.
func (d *Device) ReadConfig(off int, p []byte) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], d.cfg.CID)
	copy(p, b[off:])
}

// WriteConfig implements virtio.Device.
func (d *Device) WriteConfig(int, []byte) {}

// Stats gives the counters.
func (d *Device) Stats() Stats {
	return Stats{
		Open: uint64(max(d.open.Load(), 0)), Accepted: d.accepted.Load(), Dialed: d.dialed.Load(), Refused: d.refused.Load(),
		ToGuest: d.toGuest.Load(), FromGuest: d.fromGuest.Load(), Errors: d.faults.Load(),
	}
}

// Start implements virtio.Device.
func (d *Device) Start(r *virtio.Run) error {
	rx, tx := r.Queues[rxQueue], r.Queues[txQueue]
	if rx == nil || tx == nil {
		return nil // a driver that uses none of it
	}
	p, err := newPoller()
	if err != nil {
		return fmt.Errorf("vsock: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopping.Store(false)
	d.poller, d.rx, d.tx = p, rx, tx
	d.have, d.starving, d.blocked = false, false, false
	d.resets = resetList{}
	if d.cfg.Listener != nil {
		if err := p.addListener(d.cfg.Listener); err != nil {
			p.close()
			return fmt.Errorf("vsock: %w", err)
		}
	}
	rx.DisableKicks()
	for _, work := range []func() error{
		func() error { return d.receive(rx) }, func() error { return d.transmit(tx) }, func() error { return p.loop(d, tx) },
	} {
		d.work.Go(func() { r.Work(work) })
	}
	return nil
}

// Stop implements virtio.Device: all connections are closed.
func (d *Device) Stop() {
	if d.poller == nil {
		return
	}
	d.stopping.Store(true)
	d.poller.interrupt()
	d.work.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.streams.slots {
		if s != nil {
			d.drop(s)
		}
	}
	d.poller.close()
	d.ready, d.streams = queue{}, table{}
	d.poller, d.rx, d.tx = nil, nil, nil
}

var _ virtio.Device = (*Device)(nil)
