package qcow2

import (
	"encoding/binary"
	"syscall"
)

// span is a run of clusters that each have one reference less.
type span struct{ first, n int64 }

// refBlock is where refcount block i lies. The entry is not 0.
func (im *Image) refBlock(i int) (int64, error) {
	off := int64(im.refTable[i] &^ 0x1ff)
	if !im.inFile(off) {
		return 0, corrupt("refcount table entry %d points to %#x", i, off)
	}
	return off, nil
}

// perBlock is the number of clusters that a refcount block counts.
func (im *Image) perBlock() int64 { return im.cs * 8 >> im.h.refOrder }

// counts gives the part of a refcount block that counts cluster c, and where in it. The table is nil if there is no block.
func (im *Image) counts(c int64) (*table, int64, error) {
	i := c / im.perBlock()
	if i >= int64(len(im.refTable)) || im.refTable[i] == 0 {
		return nil, 0, nil
	}
	block, err := im.refBlock(int(i))
	if err != nil {
		return nil, 0, err
	}
	at := block + c%im.perBlock()*2
	slice := at &^ (im.sliceLen - 1)
	t, err := im.load(slice, true)
	return t, at - slice, err
}

func (im *Image) refcount(c int64) (int, error) {
	t, at, err := im.counts(c)
	if t == nil {
		return 0, err
	}
	return int(binary.BigEndian.Uint16(t.buf[at:])), err
}

func (im *Image) setCount(t *table, at int64, n int) {
	binary.BigEndian.PutUint16(t.buf[at:], uint16(n)) // only who has meta looks at refcounts
	im.touch(t)
}

// alloc takes from 1 to want clusters that lie together and are not used. fresh says that the file has nothing there, not
// even of former use.
func (im *Image) alloc(want int64) (off, n int64, fresh bool, err error) {
	for c := im.hint; ; {
		if c >= maxOffset/im.cs {
			return 0, 0, false, syscall.EFBIG
		}
		i := c / im.perBlock()
		if i >= int64(len(im.refTable)) {
			if err := im.growRefTable(); err != nil {
				return 0, 0, false, err
			}
			continue
		}
		if im.refTable[i] == 0 {
			if err := im.newRefBlock(int(i), c); err != nil {
				return 0, 0, false, err
			}
			c++
			continue
		}
		t, at, err := im.counts(c)
		if err != nil {
			return 0, 0, false, err
		}
		for at < int64(len(t.buf)) && binary.BigEndian.Uint16(t.buf[at:]) != 0 {
			at, c = at+2, c+1
		}
		if at == int64(len(t.buf)) {
			continue
		}
		for n < want && at < int64(len(t.buf)) && binary.BigEndian.Uint16(t.buf[at:]) == 0 {
			at, n = at+2, n+1
		}
		off = c * im.cs
		im.mu.Lock()
		bad := im.inTables(off, n*im.cs)
		fresh = off >= im.end
		im.mu.Unlock()
		if bad {
			return 0, 0, false, corrupt("the clusters of tables at %#x are not counted", off)
		}
		for k := range n {
			im.setCount(t, at-2-2*k, 1)
		}
		im.used(off + n*im.cs)
		im.hint = c + n
		return off, n, fresh, nil
	}
}

// used moves the end of what is used.
func (im *Image) used(end int64) {
	im.mu.Lock()
	im.end = max(im.end, end)
	im.mu.Unlock()
}

// release takes clusters back that nothing refers to, neither in memory nor in the file.
func (im *Image) release(first, n int64) error {
	run := int64(0) // clusters before this one that became free
	defer func() { im.hint = min(im.hint, first) }()
	for c := first; c < first+n; c++ {
		t, at, err := im.counts(c)
		if err != nil {
			return err
		}
		old := 0
		if t != nil {
			old = int(binary.BigEndian.Uint16(t.buf[at:]))
		}
		if old == 0 {
			return corrupt("the cluster at %#x was used and is not counted", c*im.cs)
		}
		im.setCount(t, at, old-1)
		if old == 1 {
			run++
			continue
		}
		im.punch(c-run, run)
		run = 0
	}
	im.punch(first+n-run, run)
	return nil
}

func (im *Image) punch(first, n int64) {
	if n > 0 {
		im.file.Punch(first*im.cs, n*im.cs)
	}
}

// newRefBlock makes the refcount block i at cluster c, which is the first that it counts.
func (im *Image) newRefBlock(i int, c int64) error {
	off := c * im.cs
	im.mu.Lock()
	bad := im.inTables(off, im.cs)
	im.mu.Unlock()
	if bad {
		return corrupt("the table at %#x is not counted", off)
	}
	if err := writeZeroes(im.file, off, im.cs); err != nil {
		return err
	}
	im.used(off + im.cs)
	im.own(off)
	im.refTable[i] = uint64(off)
	im.refDirty = append(im.refDirty, i)
	t, at, err := im.counts(c)
	if err != nil {
		return err
	}
	im.setCount(t, at, 1)
	return nil
}

// growRefTable makes a longer refcount table. It lies, after the blocks that count it, behind all that the old table can count.
func (im *Image) growRefTable() error {
	if err := im.commit(); err != nil {
		return err
	}
	first := int64(len(im.refTable)) * im.perBlock()
	clusters := int64(im.h.refClusters) + max(int64(im.h.refClusters)/2, 1)
	if clusters > max(maxRefBytes/im.cs, 1) {
		clusters = max(maxRefBytes/im.cs, 1)
	}
	if clusters <= int64(im.h.refClusters) {
		return syscall.EFBIG
	}
	blocks := int64(1)
	for blocks*im.perBlock() < blocks+clusters {
		blocks++
	}
	if len(im.refTable)+int(blocks) > int(clusters*im.cs/8) {
		return syscall.EFBIG
	}
	bytes := make([]byte, (blocks+clusters)*im.cs)
	for k := range blocks + clusters {
		binary.BigEndian.PutUint16(bytes[k*2:], 1)
	}
	table := make([]uint64, clusters*im.cs/8)
	copy(table, im.refTable)
	for k := range blocks {
		table[int64(len(im.refTable))+k] = uint64((first + k) * im.cs)
	}
	for k, e := range table {
		binary.BigEndian.PutUint64(bytes[blocks*im.cs+int64(k)*8:], e)
	}
	if _, err := im.file.WriteAt(bytes, first*im.cs); err != nil {
		return err
	}
	if err := im.sync(); err != nil {
		return err
	}
	var head [12]byte
	at := (first + blocks) * im.cs
	binary.BigEndian.PutUint64(head[:], uint64(at))
	binary.BigEndian.PutUint32(head[8:], uint32(clusters))
	if _, err := im.file.WriteAt(head[:], 48); err != nil {
		return err
	}
	if err := im.sync(); err != nil {
		return err
	}
	im.pending = append(im.pending, span{int64(im.h.refOffset) / im.cs, int64(im.h.refClusters)})
	im.mu.Lock()
	im.h.refOffset, im.h.refClusters = uint64(at), uint32(clusters)
	im.mu.Unlock()
	im.refTable = table
	for k := range blocks {
		im.own((first + k) * im.cs)
	}
	im.used((first + blocks + clusters) * im.cs)
	return nil
}
