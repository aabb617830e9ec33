package virtq

import "encoding/binary"

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
	mem         Memory
	indirect    bool
	maxSegments int
	maxBytes    uint64
}

// add takes the buffer of a descriptor into the chain.
func (w *walker) add(c *Chain, addr uint64, n uint32, write bool) error {
	if !write && c.writable+uint64(len(c.Writable)) > 0 {
		return &ChainError{c.id, "a buffer to read comes after one to write", nil}
	}
	if n == 0 {
		return nil
	}
	if c.readable+c.writable+uint64(n) > w.maxBytes {
		return &ChainError{c.id, "its buffers are too long together", nil}
	}
	b, err := w.mem.Slice(addr, uint64(n))
	if err != nil {
		return &ChainError{c.id, "a buffer", err}
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
		return nil, &ChainError{c.id, "an indirect descriptor, which was not negotiated", nil}
	}
	if n == 0 || n%descSize != 0 {
		return nil, &ChainError{c.id, "the length of its indirect table is no multiple of 16", nil}
	}
	if int(n/descSize) > w.maxSegments {
		return nil, &ChainError{c.id, "it has too many descriptors", nil}
	}
	t, err := w.mem.Slice(addr, uint64(n))
	if err != nil {
		return nil, &ChainError{c.id, "its indirect table", err}
	}
	return t, nil
}

// desc reads a descriptor of a split ring or an indirect table, each field once.
func desc(b []byte) (addr uint64, n uint32, flags, next uint16) {
	_ = b[15]
	return binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint16(b[12:]), binary.LittleEndian.Uint16(b[14:])
}
