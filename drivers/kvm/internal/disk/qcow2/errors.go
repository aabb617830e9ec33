package qcow2

import (
	"errors"
	"fmt"
)

// ErrCorrupt is in the error of an image whose tables contradict themselves or the file's size.
var ErrCorrupt = errors.New("the image is damaged")

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s (qemu-img check tells more)", ErrCorrupt, fmt.Sprintf(format, args...))
}

// errRange is for callers outside of the disk; they check, so that it is a fault of ours.
var errRange = errors.New("beyond the end of the disk")
