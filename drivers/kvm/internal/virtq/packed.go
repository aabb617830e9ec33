package virtq

import (
	"encoding/binary"
	"fmt"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/guestmem"
)

// packed is the layout of section 2.8: one ring, in which both sides mark descriptors as available and as used by bits that
// change their meaning at each turn.
type packed struct {
	walker
	ring           []byte
	driver, device []byte // what each side says about when it wants to be woken
	size           uint16
	eventIdx       bool

	nextAvail, nextUsed position
	taken               uint16 // descriptors of the requests in flight
	added               uint32 // descriptors used since shouldInterrupt was asked last, as far as it matters

	unseen      []byte // flags of the first descriptor used since publish
	unseenFlags uint16
}

// position is a place in the ring, with the bit that says which turn it is in.
type position struct {
	index uint16
	wrap  bool
}

func (p *position) advance(n, size uint16) {
	if p.index += n; p.index >= size {
		p.index -= size
		p.wrap = !p.wrap
	}
}

const (
	flagAvail = 1 << 7
	flagUsed  = 1 << 15

	eventsEnable  = 0 // RING_EVENT_FLAGS_ENABLE
	eventsDisable = 1
	eventsDesc    = 2 // only at the descriptor that the first field names
)

func newPacked(mem Memory, c Config) (*packed, error) {
	p := &packed{size: c.Size, eventIdx: c.EventIdx, walker: walker{mem, c.Indirect, min(c.MaxSegments, int(c.Size)), c.MaxBytes},
		nextAvail: position{wrap: true}, nextUsed: position{wrap: true}}
	for _, part := range []struct {
		what              string
		addr, size, align uint64
		to                *[]byte
	}{
		{"descriptor ring", c.Desc, descSize * uint64(c.Size), 16, &p.ring},
		{"driver's event suppression", c.Driver, 4, 4, &p.driver},
		{"device's event suppression", c.Device, 4, 4, &p.device},
	} {
		if part.addr%part.align != 0 {
			return nil, fmt.Errorf("%w: the %s at %#x is not aligned to %d bytes", ErrConfig, part.what, part.addr, part.align)
		}
		b, err := mem.Slice(part.addr, part.size)
		if err != nil {
			return nil, fmt.Errorf("%w: the %s: %w", ErrConfig, part.what, err)
		}
		*part.to = b
	}
	return p, nil
}

// available says whether the descriptor there is the device's.
func (p *packed) available(at position) (flags uint16, ok bool) {
	flags = guestmem.Load16(p.ring[descSize*int(at.index)+14:])
	return flags, (flags&flagAvail != 0) == at.wrap && (flags&flagUsed != 0) != at.wrap
}

func (p *packed) pop(c *Chain, _ bool) (bool, error) {
	flags, ok := p.available(p.nextAvail)
	if !ok {
		return false, nil
	}
	// The end of the chain has to be found also if the chain is wrong.
	var bad error
	at := p.nextAvail
	for {
		c.taken++
		if c.taken > p.size-p.taken {
			c.taken = 0
			return false, &RingError{"more requests are available than it has entries"}
		}
		addr, n, id, _ := desc(p.ring[descSize*int(at.index):][:descSize])
		c.id = id // that of the last counts
		if bad == nil {
			bad = p.take(c, addr, n, flags)
		}
		at.advance(1, p.size)
		if flags&flagNext == 0 {
			break
		}
		flags = guestmem.Load16(p.ring[descSize*int(at.index)+14:])
	}
	p.nextAvail = at
	p.taken += c.taken
	c.popped = true
	return bad == nil, bad
}

// take collects one descriptor of the ring.
func (p *packed) take(c *Chain, addr uint64, n uint32, flags uint16) error {
	if int(c.taken) > p.maxSegments {
		return &ChainError{c.id, "it has too many descriptors", nil}
	}
	if flags&flagIndirect == 0 {
		return p.add(c, addr, n, flags&flagWrite != 0)
	}
	if flags&flagNext != 0 || c.taken > 1 {
		return &ChainError{c.id, "an indirect descriptor where none may be", nil}
	}
	t, err := p.table(c, addr, n)
	if err != nil {
		return err
	}
	for ; len(t) >= descSize; t = t[descSize:] {
		// All of a table belongs to the chain (section 2.8.7).
		addr, n := binary.LittleEndian.Uint64(t), binary.LittleEndian.Uint32(t[8:])
		flags := binary.LittleEndian.Uint16(t[14:])
		if flags&flagIndirect != 0 {
			return &ChainError{c.id, "an indirect descriptor where none may be", nil}
		}
		if err := p.add(c, addr, n, flags&flagWrite != 0); err != nil {
			return err
		}
	}
	return nil
}

func (p *packed) push(c *Chain, written uint32) {
	p.use(c, written)
	p.publish()
}

func (p *packed) use(c *Chain, written uint32) {
	d := p.ring[descSize*int(p.nextUsed.index):][:descSize]
	binary.LittleEndian.PutUint32(d[8:], written)
	binary.LittleEndian.PutUint16(d[12:], c.id)
	var flags uint16
	if p.nextUsed.wrap {
		flags = flagAvail | flagUsed
	}
	if written > 0 {
		flags |= flagWrite
	}
	if p.unseen == nil {
		p.unseen, p.unseenFlags = d[14:], flags
	} else {
		guestmem.Store16(d[14:], flags)
	}
	p.nextUsed.advance(c.taken, p.size)
	p.taken -= c.taken
	p.added = min(p.added+uint32(c.taken), 1<<16)
}

// publish makes the first used descriptor valid, without which the driver does not look at the others.
func (p *packed) publish() {
	guestmem.Store16(p.unseen, p.unseenFlags)
	p.unseen = nil
}

func (p *packed) shouldInterrupt() bool {
	added := p.added
	if added == 0 {
		return false
	}
	p.added = 0
	guestmem.Fence()
	switch guestmem.Load16(p.driver[2:]) {
	case eventsEnable:
		return true
	case eventsDisable:
		return false
	}
	event := guestmem.Load16(p.driver)
	at := event &^ (1 << 15)
	if (event>>15 != 0) != p.nextUsed.wrap {
		at -= p.size
	}
	// The index has been everywhere after a whole turn of the ring.
	return added >= uint32(p.size) || passed(at, p.nextUsed.index, p.nextUsed.index-uint16(added))
}

func (p *packed) disableKicks() { guestmem.Store16(p.device[2:], eventsDisable) }

func (p *packed) enableKicks() bool {
	how := uint16(eventsEnable)
	if p.eventIdx {
		event := p.nextAvail.index
		if p.nextAvail.wrap {
			event |= 1 << 15
		}
		guestmem.Store16(p.device, event)
		how = eventsDesc
	}
	guestmem.Store16(p.device[2:], how)
	guestmem.Fence()
	_, more := p.available(p.nextAvail)
	return more
}
