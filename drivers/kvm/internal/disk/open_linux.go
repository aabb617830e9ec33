package disk

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Options say how an image is used.
type Options struct {
	ReadOnly bool
	// Direct has the image bypass the host's page cache. An Opener that cannot do this gives an error.
	Direct bool
	// NoLock leaves out the lock, for images that are shared on purpose, by guests that know how.
	NoLock bool
}

// Opener makes an Image of a file in the format that the Opener stands for. With success the file belongs to the image;
// after an error it is still the caller's.
type Opener func(f *os.File, o Options) (Image, error)

// Open opens the file or block device at path as an image in the format of as, and locks it.
func Open(path string, o Options, as Opener) (Image, error) {
	flags := unix.O_RDWR
	if o.ReadOnly {
		flags = unix.O_RDONLY
	}
	// Not to wait for a writer if path is a FIFO; regular files and block devices do not know the flag.
	f, err := os.OpenFile(path, flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		if !o.ReadOnly && (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EROFS) || errors.Is(err, unix.EPERM)) {
			return nil, fmt.Errorf("disk image: %w (to use it without writing, state it read-only)", err)
		}
		return nil, fmt.Errorf("disk image: %w", err)
	}
	return FromFile(f, o, as)
}

// FromFile makes an image of an open file, which from then on belongs to it, or is closed if there is an error. The lock
// and, with Direct, the flag O_DIRECT belong to the open file description, and so also to its other holders.
func FromFile(f *os.File, o Options, as Opener) (Image, error) {
	img, err := fromFile(f, o, as)
	if err != nil {
		f.Close()
		return nil, err
	}
	return img, nil
}

func fromFile(f *os.File, o Options, as Opener) (Image, error) {
	if err := check(f, o); err != nil {
		return nil, err
	}
	if !o.NoLock {
		if err := Lock(f, o.ReadOnly); err != nil {
			return nil, err
		}
	}
	return as(f, o)
}

// check says no to what is not a file to hold an image, and to access that the descriptor does not give.
func check(f *os.File, o Options) error {
	fi, err := f.Stat()
	if err != nil {
		return fmt.Errorf("disk image: %w", err)
	}
	if m := fi.Mode(); !m.IsRegular() && m.Type() != os.ModeDevice {
		return fmt.Errorf("disk image %s: neither a regular file nor a block device, but %s", f.Name(), kind(m))
	}
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return fmt.Errorf("disk image %s: %w", f.Name(), err)
	}
	switch mode := flags & unix.O_ACCMODE; {
	case flags&unix.O_PATH != 0 || mode == unix.O_WRONLY:
		return fmt.Errorf("disk image %s: the descriptor is not open for reading", f.Name())
	case mode == unix.O_RDONLY && !o.ReadOnly:
		return fmt.Errorf("disk image %s: the descriptor is open for reading only: open it for writing too, or state the disk read-only", f.Name())
	}
	return nil
}

func kind(m os.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory"
	case m&os.ModeCharDevice != 0:
		return "a character device"
	case m&os.ModeNamedPipe != 0:
		return "a FIFO"
	case m&os.ModeSocket != 0:
		return "a socket"
	}
	return "something else"
}
