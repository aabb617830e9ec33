package disk

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// QEMU tells other processes what it does with an image by locks on single bytes of the file: a byte from 100 on for each
// permission that it uses, and a byte from 200 on for each that it does not grant to others. All of them are shared locks; who comes
// later asks whether the bytes opposite to its own are held. Our locks lie on the same bytes, so that QEMU's
// programs and ours keep out of each other's images.
const (
	used   = 100
	denied = 200

	consistentRead = 0
	write          = 1 // writeUnchanged 2 lies between
	resize         = 3
	changes        = resize - write + 1 // bytes from write to resize
)

// Lock takes the lock of a reader (shared) or of the one writer on the image in f, without waiting. The lock belongs to the open file description:
// it is held until the last descriptor of that is closed, also by a process that inherits one, and locking again changes
// it. A file that somebody else uses is an error that wraps ErrLocked.
func Lock(f *os.File, shared bool) error {
	err := lock(f, shared)
	if err == nil {
		return nil
	}
	unlock(f)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		if shared {
			return fmt.Errorf("disk image %s: %w by somebody who writes it: stop that virtual machine or program first", f.Name(), ErrLocked)
		}
		return fmt.Errorf("disk image %s: %w by another virtual machine or program: stop that first, or state the disk read-only in both", f.Name(), ErrLocked)
	}
	return fmt.Errorf("disk image %s: lock: %w (if its file system has no locks, copy the image to one that has, or state that the disk is shared)", f.Name(), err)
}

func lock(f *os.File, shared bool) error {
	if err := setLock(f, unix.F_RDLCK, used+consistentRead, 1); err != nil {
		return err
	}
	if !shared {
		// Exclusive, on both sides: no second writer of ours, no user of QEMU's who writes, none who minds that we do.
		if err := setLock(f, unix.F_WRLCK, used+write, changes); err != nil {
			return err
		}
		return setLock(f, unix.F_WRLCK, denied+write, changes)
	}
	// First deny, then look who does it already: of two that come at the same time at least one sees the other.
	if err := setLock(f, unix.F_RDLCK, denied+write, changes); err != nil {
		return err
	}
	// Of a former exclusive lock of our own nothing remains.
	if err := setLock(f, unix.F_UNLCK, used+write, changes); err != nil {
		return err
	}
	lk := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: used + write, Len: changes}
	if err := fcntlLock(f, unix.F_OFD_GETLK, &lk); err != nil {
		return err
	}
	if lk.Type != unix.F_UNLCK {
		return unix.EAGAIN
	}
	return nil
}

func unlock(f *os.File) {
	setLock(f, unix.F_UNLCK, used, resize+1)
	setLock(f, unix.F_UNLCK, denied, resize+1)
}

func setLock(f *os.File, typ int16, start, n int64) error {
	return fcntlLock(f, unix.F_OFD_SETLK, &unix.Flock_t{Type: typ, Whence: io.SeekStart, Start: start, Len: n})
}

func fcntlLock(f *os.File, cmd int, lk *unix.Flock_t) error {
	for {
		err := unix.FcntlFlock(f.Fd(), cmd, lk)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
