package qcow2

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Sync is fdatasync, which includes the file's size.
func (f *osFile) Sync() error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func (f *osFile) Punch(off, n int64) {
	if f.noPunch {
		return
	}
	err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		f.noPunch = true
	}
}
