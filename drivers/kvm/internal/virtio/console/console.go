// Package console is the virtio console device: one port, with the size of its terminal and an emergency write.
//
//	dev := console.New(console.Config{Output: ring, Cols: 80, Rows: 24})
//	dev.Feed(ctx, typed)    // from the goroutine that reads the terminal
//	dev.Resize(120, 40)
//	dev.Close()             // ends every Feed
//
// Source: virtio 1.2, section 5.3.
package console

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio"
)

const (
	deviceID  = 3
	queueSize = 64

	receiveQueue  = 0 // to the guest
	transmitQueue = 1

	// Feature bits, virtio 1.2 section 5.3.3.
	featureSize      = 1 << 0
	featureEmergency = 1 << 2

	// Configuration space, section 5.3.4.
	cfgCols, cfgRows, cfgPorts, cfgEmergency, cfgSize = 0, 2, 4, 8, 12

	// batch is how many buffers are worked on before the guest is told and others get the processor.
	batch = 32
	// piece is how much the output is given at once, at most.
	piece = 4096
)

// Backlog is how many bytes wait, at most, for buffers of the guest.
const Backlog = 4096

// ErrClosed is returned by Feed on a closed console.
var ErrClosed = errors.New("virtio console is closed")

// Config of a device.
type Config struct {
	// Output receives what the guest sends, in order, in pieces of 4096 bytes at most. It must not keep the slice, call
	// the device, or block for long: the guest's output, Stop and, for an emergency write, a vCPU wait for it. Its
	// errors are dropped: a line has no way back. Nil discards.
	Output io.Writer
	// Cols and Rows are the size of the terminal; 0 is unknown to the guest.
	Cols, Rows uint16
}

// Stats of a device since it was made.
type Stats struct {
	In, Out uint64 // bytes to the guest, from the guest
	Errors  uint64 // buffers that could not be used
}

// Device is a virtio.Device. Input, Feed, Resize, Close and Stats may be called at any time from any goroutine.
type Device struct {
	out   io.Writer
	outMu sync.Mutex // an emergency write comes from elsewhere than the rest

	size     atomic.Uint32 // columns, rows << 16
	stopping atomic.Bool
	done     sync.WaitGroup

	bytesIn, bytesOut, errors atomic.Uint64

	mu      sync.Mutex // guards what follows
	run     *virtio.Run
	input   *virtio.Queue // to wake its worker; nil unless started
	back    [Backlog]byte // a ring
	head, n int
	room    chan struct{} // closed when there is room for those who wait
	closed  bool
}

// New makes a console.
func New(c Config) *Device {
	if c.Output == nil {
		c.Output = io.Discard
	}
	d := &Device{out: c.Output}
	d.size.Store(uint32(c.Cols) | uint32(c.Rows)<<16)
	return d
}

// Stats counts since New.
func (d *Device) Stats() Stats {
	return Stats{In: d.bytesIn.Load(), Out: d.bytesOut.Load(), Errors: d.errors.Load()}
}

// ID is the device type.
func (d *Device) ID() uint16 { return deviceID }

// Features: the size of the terminal and emergency writes. Several ports are not offered.
func (d *Device) Features() uint64 { return featureSize | featureEmergency }

// QueueSizes tells of the queue to the guest and the one from it.
func (d *Device) QueueSizes() []uint16 { return []uint16{queueSize, queueSize} }

// ConfigSize is the size of the configuration space in bytes.
func (d *Device) ConfigSize() int { return cfgSize }

// ReadConfig gives what the driver reads.
func (d *Device) ReadConfig(off int, p []byte) {
	var b [cfgSize]byte
	size := d.size.Load()
	binary.LittleEndian.PutUint16(b[cfgCols:], uint16(size))
	binary.LittleEndian.PutUint16(b[cfgRows:], uint16(size>>16))
	binary.LittleEndian.PutUint32(b[cfgPorts:], 1)
	copy(p, b[off:])
}

// WriteConfig takes emergency writes, one character each, also before the driver has set anything up.
func (d *Device) WriteConfig(off int, p []byte) {
	if off == cfgEmergency && len(p) > 0 {
		d.write(p[:1])
	}
}

// write gives p, which the guest cannot change, to the output.
func (d *Device) write(p []byte) {
	d.outMu.Lock()
	defer d.outMu.Unlock()
	_, _ = d.out.Write(p)
	d.bytesOut.Add(uint64(len(p)))
}

// Resize changes the size of the terminal and tells the guest.
func (d *Device) Resize(cols, rows uint16) {
	size := uint32(cols) | uint32(rows)<<16
	changed := d.size.Swap(size) != size
	d.mu.Lock()
	run := d.run
	d.mu.Unlock()
	if changed && run != nil { // not under the lock: whoever stops the device may hold one of theirs
		run.ConfigChanged()
	}
}

// Start begins to move bytes. What was fed before waits in the backlog.
func (d *Device) Start(r *virtio.Run) error {
	d.stopping.Store(false)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.run = r
	if d.size.Load() != 0 {
		r.ConfigChanged() // Linux does not look before it is told
	}
	if q := queue(r, receiveQueue); q != nil {
		d.input = q
		w := &receiver{d: d, q: q}
		d.done.Go(func() { r.Work(w.serve) })
	}
	if q := queue(r, transmitQueue); q != nil {
		w := newTransmitter(d, q)
		d.done.Go(func() { r.Work(w.Serve) })
	}
	return nil
}

func queue(r *virtio.Run, i int) *virtio.Queue {
	if i >= len(r.Queues) {
		return nil
	}
	return r.Queues[i]
}

// Stop ends the workers. Input that the guest has not taken is kept for the next Start.
func (d *Device) Stop() {
	d.stopping.Store(true)
	d.mu.Lock()
	d.run, d.input = nil, nil
	d.mu.Unlock()
	d.done.Wait()
}
