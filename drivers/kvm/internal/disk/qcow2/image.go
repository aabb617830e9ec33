package qcow2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sort"
	"sync"
	"syscall"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/disk"
)

// Options say how an image is opened. The zero value is for a virtual machine: read and write, no backing file, tables in
// 1 MiB of memory.
type Options struct {
	ReadOnly bool
	// Backing opens the file that an image is based on; without it such images are refused. It is called with the name as
	// the header has it and the format, which is never empty.
	Backing func(name, format string) (Backing, error)
	// Zstd decompresses src into dst, which it fills; without it images compressed this way are refused.
	Zstd func(dst, src []byte) error
	// CacheBytes bounds the memory for L2 and refcount tables; 0 is 1 MiB, which covers 8 GiB of disk with clusters of 64 KiB.
	CacheBytes int
	// AnyState opens for reading what else is refused as damaged, so that it can be looked at.
	AnyState bool
}

// Backing is what an image is based on. It does not change.
type Backing interface {
	io.ReaderAt
	Size() int64
	Close() error
}

// Image is an image that is open. It is a [disk.Image]; Close also flushes, since the tables are in the process.
type Image struct {
	file     storage
	name     string
	h        *header
	zstd     func(dst, src []byte) error
	backing  Backing
	readOnly bool
	size     int64
	cs       int64 // cluster size
	sliceLen int64 // bytes of a table that are cached together

	// meta serialises changes of tables, allocation and reading of tables. It is held while tables are written.
	meta       sync.Mutex
	refTable   []uint64
	refDirty   []int // entries to write
	l1Dirty    []int
	hint       int64  // no free cluster is below this index
	pending    []span // unused once the tables are on stable storage
	limbo      []span // unused once the transfers of the epoch before are over
	scratch    []byte
	reclaiming bool
	broken     error // a failed sync: what is on storage is unknown

	// mu guards what transfers look at. It is never held during I/O; who changes these also holds meta.
	mu       sync.Mutex
	drained  sync.Cond
	l1       []uint64
	owned    []int64 // clusters of L2 tables and refcount blocks, sorted
	end      int64   // of the last cluster that is or was used; nothing valid lies beyond
	tables   cache
	epoch    int
	inflight [2]int

	unpack unpacker
}

var _ disk.Image = (*Image)(nil)

// Open makes an image of f, which belongs to it unless there is an error. It takes no lock.
func Open(f *os.File, o Options) (*Image, error) {
	im, err := open(&osFile{File: f}, f.Name(), o)
	if err != nil {
		return nil, fmt.Errorf("disk image %s: %w", f.Name(), err)
	}
	return im, nil
}

func open(file storage, name string, o Options) (*Image, error) {
	size, err := file.Size()
	if err != nil {
		return nil, err
	}
	head := make([]byte, min(size, maxHeader))
	if _, err := file.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	h, err := parseHeader(head, size)
	if err != nil {
		return nil, err
	}
	if err := h.allows(o); err != nil {
		return nil, err
	}
	im := &Image{file: file, name: name, h: h, zstd: o.Zstd, readOnly: o.ReadOnly, size: int64(h.size), cs: h.clusterSize()}
	im.drained.L = &im.mu
	im.sliceLen = min(im.cs, 4096)
	im.end = (size + im.cs - 1) &^ (im.cs - 1)
	cacheBytes := int64(o.CacheBytes)
	if cacheBytes == 0 {
		cacheBytes = 1 << 20
	}
	im.tables.init(int(max(cacheBytes/im.sliceLen, 16)), int(im.sliceLen))
	if err := im.loadTables(o.AnyState); err != nil {
		return nil, err
	}
	if !o.ReadOnly {
		if err := im.clearAutoclear(); err != nil {
			return nil, err
		}
	}
	if h.backing != "" && o.Backing != nil {
		if im.backing, err = o.Backing(h.backing, h.backingFormat); err != nil {
			return nil, fmt.Errorf("backing file %q: %w", h.backing, err)
		}
	}
	return im, nil
}

