package raw

import (
	"errors"

	"golang.org/x/sys/unix"
)

// zeroChunk bounds the buffer of zeroes where the file system cannot make them itself.
const zeroChunk = 64 << 10

var zeroes [zeroChunk]byte

func (i *Image) Discard(off, n int64) error {
	err := i.allocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	if unsupported(err) {
		return nil
	}
	return i.failed("discard", err)
}

func (i *Image) WriteZeroes(off, n int64, unmap bool) error {
	if unmap {
		// A hole reads as zeroes; on a block device the kernel makes sure of it, or says no.
		if err := i.allocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n); !unsupported(err) {
			return i.failed("write zeroes", err)
		}
	}
	if err := i.allocate(unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, off, n); !unsupported(err) {
		return i.failed("write zeroes", err)
	}
	for n > 0 {
		part := zeroes[:min(n, zeroChunk)]
		if _, err := i.WriteAt(part, off); err != nil {
			return err
		}
		off, n = off+int64(len(part)), n-int64(len(part))
	}
	return nil
}

func (i *Image) allocate(mode uint32, off, n int64) error {
	if n == 0 {
		return nil
	}
	if i.direct != nil {
		// Not between the reading and the writing of a partial write.
		i.direct.partial.RLock()
		defer i.direct.partial.RUnlock()
	}
	for {
		if err := i.sys.allocate(mode, off, n); err != unix.EINTR {
			return err
		}
	}
}

// unsupported says whether storage does not know an operation at all, or not for this range: block devices take
// multiples of their own block alone.
func unsupported(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL)
}
