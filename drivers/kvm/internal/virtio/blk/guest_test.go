package blk

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/guestmem"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio/virtiotest"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq/virtqtest"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// guest is the driver of a device, of split rings with EVENT_IDX and indirect descriptors.
type guest struct {
	t        testing.TB
	dev      *Device
	h        *virtiotest.Harness
	features uint64
	options  virtiotest.Options
	wait     map[[2]int]*pending // by queue and id
}

// pending is a request that the driver has made.
type pending struct {
	g        *guest
	queue    int
	id       uint16
	writable [][]byte // guest memory
	done     bool
	written  uint32
}

func newDevice(t testing.TB, c Config) *Device {
	t.Helper()
	d, err := New(c)
	require.NoError(t, err)
	return d
}

// boot starts a device with the features that it offers.
func boot(t testing.TB, c Config) *guest {
	d := newDevice(t, c)
	return bootWith(t, d, d.Features())
}

func bootWith(t testing.TB, d *Device, features uint64) *guest {
	t.Helper()
	return bootIn(t, d, features, virtiotest.Options{})
}

// bootIn is bootWith in a memory of its own size.
func bootIn(t testing.TB, d *Device, features uint64, o virtiotest.Options) *guest {
	t.Helper()
	g := &guest{t: t, dev: d, options: o}
	g.start(features)
	return g
}

func (g *guest) start(features uint64) {
	g.t.Helper()
	g.wait = map[[2]int]*pending{}
	if g.h != nil && g.features == features {
		g.h.Begin()
		return
	}
	if g.h != nil {
		g.h.Core.Close()
	}
	g.features = features
	o := g.options
	o.Features, o.Indirect, o.EventIdx = features, true, true
	g.h = virtiotest.Start(g.t, g.dev, o)
}

func (g *guest) reset() { g.h.Reset() }

// add makes a request available without telling the device. Writable are the lengths of the writable parts.
func (g *guest) add(queue int, readable [][]byte, writable ...int) *pending {
	g.t.Helper()
	q := g.h.Queue(queue)
	p := &pending{g: g, queue: queue}
	var list []virtqtest.Buffer
	for _, b := range readable {
		addr := q.Alloc(uint64(len(b)))
		copy(q.Bytes(addr, uint64(len(b))), b)
		list = append(list, virtqtest.Buffer{Addr: addr, Len: uint32(len(b))})
	}
	for _, n := range writable {
		addr := q.Alloc(uint64(n))
		b := q.Bytes(addr, uint64(n))
		for i := range b {
			b[i] = 0xa5
		}
		p.writable = append(p.writable, b)
		list = append(list, virtqtest.Buffer{Addr: addr, Len: uint32(n), Write: true})
	}
	p.id = q.AddBuffers(list)
	g.wait[[2]int{queue, int(p.id)}] = p
	return p
}

func (g *guest) kick(queue int) { g.h.Kick(queue) }

func (g *guest) send(queue int, readable [][]byte, writable ...int) *pending {
	g.t.Helper()
	p := g.add(queue, readable, writable...)
	g.kick(queue)
	return p
}

// take remembers that the device has given a request back.
func (g *guest) take(queue int, id uint16, written uint32) {
	g.t.Helper()
	key := [2]int{queue, int(id)}
	p := g.wait[key]
	require.NotNil(g.t, p, "answer to what was not asked, or twice")
	delete(g.wait, key)
	p.done, p.written = true, written
}

// poll collects what the device has given back.
func (g *guest) poll(queue int) {
	g.t.Helper()
	for {
		id, written, ok := g.h.Queue(queue).Used()
		if !ok {
			return
		}
		g.take(queue, id, written)
	}
}

// answer waits for a request and gives its writable part and what the device says to have written.
func (p *pending) answer() ([]byte, uint32) {
	p.g.t.Helper()
	for !p.done {
		id, written := p.g.h.WaitUsed(p.queue)
		p.g.take(p.queue, id, written)
	}
	return bytes.Join(p.writable, nil), p.written
}

// status waits for a request and gives its status byte.
func (p *pending) status() byte {
	p.g.t.Helper()
	b, _ := p.answer()
	return b[len(b)-1]
}

func header(typ uint32, sector uint64) []byte {
	b := make([]byte, headerSize)
	binary.LittleEndian.PutUint32(b, typ)
	binary.LittleEndian.PutUint64(b[8:], sector)
	return b
}

// ranges are what follows the header of a discard.
func ranges(values ...uint64) (b []byte) {
	for len(values) > 0 {
		b = binary.LittleEndian.AppendUint64(b, values[0])
		b = binary.LittleEndian.AppendUint32(b, uint32(values[1]))
		b = binary.LittleEndian.AppendUint32(b, uint32(values[2]))
		values = values[3:]
	}
	return b
}

func (g *guest) read(queue int, sector uint64, n int) ([]byte, byte) {
	g.t.Helper()
	b, _ := g.send(queue, [][]byte{header(typeIn, sector)}, n, 1).answer()
	return b[:n], b[n]
}

func (g *guest) write(queue int, sector uint64, data []byte) byte {
	g.t.Helper()
	return g.send(queue, [][]byte{header(typeOut, sector), data}, 1).status()
}

func (g *guest) flush(queue int) byte {
	g.t.Helper()
	return g.send(queue, [][]byte{header(typeFlush, 0)}, 1).status()
}

func (g *guest) ranged(typ uint32, values ...uint64) byte {
	g.t.Helper()
	return g.send(0, [][]byte{header(typ, 0), ranges(values...)}, 1).status()
}

// repeated gives a function that makes one request and waits for its answer, and does not itself allocate. The guest is
// for nothing else any more.
func (g *guest) repeated(readable [][]byte, writable ...int) func() {
	p := g.send(0, readable, writable...)
	p.answer()
	q := g.h.Queue(0)
	size := uint64(q.Config().Size)
	avail, used := q.Bytes(q.Config().Driver, 6+2*size), q.Bytes(q.Config().Device, 6+8*size)
	n := guestmem.Load16(avail[2:])
	return func() {
		guestmem.Store16(avail[4+2*(uint64(n)%size):], p.id)
		n++
		guestmem.Store16(avail[2:], n)
		guestmem.Fence()
		g.kick(0)
		for guestmem.Load16(used[2:]) != n {
			runtime.Gosched()
		}
	}
}