// allows refuses what the options do not allow.
func (h *header) allows(o Options) error {
	if h.backing != "" && !o.AnyState {
		if o.Backing == nil {
			return fmt.Errorf("the image is based on the file %q, which the configuration does not allow: allow backing files, or make a copy without one with qemu-img convert", h.backing)
		}
		if h.backingFormat == "" {
			return fmt.Errorf("the image does not state the format of the file %q that it is based on: qemu-img rebase -u -F FORMAT states it", h.backing)
		}
	}
	if h.compression == 1 && o.Zstd == nil && !o.AnyState {
		return fmt.Errorf("the image is compressed with zstd, which is not supported here: polyvisor image convert makes a copy that is not")
	}
	if o.ReadOnly {
		return nil
	}
	switch {
	case h.incompatible&featureCorrupt != 0:
		return fmt.Errorf("%w, as its header says: qemu-img check -r all repairs it, or use it read-only", ErrCorrupt)
	case h.incompatible&featureDirty != 0:
		return fmt.Errorf("the image was not closed and its refcounts may be wrong: qemu-img check -r all repairs it, or use it read-only")
	case h.snapshots != 0:
		return fmt.Errorf("the image has %d internal snapshots, with which it is not written: remove them with qemu-img snapshot -d, or use it read-only", h.snapshots)
	case h.refOrder != 4:
		return fmt.Errorf("the image has refcounts of %d bits, with which it is not written: qemu-img convert makes a copy with 16, or use it read-only", 1<<h.refOrder)
	case h.autoclear&autoclearBitmaps != 0:
		return fmt.Errorf("the image has bitmaps, with which it is not written: remove them with qemu-img bitmap --remove, or use it read-only")
	}
	return nil
}

// clearAutoclear takes back what programs that know more than we do say of the contents.
func (im *Image) clearAutoclear() error {
	if im.h.autoclear == 0 {
		return nil
	}
	im.h.autoclear = 0
	var zero [8]byte
	if _, err := im.file.WriteAt(zero[:], 88); err != nil {
		return err
	}
	return im.file.Sync()
}

func (im *Image) loadTables(anyState bool) error {
	var err error
	if im.l1, err = readTable(im.file, int64(im.h.l1Offset), int64(im.h.l1Size)); err != nil {
		return fmt.Errorf("L1 table: %w", err)
	}
	if im.refTable, err = readTable(im.file, int64(im.h.refOffset), int64(im.h.refClusters)*im.cs/8); err != nil {
		return fmt.Errorf("refcount table: %w", err)
	}
	if im.readOnly {
		return nil // entries are looked at when they are used
	}
	for i, e := range im.l1 {
		if e == 0 {
			continue
		}
		off, err := im.l2Offset(i)
		if err != nil {
			return err
		}
		im.owned = append(im.owned, off)
	}
	for i, e := range im.refTable {
		if e == 0 {
			continue
		}
		off, err := im.refBlock(i)
		if err != nil {
			return err
		}
		im.owned = append(im.owned, off)
	}
	sort.Slice(im.owned, func(i, j int) bool { return im.owned[i] < im.owned[j] })
	for i, off := range im.owned {
		if i > 0 && off == im.owned[i-1] {
			return corrupt("two tables at %#x", off)
		}
		if im.inFixed(off, im.cs) {
			return corrupt("a table at %#x, where the header or another table is", off)
		}
	}
	im.scratch = make([]byte, im.cs)
	return nil
}

func readTable(r io.ReaderAt, off, n int64) ([]uint64, error) {
	b := make([]byte, n*8)
	if err := readPadded(r, b, off); err != nil {
		return nil, err
	}
	t := make([]uint64, n)
	for i := range t {
		t[i] = binary.BigEndian.Uint64(b[i*8:])
	}
	return t, nil
}

// inFixed says whether a range touches the header, the L1 table or the refcount table.
func (im *Image) inFixed(off, n int64) bool {
	return off < im.cs ||
		overlap(uint64(off), uint64(n), im.h.l1Offset, uint64(im.h.l1Size)*8) ||
		overlap(uint64(off), uint64(n), im.h.refOffset, uint64(im.h.refClusters)*uint64(im.cs))
}

// inTables says whether a range touches anything that is not data.
func (im *Image) inTables(off, n int64) bool {
	if im.inFixed(off, n) {
		return true
	}
	i, _ := slices.BinarySearch(im.owned, off&^(im.cs-1))
	return i < len(im.owned) && im.owned[i] < off+n
}

func (im *Image) own(off int64) {
	im.mu.Lock()
	defer im.mu.Unlock()
	i, _ := slices.BinarySearch(im.owned, off)
	im.owned = slices.Insert(im.owned, i, off)
}

// inFile says whether a cluster at off can be: aligned and not beyond what is used.
func (im *Image) inFile(off int64) bool {
	return off > 0 && off%im.cs == 0 && off <= im.end-im.cs
}

// Size is described at [disk.Image], as are the other methods.
func (im *Image) Size() int64 { return im.size }

func (im *Image) Close() error {
	var err error
	if !im.readOnly {
		err = im.flushAll()
	}
	if im.backing != nil {
		err = errors.Join(err, im.backing.Close())
	}
	return errors.Join(err, im.file.Close())
}

func (im *Image) failed(op string, off int64, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("disk image %s: %s at %d: %w", im.name, op, off, err)
}

func (im *Image) checkRange(off, n int64) error {
	if off < 0 || n < 0 || off > im.size-n {
		return errRange
	}
	return nil
}

func (im *Image) checkWrite(off, n int64) error {
	if im.readOnly {
		return syscall.EROFS
	}
	return im.checkRange(off, n)
}
