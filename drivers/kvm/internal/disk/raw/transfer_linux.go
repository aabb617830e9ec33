package raw

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/guestmem"
)

func (i *Image) ReadAt(p []byte, off int64) (int, error) {
	if i.direct != nil {
		return whole(p, i.failed("read", i.readDirect([][]byte{p}, off)))
	}
	return whole(p, i.failed("read", i.read(p, off)))
}

func (i *Image) WriteAt(p []byte, off int64) (int, error) {
	if i.direct != nil {
		return whole(p, i.failed("write", i.writeDirect([][]byte{p}, off, 0)))
	}
	return whole(p, i.failed("write", i.write(p, off)))
}

// whole is the result of a transfer that gives all or an error.
func whole(p []byte, err error) (int, error) {
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

func (i *Image) ReadVec(p [][]byte, off int64) error {
	if i.direct != nil {
		return i.failed("read", i.readDirect(p, off))
	}
	return i.failed("read", i.readAll(p, off))
}

func (i *Image) WriteVec(p [][]byte, off int64) error {
	if i.direct != nil {
		return i.failed("write", i.writeDirect(p, off, 0))
	}
	return i.failed("write", i.writeAll(p, off, 0))
}

// WriteDurable is described at [disk.Durable].
func (i *Image) WriteDurable(p [][]byte, off int64) error {
	var err error
	if i.direct != nil {
		err = i.writeDirect(p, off, unix.RWF_DSYNC)
	} else {
		err = i.writeAll(p, off, unix.RWF_DSYNC)
	}
	if errors.Is(err, unix.EOPNOTSUPP) { // a file system that does not know the flag
		if err = i.WriteVec(p, off); err == nil {
			return i.Flush()
		}
		return err
	}
	return i.failed("durable write", err)
}

// read fills p. A file that has become shorter gives io.ErrUnexpectedEOF.
func (i *Image) read(p []byte, off int64) error {
	for len(p) > 0 {
		n, err := i.sys.read(p, off)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return err
		case n == 0:
			return io.ErrUnexpectedEOF
		}
		n = max(n, 0)
		p, off = p[n:], off+int64(n)
	}
	return nil
}

func (i *Image) write(p []byte, off int64) error {
	for len(p) > 0 {
		n, err := i.sys.write(p, off)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return err
		case n == 0:
			return io.ErrShortWrite
		}
		n = max(n, 0)
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// readAll fills the slices of p, as a rule with one call.
func (i *Image) readAll(p [][]byte, off int64) error {
	if len(p) == 1 {
		return i.read(p[0], off)
	}
	for len(p) > 0 {
		part := p[:min(len(p), guestmem.MaxVector)]
		n, err := i.sys.readVec(part, off)
		if err != nil && err != unix.EINTR {
			return err
		}
		n = max(n, 0)
		// What a short transfer left is rare enough to go slice by slice.
		for _, b := range part {
			if n >= len(b) {
				n -= len(b)
			} else if err := i.read(b[n:], off+int64(n)); err != nil {
				return err
			} else {
				n = 0
			}
			off += int64(len(b))
		}
		p = p[len(part):]
	}
	return nil
}

// writeAll is to writing what readAll is to reading. Flags are RWF_*.
func (i *Image) writeAll(p [][]byte, off int64, flags int) error {
	if len(p) == 1 && flags == 0 {
		return i.write(p[0], off)
	}
	for len(p) > 0 {
		part := p[:min(len(p), guestmem.MaxVector)]
		n, err := i.sys.writeVec(part, off, flags)
		if err != nil && err != unix.EINTR {
			return err
		}
		n = max(n, 0)
		short := false
		for _, b := range part {
			if n >= len(b) {
				n -= len(b)
			} else if err := i.write(b[n:], off+int64(n)); err != nil {
				return err
			} else {
				n, short = 0, true
			}
			off += int64(len(b))
		}
		if short && flags&unix.RWF_DSYNC != 0 {
			if err := i.sync(); err != nil {
				return err
			}
		}
		p = p[len(part):]
	}
	return nil
}
