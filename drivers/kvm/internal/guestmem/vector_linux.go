package guestmem

import (
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// MaxVector is how many slices one call of Preadv or Pwritev takes, the kernel's IOV_MAX.
const MaxVector = 1024

// vectors keeps the kernel's form of lists of slices, so that a transfer does not allocate. Not a sync.Pool, which forgets
// at every garbage collection.
var vectors struct {
	sync.Mutex
	free [][]unix.Iovec // at most keptVectors
}

const keptVectors = 32

func takeVector() []unix.Iovec {
	vectors.Lock()
	defer vectors.Unlock()
	n := len(vectors.free)
	if n == 0 {
		return nil
	}
	iov := vectors.free[n-1]
	vectors.free = vectors.free[:n-1]
	return iov[:0]
}

func giveVector(iov []unix.Iovec) {
	clear(iov) // holds on to nobody's memory
	vectors.Lock()
	defer vectors.Unlock()
	if len(vectors.free) < keptVectors {
		vectors.free = append(vectors.free, iov)
	}
}

// Preadv reads from fd at off into the slices of p, at most MaxVector of them, and gives the number of bytes: preadv2(2)
// with its flags RWF_*. Unlike the function of x/sys it does not allocate, whatever the number of slices.
func Preadv(fd int, p [][]byte, off int64, flags int) (int, error) {
	return transfer(unix.SYS_PREADV2, fd, p, off, flags)
}

// Pwritev is to pwritev2(2) what Preadv is to preadv2(2).
func Pwritev(fd int, p [][]byte, off int64, flags int) (int, error) {
	return transfer(unix.SYS_PWRITEV2, fd, p, off, flags)
}

func transfer(call uintptr, fd int, p [][]byte, off int64, flags int) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	iov := takeVector()
	for _, b := range p {
		e := unix.Iovec{Base: unsafe.SliceData(b)}
		e.SetLen(len(b))
		iov = append(iov, e)
	}
	// On systems with registers of 64 bits the offset is whole in the first of its two arguments.
	n, _, errno := unix.Syscall6(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(iov))), uintptr(len(iov)), uintptr(off), 0, uintptr(flags))
	giveVector(iov)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// Aligned says whether the slices of p begin at host addresses that are multiples of address and are multiples of length
// long, both powers of two: what O_DIRECT asks for.
func Aligned(p [][]byte, address, length int) bool {
	for _, b := range p {
		if uintptr(unsafe.Pointer(unsafe.SliceData(b)))&uintptr(address-1) != 0 || len(b)&(length-1) != 0 {
			return false
		}
	}
	return true
}
