// Package virtq is the device's side of a virtqueue: rings in guest memory by which a driver in the guest hands over
// requests and a device gives them back (virtio 1.2, sections 2.6 to 2.8). It knows neither how the rings are announced
// nor how the two sides wake each other.
//
// A device takes requests with Pop, gives them back in any order with Push, and asks ShouldInterrupt after a batch of
// them. Before it sleeps it asks EnableKicks, which says whether something came meanwhile:
//
//	var c virtq.Chain
//	q.DisableKicks()
//	for {
//		switch ok, err := q.Pop(&c); {
//		case err != nil: // broken, see Pop
//		case ok:
//			n := serve(c.Readable, c.Writable)
//			q.Push(&c, n)
//			continue
//		}
//		if !q.EnableKicks() {
//			break // sleep until the driver kicks
//		}
//		q.DisableKicks()
//	}
//	if q.ShouldInterrupt() { ... }
//
// The driver is hostile: all it writes is read once and checked, and every call ends after a bounded number of steps.
// Nothing here allocates once the slices of a Chain have grown to what the driver uses.
package virtq

import (
	"errors"
	"fmt"
)

// Memory is guest memory by guest address; [guestmem.Memory] is one. A slice is the memory itself and stays valid as long
// as queues on it are used.
type Memory interface {
	Slice(gpa, n uint64) ([]byte, error)
}

// Bounds of a queue.
const (
	// MaxSize is the largest number of entries (section 2.6).
	MaxSize = 32768
	// maxSegments bounds the descriptors of a chain, unless the queue has fewer or Config says otherwise.
	maxSegments = 1024
	// maxBytes bounds the buffers of a chain together: their sum must fit 32 bits (section 2.6.5).
	maxBytes = 1<<32 - 1
)

// Config is what the driver said about a queue.
type Config struct {
	// Size is the number of entries, a power of two for split rings.
	Size uint16
	// Desc, Driver and Device are guest addresses. Split rings: of the descriptor table, the available and the used ring.
	// Packed: of the descriptor ring, and of the driver's and the device's event suppression.
	Desc, Driver, Device uint64
	// Packed, EventIdx and Indirect are what was negotiated: VIRTIO_F_RING_PACKED, _EVENT_IDX and _INDIRECT_DESC.
	Packed, EventIdx, Indirect bool
	// MaxSegments and MaxBytes bound a chain; 0 means 1024 descriptors and 4 GiB less one byte.
	MaxSegments int
	MaxBytes    uint64
}

// ErrConfig is what every error of New matches: the driver has set the queue up wrongly.
var ErrConfig = errors.New("invalid virtqueue")

// RingError is a ring that cannot be used any more: the device needs a reset.
type RingError struct{ Reason string }

func (e *RingError) Error() string { return "virtqueue: " + e.Reason }

// ChainError is a request that is wrong in itself. The Chain may be given back with Push, written as 0 bytes.
type ChainError struct {
	Head   uint16
	Reason string
	Err    error // of the memory, or nil
}

func (e *ChainError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("virtqueue: descriptor chain %d: %s: %v", e.Head, e.Reason, e.Err)
	}
	return fmt.Sprintf("virtqueue: descriptor chain %d: %s", e.Head, e.Reason)
}

func (e *ChainError) Unwrap() error { return e.Err }

// Chain is a request. Pop fills it; the slices are guest memory and belong to the driver again after Push.
type Chain struct {
	// Readable is what the driver wrote for the device, in order; Writable is where the device may write.
	Readable, Writable [][]byte

	readable, writable uint64
	id                 uint16
	taken              uint16 // packed: ring entries that the chain takes up
	popped             bool
}

// ReadableLen is the length of Readable in bytes.
func (c *Chain) ReadableLen() uint64 { return c.readable }

// WritableLen is the length of Writable in bytes.
func (c *Chain) WritableLen() uint64 { return c.writable }

func (c *Chain) reset() {
	c.Readable, c.Writable = c.Readable[:0], c.Writable[:0]
	c.readable, c.writable, c.popped = 0, 0, false
}

// Queue is one virtqueue. It is for one goroutine at a time.
type Queue struct {
	// One of the two layouts. They are no interface, since the calls would cost as much as the work.
	split  split
	packed *packed // nil: split
	size   uint16
}

// New makes a queue, whose rings must lie in memory. Every error matches [ErrConfig].
func New(mem Memory, c Config) (*Queue, error) {
	if c.MaxSegments == 0 {
		c.MaxSegments = maxSegments
	}
	if c.MaxBytes == 0 || c.MaxBytes > maxBytes {
		c.MaxBytes = maxBytes
	}
	if c.Size == 0 || c.Size > MaxSize {
		return nil, fmt.Errorf("%w: %d entries, want 1 to %d", ErrConfig, c.Size, MaxSize)
	}
	q := &Queue{size: c.Size}
	var err error
	if c.Packed {
		q.packed, err = newPacked(mem, c)
	} else {
		err = q.split.init(mem, c)
	}
	if err != nil {
		return nil, err
	}
	return q, nil
}

// Size is the number of entries.
func (q *Queue) Size() int { return int(q.size) }
