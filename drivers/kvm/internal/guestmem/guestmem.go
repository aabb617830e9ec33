// Package guestmem is the RAM of a virtual machine: where it lies in guest physical address space, and the only way to
// reach it by guest address.
//
// Addresses and lengths that come from a guest are checked here and nowhere else; what does not lie inside one range of
// RAM is an *[AddressError], never a panic. RAM is laid out as on a PC: up to 3 GiB from address 0, the rest from 4 GiB
// up; the hole between belongs to devices.
//
// The guest changes its memory while we look at it: read a value once into a local and judge the copy.
package guestmem

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Guest physical layout.
const (
	PageSize  = 4096
	HoleStart = uint64(3) << 30 // RAM below ends here at the latest
	HoleEnd   = uint64(4) << 30 // RAM above starts here

	// MaxSize bounds a machine's memory such that its last address fits the 46 bits that every long-mode processor with
	// more than toy sizes has, the hole included.
	MaxSize = uint64(1)<<46 - (HoleEnd - HoleStart)
)

// hugePage is the alignment that lets the kernel back both guest and host with huge pages.
const hugePage = 2 << 20

// ErrClosed is the error of every access after Close.
var ErrClosed = errors.New("guest memory is closed")

// AddressError is an access outside of RAM.
type AddressError struct {
	Addr, Len uint64
}

func (e *AddressError) Error() string {
	return fmt.Sprintf("guest address %#x, %d bytes: not in guest memory", e.Addr, e.Len)
}

// Region is one range of RAM. The host address is valid until Close.
type Region struct {
	GuestAddr uint64
	Size      uint64
	HostAddr  uintptr
}

// End gives the first guest address behind the region.
func (r Region) End() uint64 { return r.GuestAddr + r.Size }

// Option changes how memory is made.
type Option func(*options)

type options struct {
	hugePages bool
	hole      uint64
}

// WithHugePages advises the kernel to use transparent huge pages: fewer and dearer page faults.
func WithHugePages() Option { return func(o *options) { o.hugePages = true } }

// WithHole moves the beginning of the hole below 4 GiB from HoleStart down to start, a multiple of [PageSize].
func WithHole(start uint64) Option { return func(o *options) { o.hole = start } }

// Memory is a machine's RAM. Accesses are safe for concurrent use with each other; Close must come when nobody holds a
// slice and no KVM slot refers to the memory.
type Memory struct {
	size    uint64
	mapping []byte // with inaccessible pages before and behind
	low     []byte // from guest address 0
	high    []byte // from HoleEnd, may be empty
	closed  atomic.Bool
}

// New maps size bytes of zeroed memory, a multiple of [PageSize]. Pages are taken from the host when they are first
// touched, are private to the process, not counted against the host's commit limit and left out of core dumps.
// Inaccessible pages lie before and behind, so that an overrun of ours faults instead of corrupting.
func New(size uint64, opts ...Option) (*Memory, error) {
	o := options{hole: HoleStart}
	for _, f := range opts {
		f(&o)
	}
	if size == 0 || size%PageSize != 0 {
		return nil, fmt.Errorf("guest memory of %d bytes: not a positive multiple of %d", size, PageSize)
	}
	if o.hole == 0 || o.hole%PageSize != 0 || o.hole > HoleStart {
		return nil, fmt.Errorf("hole in guest memory from %#x: not a multiple of %d up to %#x", o.hole, PageSize, HoleStart)
	}
	if size > MaxSize {
		return nil, fmt.Errorf("guest memory of %d bytes: more than the largest possible, %d", size, MaxSize)
	}
	mapping, err := unix.Mmap(-1, 0, int(size)+2*hugePage, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes of guest memory: %w (ask for less, or raise the address space limit: ulimit -v)", size, err)
	}
	start := uintptr(unsafe.Pointer(unsafe.SliceData(mapping)))
	// At least a page before, and guest and host addresses congruent modulo the huge page size.
	first := (start+PageSize+hugePage-1)&^(hugePage-1) - start
	ram := mapping[first : uint64(first)+size : uint64(first)+size]
	if err := unix.Mprotect(ram, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		unix.Munmap(mapping)
		return nil, fmt.Errorf("map %d bytes of guest memory: %w", size, err)
	}
	if err := advise(ram, o); err != nil {
		unix.Munmap(mapping)
		return nil, err
	}
	below := min(size, o.hole)
	return &Memory{size: size, mapping: mapping, low: ram[:below:below], high: ram[below:]}, nil
}

// Size gives the amount of RAM in bytes, the hole not counted.
func (m *Memory) Size() uint64 { return m.size }

// Regions gives the ranges of RAM in ascending order, one or two.
func (m *Memory) Regions() []Region {
	if m.closed.Load() {
		return nil
	}
	r := []Region{{GuestAddr: 0, Size: uint64(len(m.low)), HostAddr: uintptr(unsafe.Pointer(unsafe.SliceData(m.low)))}}
	if len(m.high) > 0 {
		r = append(r, Region{GuestAddr: HoleEnd, Size: uint64(len(m.high)), HostAddr: uintptr(unsafe.Pointer(unsafe.SliceData(m.high)))})
	}
	return r
}

// Slice gives the n bytes at guest address gpa, which must lie in one region. The slice is the guest's memory itself,
// valid until Close; its capacity ends with it. It does not allocate, except for an error.
func (m *Memory) Slice(gpa, n uint64) ([]byte, error) {
	if m.closed.Load() {
		return nil, ErrClosed
	}
	ram, off := m.low, gpa
	if gpa >= HoleEnd {
		ram, off = m.high, gpa-HoleEnd
	}
	if size := uint64(len(ram)); off > size || n > size-off {
		return nil, &AddressError{Addr: gpa, Len: n}
	}
	return ram[off : off+n : off+n], nil
}

// Region gives the region of RAM that holds guest address gpa, and the address at which it begins; nothing where there is
// none. Callers who look at many addresses keep it, and check by it what Slice would.
func (m *Memory) Region(gpa uint64) (base uint64, ram []byte) {
	switch {
	case m.closed.Load():
	case gpa < uint64(len(m.low)):
		return 0, m.low
	case gpa >= HoleEnd && gpa-HoleEnd < uint64(len(m.high)):
		return HoleEnd, m.high
	}
	return 0, nil
}

// ReadAt copies len(p) bytes from guest address gpa, all or none.
func (m *Memory) ReadAt(p []byte, gpa uint64) error {
	b, err := m.Slice(gpa, uint64(len(p)))
	if err != nil {
		return err
	}
	copy(p, b)
	return nil
}

// WriteAt copies p to guest address gpa, all or nothing.
func (m *Memory) WriteAt(p []byte, gpa uint64) error {
	b, err := m.Slice(gpa, uint64(len(p)))
	if err != nil {
		return err
	}
	copy(b, p)
	return nil
}

// Close gives the memory back to the host. Slices and host addresses are invalid from then on. A second call does nothing.
func (m *Memory) Close() error {
	if m.closed.Swap(true) {
		return nil
	}
	if err := unix.Munmap(m.mapping); err != nil {
		return fmt.Errorf("unmap guest memory: %w", err)
	}
	return nil
}
