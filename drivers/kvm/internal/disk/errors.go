package disk

import (
	"errors"
	"syscall"
)

// ErrLocked is in the error of an image that somebody else has open in a way that excludes ours.
var ErrLocked = errors.New("image is in use")

// Errno gives the operating system's number in an error of an image, or EIO if there is none.
func Errno(err error) syscall.Errno {
	if no, ok := errors.AsType[syscall.Errno](err); ok {
		return no
	}
	return syscall.EIO
}
