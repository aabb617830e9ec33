package virtq

import (
	"encoding/binary"
	"fmt"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/guestmem"
)

// split is the layout of section 2.7: a table of descriptors, a ring by which the driver makes them available and one by
// which the device gives them back.
type split struct {
	walker
	desc, avail, used []byte
	// usedEvent and availEvent are the places behind the rings where each side says when it wants to be woken.
	usedEvent, availEvent []byte
	mask                  uint16
	eventIdx              bool

	nextAvail uint16 // the entry of avail that comes next
	nextUsed  uint16
	added     uint32 // pushed since shouldInterrupt was asked last, as far as it matters
}

const (
	usedNoNotify     = 1 // VIRTQ_USED_F_NO_NOTIFY
	availNoInterrupt = 1 // VIRTQ_AVAIL_F_NO_INTERRUPT
)

func newSplit(mem Memory, c Config) (*split, error) {
	if c.Size&(c.Size-1) != 0 {
		return nil, fmt.Errorf("%w: %d entries, not a power of two", ErrConfig, c.Size)
	}
	n := uint64(c.Size)
	s := &split{mask: c.Size - 1, eventIdx: c.EventIdx,
		walker: walker{mem, c.Indirect, min(c.MaxSegments, int(c.Size)), c.MaxBytes}}
	for _, p := range []struct {
		what       string
		addr, size uint64
		align      uint64
		to         *[]byte
	}{
		{"descriptor table", c.Desc, descSize * n, 16, &s.desc},
		{"available ring", c.Driver, 4 + 2*n + 2, 2, &s.avail},
		{"used ring", c.Device, 4 + 8*n + 2, 4, &s.used},
	} {
		if p.addr%p.align != 0 {
			return nil, fmt.Errorf("%w: the %s at %#x is not aligned to %d bytes", ErrConfig, p.what, p.addr, p.align)
		}
		b, err := mem.Slice(p.addr, p.size)
		if err != nil {
			return nil, fmt.Errorf("%w: the %s: %w", ErrConfig, p.what, err)
		}
		*p.to = b
	}
	s.usedEvent, s.availEvent = s.avail[4+2*n:], s.used[4+8*n:]
	return s, nil
}

func (s *split) pop(c *Chain, full bool) (bool, error) {
	waiting := guestmem.Load16(s.avail[2:]) - s.nextAvail
	if waiting == 0 {
		return false, nil
	}
	if waiting > s.mask+1 || full {
		return false, &RingError{"more requests are available than it has entries"}
	}
	head := binary.LittleEndian.Uint16(s.avail[4+2*int(s.nextAvail&s.mask):])
	if head > s.mask {
		return false, &RingError{"a descriptor's number is larger than the table"}
	}
	s.nextAvail++
	c.id, c.popped = head, true
	if err := s.walk(c); err != nil {
		return false, err
	}
	return true, nil
}

// walk collects the chain whose head is c.id.
func (s *split) walk(c *Chain) error {
	table, last, inside := s.desc, s.mask, false
	for i, n := c.id, 1; ; n++ {
		if n > s.maxSegments {
			return &ChainError{c.id, "it has too many descriptors, or goes round in a circle", nil}
		}
		addr, size, flags, next := desc(table[descSize*int(i):][:descSize])
		if flags&flagIndirect != 0 {
			if inside || flags&flagNext != 0 {
				return &ChainError{c.id, "an indirect descriptor where none may be", nil}
			}
			t, err := s.table(c, addr, size)
			if err != nil {
				return err
			}
			// What counts are the descriptors of the table, which there is once.
			table, last, inside, i, n = t, uint16(size/descSize-1), true, 0, 0
			continue
		}
		if err := s.add(c, addr, size, flags&flagWrite != 0); err != nil {
			return err
		}
		if flags&flagNext == 0 {
			return nil
		}
		if next > last {
			return &ChainError{c.id, "the number of its next descriptor is larger than the table", nil}
		}
		i = next
	}
}

func (s *split) push(c *Chain, written uint32) {
	s.use(c, written)
	s.publish()
}

func (s *split) use(c *Chain, written uint32) {
	e := s.used[4+8*int(s.nextUsed&s.mask):][:8]
	binary.LittleEndian.PutUint64(e, uint64(c.id)|uint64(written)<<32)
	s.nextUsed++
	s.added = min(s.added+1, 1<<16)
}

func (s *split) publish() { guestmem.Store16(s.used[2:], s.nextUsed) }

func (s *split) shouldInterrupt() bool {
	added := s.added
	if added == 0 {
		return false
	}
	s.added = 0
	// The driver looks at the ring after it has asked for an interrupt, we ask after we have filled the ring.
	guestmem.Fence()
	if s.eventIdx {
		// The index has been everywhere after a whole turn of its numbers.
		return added > 1<<16-1 || passed(guestmem.Load16(s.usedEvent), s.nextUsed, s.nextUsed-uint16(added))
	}
	return guestmem.Load16(s.avail)&availNoInterrupt == 0
}

// passed says whether an index went beyond the event on its way from before to now (vring_need_event, section 2.7.7.1).
func passed(event, now, before uint16) bool { return now-event-1 < now-before }

func (s *split) disableKicks() {
	if !s.eventIdx { // else the event stays behind, where it asks for nothing
		guestmem.Store16(s.used, usedNoNotify)
	}
}

func (s *split) enableKicks() bool {
	if s.eventIdx {
		guestmem.Store16(s.availEvent, s.nextAvail)
	} else {
		guestmem.Store16(s.used, 0)
	}
	guestmem.Fence()
	return guestmem.Load16(s.avail[2:]) != s.nextAvail
}
