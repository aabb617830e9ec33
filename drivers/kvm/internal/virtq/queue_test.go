package virtq_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/guestmem"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq/virtqtest"
	"github.com/polyvisor/polyvisor/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// eachLayout runs a test with all that can be negotiated.
func eachLayout(t *testing.T, f func(t *testing.T, o virtqtest.Options)) {
	for _, packed := range []bool{false, true} {
		for _, event := range []bool{false, true} {
			for _, indirect := range []bool{false, true} {
				o := virtqtest.Options{Packed: packed, EventIdx: event, Indirect: indirect}
				t.Run(fmt.Sprintf("packed=%v,event=%v,indirect=%v", packed, event, indirect), func(t *testing.T) { f(t, o) })
			}
		}
	}
}

func pair(t testing.TB, size uint16, o virtqtest.Options) (*virtqtest.Driver, *virtq.Queue) {
	mem := virtqtest.Memory(t, 16<<20)
	d := virtqtest.New(t, mem, 1<<20, 8<<20, size, o)
	q, err := virtq.New(mem, d.Config())
	require.NoError(t, err)
	return d, q
}

// Requests come out as they went in, in order, and go back in any order, over many turns of the ring's indices.
func TestRequestsGoThroughAndBack(t *testing.T) {
	eachLayout(t, func(t *testing.T, o virtqtest.Options) {
		const size = 16
		d, q := pair(t, size, o)
		r := rand.New(rand.NewPCG(1, 2))
		type sent struct {
			id   uint16
			text []byte
			room int
		}
		var waiting []sent
		var taken []*virtq.Chain
		want := map[uint16]sent{}
		for n := range 70000 {
			if len(waiting)+len(taken) < size/4 && r.IntN(2) == 0 {
				text := []byte(fmt.Sprintf("request %d", n))
				s := sent{text: text, room: 1 + r.IntN(64)}
				s.id = d.Add([][]byte{text[:3], text[3:]}, 1, s.room)
				waiting = append(waiting, s)
			}
			c := new(virtq.Chain)
			ok, err := q.Pop(c)
			require.NoError(t, err)
			require.Equal(t, len(waiting) > 0, ok)
			if ok {
				s := waiting[0]
				waiting = waiting[1:]
				require.Equal(t, s.text, bytes.Join(c.Readable, nil))
				require.Len(t, c.Writable, 2)
				require.EqualValues(t, len(s.text), c.ReadableLen())
				require.EqualValues(t, s.room+1, c.WritableLen())
				copy(c.Writable[1], s.text)
				want[s.id] = s
				taken = append(taken, c)
			}
			require.Equal(t, len(taken), q.InFlight())
			if len(taken) > 0 && r.IntN(2) == 0 {
				i := r.IntN(len(taken))
				q.Push(taken[i], uint32(taken[i].WritableLen()))
				q.Push(taken[i], 1) // a second time is nothing
				taken = append(taken[:i], taken[i+1:]...)
				id, written, ok := d.Used()
				require.True(t, ok)
				s := want[id]
				require.EqualValues(t, s.room+1, written)
				require.Equal(t, s.text[:min(len(s.text), s.room)], d.Written(id)[1:][:min(len(s.text), s.room)])
			}
		}
		_, _, ok := d.Used()
		require.False(t, ok)
	})
}

func TestWrittenIsCutToTheBuffers(t *testing.T) {
	eachLayout(t, func(t *testing.T, o virtqtest.Options) {
		d, q := pair(t, 4, o)
		d.Add([][]byte{{1}}, 10)
		var c virtq.Chain
		ok, err := q.Pop(&c)
		require.NoError(t, err)
		require.True(t, ok)
		q.Push(&c, 1<<31)
		_, written, ok := d.Used()
		require.True(t, ok)
		require.EqualValues(t, 10, written)
	})
}

// Each side is woken when it asked to be, and no sooner.
func TestWakeUps(t *testing.T) {
	eachLayout(t, func(t *testing.T, o virtqtest.Options) {
		d, q := pair(t, 8, o)
		var c virtq.Chain
		serve := func() {
			ok, err := q.Pop(&c)
			require.NoError(t, err)
			require.True(t, ok)
			q.Push(&c, 0)
			_, _, ok = d.Used()
			require.True(t, ok)
		}
		require.False(t, q.ShouldInterrupt(), "nothing was pushed")
		for range 100 { // over the turns of the ring
			require.False(t, q.EnableKicks())
			d.WantInterrupts(true)
			d.Add(nil, 1)
			require.True(t, d.KickWanted())
			serve()
			require.True(t, q.ShouldInterrupt())
			require.False(t, q.ShouldInterrupt(), "it was told")
			q.DisableKicks()
			d.WantInterrupts(false)
			d.Add(nil, 1)
			require.False(t, d.KickWanted())
			require.True(t, q.EnableKicks(), "a request came before")
			q.DisableKicks()
			serve()
			require.False(t, q.ShouldInterrupt())
		}
	})
}

