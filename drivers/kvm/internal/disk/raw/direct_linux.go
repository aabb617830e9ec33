package raw

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/guestmem"
)

const (
	// bounceSize is how much goes through a buffer of our own at a time, a multiple of every alignment.
	bounceSize = 128 << 10
	// bounces is how many such buffers there may be; who finds none free waits.
	bounces = 4
	// assumedAlign is taken where the kernel (before 6.1) or the file system does not tell.
	assumedAlign = 4096
)

// direct is what O_DIRECT needs.
type direct struct {
	memAlign int   // of addresses in memory
	align    int64 // of offsets and lengths
	// partial is held for writing by writes of less than a unit, and for reading by all other changes.
	partial sync.RWMutex
	buffers chan []byte // nil ones are yet to be made
}

func newDirect(f *os.File, size int64) (*direct, error) {
	refuse := func(err error) error {
		return fmt.Errorf("disk image %s: its file system cannot bypass the page cache (O_DIRECT: %w): use cache mode writeback, or another file system", f.Name(), err)
	}
	fd := int(f.Fd())
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return nil, refuse(err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags|unix.O_DIRECT); err != nil {
		return nil, refuse(err)
	}
	d := &direct{memAlign: assumedAlign, align: assumedAlign, buffers: make(chan []byte, bounces)}
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &st); err == nil && st.Mask&unix.STATX_DIOALIGN != 0 {
		if st.Dio_offset_align == 0 {
			return nil, refuse(unix.EOPNOTSUPP)
		}
		d.memAlign, d.align = int(st.Dio_mem_align), int64(st.Dio_offset_align)
	}
	if d.align > bounceSize || d.memAlign > bounceSize || d.memAlign <= 0 {
		return nil, fmt.Errorf("disk image %s: O_DIRECT needs alignment to %d bytes, and %d in memory: use cache mode writeback", f.Name(), d.align, d.memAlign)
	}
	if size%d.align != 0 {
		return nil, fmt.Errorf("disk image %s has %d bytes, and O_DIRECT needs a multiple of %d here: make it whole with truncate -s %%%d, or use cache mode writeback",
			f.Name(), size, d.align, d.align)
	}
	for range bounces {
		d.buffers <- nil
	}
	return d, nil
}

// take waits for a free buffer.
func (d *direct) take() ([]byte, error) {
	b := <-d.buffers
	if b == nil {
		var err error
		if b, err = unix.Mmap(-1, 0, bounceSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON); err != nil {
			d.buffers <- nil
			return nil, err
		}
	}
	return b, nil
}

func (d *direct) give(b []byte) { d.buffers <- b }

func (d *direct) free() {
	for range bounces {
		if b := <-d.buffers; b != nil {
			unix.Munmap(b)
		}
	}
}

func (d *direct) fits(p [][]byte, off int64) bool {
	return off%d.align == 0 && guestmem.Aligned(p, d.memAlign, int(d.align))
}

func (i *Image) readDirect(p [][]byte, off int64) error {
	d := i.direct
	if d.fits(p, off) {
		return i.readAll(p, off)
	}
	b, err := d.take()
	if err != nil {
		return err
	}
	defer d.give(b)
	c := cursor{p: p}
	for end := off + total(p); off < end; {
		first := off &^ (d.align - 1)
		n := min(bounceSize, up(end, d.align)-first)
		if err := i.read(b[:n], first); err != nil {
			return err
		}
		part := b[off-first : min(n, end-first)]
		c.fill(part)
		off += int64(len(part))
	}
	return nil
}

func (i *Image) writeDirect(p [][]byte, off int64, flags int) error {
	d := i.direct
	n := total(p)
	if (off|n)%d.align != 0 {
		d.partial.Lock()
		defer d.partial.Unlock()
	} else {
		d.partial.RLock()
		defer d.partial.RUnlock()
		if d.fits(p, off) {
			return i.writeAll(p, off, flags)
		}
	}
	b, err := d.take()
	if err != nil {
		return err
	}
	defer d.give(b)
	c := cursor{p: p}
	for end := off + n; off < end; {
		first := off &^ (d.align - 1)
		n := min(bounceSize, up(end, d.align)-first)
		last := first + n - d.align
		if off > first {
			if err := i.read(b[:d.align], first); err != nil {
				return err
			}
		}
		if end < first+n && (last > first || off == first) {
			if err := i.read(b[n-d.align:n], last); err != nil {
				return err
			}
		}
		part := b[off-first : min(n, end-first)]
		c.drain(part)
		if err := i.writeAll([][]byte{b[:n]}, first, flags); err != nil {
			return err
		}
		off += int64(len(part))
	}
	return nil
}

// up rounds n up to a multiple of align, a power of two.
func up(n, align int64) int64 { return (n + align - 1) &^ (align - 1) }

func total(p [][]byte) (n int64) {
	for _, b := range p {
		n += int64(len(b))
	}
	return n
}

// cursor goes through slices without changing them.
type cursor struct {
	p   [][]byte
	pos int // in the first
}

// fill copies all of b into the slices.
func (c *cursor) fill(b []byte) {
	for len(b) > 0 {
		n := copy(c.p[0][c.pos:], b)
		b = b[n:]
		c.advance(n)
	}
}

// drain fills all of b from the slices.
func (c *cursor) drain(b []byte) {
	for len(b) > 0 {
		n := copy(b, c.p[0][c.pos:])
		b = b[n:]
		c.advance(n)
	}
}

func (c *cursor) advance(n int) {
	if c.pos += n; c.pos == len(c.p[0]) {
		c.p, c.pos = c.p[1:], 0
	}
}
