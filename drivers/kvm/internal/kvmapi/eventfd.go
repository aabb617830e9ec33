//go:build linux && amd64

package kvmapi

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// EventFD is a counter in the kernel (eventfd(2)) that KVM signals or is signalled by.
type EventFD struct {
	fd     int
	file   *os.File // the same descriptor, by the runtime's poller
	buf    [8]byte  // of Wait
	closed atomic.Bool
}

// NewEventFD makes an event descriptor.
func NewEventFD() (*EventFD, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	return &EventFD{fd: fd, file: os.NewFile(uintptr(fd), "eventfd")}, nil
}

// FD gives the descriptor for polling; it stays the EventFD's.
func (e *EventFD) FD() int { return e.fd }

// Signal adds one to the counter. A counter that is full is signalled already.
func (e *EventFD) Signal() error {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], 1)
	for {
		if e.closed.Load() {
			return fmt.Errorf("signal an eventfd: %w", os.ErrClosed)
		}
		_, err := unix.Write(e.fd, b[:])
		switch err {
		case nil, unix.EAGAIN:
			return nil
		case unix.EINTR:
		default:
			return fmt.Errorf("signal an eventfd: %w", err)
		}
	}
}

// Take sets the counter to zero and says what it was: 0 means not signalled.
func (e *EventFD) Take() (uint64, error) {
	var b [8]byte
	for {
		_, err := unix.Read(e.fd, b[:])
		switch err {
		case nil:
			return binary.LittleEndian.Uint64(b[:]), nil
		case unix.EAGAIN:
			return 0, nil
		case unix.EINTR:
		default:
			return 0, fmt.Errorf("read an eventfd: %w", err)
		}
	}
}

// Wait blocks the goroutine, and no thread, until the counter is signalled, and sets it to zero. One goroutine waits at a
// time; Close ends the wait. It does not allocate.
func (e *EventFD) Wait() error {
	if _, err := e.file.Read(e.buf[:]); err != nil {
		return fmt.Errorf("wait for an eventfd: %w", err)
	}
	return nil
}

// Close closes the descriptor; remove it from the VM first, and see that nobody signals it any more.
func (e *EventFD) Close() error {
	if e.closed.Swap(true) {
		return nil
	}
	return e.file.Close()
}
