package guestmem

import (
	"sync/atomic"
	"unsafe"
)

// What two sides of a ring tell each other by memory alone: single accesses, in little-endian order, which are neither
// split nor repeated. On x86-64 loads are not reordered with loads nor stores with stores; an atomic operation keeps the
// compiler to that. They do not allocate; a slice that is too short is a fault of ours and panics.

// Load16 reads two bytes. Reads that come after it in the program see what the other side wrote before it wrote these.
// b must begin at an even address.
func Load16(b []byte) uint16 {
	_ = b[1]
	p := unsafe.Pointer(unsafe.SliceData(b))
	// The word around it is in the same page, and so in guest memory.
	word := (*uint32)(unsafe.Pointer(uintptr(p) &^ 3))
	return uint16(atomic.LoadUint32(word) >> (8 * (uintptr(p) & 2)))
}

// Store16 writes two bytes. Whoever sees them sees all that was written before.
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
