package qcow2

import "encoding/binary"

// dropMode says what becomes of whole clusters.
type dropMode int

const (
	dropDiscard dropMode = iota // contents do not matter
	dropUnmap                   // zeroes, space given back
	dropZero                    // zeroes, clusters kept
)

func (im *Image) Discard(off, n int64) error {
	if err := im.checkWrite(off, n); err != nil {
		return im.failed("discard", off, err)
	}
	if im.backing != nil && im.h.version < 3 {
		return nil // what is below would come up again
	}
	first, last := (off+im.cs-1)&^(im.cs-1), (off+n)&^(im.cs-1)
	if off+n == im.size { // the last cluster need not be whole
		last = (im.size + im.cs - 1) &^ (im.cs - 1)
	}
	return im.failed("discard", off, im.drop(first, last, dropDiscard))
}

func (im *Image) WriteZeroes(off, n int64, unmap bool) error {
	if err := im.checkWrite(off, n); err != nil {
		return im.failed("write zeroes", off, err)
	}
	return im.failed("write zeroes", off, im.writeZeroes(off, off+n, unmap))
}

func (im *Image) writeZeroes(off, end int64, unmap bool) error {
	first, last := (off+im.cs-1)&^(im.cs-1), end&^(im.cs-1)
	if end == im.size {
		last = (end + im.cs - 1) &^ (im.cs - 1)
	}
	if first >= last || im.backing != nil && im.h.version < 3 {
		return im.zeroPart(off, end)
	}
	if err := im.zeroPart(off, first); err != nil {
		return err
	}
	mode := dropUnmap
	if !unmap && im.h.version >= 3 {
		mode = dropZero
	}
	if err := im.drop(first, last, mode); err != nil {
		return err
	}
	return im.zeroPart(last, end)
}

// zeroPart makes parts of clusters zero, and leaves alone what is.
func (im *Image) zeroPart(off, end int64) error {
	for off < end {
		x, err := im.begin(off, end-off)
		if err != nil {
			return err
		}
		im.finish(x)
		if x.kind == zero || x.kind == unallocated && im.backing == nil {
			off += x.n
			continue
		}
		n, err := im.writePart(zeroes[:min(end-off, int64(len(zeroes)))], off)
		if err != nil {
			return err
		}
		off += int64(n)
	}
	return nil
}

// drop changes the entries of whole clusters, a part of a table at a time.
func (im *Image) drop(off, end int64, mode dropMode) error {
	for off < end {
		n, err := im.dropPart(off, end, mode)
		if err != nil {
			return err
		}
		off += n
	}
	return nil
}

func (im *Image) dropPart(off, end int64, mode dropMode) (int64, error) {
	im.meta.Lock()
	defer im.meta.Unlock()
	if im.broken != nil {
		return 0, im.broken
	}
	if err := im.bound(); err != nil {
		return 0, err
	}
	l1, l2 := im.place(off)
	if im.l1[l1] == 0 && (im.backing == nil || mode == dropDiscard) {
		return (im.cs/8 - l2) * im.cs, nil
	}
	if err := im.ownL2(off); err != nil {
		return 0, err
	}
	table, err := im.l2Offset(l1)
	if err != nil {
		return 0, err
	}
	at := table + l2*8
	slice := at &^ (im.sliceLen - 1)
	t, err := im.load(slice, false)
	if err != nil {
		return 0, err
	}
	n := min((im.sliceLen-(at-slice))/8, (end-off)>>im.h.clusterBits)
	changed := false
	for i := range n {
		b := t.buf[at-slice+i*8:]
		e := binary.BigEndian.Uint64(b)
		x, err := im.classify(e)
		if err != nil {
			return 0, err
		}
		to := im.dropped(x, mode)
		if to == e {
			continue
		}
		if to&offsetMask == 0 {
			im.unuseEntry(x)
		}
		im.mu.Lock()
		binary.BigEndian.PutUint64(b, to)
		im.mu.Unlock()
		changed = true
	}
	if changed {
		im.touch(t)
	}
	return n * im.cs, nil
}

// dropped is what an entry becomes.
func (im *Image) dropped(x extent, mode dropMode) uint64 {
	switch {
	case x.kind == unallocated && (mode == dropDiscard || im.backing == nil):
		return 0
	case mode == dropZero && x.host != 0 && x.copied:
		return uint64(x.host) | flagCopied | flagZero
	case im.backing != nil:
		return flagZero
	}
	return 0
}
