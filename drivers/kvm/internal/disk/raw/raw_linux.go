package raw

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/disk"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/guestmem"
)

// Image is a raw image. It is also a [disk.Vectored] and a [disk.Durable].
type Image struct {
	file   *os.File // keeps the descriptor and its lock
	sys    system
	name   string
	size   int64
	direct *direct // nil: through the page cache
}

var (
	_ disk.Opener   = Open
	_ disk.Vectored = (*Image)(nil)
	_ disk.Durable  = (*Image)(nil)
)

// Open makes an image of a regular file or block device; it is a [disk.Opener]. The size is the file's at this moment.
func Open(f *os.File, o disk.Options) (disk.Image, error) {
	// The ioctl for the size of block devices is not needed: their end is where seeking says.
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("disk image %s: size: %w", f.Name(), err)
	}
	switch {
	case size == 0:
		return nil, fmt.Errorf("disk image %s is empty: give it a size, for instance with truncate -s 10G", f.Name())
	case size%disk.SectorSize != 0:
		return nil, fmt.Errorf("disk image %s has %d bytes, which is not a multiple of %d: make it whole with truncate -s %%%d, or state its format if it is not raw",
			f.Name(), size, disk.SectorSize, disk.SectorSize)
	}
	i := &Image{file: f, sys: calls(f.Fd()), name: f.Name(), size: size}
	if o.Direct {
		if i.direct, err = newDirect(f, size); err != nil {
			return nil, err
		}
	}
	return i, nil
}

// Size is described at [disk.Image], as are the other methods.
func (i *Image) Size() int64 { return i.size }

func (i *Image) Close() error {
	err := i.file.Close()
	if i.direct != nil {
		i.direct.free()
	}
	return err
}

func (i *Image) Flush() error { return i.failed("flush", i.sync()) }

func (i *Image) sync() error {
	for {
		if err := i.sys.sync(); err != unix.EINTR {
			return err
		}
	}
}

// failed adds the image to an error.
func (i *Image) failed(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("disk image %s: %s: %w", i.name, op, err)
}

// system is what an image asks of the kernel; tests put faults into it.
type system interface {
	read(p []byte, off int64) (int, error)
	write(p []byte, off int64) (int, error)
	readVec(p [][]byte, off int64) (int, error)
	writeVec(p [][]byte, off int64, flags int) (int, error)
	sync() error
	allocate(mode uint32, off, n int64) error
}

// calls is a descriptor as system.
type calls int

func (fd calls) read(p []byte, off int64) (int, error)  { return unix.Pread(int(fd), p, off) }
func (fd calls) write(p []byte, off int64) (int, error) { return unix.Pwrite(int(fd), p, off) }
func (fd calls) sync() error                            { return unix.Fdatasync(int(fd)) }

func (fd calls) readVec(p [][]byte, off int64) (int, error) {
	return guestmem.Preadv(int(fd), p, off, 0)
}

func (fd calls) writeVec(p [][]byte, off int64, flags int) (int, error) {
	return guestmem.Pwritev(int(fd), p, off, flags)
}

func (fd calls) allocate(mode uint32, off, n int64) error {
	return unix.Fallocate(int(fd), mode, off, n)
}
