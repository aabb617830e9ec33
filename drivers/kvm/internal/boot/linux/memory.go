package linux

import (
	"fmt"
	"math/bits"
	"sort"
)

// Memory is guest RAM. Slice returns the size bytes at a guest-physical
// address, or an error when they are not one contiguous range inside RAM. The
// loader writes through the slices and does not keep them.
type Memory interface {
	Slice(addr, size uint64) ([]byte, error)
}

// Range is a guest-physical address range.
type Range struct{ Addr, Size uint64 }

// Types of memory map entries, the same in the e820 and the PVH map.
const (
	memRAM      = 1
	memReserved = 2
)

type mapEntry struct {
	Range
	kind uint32
}

// maxReserved keeps the memory map inside its page.
const maxReserved = 64

// checkLayout refuses RAM layouts that the boot data cannot describe.
func (l *loader) checkLayout() error {
	c := l.cfg
	if c.LowRAM < 2*HighMemory || c.LowRAM > HoleStart || c.LowRAM%pageSize != 0 || c.HighRAM%pageSize != 0 {
		return &Error{File: "guest memory", Offset: -1, Err: ErrMemory,
			Reason: fmt.Sprintf("%#x bytes below the hole at 3 GiB and %#x above it", c.LowRAM, c.HighRAM),
			Remedy: "give the guest whole pages, at least 2 MiB"}
	}
	if _, carry := bits.Add64(HoleEnd, c.HighRAM, 0); carry != 0 {
		return &Error{File: "guest memory", Offset: -1, Err: ErrMemory,
			Reason: fmt.Sprintf("%#x bytes above 4 GiB", c.HighRAM), Remedy: "give the guest less memory"}
	}
	if len(c.Reserved) > maxReserved {
		return &Error{File: "guest memory", Offset: -1, Err: ErrMemory,
			Reason: fmt.Sprintf("%d reserved ranges, the memory map has room for %d", len(c.Reserved), maxReserved)}
	}
	for _, r := range c.Reserved {
		if end, carry := bits.Add64(r.Addr, r.Size, 0); carry != 0 || r.Size == 0 ||
			overlaps(r, 0, c.LowRAM) || (c.HighRAM > 0 && overlaps(r, HoleEnd, HoleEnd+c.HighRAM)) {
			return &Error{File: "guest memory", Offset: -1, Err: ErrMemory,
				Reason: fmt.Sprintf("reserved range %#x-%#x is empty or inside RAM", r.Addr, end)}
		}
	}
	return nil
}

func overlaps(r Range, start, end uint64) bool { return r.Addr < end && start < r.Addr+r.Size }

// isRAM says whether a kernel may occupy the range.
func (l *loader) isRAM(addr, size uint64) bool {
	end, carry := bits.Add64(addr, size, 0)
	if carry != 0 {
		return false
	}
	return addr >= HighMemory && end <= l.cfg.LowRAM ||
		addr >= HoleEnd && end <= HoleEnd+l.cfg.HighRAM
}

func (l *loader) ramString() string {
	s := fmt.Sprintf("%#x-%#x", HighMemory, l.cfg.LowRAM)
	if l.cfg.HighRAM > 0 {
		s += fmt.Sprintf(" and %#x-%#x", uint64(HoleEnd), HoleEnd+l.cfg.HighRAM)
	}
	return s
}

// slice fetches guest memory for one part of an input.
func (l *loader) slice(img Image, part string, addr, size uint64) ([]byte, error) {
	mem, err := l.mem.Slice(addr, size)
	if err == nil && uint64(len(mem)) != size {
		err = fmt.Errorf("%d bytes at %#x instead of %d", len(mem), addr, size)
	}
	if err != nil {
		return nil, img.fail(part, -1, fmt.Errorf("%w: %w", ErrMemory, err), "", remedyMemory)
	}
	return mem, nil
}

// memoryMap lists RAM and reserved ranges by rising address, without overlap.
func (l *loader) memoryMap() []mapEntry {
	m := []mapEntry{
		{Range{0, EBDAStart}, memRAM},
		{Range{EBDAStart, HighMemory - EBDAStart}, memReserved},
		{Range{HighMemory, l.cfg.LowRAM - HighMemory}, memRAM},
	}
	if l.cfg.HighRAM > 0 {
		m = append(m, mapEntry{Range{HoleEnd, l.cfg.HighRAM}, memRAM})
	}
	for _, r := range l.cfg.Reserved {
		m = append(m, mapEntry{r, memReserved})
	}
	sort.Slice(m, func(i, j int) bool { return m[i].Addr < m[j].Addr })
	return m
}
