package virtq

import (
	"encoding/binary"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/guestmem"
)

// Flags of a descriptor (sections 2.6.5 and 2.8.13).
const (
	flagNext     = 1 << 0
	flagWrite    = 1 << 1
	flagIndirect = 1 << 2
)

// descSize is the size of a descriptor in both layouts.
const descSize = 16

// walker collects the descriptors of a chain.
type walker struct {
	// ram is guest memory from the guest address base on, where the last buffer lay: most of them lie in one region, and
	// need not ask mem.
	ram  []byte
	base uint64

	mem         Memory
	indirect    bool
	maxSegments int
	maxBytes    uint64
}

func newWalker(mem Memory, c Config) walker {
	return walker{mem: mem, indirect: c.Indirect, maxSegments: min(c.MaxSegments, int(c.Size)), maxBytes: c.MaxBytes}
}

// slice gives guest memory.
func (w *walker) slice(addr, n uint64) ([]byte, error) {
	if off := addr - w.base; off < uint64(len(w.ram)) && n <= uint64(len(w.ram))-off {
		return w.ram[off : off+n : off+n], nil
	}
	return w.find(addr, n)
}

// find asks the memory, and remembers the region if it knows of regions.
func (w *walker) find(addr, n uint64) ([]byte, error) {
	if m, ok := w.mem.(*guestmem.Memory); ok {
		w.base, w.ram = m.Region(addr)
	}
	return w.mem.Slice(addr, n)
}

// add takes the buffer of a descriptor into the chain.
func (w *walker) add(c *Chain, addr uint64, n uint32, write bool) error {
	if !write && c.writable+uint64(len(c.Writable)) > 0 {
		return c.bad("a buffer to read comes after one to write", nil)
	}
	if n == 0 {
		return nil
	}
	if c.readable+c.writable+uint64(n) > w.maxBytes {
		return c.bad("its buffers are too long together", nil)
	}
	b, err := w.slice(addr, uint64(n))
	if err != nil {
		return c.bad("a buffer", err)
	}
	if write {
		c.Writable = append(c.Writable, b)
		c.writable += uint64(n)
	} else {
		c.Readable = append(c.Readable, b)
		c.readable += uint64(n)
	}
	return nil
}

// table gives the memory of an indirect table.
func (w *walker) table(c *Chain, addr uint64, n uint32) ([]byte, error) {
	if !w.indirect {
		return nil, c.bad("an indirect descriptor, which was not negotiated", nil)
	}
	if n == 0 || n%descSize != 0 {
		return nil, c.bad("the length of its indirect table is no multiple of 16", nil)
	}
	if int(n/descSize) > w.maxSegments {
		return nil, c.bad("it has too many descriptors", nil)
	}
	t, err := w.slice(addr, uint64(n))
	if err != nil {
		return nil, c.bad("its indirect table", err)
	}
	return t, nil
}

// bad says what is wrong with a chain.
//
//go:noinline
func (c *Chain) bad(reason string, err error) error { return &ChainError{c.id, reason, err} }

// desc reads a descriptor of an indirect table, each field once. Such a table need not be aligned.
func desc(b []byte) descriptor {
	_ = b[15]
	return descriptor{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint16(b[12:]), binary.LittleEndian.Uint16(b[14:])}
}
