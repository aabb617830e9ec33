package virtq_test

import (
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/guestmem"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq/virtqtest"
)

// hook is memory in which the driver changes its mind whenever the device has looked at something.
type hook struct {
	virtq.Memory
	change func()
	looks  int
}

func (h *hook) Slice(gpa, n uint64) ([]byte, error) {
	b, err := h.Memory.Slice(gpa, n)
	h.looks++
	h.change()
	return b, err
}

// Whatever the driver writes into the rings, also between two looks of the device, a chain stays within its bounds, a request costs a
// bounded number of steps, and the queue writes nothing but its own part of the ring.
func FuzzQueue(f *testing.F) {
	f.Add([]byte{1, 2, 3}, uint8(0))
	f.Add([]byte{0, 16, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 1, 0, 1, 0, 0, 1, 0, 0}, uint8(1))
	f.Add([]byte{0, 16, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 4, 0, 0, 0}, uint8(7))
	f.Add([]byte{0x80, 0xff, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0x80, 0}, uint8(4))
	f.Fuzz(func(t *testing.T, script []byte, options uint8) {
		const size, most, memory = 8, 1 << 14, 1 << 20
		o := virtqtest.Options{Packed: options&4 != 0, EventIdx: options&2 != 0, Indirect: options&1 != 0}
		mem := virtqtest.Memory(t, memory)
		d := virtqtest.New(t, mem, 0x1000, 0x4000, size, o)
		cfg := d.Config()
		cfg.MaxBytes = most
		// The driver's script goes over the rings again and again, a few bytes at each look of the device.
		rings := d.Bytes(cfg.Desc, 0x400)
		mine := append([]byte(nil), rings...) // what the driver wrote
		put := func(at int, b byte) { rings[at], mine[at] = b, b }
		at := 0
		h := &hook{Memory: mem, change: func() {
			for i := 0; i < 8 && len(script) > 0; i++ {
				put((at*7)%len(rings), script[at%len(script)])
				at++
			}
		}}
		for i, b := range script[:min(len(script), len(rings))] {
			put(i, b)
		}
		q, err := virtq.New(h, cfg)
		require.NoError(t, err)
		var open []*virtq.Chain
		for step := range 64 {
			h.change()
			put(int(cfg.Driver-cfg.Desc)+2, byte(step))
			put(int(cfg.Driver-cfg.Desc)+3, 0)
			c := new(virtq.Chain)
			h.looks = 0
			ok, err := q.Pop(c)
			// Each buffer of a chain and an indirect table are a look.
			require.LessOrEqual(t, h.looks, size+1)
			var broken *virtq.RingError
			if errors.As(err, &broken) {
				break
			}
			requireBounds(t, c, size, most)
			if ok || err != nil {
				open = append(open, c)
			}
			require.LessOrEqual(t, q.InFlight(), size)
			if step%3 == 0 && len(open) > 0 {
				q.Push(open[0], 1<<31)
				open = open[1:]
			}
			q.ShouldInterrupt()
			q.EnableKicks()
			q.DisableKicks()
			if !o.Packed {
				used := int(cfg.Device - cfg.Desc)
				require.Equal(t, mine[:used], rings[:used], "the queue has written to the driver's part of the rings")
			}
		}
		all := d.Bytes(0, memory)
		for i := range all {
			if all[i] != 0 && (i < 0x1000 || i >= 0x1400) {
				t.Fatalf("the queue has written %#x to %#x", all[i], i)
			}
		}
	})
}

// requireBounds fails unless the buffers of a chain are as long as it says, and not too long or too many.
func requireBounds(t testing.TB, c *virtq.Chain, segments int, most uint64) {
	var sums [2]uint64
	for i, list := range [][][]byte{c.Readable, c.Writable} {
		for _, b := range list {
			sums[i] += uint64(len(b))
		}
	}
	if sums[0] != c.ReadableLen() || sums[1] != c.WritableLen() || sums[0]+sums[1] > most || len(c.Readable)+len(c.Writable) > segments {
		t.Fatalf("%d and %d bytes in %d and %d buffers, and it says %d and %d", sums[0], sums[1], len(c.Readable), len(c.Writable), c.ReadableLen(), c.WritableLen())
	}
}

