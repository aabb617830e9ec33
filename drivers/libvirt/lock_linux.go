package libvirt

import (
	"os"

	"golang.org/x/sys/unix"
)

// The bytes of an image that QEMU locks: one for each permission that it has, and one
// for each that it does not share (block/file-posix.c of QEMU).
const (
	qemuPermBase   = 100
	qemuSharedBase = 200
	qemuPerms      = 5
)

// imageLocked reports whether another process has a QEMU lock on the image by which it
// lets nobody else write.
func imageLocked(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	for _, base := range []int64{qemuPermBase, qemuSharedBase} {
		l := unix.Flock_t{Type: unix.F_WRLCK, Start: base, Len: qemuPerms}
		if unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &l) == nil && l.Type != unix.F_UNLCK {
			return true
		}
	}
	return false
}
