//go:build linux && amd64

package kvmapi

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// EventFD is a counter in the kernel (eventfd(2)) that KVM signals or is signalled by. It does not block.
type EventFD struct {
	handle
}

// NewEventFD makes an event descriptor.
func NewEventFD() (*EventFD, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	return &EventFD{handle{fd: fd}}, nil
}

// FD gives the descriptor for polling; it stays the EventFD's.
func (e *EventFD) FD() int { return e.fd }

// Signal adds one to the counter. A counter that is full is signalled already.
func (e *EventFD) Signal() error {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], 1)
	for {
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

// Close closes the descriptor; remove it from the VM first.
func (e *EventFD) Close() error { return e.close() }
