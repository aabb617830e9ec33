package image

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Zero asks the file system for holes. One that does not know has none.
func (r *raw) Zero(off, n int64) (bool, int64, error) {
	data, err := unix.Seek(int(r.Fd()), off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return true, n, nil
	case err != nil:
		return false, n, nil
	case data > off:
		return true, min(n, data-off), nil
	}
	hole, err := unix.Seek(int(r.Fd()), off, unix.SEEK_HOLE)
	if err != nil || hole <= off {
		return false, n, nil
	}
	return false, min(n, hole-off), nil
}
