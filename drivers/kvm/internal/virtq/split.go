package virtq

import (
	"fmt"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/guestmem"
)

// split is the layout of section 2.7: a table of descriptors, a ring by which the driver makes them available and one by
// which the device gives them back.
type split struct {
	walker
	desc  []descriptor
	avail []uint16 // numbers of descriptors
	used  []usedElement
	mask  uint16

	availFlags, availIndex *guestmem.Uint16
	usedFlags, usedIndex   *guestmem.Uint16
	// usedEvent and availEvent are the places behind the rings where each side says when it wants to be woken.
	usedEvent, availEvent *guestmem.Uint16
	eventIdx              bool

	nextAvail uint16 // the entry of avail that comes next
	seen      uint16 // the index of avail as it was read last
	pushed    uint64 // requests given back so far, whose low bits are the index of used
	told      uint64 // pushed when shouldInterrupt was asked last
}

// descriptor is one of the table, or of an indirect table.
type descriptor struct {
	addr        uint64
	len         uint32
	flags, next uint16
}

// usedElement is a request that was given back.
type usedElement struct {
	id, written uint32
}

const (
	usedNoNotify     = 1 // VIRTQ_USED_F_NO_NOTIFY
	availNoInterrupt = 1 // VIRTQ_AVAIL_F_NO_INTERRUPT
)

var (
	errTooMany = &RingError{"more requests are available than it has entries"}
	errHead    = &RingError{"a descriptor's number is larger than the table"}
)

func (s *split) init(mem Memory, c Config) error {
	if c.Size&(c.Size-1) != 0 {
		return fmt.Errorf("%w: %d entries, not a power of two", ErrConfig, c.Size)
	}
	n := uint64(c.Size)
	var desc, avail, used []byte
	for _, p := range []struct {
		what       string
		addr, size uint64
		align      uint64
		to         *[]byte
	}{
		{"descriptor table", c.Desc, descSize * n, 16, &desc},
		{"available ring", c.Driver, 4 + 2*n + 2, 2, &avail},
		{"used ring", c.Device, 4 + 8*n + 2, 4, &used},
	} {
		if p.addr%p.align != 0 {
			return fmt.Errorf("%w: the %s at %#x is not aligned to %d bytes", ErrConfig, p.what, p.addr, p.align)
		}
		b, err := mem.Slice(p.addr, p.size)
		if err != nil {
			return fmt.Errorf("%w: the %s: %w", ErrConfig, p.what, err)
		}
		*p.to = b
	}
	words := guestmem.View[guestmem.Uint16](avail)
	s.availFlags, s.availIndex, s.usedEvent = &words[0], &words[1], &words[2+n]
	s.avail = guestmem.View[uint16](avail[4 : 4+2*n])
	words = guestmem.View[guestmem.Uint16](used)
	s.usedFlags, s.usedIndex, s.availEvent = &words[0], &words[1], &words[2+4*n]
	s.used = guestmem.View[usedElement](used[4 : 4+8*n])
	s.desc = guestmem.View[descriptor](desc)
	s.mask, s.eventIdx, s.walker = c.Size-1, c.EventIdx, newWalker(mem, c)
	return nil
}

// walk collects the chain whose head is d.
func (s *split) walk(c *Chain, d descriptor) error {
	var table []byte // an indirect one
	last := s.mask
	for n := 1; ; n++ {
		if n > s.maxSegments {
			return c.bad("it has too many descriptors, or goes round in a circle", nil)
		}
		if d.flags&flagIndirect != 0 {
			if table != nil || d.flags&flagNext != 0 {
				return c.bad("an indirect descriptor where none may be", nil)
			}
			var err error
			if table, err = s.table(c, d.addr, d.len); err != nil {
				return err
			}
			// What counts are the descriptors of the table, not the one that leads to it.
			last, n = uint16(d.len/descSize-1), n-1
			d = desc(table)
			continue
		}
		if err := s.add(c, d.addr, d.len, d.flags&flagWrite != 0); err != nil {
			return err
		}
		switch {
		case d.flags&flagNext == 0:
			return nil
		case d.next > last:
			return c.bad("the number of its next descriptor is larger than the table", nil)
		case table != nil:
			d = desc(table[descSize*int(d.next):])
		default:
			d = s.desc[d.next]
		}
	}
}

func (s *split) inFlight() uint16 { return s.nextAvail - uint16(s.pushed) }

func (s *split) use(c *Chain, written uint32) {
	s.used[uint16(s.pushed)&s.mask] = usedElement{uint32(c.id), written}
	s.pushed++
}

func (s *split) publish() { s.usedIndex.Store(uint16(s.pushed)) }

func (s *split) shouldInterrupt() bool {
	added := s.pushed - s.told
	if added == 0 {
		return false
	}
	s.told = s.pushed
	// The driver looks at the ring after it has asked for an interrupt, we ask after we have filled the ring.
	guestmem.Fence()
	if s.eventIdx {
		// The index has been everywhere after a whole turn of its numbers.
		return added > 1<<16-1 || passed(s.usedEvent.Load(), uint16(s.pushed), uint16(s.pushed-added))
	}
	return s.availFlags.Load()&availNoInterrupt == 0
}

// passed says whether an index went beyond the event on its way from before to now (vring_need_event, section 2.7.7.1).
func passed(event, now, before uint16) bool { return now-event-1 < now-before }

func (s *split) disableKicks() {
	if !s.eventIdx { // else the event stays behind, where it asks for nothing
		s.usedFlags.Store(usedNoNotify)
	}
}

func (s *split) enableKicks() bool {
	if s.eventIdx {
		s.availEvent.Store(s.nextAvail)
	} else {
		s.usedFlags.Store(0)
	}
	guestmem.Fence()
	return s.availIndex.Load() != s.nextAvail
}
