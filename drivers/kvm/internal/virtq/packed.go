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
	ring           []packedDescriptor
	driver, device *events // what each side says about when it wants to be woken
	size           uint16
	eventIdx       bool

	nextAvail, nextUsed position
	taken               uint16 // descriptors of the requests in flight
	inFlight            uint16
	added               uint32 // descriptors used since shouldInterrupt was asked last, as far as it matters

	unseen      *guestmem.Uint16 // flags of the first descriptor used since publish
	unseenFlags uint16
}

// packedDescriptor is one of the ring.
type packedDescriptor struct {
	addr  uint64
	len   uint32
	id    uint16
	flags guestmem.Uint16
}

// events are a place of the ring, and how it is meant.
type events struct {
	at, how guestmem.Uint16
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
	p := &packed{size: c.Size, eventIdx: c.EventIdx, walker: newWalker(mem, c),
		nextAvail: position{wrap: true}, nextUsed: position{wrap: true}}
	var ring, driver, device []byte
	for _, part := range []struct {
		what              string
		addr, size, align uint64
		to                *[]byte
	}{
		{"descriptor ring", c.Desc, descSize * uint64(c.Size), 16, &ring},
		{"driver's event suppression", c.Driver, 4, 4, &driver},
		{"device's event suppression", c.Device, 4, 4, &device},
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
	p.ring = guestmem.View[packedDescriptor](ring)
	p.driver, p.device = &guestmem.View[events](driver)[0], &guestmem.View[events](device)[0]
	return p, nil
}

// available says whether the descriptor there is the device's.
func (p *packed) available(at position) (flags uint16, ok bool) {
	flags = p.ring[at.index].flags.Load()
	return flags, (flags&flagAvail != 0) == at.wrap && (flags&flagUsed != 0) != at.wrap
}

func (p *packed) pop(c *Chain) (bool, error) {
	flags, ok := p.available(p.nextAvail)
	if !ok {
		return false, nil
	}
	// The end of the chain has to be found also if the chain is wrong.
	var bad error
	c.taken = 0
	at := p.nextAvail
	for {
		c.taken++
		if c.taken > p.size-p.taken {
			c.taken = 0
			return false, errTooMany
		}
		d := &p.ring[at.index]
		addr, n, id := d.addr, d.len, d.id
		c.id = id // that of the last counts
		if bad == nil {
			bad = p.take(c, addr, n, flags)
		}
		at.advance(1, p.size)
		if flags&flagNext == 0 {
			break
		}
		flags = p.ring[at.index].flags.Load()
	}
	p.nextAvail = at
	p.taken += c.taken
	p.inFlight++
	c.popped = true
	return bad == nil, bad
}

// take collects one descriptor of the ring.
func (p *packed) take(c *Chain, addr uint64, n uint32, flags uint16) error {
	if int(c.taken) > p.maxSegments {
		return c.bad("it has too many descriptors", nil)
	}
	if flags&flagIndirect == 0 {
		return p.add(c, addr, n, flags&flagWrite != 0)
	}
	if flags&flagNext != 0 || c.taken > 1 {
		return c.bad("an indirect descriptor where none may be", nil)
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
			return c.bad("an indirect descriptor where none may be", nil)
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
	d := &p.ring[p.nextUsed.index]
	d.len, d.id = written, c.id
	var flags uint16
	if p.nextUsed.wrap {
		flags = flagAvail | flagUsed
	}
	if written > 0 {
		flags |= flagWrite
	}
	if p.unseen == nil {
		p.unseen, p.unseenFlags = &d.flags, flags
	} else {
		d.flags.Store(flags)
	}
	p.nextUsed.advance(c.taken, p.size)
	p.taken -= c.taken
	p.inFlight--
	p.added = min(p.added+uint32(c.taken), 1<<16)
}

// publish makes the first used descriptor valid, without which the driver does not look at the others.
func (p *packed) publish() {
	p.unseen.Store(p.unseenFlags)
	p.unseen = nil
}

func (p *packed) shouldInterrupt() bool {
	added := p.added
	if added == 0 {
		return false
	}
	p.added = 0
	guestmem.Fence()
	switch p.driver.how.Load() {
	case eventsEnable:
		return true
	case eventsDisable:
		return false
	}
	event := p.driver.at.Load()
	at := event &^ (1 << 15)
	if (event>>15 != 0) != p.nextUsed.wrap {
		at -= p.size
	}
	// The index has been everywhere after a whole turn of the ring.
	return added >= uint32(p.size) || passed(at, p.nextUsed.index, p.nextUsed.index-uint16(added))
}

func (p *packed) disableKicks() { p.device.how.Store(eventsDisable) }

func (p *packed) enableKicks() bool {
	how := uint16(eventsEnable)
	if p.eventIdx {
		event := p.nextAvail.index
		if p.nextAvail.wrap {
			event |= 1 << 15
		}
		p.device.at.Store(event)
		how = eventsDesc
	}
	p.device.how.Store(how)
	guestmem.Fence()
	_, more := p.available(p.nextAvail)
	return more
}
