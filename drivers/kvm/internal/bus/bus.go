// Package bus is an address space of devices: the guest's I/O ports or its
// memory-mapped registers.
//
// A machine has two of them,
//
//	ports := bus.New("port", bus.PortLast)
//	mmio := bus.New("mmio", bus.MMIOLast)
//
// gives every device its range with Add, and its vCPU loop hands each
// KVM_EXIT_IO and KVM_EXIT_MMIO to Read or Write:
//
//	port, size := exit.Port, exit.Size              // KVM_EXIT_IO
//	for p := exit.Data; len(p) > 0; p = p[size:] {  // count elements of size bytes (rep ins/outs)
//		if exit.In {
//			ports.Read(port, p[:size])
//		} else {
//			ports.Write(port, p[:size])
//		}
//	}
//
// Where nobody answers a read gives all ones and a write is lost, as on a PC
// bus without a target; the result tells it, for counting.
//
// Lookups take no lock and allocate nothing; Add and Remove copy the table.
package bus

import (
	"sync"
	"sync/atomic"
)

const (
	// PortLast is the last x86 I/O port.
	PortLast = 0xffff
	// MMIOLast is the last guest-physical address of the architecture (52
	// bits: AMD64 Architecture Programmer's Manual volume 2, section 5.1).
	MMIOLast = 1<<52 - 1
	// MaxAccess is the longest access, in bytes. KVM cuts longer ones, and
	// those that cross a page, before they reach user space.
	MaxAccess = 8
)

// Device is what sits behind a range of addresses.
//
// off counts from the start of the range the device was added with, and
// off+len(p) never exceeds the size of that range; len(p) is 1 to MaxAccess,
// and not only a power of two. Read fills all of p. Both are called from vCPU
// threads, several at a time, and p is valid only until they return.
type Device interface {
	Read(off uint64, p []byte)
	Write(off uint64, p []byte)
}

// Range describes one device's addresses: Base to Base+Size-1.
type Range struct {
	Name       string
	Base, Size uint64
}

// window is an entry of the table; last is inclusive, so that a range may end
// at the top of the space.
type window struct {
	base, last uint64
	name       string
	dev        Device
}

// Bus is one address space. It is safe for concurrent use.
type Bus struct {
	name  string
	last  uint64
	mu    sync.Mutex // serialises Add and Remove
	table atomic.Pointer[[]window]
}

// New returns an empty address space from 0 to last. The name appears in
// errors.
func New(name string, last uint64) *Bus {
	b := &Bus{name: name, last: last}
	b.table.Store(new([]window))
	return b
}

// search returns the index of the first window that ends at or after addr, or
// len(t).
func search(t []window, addr uint64) int {
	lo, hi := 0, len(t)
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if t[mid].last < addr {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// Read fills p from addr on and reports whether any device answered. Bytes
// that no device answers are 0xff.
//
// An access that touches more than one range, or a range and a hole, is split
// at the borders: each device sees its own part only, the parts in ascending
// order. This is what a PC does with a wide access to narrow registers. Bytes
// past the end of the address space belong to nobody; there is no wrap to 0.
// An access longer than MaxAccess is refused whole, which reads as ones.
func (b *Bus) Read(addr uint64, p []byte) bool {
	t := *b.table.Load()
	n := uint64(len(p))
	if i := search(t, addr); i < len(t) && n-1 < MaxAccess {
		if w := &t[i]; w.base <= addr && n-1 <= w.last-addr {
			w.dev.Read(addr-w.base, p)
			return true
		}
	}
	for i := range p {
		p[i] = 0xff
	}
	return split(t, addr, p, Device.Read)
}

// Write hands p to the devices from addr on and reports whether any device
// took it. It splits and refuses as Read does; bytes that no device takes are
// lost.
func (b *Bus) Write(addr uint64, p []byte) bool {
	t := *b.table.Load()
	n := uint64(len(p))
	if i := search(t, addr); i < len(t) && n-1 < MaxAccess {
		if w := &t[i]; w.base <= addr && n-1 <= w.last-addr {
			w.dev.Write(addr-w.base, p)
			return true
		}
	}
	return split(t, addr, p, Device.Write)
}

// split calls access for each part of [addr, addr+len(p)) that lies within a
// window. Each turn consumes at least one byte of at most MaxAccess.
func split(t []window, addr uint64, p []byte, access func(Device, uint64, []byte)) bool {
	if len(p) > MaxAccess {
		return false
	}
	hit := false
	for i := search(t, addr); len(p) > 0 && i < len(t); i++ {
		w := &t[i]
		if w.base > addr {
			gap := w.base - addr
			if gap >= uint64(len(p)) {
				break
			}
			addr, p = w.base, p[gap:]
		}
		n := uint64(len(p))
		if rest := w.last - addr; n-1 > rest {
			n = rest + 1
		}
		access(w.dev, addr-w.base, p[:n:n])
		hit = true
		addr, p = addr+n, p[n:]
	}
	return hit
}

// Ranges lists the ranges in ascending order.
func (b *Bus) Ranges() []Range {
	t := *b.table.Load()
	r := make([]Range, len(t))
	for i, w := range t {
		r[i] = Range{Name: w.name, Base: w.base, Size: w.last - w.base + 1}
	}
	return r
}
