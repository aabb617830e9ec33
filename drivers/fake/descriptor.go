package fake

import (
	"os"
	"syscall"
)

// duplicate gives a descriptor of its own for an open file, without changing
// the mode of the caller's.
func duplicate(f *os.File) (*os.File, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd, dupErr := -1, error(nil)
	err = conn.Control(func(old uintptr) {
		syscall.ForkLock.RLock()
		defer syscall.ForkLock.RUnlock()
		if fd, dupErr = syscall.Dup(int(old)); dupErr == nil {
			syscall.CloseOnExec(fd)
		}
	})
	if err == nil {
		err = dupErr
	}
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err == nil && st.Mode()&(os.ModeNamedPipe|os.ModeSocket) != 0 {
		// So that closing it ends a Read that waits.
		_ = syscall.SetNonblock(fd, true)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// imageID is the identity of a file, whatever its name.
type imageID struct{ dev, ino uint64 }

func identify(st os.FileInfo, _ string) imageID {
	s, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return imageID{}
	}
	return imageID{uint64(s.Dev), s.Ino}
}

// accessible reports whether an open file was opened for reading and, if
// write is set, for writing.
func accessible(f *os.File, write bool) bool {
	var p [1]byte
	if _, err := f.ReadAt(p[:], 0); isBadDescriptor(err) {
		return false
	}
	if !write {
		return true
	}
	// Writing nothing tells whether writing is allowed.
	_, err := f.Write(nil)
	return !isBadDescriptor(err)
}

// writeFD tries once to write.
func writeFD(fd uintptr, p []byte) {
	for len(p) > 0 {
		n, err := syscall.Write(int(fd), p)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return
		}
		p = p[n:]
	}
}
