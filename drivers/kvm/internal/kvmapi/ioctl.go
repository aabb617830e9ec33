//go:build linux && amd64

package kvmapi

import (
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// handle is a KVM descriptor that is closed once.
type handle struct {
	fd     int
	closed atomic.Bool
}

func (h *handle) close() error {
	if h.closed.Swap(true) {
		return nil
	}
	return unix.Close(h.fd)
}

// ioctl makes a call whose argument is a number, retrying when a signal interrupts it.
func (h *handle) ioctl(name string, req, arg uintptr) (int, error) {
	if h.closed.Load() {
		return 0, &IoctlError{Call: name, Err: syscall.EBADF}
	}
	for {
		r, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(h.fd), req, arg)
		switch errno {
		case 0:
			return int(r), nil
		case syscall.EINTR:
		default:
			return 0, &IoctlError{Call: name, Err: errno}
		}
	}
}

// ioctlPtr makes a call whose argument is a struct, retrying when a signal interrupts it.
func (h *handle) ioctlPtr(name string, req uintptr, arg unsafe.Pointer) (int, error) {
	if h.closed.Load() {
		return 0, &IoctlError{Call: name, Err: syscall.EBADF}
	}
	for {
		r, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(h.fd), req, uintptr(arg))
		switch errno {
		case 0:
			return int(r), nil
		case syscall.EINTR:
		default:
			return 0, &IoctlError{Call: name, Err: errno}
		}
	}
}
