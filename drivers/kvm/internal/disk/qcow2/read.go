package qcow2

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"sync"
)

func (im *Image) ReadAt(p []byte, off int64) (int, error) {
	if err := im.checkRange(off, int64(len(p))); err != nil {
		return 0, im.failed("read", off, err)
	}
	done := 0
	for done < len(p) {
		n, err := im.readPart(p[done:], off+int64(done))
		if err != nil {
			return done, im.failed("read", off+int64(done), err)
		}
		done += n
	}
	return done, nil
}

// readPart reads one extent.
func (im *Image) readPart(p []byte, off int64) (int, error) {
	x, err := im.begin(off, int64(len(p)))
	if err != nil {
		return 0, err
	}
	defer im.finish(x)
	p = p[:x.n]
	switch x.kind {
	case mapped:
		err = readPadded(im.file, p, x.host)
	case compressed:
		err = im.readCompressed(x.entry, p, off&(im.cs-1))
	case unallocated:
		err = im.readBacking(p, off)
	default:
		clear(p)
	}
	return len(p), err
}

// readBacking reads what the image is based on, and zeroes beyond its end.
func (im *Image) readBacking(p []byte, off int64) error {
	if im.backing == nil {
		clear(p)
		return nil
	}
	n := min(max(im.backing.Size()-off, 0), int64(len(p)))
	clear(p[n:])
	if n == 0 {
		return nil
	}
	return readPadded(im.backing, p[:n], off)
}

// unpacker decompresses clusters one at a time, and remembers the last: requests are often for less than a cluster. The
// entry of a compressed cluster always means the same data, since we write none.
type unpacker struct {
	mu      sync.Mutex
	entry   uint64 // of what is in out, 0 for nothing
	in, out []byte
	src     bytes.Reader
	inflate io.ReadCloser
}

// compressedAt gives the place of a compressed cluster and its greatest length.
func (im *Image) compressedAt(e uint64) (off, n int64) {
	bits := 62 - (im.h.clusterBits - 8)
	off = int64(e & (1<<bits - 1))
	sectors := int64(e>>bits&(1<<(im.h.clusterBits-8)-1)) + 1
	return off, sectors*512 - off&511
}

func (im *Image) readCompressed(e uint64, p []byte, in int64) error {
	u := &im.unpack
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.entry != e {
		if err := im.unpackCluster(e); err != nil {
			return err
		}
	}
	copy(p, u.out[in:])
	return nil
}

func (im *Image) unpackCluster(e uint64) error {
	u := &im.unpack
	u.entry = 0
	off, n := im.compressedAt(e)
	if u.out == nil {
		u.out = make([]byte, im.cs)
	}
	if int64(cap(u.in)) < n {
		u.in = make([]byte, n)
	}
	u.in = u.in[:n]
	if err := readPadded(im.file, u.in, off); err != nil {
		return err
	}
	var err error
	switch {
	case im.h.compression == 1 && im.zstd != nil:
		err = im.zstd(u.out, u.in)
	case im.h.compression == 1:
		err = fmt.Errorf("compressed with zstd, which is not supported here")
	default:
		u.src.Reset(u.in)
		if u.inflate == nil {
			u.inflate = flate.NewReader(&u.src)
		} else if err := u.inflate.(flate.Resetter).Reset(&u.src, nil); err != nil {
			return err
		}
		_, err = io.ReadFull(u.inflate, u.out)
	}
	if err != nil {
		return corrupt("compressed data at %#x: %v", off, err)
	}
	u.entry = e
	return nil
}
