package qcow2

import (
	"context"
	"encoding/binary"
	"fmt"
)

// Report is what a check found.
type Report struct {
	Corruptions int64    // contradictions; the image is not to be written
	Leaks       int64    // clusters that are counted and not used; only space is lost
	Repaired    int64    // of the leaks
	Allocated   int64    // clusters of the disk that have data
	Compressed  int64    // of them
	ClusterSize int64    // bytes
	Problems    []string // the first, in words
}

const maxProblems = 50

// exclusive marks a cluster that nothing may share.
const exclusive = 1 << 31

// checker counts references. Its memory is bounded by what the tables refer to.
type checker struct {
	*Image
	ctx    context.Context
	report Report
	refs   map[int64]*[4096]uint32
}

// Check compares refcounts and references, with the image not in use otherwise. With repair, leaks are taken back, if there is no
// corruption. Progress, which may be nil, is called with bytes of the disk that are done.
func (im *Image) Check(ctx context.Context, repair bool, progress func(done, total int64)) (Report, error) {
	switch {
	case im.h.snapshots != 0:
		return Report{}, fmt.Errorf("disk image %s has internal snapshots, which this check does not know: use qemu-img check", im.name)
	case im.h.autoclear&autoclearBitmaps != 0:
		return Report{}, fmt.Errorf("disk image %s has bitmaps, which this check does not know: use qemu-img check", im.name)
	case repair && im.readOnly:
		return Report{}, fmt.Errorf("disk image %s is open for reading only: it cannot be repaired", im.name)
	}
	if err := im.flushAll(); err != nil {
		return Report{}, err
	}
	im.meta.Lock()
	defer im.meta.Unlock()
	c := &checker{Image: im, ctx: ctx, refs: map[int64]*[4096]uint32{}}
	c.report.ClusterSize = im.cs
	err := c.count(progress)
	if err == nil {
		err = c.compare(nil)
	}
	if err == nil && repair && c.report.Corruptions == 0 && c.report.Leaks > 0 {
		err = c.compare(func(cluster int64, refs int) error {
			t, at, err := im.counts(cluster)
			if err != nil {
				return err
			}
			im.setCount(t, at, refs)
			im.hint = min(im.hint, cluster)
			if refs == 0 {
				im.punch(cluster, 1)
			}
			return nil
		})
		if err == nil {
			if err = im.commit(); err == nil {
				c.report.Repaired = c.report.Leaks
			}
		}
	}
	if err != nil {
		return c.report, fmt.Errorf("disk image %s: check: %w", im.name, err)
	}
	return c.report, nil
}

func (c *checker) problem(format string, args ...any) {
	if len(c.report.Problems) < maxProblems {
		c.report.Problems = append(c.report.Problems, fmt.Sprintf(format, args...))
	}
}

func (c *checker) corrupt(format string, args ...any) {
	c.report.Corruptions++
	c.problem(format, args...)
}

// refer counts n clusters from the one at off on.
func (c *checker) refer(off, n int64, alone bool, what string) {
	for i := off >> c.h.clusterBits; n > 0; i, n = i+1, n-1 {
		page := c.refs[i>>12]
		if page == nil {
			page = new([4096]uint32)
			c.refs[i>>12] = page
		}
		r := &page[i&4095]
		if *r != 0 && (alone || *r&exclusive != 0) {
			c.corrupt("the cluster at %#x is used as %s and otherwise", i*c.cs, what)
		}
		*r++
		if alone {
			*r |= exclusive
		}
	}
}

func (c *checker) referred(cluster int64) int {
	if page := c.refs[cluster>>12]; page != nil {
		return int(page[cluster&4095] &^ exclusive)
	}
	return 0
}

