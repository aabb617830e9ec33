package guestmem

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ROM is memory of a machine that is not RAM: devices do not reach it by guest address, and where the guest sees it is
// its owner's business.
type ROM struct{ b []byte }

// NewROM maps size bytes of zeroed memory, a multiple of [PageSize]. It is given back by Close, which must come when no
// KVM slot refers to it.
func NewROM(size uint64) (*ROM, error) {
	if size == 0 || size%PageSize != 0 || size > HoleEnd-HoleStart {
		return nil, fmt.Errorf("read-only memory of %d bytes: not a positive multiple of %d up to %d", size, PageSize, HoleEnd-HoleStart)
	}
	b, err := unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes of read-only memory: %w", size, err)
	}
	return &ROM{b}, nil
}

// Bytes is the memory, until Close.
func (r *ROM) Bytes() []byte { return r.b }

// HostAddr is where the memory lies, for a KVM slot.
func (r *ROM) HostAddr() uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(r.b))) }

// Close gives the memory back.
func (r *ROM) Close() error {
	if err := unix.Munmap(r.b); err != nil {
		return fmt.Errorf("unmap read-only memory: %w", err)
	}
	r.b = nil
	return nil
}
