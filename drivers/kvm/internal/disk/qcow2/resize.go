package qcow2

import (
	"encoding/binary"
	"fmt"
)

// Resize changes the size of the disk, in bytes. What is cut off is lost; what comes in is zero. The image must not be in use otherwise.
func (im *Image) Resize(size int64) error {
	err := im.resize(size)
	if err != nil {
		return fmt.Errorf("disk image %s: resize: %w", im.name, err)
	}
	return nil
}

func (im *Image) resize(size int64) error {
	o := CreateOptions{ClusterSize: im.cs}
	l, err := o.plan(size)
	switch {
	case err != nil:
		return err
	case size == im.size:
		return nil
	case size < im.size:
		// First zeroes, so that nothing old comes up if the disk grows again.
		if err := im.writeZeroes(size, im.size, true); err != nil {
			return err
		}
		if err := im.Flush(); err != nil {
			return err
		}
		return im.writeSize(size)
	}
	if err := im.growL1(l.l1Size); err != nil {
		return err
	}
	// The rest of the last cluster is not known to be zero, nor is what a longer backing file has there.
	old, end := im.size, min(size, (im.size+im.cs-1)&^(im.cs-1))
	if im.backing != nil {
		end = max(end, min(size, im.backing.Size()))
	}
	im.size = size
	if err = im.writeZeroes(old, end, true); err == nil {
		err = im.Flush()
	}
	if err != nil {
		im.size = old
		return err
	}
	return im.writeSize(size)
}

func (im *Image) writeSize(size int64) error {
	im.meta.Lock()
	defer im.meta.Unlock()
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(size))
	if _, err := im.file.WriteAt(b[:], 24); err != nil {
		return err
	}
	im.size, im.h.size = size, uint64(size)
	return im.sync()
}

// growL1 moves the L1 table to where n entries have room.
func (im *Image) growL1(n int64) error {
	im.meta.Lock()
	defer im.meta.Unlock()
	if n <= int64(len(im.l1)) {
		return nil
	}
	clusters := ceil(n*8, im.cs)
	host, err := im.allocRun(clusters)
	if err != nil {
		return err
	}
	if err := im.commit(); err != nil {
		return err
	}
	b := make([]byte, clusters*im.cs)
	for i, e := range im.l1 {
		binary.BigEndian.PutUint64(b[i*8:], e)
	}
	if _, err := im.file.WriteAt(b, host); err != nil {
		return im.undo(host, clusters, err)
	}
	if err := im.sync(); err != nil {
		return err
	}
	// Length and place are neighbours in one sector: both change or neither.
	var head [12]byte
	binary.BigEndian.PutUint32(head[:], uint32(n))
	binary.BigEndian.PutUint64(head[4:], uint64(host))
	if _, err := im.file.WriteAt(head[:], 36); err != nil {
		return err
	}
	if err := im.sync(); err != nil {
		return err
	}
	im.unuse(int64(im.h.l1Offset), ceil(int64(im.h.l1Size)*8, im.cs))
	im.mu.Lock()
	im.l1 = append(im.l1, make([]uint64, n-int64(len(im.l1)))...)
	im.h.l1Size, im.h.l1Offset = uint32(n), uint64(host)
	im.mu.Unlock()
	return nil
}

// allocRun takes n clusters that lie together.
func (im *Image) allocRun(n int64) (int64, error) {
	var first, have int64
	for have < n {
		off, got, _, err := im.alloc(n - have)
		if have > 0 && (err != nil || off != first+have*im.cs) {
			hint := im.hint
			err = im.undo(first, have, err)
			im.hint = hint // go on behind them
			have = 0
		}
		if err != nil {
			return 0, err
		}
		if have == 0 {
			first = off
		}
		have += got
	}
	im.hint = 0
	return first, nil
}

// Zero says how many of the n bytes at off, at least one, are alike: known to be zero without a look at data, or not.
func (im *Image) Zero(off, n int64) (bool, int64, error) {
	x, err := im.begin(off, n)
	if err != nil {
		return false, 0, im.failed("look", off, err)
	}
	im.finish(x)
	return x.kind == zero || x.kind == unallocated && im.backing == nil, x.n, nil
}

// Info is what an image's header says.
type Info struct {
	Size, ClusterSize      int64 // bytes
	Version                int
	RefcountBits           int
	Compression            string // zlib or zstd
	Backing, BackingFormat string
	Dirty, Corrupt         bool
	Snapshots              int
	Bitmaps                bool
}

// Info describes the image.
func (im *Image) Info() Info {
	i := Info{Size: im.size, ClusterSize: im.cs, Version: int(im.h.version), RefcountBits: 1 << im.h.refOrder, Compression: "zlib",
		Backing: im.h.backing, BackingFormat: im.h.backingFormat, Dirty: im.h.incompatible&featureDirty != 0,
		Corrupt: im.h.incompatible&featureCorrupt != 0, Snapshots: int(im.h.snapshots), Bitmaps: im.h.autoclear&autoclearBitmaps != 0}
	if im.h.compression == 1 {
		i.Compression = "zstd"
	}
	return i
}
