// Package virtio is what all virtio devices have in common, whatever leads to them: status, negotiation of features,
// queues, configuration changes, reset and failure (virtio 1.2, chapters 2 and 3). A transport, such as PCI, gives
// registers to it; a device gives it a few hooks and does its work in goroutines of its own.
//
// Nothing here knows KVM: the transport says how a queue is kicked, by a [Doorbell], and how interrupts are sent.
package virtio

import (
	"errors"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq"
)

// Device IDs (section 5).
const (
	IDNet     = 1
	IDBlock   = 2
	IDConsole = 3
	IDEntropy = 4
	IDSocket  = 19
)

// Feature bits that belong to no device type (section 6).
const (
	FeatureIndirect  = 1 << 28
	FeatureEventIdx  = 1 << 29
	FeatureVersion1  = 1 << 32
	FeaturePacked    = 1 << 34
	featuresOfCore   = FeatureIndirect | FeatureEventIdx | FeatureVersion1 | FeaturePacked
	featuresOfDevice = 1<<24 - 1 | 0x3fff<<50
)

// Device is one device type behind a transport.
type Device interface {
	// ID is the device type.
	ID() uint16
	// Features are the bits that the device offers of its own, 0 to 23 and 50 to 63.
	Features() uint64
	// QueueSizes gives the most entries of each queue, powers of two. It does not change.
	QueueSizes() []uint16
	// ConfigSize is the size of the device's configuration space in bytes.
	ConfigSize() int
	// ReadConfig and WriteConfig access it, within its size. They are called on processors' threads, one at a time, and
	// must not block.
	ReadConfig(off int, p []byte)
	WriteConfig(off int, p []byte)
	// Start begins the work on the queues that the driver has set up, in goroutines of the device's own that run
	// Run.Work. The error sets DEVICE_NEEDS_RESET; Stop is not called then.
	Start(r *Run) error
	// Stop ends what Start began: when it returns, nothing of the device touches queues or guest memory. Every Wait has
	// returned ErrStopped, or is about to. Start may follow.
	Stop()
}

// ErrStopped is what Wait gives when the device is being stopped.
var ErrStopped = errors.New("the device is being stopped")

// Doorbell is how a driver wakes the worker of a queue. All methods are for any goroutine.
type Doorbell interface {
	// Wait blocks the goroutine, not a thread, until Ring was called since the last Wait, or gives an error once the
	// doorbell is closed. One goroutine waits at a time.
	Wait() error
	Ring()
}

// Run is a device at work, from Start to Stop.
type Run struct {
	// Features are those negotiated.
	Features uint64
	// Queues has nil where the driver has enabled none.
	Queues []*Queue
	// Mem is guest memory.
	Mem virtq.Memory

	core *Core
}

// Has says whether all the feature bits were negotiated.
func (r *Run) Has(bits uint64) bool { return r.Features&bits == bits }

// ConfigChanged tells the driver that the device has changed its configuration space.
func (r *Run) ConfigChanged() { r.core.configChanged() }

// Fail says that the device cannot go on until the driver resets it.
func (r *Run) Fail(err error) { r.core.fail(err) }

// Queue is a virtqueue with the means to wait for the driver and to wake it. The methods of virtq.Queue are for one
// goroutine at a time, Wake is for any.
type Queue struct {
	*virtq.Queue
	index  int
	bell   *bell
	core   *Core
	pushed bool // since the last Flush
}

// Index is the number of the queue.
func (q *Queue) Index() int { return q.index }

// Wait blocks until the driver kicks the queue, or Wake is called, and while the device is paused; once the device is to
// stop it is ErrStopped.
func (q *Queue) Wait() error {
	q.Leave()
	err := q.bell.wait()
	if in := q.Enter(); err == nil {
		err = in
	}
	return err
}

// Wake makes Wait return.
func (q *Queue) Wake() { q.bell.Ring() }

// Signal tells the driver of what was pushed since the last Signal, if it wants to be told.
func (q *Queue) Signal() {
	if q.ShouldInterrupt() {
		q.core.interrupt(q.index)
	}
}