// restless is a driver that writes good and bad values in turn into the rings, as fast as it can and without any order: a
// value that the device reads twice is not the same the second time. The race detector does not look at mapped memory.
func restless(stop *atomic.Bool, values []restlessValue) {
	for i := 0; !stop.Load(); i++ {
		v := &values[i/65%len(values)] // many times each, as the moment between two reads is short
		v.turn = !v.turn
		from := v.bad
		if v.turn {
			from = v.good
		}
		for k := range v.at {
			v.at[k] = from[k]
		}
	}
}

type restlessValue struct {
	at, good, bad []byte
	turn          bool
}

// The driver changes what it has offered while the device looks at it. Where a value is judged and then read again
// this ends in a panic, in a buffer longer than was allowed, or in a walk without end.
func TestDriverThatChangesItsMind(t *testing.T) {
	eachLayout(t, func(t *testing.T, o virtqtest.Options) {
		const size, most = 8, 1 << 14
		d, _ := pair(t, size, o)
		cfg := d.Config()
		cfg.MaxBytes = most
		le := binary.LittleEndian
		table := d.Alloc(16 * 4)
		descriptors := [][]byte{d.Desc(0), d.Desc(1), d.Bytes(table, 16), d.Bytes(table+16, 16)}
		var values []restlessValue
		toggle := func(at, good, bad []byte) {
			values = append(values, restlessValue{at: at[:len(good)], good: good, bad: bad})
		}
		u16 := func(v uint16) []byte { return le.AppendUint16(nil, v) }
		flagsAt, avail := 12, uint16(0)
		if o.Packed {
			flagsAt, avail = 14, 1<<7
		}
		for i, b := range descriptors {
			virtqtest.Put(b, 0x1000, 64, 0, 0)
			toggle(b, le.AppendUint64(nil, 0x1000), le.AppendUint64(nil, 16<<20-8))
			toggle(b[8:], le.AppendUint32(nil, 64), le.AppendUint32(nil, 2*most))
			flags := write | avail
			if i%2 == 0 {
				flags |= next
			}
			if o.Indirect && i == 1 {
				virtqtest.Put(b, table, 32, 0, 0)
				toggle(b, le.AppendUint64(nil, table), le.AppendUint64(nil, 1<<40))
				flags = indirect | avail
			}
			toggle(b[flagsAt:], u16(flags), u16(flags^(next|write)))
			if !o.Packed {
				toggle(b[14:], u16(uint16(i+1)%2), u16(0xffff))
			}
		}
		if !o.Packed {
			ring := d.Bytes(cfg.Driver, 4+2*size)
			for i := range size {
				toggle(ring[4+2*i:], u16(uint16(i%2)), u16(0x7fff))
			}
		}
		var stop atomic.Bool
		var driver sync.WaitGroup
		driver.Go(func() { restless(&stop, values) })
		defer driver.Wait()
		defer stop.Store(true)
		good, bad, broken := 0, 0, 0
		for round := 0; round < 4000 || good == 0 || bad == 0; round++ {
			require.Less(t, round, 1<<20, "%d good requests, %d bad, %d rings broken", good, bad, broken)
			h := &hook{Memory: d.Guest(), change: func() {}}
			q, err := virtq.New(h, cfg)
			require.NoError(t, err)
			for n := range uint16(size) {
				if !o.Packed {
					guestmem.Store16(d.Bytes(cfg.Driver+2, 2), n+1)
				}
				var c virtq.Chain
				h.looks = 0
				ok, err := q.Pop(&c)
				if h.looks > size+1 {
					t.Fatalf("%d looks for a request", h.looks)
				}
				requireBounds(t, &c, size, most)
				var wrong *virtq.RingError
				if errors.As(err, &wrong) {
					broken++
					break
				}
				if err != nil {
					bad++
				} else if ok {
					good++
				}
				if !o.Packed { // where it would take back what is to be available again
					q.Push(&c, 1)
				}
			}
		}
	})
}