// count goes through all tables.
func (c *checker) count(progress func(done, total int64)) error {
	c.refer(0, 1, true, "header")
	c.refer(int64(c.h.l1Offset), ceil(int64(c.h.l1Size)*8, c.cs), true, "L1 table")
	c.refer(int64(c.h.refOffset), int64(c.h.refClusters), true, "refcount table")
	for i, e := range c.refTable {
		if e == 0 {
			continue
		}
		off, err := c.refBlock(i)
		if err != nil {
			c.corrupt("%v", err)
			continue
		}
		c.refer(off, 1, true, "refcount block")
	}
	buf := make([]byte, c.cs)
	for i, e := range c.l1 {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if progress != nil {
			progress(min(int64(i)*(c.cs/8)*c.cs, c.size), c.size)
		}
		if e == 0 {
			continue
		}
		off, err := c.l2Offset(i)
		if err != nil {
			c.corrupt("%v", err)
			continue
		}
		c.refer(off, 1, true, "L2 table")
		if err := readPadded(c.file, buf, off); err != nil {
			return err
		}
		c.countL2(buf)
	}
	if progress != nil {
		progress(c.size, c.size)
	}
	return nil
}

func (c *checker) countL2(buf []byte) {
	for ; len(buf) > 0; buf = buf[8:] {
		e := binary.BigEndian.Uint64(buf)
		if e == 0 {
			continue
		}
		x, err := c.classify(e)
		switch {
		case err != nil:
			c.corrupt("%v", err)
		case x.kind == compressed:
			off, n := c.compressedAt(e)
			last := min(off+n, c.end) - 1
			c.refer(off, last>>c.h.clusterBits-off>>c.h.clusterBits+1, false, "compressed data")
			c.report.Allocated++
			c.report.Compressed++
		case x.host != 0:
			c.refer(x.host, 1, true, "data")
			if x.kind == mapped {
				c.report.Allocated++
			}
		}
	}
}

// compare looks at all refcounts. With fix, which sets one, leaks are repaired, else they are reported.
func (c *checker) compare(fix func(cluster int64, refs int) error) error {
	buf := make([]byte, c.cs)
	per := c.perBlock()
	for i, e := range c.refTable {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		off := int64(0)
		var err error
		if e != 0 {
			off, err = c.refBlock(i)
		}
		if off == 0 || err != nil {
			c.uncounted(int64(i)*per, int64(i+1)*per, fix == nil)
			continue
		}
		if err := readPadded(c.file, buf, off); err != nil {
			return err
		}
		for k := range per {
			cluster := int64(i)*per + k
			counted, refs := refcountAt(buf, k, c.h.refOrder), uint64(c.referred(cluster))
			switch {
			case counted > refs && fix != nil:
				if err := fix(cluster, int(refs)); err != nil {
					return err
				}
			case fix != nil:
			case counted > refs:
				c.report.Leaks++
				c.problem("the cluster at %#x is counted %d times and used %d times", cluster*c.cs, counted, refs)
			case counted < refs:
				c.corrupt("the cluster at %#x is counted %d times and used %d times", cluster*c.cs, counted, refs)
			}
		}
	}
	// What no block can count.
	c.uncounted(int64(len(c.refTable))*per, maxOffset, fix == nil)
	return nil
}

// uncounted reports clusters from first to end that are used; there are no refcounts for them.
func (c *checker) uncounted(first, end int64, report bool) {
	if !report {
		return
	}
	for p, page := range c.refs {
		if (p+1)<<12 <= first || p<<12 >= end {
			continue
		}
		for k, r := range page {
			if cluster := p<<12 + int64(k); r != 0 && cluster >= first && cluster < end {
				c.corrupt("the cluster at %#x is used and not counted", cluster*c.cs)
			}
		}
	}
}

// refcountAt reads refcount k of a block with 2^order bits for each.
func refcountAt(b []byte, k int64, order uint32) uint64 {
	switch order {
	case 0, 1, 2:
		bits := int64(1) << order
		at := k * bits
		return uint64(b[at/8]>>(at%8)) & (1<<bits - 1)
	case 3:
		return uint64(b[k])
	case 4:
		return uint64(binary.BigEndian.Uint16(b[k*2:]))
	case 5:
		return uint64(binary.BigEndian.Uint32(b[k*4:]))
	default:
		return binary.BigEndian.Uint64(b[k*8:])
	}
}
