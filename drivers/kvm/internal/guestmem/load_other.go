//go:build !amd64

package guestmem

import (
	"sync/atomic"
	"unsafe"
)

// load16 reads the word around the two bytes, which is in the same page, and so in guest memory.
func load16(p *uint16) uint16 {
	word := (*uint32)(unsafe.Pointer(uintptr(unsafe.Pointer(p)) &^ 3))
	return uint16(atomic.LoadUint32(word) >> (8 * (uintptr(unsafe.Pointer(p)) & 2)))
}
