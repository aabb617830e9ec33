package virtqtest

import (
	"bytes"
	"encoding/binary"
)

// Watch sees that a device writes nowhere but where the driver lets it: into buffers of the queue that are for the device to
// write, and into the device's part of the ring.
type Watch struct {
	d      *Driver
	before []byte // guest memory; where the device may write, it does not count
	may    []span
	moot   bool
}

type span struct{ from, to uint64 }

// Watch remembers guest memory as it is, up to the hole. What the driver writes after this counts as written by the device.
func (d *Driver) Watch() *Watch {
	w := &Watch{d: d}
	w.before = bytes.Clone(d.Bytes(0, min(d.mem.Size(), 3<<30)))
	w.read()
	return w
}

// Again is Watch for another request, after Check.
func (w *Watch) Again() {
	copy(w.before, w.d.Bytes(0, uint64(len(w.before))))
	w.may, w.moot = w.may[:0], false
	w.read()
}

// Check fails the test if the device has written elsewhere.
func (w *Watch) Check() {
	w.d.t.Helper()
	if w.moot {
		return
	}
	now := bytes.Clone(w.d.Bytes(0, uint64(len(w.before)))) // the device may still be at its ring
	for _, s := range w.may {
		copy(w.before[s.from:s.to], now[s.from:s.to])
	}
	if bytes.Equal(w.before, now) {
		return
	}
	for i := range now {
		if now[i] != w.before[i] {
			w.d.t.Fatalf("virtqtest: the device has written %#x to %#x, which is not for it to write", now[i], i)
		}
	}
}

// allow lets the device write to what of a range is memory.
func (w *Watch) allow(from, n uint64) {
	if size := uint64(len(w.before)); from < size {
		w.may = append(w.may, span{from, from + min(n, size-from)})
	}
}

// Beside lets the device also write to its part of the rings of its other queues.
func (w *Watch) Beside(others ...*Driver) {
	for _, d := range others {
		w.allowRing(d)
	}
}

func (w *Watch) allowRing(d *Driver) {
	n := uint64(d.cfg.Size)
	if d.cfg.Packed {
		w.allow(d.cfg.Desc, 16*n)
		w.allow(d.cfg.Device, 4)
	} else {
		w.allow(d.cfg.Device, 6+8*n)
	}
}

// read collects the buffers to write of all descriptors, also of those that are in no chain. A driver that lets the
// device write to descriptors makes more of them, so that nothing is known.
func (w *Watch) read() {
	cfg := w.d.cfg
	n := uint64(cfg.Size)
	tables := []span{{cfg.Desc, cfg.Desc + 16*n}}
	for i := range n {
		addr, size, flags := w.desc(cfg.Desc + 16*i)
		switch {
		case flags&indirect == 0:
			if flags&write != 0 {
				w.allow(addr, size)
			}
		case addr < uint64(len(w.before)):
			end := addr + min(size, uint64(len(w.before))-addr)
			tables = append(tables, span{addr, end})
			for at := addr; at+16 <= end; at += 16 {
				if a, s, f := w.desc(at); f&write != 0 {
					w.allow(a, s)
				}
			}
		}
	}
	if !cfg.Packed {
		tables = append(tables, span{cfg.Driver, cfg.Driver + 6 + 2*n})
	}
	for _, m := range w.may {
		for _, t := range tables {
			w.moot = w.moot || m.from < t.to && t.from < m.to
		}
	}
	w.allowRing(w.d)
}

// desc reads what both layouts have of a descriptor. Tables of packed queues have their flags where the ring has them.
func (w *Watch) desc(at uint64) (addr, n uint64, flags uint16) {
	b := w.before[at:]
	le := binary.LittleEndian
	flags = le.Uint16(b[12:])
	if w.d.cfg.Packed {
		flags = le.Uint16(b[14:])
	}
	return le.Uint64(b), uint64(le.Uint32(b[8:])), flags
}
