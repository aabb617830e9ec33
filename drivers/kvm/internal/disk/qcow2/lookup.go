package qcow2

import "encoding/binary"

const (
	offsetMask     = 0x00fffffffffffe00
	flagCopied     = 1 << 63 // only we use the cluster: it may be written in place
	flagCompressed = 1 << 62
	flagZero       = 1
)

type kind uint8

const (
	unallocated kind = iota // the backing file's, or zeroes
	zero                    // host is the cluster that is kept, or 0
	mapped
	compressed
)

// extent is a piece of the disk and where in the file it is.
type extent struct {
	kind   kind
	copied bool
	host   int64  // of the first byte for mapped
	n      int64  // bytes
	entry  uint64 // for compressed
	epoch  int
}

// l2Offset is where the L2 table of L1 entry i lies. The entry is not 0.
func (im *Image) l2Offset(i int) (int64, error) {
	off := int64(im.l1[i] & offsetMask)
	if !im.inFile(off) {
		return 0, corrupt("L1 entry %d points to %#x", i, off)
	}
	return off, nil
}

// place says which L1 entry covers off, and the entry in that L2 table.
func (im *Image) place(off int64) (l1 int, l2 int64) {
	c := off >> im.h.clusterBits
	perTable := im.cs / 8
	return int(c / perTable), c % perTable
}

// lookup finds the extent at off of at most n bytes. If a part of a table is missing in the cache it gives its place,
// else 0. Called with mu.
func (im *Image) lookup(off, n int64) (x extent, missing int64, err error) {
	l1, l2 := im.place(off)
	in := off & (im.cs - 1)
	if im.l1[l1] == 0 {
		return extent{kind: unallocated, n: min(n, (im.cs/8-l2)*im.cs-in)}, 0, nil
	}
	table, err := im.l2Offset(l1)
	if err != nil {
		return x, 0, err
	}
	at := table + l2*8
	slice := at &^ (im.sliceLen - 1)
	t := im.tables.find(slice)
	if t == nil {
		return x, slice, nil
	}
	if t.refs {
		return x, 0, corrupt("an L2 table and a refcount block at %#x", slice)
	}
	b := t.buf[at-slice:]
	x, err = im.classify(binary.BigEndian.Uint64(b))
	if err != nil || x.kind == compressed {
		x.n = min(n, im.cs-in)
		return x, 0, err
	}
	x.n = im.cs - in
	for b = b[8:]; x.n < n && len(b) > 0; b = b[8:] {
		next, err := im.classify(binary.BigEndian.Uint64(b))
		if err != nil || next.kind != x.kind || next.copied != x.copied {
			break
		}
		if (x.kind == mapped || x.host != 0 || next.host != 0) && next.host != x.host+in+x.n {
			break
		}
		x.n += im.cs
	}
	x.n = min(x.n, n)
	if x.kind == mapped {
		x.host += in
	}
	return x, 0, nil
}

// classify reads an entry of an L2 table; host is that of the cluster.
func (im *Image) classify(e uint64) (extent, error) {
	if e&flagCompressed != 0 {
		off, _ := im.compressedAt(e)
		if off < im.cs || off >= im.end {
			return extent{}, corrupt("an L2 entry points to compressed data at %#x", off)
		}
		return extent{kind: compressed, entry: e}, nil
	}
	x := extent{host: int64(e & offsetMask), copied: e&flagCopied != 0}
	if x.host != 0 && !im.inFile(x.host) {
		return extent{}, corrupt("an L2 entry points to %#x", x.host)
	}
	switch {
	case e&flagZero != 0 && im.h.version >= 3:
		x.kind = zero
	case x.host != 0:
		x.kind = mapped
	default:
		x.kind, x.copied = unallocated, false
	}
	return x, nil
}

// begin finds the extent at off and keeps its clusters from being used for anything else until finish.
func (im *Image) begin(off, n int64) (extent, error) {
	for {
		im.mu.Lock()
		x, missing, err := im.lookup(off, n)
		if err == nil && missing == 0 {
			x.epoch = im.epoch & 1
			im.inflight[x.epoch]++
		}
		im.mu.Unlock()
		if err != nil || missing == 0 {
			return x, err
		}
		im.meta.Lock()
		_, err = im.load(missing, false)
		im.meta.Unlock()
		if err != nil {
			return x, err
		}
	}
}

func (im *Image) finish(x extent) {
	im.mu.Lock()
	im.inflight[x.epoch]--
	if im.inflight[x.epoch] == 0 {
		im.drained.Broadcast()
	}
	im.mu.Unlock()
}
