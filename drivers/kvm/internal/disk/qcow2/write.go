package qcow2

import (
	"encoding/binary"
	"fmt"
)

// maxRun bounds what is allocated for a write at a time, in bytes.
const maxRun = 1 << 20

func (im *Image) WriteAt(p []byte, off int64) (int, error) {
	if err := im.checkWrite(off, int64(len(p))); err != nil {
		return 0, im.failed("write", off, err)
	}
	done := 0
	for done < len(p) {
		n, err := im.writePart(p[done:], off+int64(done))
		if err != nil {
			return done, im.failed("write", off+int64(done), err)
		}
		done += n
	}
	return done, nil
}

// writePart writes one extent: in place if it has clusters of its own, else to new ones.
func (im *Image) writePart(p []byte, off int64) (int, error) {
	x, err := im.begin(off, int64(len(p)))
	if err != nil {
		return 0, err
	}
	if x.kind == mapped && x.copied {
		defer im.finish(x)
		return im.writeInPlace(p[:x.n], x.host)
	}
	im.finish(x)
	im.meta.Lock()
	defer im.meta.Unlock()
	if im.broken != nil {
		return 0, im.broken
	}
	return im.writeNew(p, off)
}

func (im *Image) writeInPlace(p []byte, host int64) (int, error) {
	im.mu.Lock()
	bad := im.inTables(host, int64(len(p)))
	im.mu.Unlock()
	if bad {
		return 0, corrupt("an L2 entry points to the table at %#x", host)
	}
	return im.file.WriteAt(p, host)
}

// find is lookup for who has meta: what is missing is loaded.
func (im *Image) find(off, n int64) (extent, error) {
	for {
		im.mu.Lock()
		x, missing, err := im.lookup(off, n)
		im.mu.Unlock()
		if err != nil || missing == 0 {
			return x, err
		}
		if _, err := im.load(missing, false); err != nil {
			return x, err
		}
	}
}

// writeNew writes to clusters that must first be allocated or changed otherwise. It may write nothing, for another
// try. Called with meta.
func (im *Image) writeNew(p []byte, off int64) (int, error) {
	if err := im.bound(); err != nil {
		return 0, err
	}
	if err := im.ownL2(off); err != nil {
		return 0, err
	}
	x, err := im.find(off, int64(len(p)))
	if err != nil {
		return 0, err
	}
	in := off & (im.cs - 1)
	old := x // what the cluster's entry says
	if x.kind == mapped {
		old.host -= in
	}
	switch {
	case x.kind == mapped && x.copied:
		return 0, nil // somebody else was faster
	case x.host != 0 && !x.copied:
		// Without snapshots there is no sharing; some programs do not set the flag.
		n, err := im.refcount(old.host >> im.h.clusterBits)
		if err != nil {
			return 0, err
		}
		if n != 1 {
			return 0, corrupt("the cluster at %#x is used and its refcount is %d", old.host, n)
		}
		e := uint64(old.host) | flagCopied
		if x.kind == zero {
			e |= flagZero
		}
		return 0, im.link(off, 1, e)
	case x.kind == zero && x.host != 0:
		n := min(im.cs-in, int64(len(p)))
		if im.inTables(x.host, im.cs) {
			return 0, corrupt("an L2 entry points to the table at %#x", x.host)
		}
		if err := im.fill(p[:n], x.host, in, false); err != nil {
			return 0, err
		}
		return int(n), im.link(off, 1, uint64(x.host)|flagCopied)
	case x.kind == compressed || x.kind == unallocated && im.backing != nil && (in != 0 || int64(len(p)) < im.cs):
		return im.copyOnWrite(p[:min(im.cs-in, int64(len(p)))], off, old)
	}
	n := x.n
	if im.backing != nil && x.kind == unallocated {
		n &^= im.cs - 1 // the rest of the last cluster needs the backing file
	}
	n = min(n, maxRun)
	host, clusters, fresh, err := im.alloc((in + n + im.cs - 1) >> im.h.clusterBits)
	if err != nil {
		return 0, err
	}
	n = min(n, clusters*im.cs-in)
	if err := im.fill(p[:n], host, in, fresh); err != nil {
		return 0, im.undo(host, clusters, err)
	}
	if err := im.link(off, clusters, uint64(host)|flagCopied); err != nil {
		return 0, im.undo(host, clusters, err)
	}
	return int(n), nil
}

// undo takes back clusters that nothing refers to, after an error.
func (im *Image) undo(host, clusters int64, err error) error {
	if again := im.release(host>>im.h.clusterBits, clusters); again != nil {
		return fmt.Errorf("%w (and giving clusters back: %w)", err, again)
	}
	return err
}

// fill writes p, in bytes after the begin of the clusters at host, and zeroes to the rest of them.
func (im *Image) fill(p []byte, host, in int64, fresh bool) error {
	if _, err := im.file.WriteAt(p, host+in); err != nil {
		return err
	}
	if fresh {
		return nil
	}
	if err := writeZeroes(im.file, host, in); err != nil {
		return err
	}
	end := host + in + int64(len(p))
	return writeZeroes(im.file, end, -end&(im.cs-1))
}

// copyOnWrite writes part of a cluster to a new one, with the rest from where it was.
func (im *Image) copyOnWrite(p []byte, off int64, old extent) (int, error) {
	in := off & (im.cs - 1)
	var err error
	if old.kind == compressed {
		err = im.readCompressed(old.entry, im.scratch, 0)
	} else {
		err = im.readBacking(im.scratch, off-in)
	}
	if err != nil {
		return 0, err
	}
	copy(im.scratch[in:], p)
	host, _, _, err := im.alloc(1)
	if err != nil {
		return 0, err
	}
	if _, err := im.file.WriteAt(im.scratch, host); err != nil {
		return 0, im.undo(host, 1, err)
	}
	if err := im.link(off, 1, uint64(host)|flagCopied); err != nil {
		return 0, im.undo(host, 1, err)
	}
	im.unuseEntry(old)
	return len(p), nil
}

// link sets the entries of n clusters from the one at off on, in one part of a table, to e and what follows it.
func (im *Image) link(off, n int64, e uint64) error {
	l1, l2 := im.place(off)
	table, err := im.l2Offset(l1)
	if err != nil {
		return err
	}
	at := table + l2*8
	slice := at &^ (im.sliceLen - 1)
	t, err := im.load(slice, false)
	if err != nil {
		return err
	}
	im.mu.Lock()
	for i := range n {
		binary.BigEndian.PutUint64(t.buf[at-slice+i*8:], e+uint64(i*im.cs))
	}
	im.mu.Unlock()
	im.touch(t)
	return nil
}

// ownL2 makes sure that there is an L2 table for off that only we use.
func (im *Image) ownL2(off int64) error {
	i, _ := im.place(off)
	e := im.l1[i]
	if e&flagCopied != 0 {
		return nil
	}
	if e == 0 {
		host, _, _, err := im.alloc(1)
		if err != nil {
			return err
		}
		if err := writeZeroes(im.file, host, im.cs); err != nil {
			return im.undo(host, 1, err)
		}
		im.own(host)
		e = uint64(host)
	} else {
		host, err := im.l2Offset(i)
		if err != nil {
			return err
		}
		n, err := im.refcount(host >> im.h.clusterBits)
		if err != nil {
			return err
		}
		if n != 1 {
			return corrupt("the L2 table at %#x is used and its refcount is %d", host, n)
		}
	}
	im.mu.Lock()
	im.l1[i] = e | flagCopied
	im.mu.Unlock()
	im.l1Dirty = append(im.l1Dirty, i)
	return nil
}
