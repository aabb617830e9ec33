package qcow2

import (
	"encoding/binary"
	"fmt"
)

// maxPending bounds the memory for clusters that are to be given back.
const maxPending = 4096

// Flush is described at [disk.Image]. After an error of syncing no further flush or allocation succeeds: the kernel
// may have dropped what it could not write.
func (im *Image) Flush() error {
	if im.readOnly {
		return nil
	}
	im.meta.Lock()
	err := im.broken
	clean := im.clean()
	if err == nil && !clean {
		err = im.commit()
	}
	im.meta.Unlock()
	if err == nil && clean {
		if err = im.file.Sync(); err != nil {
			im.meta.Lock()
			im.broken = err
			im.meta.Unlock()
		}
	}
	if err != nil {
		return fmt.Errorf("disk image %s: flush: %w", im.name, err)
	}
	return nil
}

// flushAll flushes also what giving clusters back changes. Called while nothing else uses the image.
func (im *Image) flushAll() error {
	for {
		if err := im.Flush(); err != nil || im.clean() {
			return err
		}
	}
}

// clean says that no table waits to be written; called with meta.
func (im *Image) clean() bool {
	return im.tables.dirty == 0 && len(im.l1Dirty) == 0 && len(im.refDirty) == 0 && len(im.pending) == 0 && len(im.limbo) == 0
}

func (im *Image) sync() error {
	if im.broken != nil {
		return im.broken
	}
	im.broken = im.file.Sync()
	return im.broken
}

// commit brings all data and tables to stable storage, in the order that the package's comment describes. Called with meta.
func (im *Image) commit() error {
	if im.broken != nil {
		return im.broken
	}
	// Some readers want the last cluster to be whole.
	if err := im.file.Extend(im.end); err != nil {
		return err
	}
	if err := im.writeTables(true); err != nil {
		return err
	}
	if err := im.sync(); err != nil {
		return err
	}
	if len(im.refDirty) > 0 {
		if err := im.writeEntries(im.refDirty, im.refTable, im.h.refOffset); err != nil {
			return err
		}
		if err := im.sync(); err != nil {
			return err
		}
		im.refDirty = im.refDirty[:0]
	}
	if im.tables.dirty > 0 || len(im.l1Dirty) > 0 {
		if err := im.writeTables(false); err != nil {
			return err
		}
		if err := im.writeEntries(im.l1Dirty, im.l1, im.h.l1Offset); err != nil {
			return err
		}
		if err := im.sync(); err != nil {
			return err
		}
		im.l1Dirty = im.l1Dirty[:0]
	}
	im.reclaim(false)
	return nil
}

// writeTables writes the changed parts of refcount blocks or of L2 tables. After an error those that it could not write
// stay marked; the next commit syncs again before anything that depends on either.
func (im *Image) writeTables(refs bool) error {
	if im.tables.dirty == 0 {
		return nil
	}
	for _, t := range im.tables.byOff { // only who has meta changes the map
		if !t.dirty || t.refs != refs {
			continue
		}
		if _, err := im.file.WriteAt(t.buf, t.off); err != nil {
			return err
		}
		im.mu.Lock()
		t.dirty = false
		im.tables.dirty--
		im.mu.Unlock()
	}
	return nil
}

func (im *Image) writeEntries(which []int, table []uint64, off uint64) error {
	var b [8]byte
	for _, i := range which {
		binary.BigEndian.PutUint64(b[:], table[i])
		if _, err := im.file.WriteAt(b[:], int64(off)+int64(i)*8); err != nil {
			return err
		}
	}
	return nil
}

// reclaim gives clusters back that the tables on stable storage no longer refer to, once no transfer can be using them. Called after a
// commit, with meta; with wait it waits for the transfers.
func (im *Image) reclaim(wait bool) {
	if im.reclaiming {
		return // releasing clusters made a commit necessary
	}
	im.reclaiming = true
	defer func() { im.reclaiming = false }()
	for range 2 {
		im.mu.Lock()
		if len(im.limbo) == 0 && len(im.pending) > 0 {
			im.limbo, im.pending = im.pending, im.limbo
			im.epoch++
		}
		before := &im.inflight[(im.epoch-1)&1]
		for wait && *before > 0 {
			im.drained.Wait()
		}
		busy := *before > 0
		im.mu.Unlock()
		if busy || len(im.limbo) == 0 {
			return
		}
		for len(im.limbo) > 0 && im.tables.dirty < im.tables.limit/2 {
			last := im.limbo[len(im.limbo)-1]
			n := min(last.n, im.perBlock()) // not to change more tables than the cache holds
			im.limbo[len(im.limbo)-1].n -= n
			if last.n == n {
				im.limbo = im.limbo[:len(im.limbo)-1]
			}
			// An error is that of a damaged image or of reading: the clusters leak, which check repairs.
			_ = im.release(last.first+last.n-n, n)
		}
		if len(im.limbo) > 0 {
			return
		}
	}
}

// unuse notes that n clusters from the one at off on have lost a reference, in memory as yet.
func (im *Image) unuse(off, n int64) {
	first := off >> im.h.clusterBits
	if k := len(im.pending) - 1; k >= 0 && im.pending[k].first+im.pending[k].n == first {
		im.pending[k].n += n
		return
	}
	im.pending = append(im.pending, span{first, n})
}

// unuseEntry notes that an entry of an L2 table is gone.
func (im *Image) unuseEntry(x extent) {
	switch {
	case x.kind == compressed:
		off, n := im.compressedAt(x.entry)
		first := off &^ (im.cs - 1)
		im.unuse(first, (off+n-1)>>im.h.clusterBits-off>>im.h.clusterBits+1)
	case x.host != 0:
		im.unuse(x.host, 1)
	}
}

// bound keeps the list of what is to be given back short.
func (im *Image) bound() error {
	if len(im.pending) < maxPending {
		return nil
	}
	if err := im.commit(); err != nil {
		return err
	}
	for range 8 {
		if len(im.pending)+len(im.limbo) < maxPending {
			break
		}
		im.reclaim(true)
		if err := im.commit(); err != nil {
			return err
		}
	}
	return nil
}
