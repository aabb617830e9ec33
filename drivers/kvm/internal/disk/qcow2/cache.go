package qcow2

// table is a part of an L2 table or refcount block.
type table struct {
	off   int64
	buf   []byte
	refs  bool // of a refcount block
	dirty bool
	used  uint64
}

// cache holds the parts of tables that were used last. Its size is bounded; buffers are made when first needed.
type cache struct {
	byOff  map[int64]*table
	limit  int
	length int
	clock  uint64
	dirty  int
}

func (c *cache) init(limit, length int) {
	c.byOff, c.limit, c.length = make(map[int64]*table), limit, length
}

// find is called with mu held.
func (c *cache) find(off int64) *table {
	t := c.byOff[off]
	if t != nil {
		c.clock++
		t.used = c.clock
	}
	return t
}

// take gives a buffer that is in no use, nil if all in the cache are changed.
func (c *cache) take() *table {
	if len(c.byOff) < c.limit {
		return &table{buf: make([]byte, c.length)}
	}
	var oldest *table
	for _, t := range c.byOff {
		if !t.dirty && (oldest == nil || t.used < oldest.used) {
			oldest = t
		}
	}
	if oldest != nil {
		delete(c.byOff, oldest.off)
	}
	return oldest
}

// load gives the part of a table at off, which a caller with meta may use until the next call of load.
func (im *Image) load(off int64, refs bool) (*table, error) {
	im.mu.Lock()
	t := im.tables.find(off)
	for t == nil {
		free := im.tables.take()
		im.mu.Unlock()
		if free == nil {
			// All are changed. Giving clusters back after the commit may load this very part.
			if err := im.commit(); err != nil {
				return nil, err
			}
			im.mu.Lock()
			t = im.tables.find(off)
			continue
		}
		if err := readPadded(im.file, free.buf, off); err != nil {
			return nil, err
		}
		im.mu.Lock()
		t = free
		t.off, t.refs = off, refs
		im.tables.byOff[off] = t
		im.tables.find(off)
	}
	im.mu.Unlock()
	if t.refs != refs {
		return nil, corrupt("an L2 table and a refcount block at %#x", off)
	}
	return t, nil
}

// touch marks a part as changed; called with meta.
func (im *Image) touch(t *table) {
	if !t.dirty {
		im.mu.Lock()
		t.dirty = true
		im.tables.dirty++
		im.mu.Unlock()
	}
}
