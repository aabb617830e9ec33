package guestmem

import (
	"sync/atomic"
	"unsafe"
)

// What two sides of a ring tell each other by memory alone: single accesses, in little-endian order, which are neither
// split nor repeated. On x86-64 loads are not reordered with loads nor stores with stores; an atomic operation keeps the
// compiler to that. They do not allocate; a slice that is too short is a fault of ours and panics.

// Uint16 is two bytes of guest memory, which both sides may read and write at any time.
type Uint16 struct{ v uint16 }

// Load reads them. Reads that come after it in the program see what the other side wrote before it wrote these.
func (u *Uint16) Load() uint16 { return load16(&u.v) }

// Store writes them. Whoever sees them sees all that was written before.
func (u *Uint16) Store(v uint16) { u.v = v }

// View gives memory as an array of T, which has no pointers and is laid out as the other side has it, in little-endian
// order. What is left over at the end is not in it. b must be aligned for T.
func View[T any](b []byte) []T {
	var t T
	n := len(b) / int(unsafe.Sizeof(t))
	p := unsafe.Pointer(unsafe.SliceData(b))
	if uintptr(p)%unsafe.Alignof(t) != 0 {
		panic("guestmem: memory is not aligned for its type")
	}
	return unsafe.Slice((*T)(p), n)
}

// Load16 is Uint16.Load for two bytes that begin at an even address.
func Load16(b []byte) uint16 {
	_ = b[1]
	return load16((*uint16)(unsafe.Pointer(unsafe.SliceData(b))))
}

// Store16 is Uint16.Store.
func Store16(b []byte, v uint16) {
	_ = b[1]
	*(*uint16)(unsafe.Pointer(unsafe.SliceData(b))) = v
}

// Load32 is Load16 for four bytes, which begin at a multiple of four.
func Load32(b []byte) uint32 {
	_ = b[3]
	return atomic.LoadUint32((*uint32)(unsafe.Pointer(unsafe.SliceData(b))))
}

// Store32 is Store16 for four bytes, which begin at a multiple of four.
func Store32(b []byte, v uint32) {
	_ = b[3]
	atomic.StoreUint32((*uint32)(unsafe.Pointer(unsafe.SliceData(b))), v)
}

// Fence keeps reads that come after it from being done before the writes that come before it, the one order that x86-64
// does not keep by itself.
func Fence() {
	var x uint32
	atomic.SwapUint32(&x, 1)
}