// A device that asks seldom, after as many requests as the ring's numbers have, or more,
// still hears that the driver wants to be told.
func TestInterruptAfterALongBatch(t *testing.T) {
	eachLayout(t, func(t *testing.T, o virtqtest.Options) {
		for _, n := range []int{1, 7, 8, 9, 1<<16 - 1, 1 << 16, 1<<16 + 2} {
			d, q := pair(t, 8, o)
			d.WantInterrupts(true)
			var c virtq.Chain
			for range n {
				d.Add(nil, 1)
				ok, err := q.Pop(&c)
				require.NoError(t, err)
				require.True(t, ok)
				q.Push(&c, 0)
				_, _, ok = d.Used()
				require.True(t, ok)
			}
			require.True(t, q.ShouldInterrupt(), "after %d", n)
			require.False(t, q.ShouldInterrupt(), "it was told")
		}
	})
}

// A chain is as long as the queue at the most, in an indirect table too.
func TestLongestChains(t *testing.T) {
	for _, o := range []virtqtest.Options{{}, {Indirect: true}, {Packed: true}, {Packed: true, Indirect: true}} {
		d, q := pair(t, 8, o)
		d.Add(nil, 1, 1, 1, 1, 1, 1, 1, 1)
		var c virtq.Chain
		ok, err := q.Pop(&c)
		require.NoError(t, err, "%+v", o)
		require.True(t, ok)
		require.Len(t, c.Writable, 8)
	}
}

func TestConfigIsChecked(t *testing.T) {
	mem := virtqtest.Memory(t, 1<<20)
	good := virtq.Config{Size: 8, Desc: 0x1000, Driver: 0x2000, Device: 0x3000}
	for name, change := range map[string]func(*virtq.Config){
		"size 0":              func(c *virtq.Config) { c.Size = 0 },
		"size 3":              func(c *virtq.Config) { c.Size = 3 },
		"size 65535":          func(c *virtq.Config) { c.Size = 65535 },
		"descriptors askew":   func(c *virtq.Config) { c.Desc++ },
		"available askew":     func(c *virtq.Config) { c.Driver++ },
		"used askew":          func(c *virtq.Config) { c.Device += 2 },
		"descriptors outside": func(c *virtq.Config) { c.Desc = 1 << 20 },
		"available at end":    func(c *virtq.Config) { c.Driver = 1<<20 - 16 },
		"used wraps":          func(c *virtq.Config) { c.Device = ^uint64(0) - 3 },
		"packed, size 40000":  func(c *virtq.Config) { c.Packed, c.Size = true, 40000 },
		"packed, ring":        func(c *virtq.Config) { c.Packed, c.Desc = true, 1<<20-16 },
		"packed, driver":      func(c *virtq.Config) { c.Packed, c.Driver = true, 0x2002 },
		"packed, device":      func(c *virtq.Config) { c.Packed, c.Device = true, 1<<20 },
	} {
		t.Run(name, func(t *testing.T) {
			c := good
			change(&c)
			_, err := virtq.New(mem, c)
			require.ErrorIs(t, err, virtq.ErrConfig)
		})
	}
	_, err := virtq.New(mem, good)
	require.NoError(t, err)
	good.Packed, good.Size = true, 3
	_, err = virtq.New(mem, good)
	require.NoError(t, err, "packed rings have any size")
}

func TestNothingIsAllocated(t *testing.T) {
	eachLayout(t, func(t *testing.T, o virtqtest.Options) {
		_, q, step := endless(t, o)
		var c virtq.Chain
		require.Zero(t, testing.AllocsPerRun(1000, func() {
			step()
			if ok, err := q.Pop(&c); !ok || err != nil {
				t.Fatal(ok, err)
			}
			q.Push(&c, 1)
			q.ShouldInterrupt()
			q.DisableKicks()
			q.EnableKicks()
		}))
	})
}

// endless gives a queue whose driver, without allocating either, makes the same request available at each step.
func endless(t testing.TB, o virtqtest.Options) (*virtqtest.Driver, *virtq.Queue, func()) {
	const size = 256
	d, q := pair(t, size, o)
	if !o.Packed {
		id := d.Add([][]byte{{1, 2}})
		var c virtq.Chain
		ok, err := q.Pop(&c)
		require.NoError(t, err)
		require.True(t, ok)
		q.Push(&c, 0)
		avail, n := d.Bytes(d.Config().Driver, 4+2*size), uint16(1)
		return d, q, func() {
			binary.LittleEndian.PutUint16(avail[4+2*int(n%size):], id)
			n++
			guestmem.Store16(avail[2:], n)
		}
	}
	addr, n := d.Alloc(64), uint16(0)
	ring := d.Bytes(d.Config().Desc, 16*size)
	return d, q, func() {
		flags := uint16(1<<7 | 2)
		if n/size%2 == 1 {
			flags = 1<<15 | 2
		}
		virtqtest.Put(ring[16*int(n%size):], addr, 8, n%size, flags)
		n++
	}
}

func BenchmarkQueue(b *testing.B) {
	for _, o := range []virtqtest.Options{{}, {EventIdx: true}, {Packed: true}} {
		b.Run(fmt.Sprintf("packed=%v,event=%v", o.Packed, o.EventIdx), func(b *testing.B) {
			_, q, step := endless(b, o)
			var c virtq.Chain
			b.ReportAllocs()
			for b.Loop() {
				step()
				q.Pop(&c)
				q.Push(&c, 1)
			}
		})
	}
}
