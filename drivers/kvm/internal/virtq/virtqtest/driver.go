// Package virtqtest is the driver's side of a virtqueue, for tests of devices: what a guest does to a ring, well or badly.
package virtqtest

import (
	"encoding/binary"
	"testing"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/guestmem"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq"
)

// Memory gives guest memory for a test, which is unmapped at its end.
func Memory(t testing.TB, size uint64) *guestmem.Memory {
	t.Helper()
	m, err := guestmem.New(size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// Options are what is negotiated.
type Options struct {
	Packed, EventIdx, Indirect bool
}

// Buffer is a buffer in guest memory.
type Buffer struct {
	Addr  uint64
	Len   uint32
	Write bool // the device may write
}

// request is what the driver remembers about a request.
type request struct {
	buffers []Buffer
	slots   []uint16 // descriptors of the table, split
	taken   uint16   // of the ring, packed
	used    bool     // there is such a request
}

// Driver is the driver's side of a queue. It is for one goroutine at a time.
type Driver struct {
	t    testing.TB
	mem  *guestmem.Memory
	opts Options
	cfg  virtq.Config

	heap, heapEnd, heapStart uint64
	requests                 []request
	free                     []uint16 // descriptors, split; ids, packed
	avail, seen              uint16   // indices of the available and the used ring
	availWrap, usedWrap      bool
	slots                    uint16 // free places of the ring, packed
	kicked                   uint16 // avail when KickWanted was asked last
}

// New lays a queue of size entries out at base, with buffers behind it up to base+space.
func New(t testing.TB, mem *guestmem.Memory, base, space uint64, size uint16, o Options) *Driver {
	t.Helper()
	n := uint64(size)
	d := &Driver{t: t, mem: mem, opts: o, requests: make([]request, size), availWrap: true, usedWrap: true, slots: size}
	up := func(addr uint64) uint64 { return (addr + 63) &^ 63 }
	d.cfg = virtq.Config{Size: size, Packed: o.Packed, EventIdx: o.EventIdx, Indirect: o.Indirect, Desc: base}
	d.cfg.Driver = up(base + 16*n)
	if o.Packed {
		d.cfg.Device = d.cfg.Driver + 64
		d.heap = d.cfg.Device + 64
	} else {
		d.cfg.Device = up(d.cfg.Driver + 6 + 2*n)
		d.heap = up(d.cfg.Device + 6 + 8*n)
	}
	for i := range size {
		d.free = append(d.free, i)
	}
	d.heapStart, d.heapEnd = d.heap, base+space
	return d
}

// Config is what the driver tells the device about the queue.
func (d *Driver) Config() virtq.Config { return d.cfg }

// Guest is the memory that the queue is in.
func (d *Driver) Guest() *guestmem.Memory { return d.mem }

// Bytes gives guest memory itself.
func (d *Driver) Bytes(addr, n uint64) []byte {
	b, err := d.mem.Slice(addr, n)
	if err != nil {
		d.t.Fatal(err)
	}
	return b
}

// Alloc takes n bytes of the heap, which begins anew when it is used up.
func (d *Driver) Alloc(n uint64) uint64 {
	if d.heap+n > d.heapEnd {
		d.heap = d.heapStart
	}
	addr := d.heap
	d.heap = (d.heap + n + 15) &^ 15
	return addr
}

// Add makes a request available: buffers with what the device is to read, then buffers of the given lengths for it to
// write. It gives the id by which Used tells of it.
func (d *Driver) Add(readable [][]byte, writable ...int) uint16 {
	var list []Buffer
	for _, r := range readable {
		addr := d.Alloc(uint64(len(r)))
		copy(d.Bytes(addr, uint64(len(r))), r)
		list = append(list, Buffer{addr, uint32(len(r)), false})
	}
	for _, n := range writable {
		addr := d.Alloc(uint64(n))
		clear(d.Bytes(addr, uint64(n)))
		list = append(list, Buffer{addr, uint32(n), true})
	}
	return d.AddBuffers(list)
}

const (
	next     = 1
	write    = 2
	indirect = 4
)

// AddBuffers makes a request of any buffers available.
func (d *Driver) AddBuffers(list []Buffer) uint16 {
	ring := list
	if d.opts.Indirect && len(list) > 1 {
		ring = []Buffer{d.table(list)}
	}
	if d.opts.Packed {
		return d.addPacked(list, ring, len(ring) != len(list) || &ring[0] != &list[0])
	}
	return d.addSplit(list, ring, len(ring) != len(list) || &ring[0] != &list[0])
}

// table writes an indirect table.
func (d *Driver) table(list []Buffer) Buffer {
	t := Buffer{Addr: d.Alloc(16 * uint64(len(list))), Len: uint32(16 * len(list))}
	b := d.Bytes(t.Addr, uint64(t.Len))
	for i, buf := range list {
		flags, following := uint16(0), uint16(0)
		if buf.Write {
			flags = write
		}
		if i+1 < len(list) && !d.opts.Packed {
			flags, following = flags|next, uint16(i+1)
		}
		if d.opts.Packed {
			following, flags = flags, following
			Put(b[16*i:], buf.Addr, buf.Len, 0, following)
			continue
		}
		Put(b[16*i:], buf.Addr, buf.Len, flags, following)
	}
	return t
}

// Put writes a descriptor: the last two fields are flags and next, or of a packed ring id and flags.
func Put(b []byte, addr uint64, n uint32, third, fourth uint16) {
	binary.LittleEndian.PutUint64(b, addr)
	binary.LittleEndian.PutUint32(b[8:], n)
	binary.LittleEndian.PutUint16(b[12:], third)
	binary.LittleEndian.PutUint16(b[14:], fourth)
}

func (d *Driver) addSplit(all, ring []Buffer, table bool) uint16 {
	if len(ring) > len(d.free) {
		d.t.Fatal("virtqtest: the ring is full")
	}
	slots := append([]uint16(nil), d.free[:len(ring)]...)
	d.free = d.free[len(ring):]
	for i, buf := range ring {
		flags, following := uint16(0), uint16(0)
		if buf.Write {
			flags |= write
		}
		if table {
			flags |= indirect
		}
		if i+1 < len(ring) {
			flags, following = flags|next, slots[i+1]
		}
		Put(d.Desc(slots[i]), buf.Addr, buf.Len, flags, following)
	}
	head := slots[0]
	d.requests[head] = request{buffers: all, slots: slots, used: true}
	d.Offer(head)
	return head
}

// Desc is a descriptor of the table or the ring.
func (d *Driver) Desc(i uint16) []byte { return d.Bytes(d.cfg.Desc+16*uint64(i), 16) }

// Offer puts the number of a descriptor into the available ring of a split queue.
func (d *Driver) Offer(head uint16) {
	binary.LittleEndian.PutUint16(d.Bytes(d.cfg.Driver+4+2*uint64(d.avail%d.cfg.Size), 2), head)
	d.avail++
	guestmem.Store16(d.Bytes(d.cfg.Driver+2, 2), d.avail)
}

const (
	availBit = 1 << 7
	usedBit  = 1 << 15
)

func (d *Driver) addPacked(all, ring []Buffer, table bool) uint16 {
	if len(ring) > int(d.slots) || len(d.free) == 0 {
		d.t.Fatal("virtqtest: the ring is full")
	}
	id := d.free[0]
	d.free = d.free[1:]
	d.slots -= uint16(len(ring))
	var first uint16
	at := d.avail
	for i, buf := range ring {
		var flags uint16
		if buf.Write {
			flags |= write
		}
		if table {
			flags |= indirect
		}
		if i+1 < len(ring) {
			flags |= next
		}
		if d.availWrap {
			flags |= availBit
		} else {
			flags |= usedBit
		}
		b := d.Desc(d.avail)
		if i == 0 {
			first = flags
			Put(b, buf.Addr, buf.Len, id, binary.LittleEndian.Uint16(b[14:]))
		} else {
			Put(b, buf.Addr, buf.Len, id, flags)
		}
		if d.avail++; d.avail == d.cfg.Size {
			d.avail, d.availWrap = 0, !d.availWrap
		}
	}
	guestmem.Store16(d.Desc(at)[14:], first) // the chain is available from now on
	d.requests[id] = request{buffers: all, taken: uint16(len(ring)), used: true}
	return id
}

// Used gives the next request that the device has given back.
func (d *Driver) Used() (id uint16, written uint32, ok bool) {
	if d.opts.Packed {
		b := d.Desc(d.seen)
		flags := guestmem.Load16(b[14:])
		if (flags&usedBit != 0) != d.usedWrap || (flags&availBit != 0) != d.usedWrap {
			return 0, 0, false
		}
		id, written = binary.LittleEndian.Uint16(b[12:]), binary.LittleEndian.Uint32(b[8:])
		r := d.request(id)
		if d.seen += r.taken; d.seen >= d.cfg.Size {
			d.seen, d.usedWrap = d.seen-d.cfg.Size, !d.usedWrap
		}
		d.slots += r.taken
		d.free = append(d.free, id)
	} else {
		if guestmem.Load16(d.Bytes(d.cfg.Device+2, 2)) == d.seen {
			return 0, 0, false
		}
		b := d.Bytes(d.cfg.Device+4+8*uint64(d.seen%d.cfg.Size), 8)
		id, written = uint16(binary.LittleEndian.Uint32(b)), binary.LittleEndian.Uint32(b[4:])
		d.seen++
		d.free = append(d.free, d.request(id).slots...)
	}
	d.requests[id].used = false
	return id, written, true
}

func (d *Driver) request(id uint16) *request {
	if int(id) >= len(d.requests) || !d.requests[id].used {
		d.t.Fatalf("virtqtest: the device gives back request %d, which it was not given", id)
	}
	return &d.requests[id]
}

// Buffers are those of a request.
func (d *Driver) Buffers(id uint16) []Buffer { return d.requests[id].buffers }

// Written gives what is in the buffers that the device may write, one after the other.
func (d *Driver) Written(id uint16) []byte {
	var all []byte
	for _, b := range d.requests[id].buffers {
		if b.Write {
			all = append(all, d.Bytes(b.Addr, uint64(b.Len))...)
		}
	}
	return all
}

// KickWanted says whether the device wants to be kicked for what was added since it was asked last.
func (d *Driver) KickWanted() bool {
	guestmem.Fence()
	before := d.kicked
	d.kicked = d.avail
	if d.opts.Packed {
		e := d.Bytes(d.cfg.Device, 4)
		switch guestmem.Load16(e[2:]) {
		case 0:
			return true
		case 1:
			return false
		}
		event := guestmem.Load16(e)
		at := event &^ (1 << 15)
		if (event>>15 != 0) != d.availWrap {
			at -= d.cfg.Size
		}
		if before > d.avail {
			before -= d.cfg.Size
		}
		return d.avail-at-1 < d.avail-before
	}
	if d.opts.EventIdx {
		event := guestmem.Load16(d.Bytes(d.cfg.Device+4+8*uint64(d.cfg.Size), 2))
		return d.avail-event-1 < d.avail-before
	}
	return guestmem.Load16(d.Bytes(d.cfg.Device, 2))&1 == 0
}

// WantInterrupts asks the device to tell when it has given the next request back, or not to tell at all.
func (d *Driver) WantInterrupts(want bool) {
	switch {
	case d.opts.Packed:
		e := d.Bytes(d.cfg.Driver, 4)
		how := uint16(1)
		if want && d.opts.EventIdx {
			event := d.seen
			if d.usedWrap {
				event |= 1 << 15
			}
			guestmem.Store16(e, event)
			how = 2
		} else if want {
			how = 0
		}
		guestmem.Store16(e[2:], how)
	case d.opts.EventIdx:
		event := d.seen
		if !want {
			event--
		}
		guestmem.Store16(d.Bytes(d.cfg.Driver+4+2*uint64(d.cfg.Size), 2), event)
	default:
		flags := uint16(1)
		if want {
			flags = 0
		}
		guestmem.Store16(d.Bytes(d.cfg.Driver, 2), flags)
	}
	guestmem.Fence()
}
