package console

import (
	"bytes"
	"context"
	"encoding/binary"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio/virtiotest"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq/virtqtest"
)

// screen is an output that remembers.
type screen struct {
	mu      sync.Mutex
	all     []byte
	largest int
	block   chan struct{} // if there is one, each Write takes from it first
}

func (s *screen) Write(p []byte) (int, error) {
	if s.block != nil {
		<-s.block
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, p...)
	s.largest = max(s.largest, len(p))
	return len(p), nil
}

func (s *screen) text() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.all)
}

// pattern is n bytes that differ.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7) ^ byte(i>>8)
	}
	return b
}

// until waits for what other goroutines bring about.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(virtiotest.Patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func TestOutput(t *testing.T) {
	for _, o := range []virtiotest.Options{{}, {EventIdx: true}, {Packed: true}, {Indirect: true}} {
		out := &screen{}
		d := New(Config{Output: out})
		h := virtiotest.Start(t, d, o)
		h.Do(transmitQueue, [][]byte{[]byte("hello, "), []byte("world")})
		assert.Equal(t, "hello, world", string(out.text()))
		long := pattern(3*piece + 100)
		h.Do(transmitQueue, [][]byte{long})
		assert.Equal(t, long, out.text()[12:])
		assert.Equal(t, piece, out.largest)
		assert.Equal(t, uint64(12+len(long)), d.Stats().Out)
		h.Do(transmitQueue, nil, 10) // a buffer that is not for output
		assert.Equal(t, uint64(1), d.Stats().Errors)
		assert.Empty(t, h.Failures())
	}
}

func TestOutputToNobody(t *testing.T) {
	h := virtiotest.Start(t, New(Config{}), virtiotest.Options{})
	h.Do(transmitQueue, [][]byte{[]byte("hello")})
}

func TestInput(t *testing.T) {
	for _, o := range []virtiotest.Options{{}, {EventIdx: true}, {Packed: true}, {Packed: true, EventIdx: true}} {
		d := New(Config{})
		// Before there is a driver.
		assert.Equal(t, 5, d.Input([]byte("early")))
		h := virtiotest.Start(t, d, o)
		assert.Equal(t, "early", string(h.Do(receiveQueue, nil, 32)))
		// Buffers first.
		q := h.Queue(receiveQueue)
		a, b := q.Add(nil, 4), q.Add(nil, 2, 2)
		h.Kick(receiveQueue)
		assert.Equal(t, 6, d.Input([]byte("abcdef")))
		id, n := h.WaitUsed(receiveQueue)
		assert.Equal(t, a, id)
		assert.Equal(t, "abcd", string(q.Written(id)[:n]))
		id, n = h.WaitUsed(receiveQueue)
		assert.Equal(t, b, id)
		assert.Equal(t, "ef", string(q.Written(id)[:n]))
		// Input first.
		assert.Equal(t, 3, d.Input([]byte("ghi")))
		assert.Equal(t, "gh", string(h.Do(receiveQueue, nil, 2)))
		assert.Equal(t, "i", string(h.Do(receiveQueue, nil, 2)))
		assert.Equal(t, uint64(14), d.Stats().In)
	}
}

// Firecracker's CVE-2020-27174: a flood into a console whose guest does not read takes no memory; once it reads, every
// byte comes, in order.
func TestFlood(t *testing.T) {
	d := New(Config{})
	h := virtiotest.Start(t, d, virtiotest.Options{})
	flood := pattern(300_000)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	n, err := d.Feed(ctx, flood)
	cancel()
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Equal(t, Backlog, n)
	for range 1000 {
		assert.Zero(t, d.Input(flood))
	}
	var fed sync.WaitGroup
	fed.Go(func() {
		n, err := d.Feed(t.Context(), flood[n:])
		assert.NoError(t, err)
		assert.Equal(t, len(flood)-Backlog, n)
	})
	var got []byte
	for len(got) < len(flood) {
		got = append(got, h.Do(receiveQueue, nil, 700)...)
	}
	fed.Wait()
	assert.True(t, bytes.Equal(flood, got))
}

// Firecracker's #6031: input for a guest that gives no buffers, or only useless ones, does not keep the worker busy.
func TestStalledGuestCostsNothing(t *testing.T) {
	for _, o := range []virtiotest.Options{{}, {EventIdx: true}, {Packed: true}} {
		d := New(Config{})
		h := virtiotest.Start(t, d, o)
		require.Equal(t, 4, d.Input([]byte("text")))
		h.Asleep(receiveQueue)
		h.Do(receiveQueue, [][]byte{{1}})
		h.Asleep(receiveQueue)
		assert.Equal(t, "text", string(h.Do(receiveQueue, nil, 8)))
		h.Asleep(receiveQueue)
		h.Asleep(transmitQueue)
	}
}

func TestCloseEndsFeed(t *testing.T) {
	d := New(Config{})
	var fed sync.WaitGroup
	for range 3 {
		fed.Go(func() {
			_, err := d.Feed(context.Background(), make([]byte, 2*Backlog))
			assert.ErrorIs(t, err, ErrClosed)
		})
	}
	until(t, "a full backlog", func() bool { return d.waiting() == Backlog })
	d.Close()
	fed.Wait()
	assert.Zero(t, d.Input([]byte("x")))
	_, err := d.Feed(context.Background(), []byte("x"))
	assert.ErrorIs(t, err, ErrClosed)
	// The guest still gets what was taken.
	h := virtiotest.Start(t, d, virtiotest.Options{})
	assert.Len(t, h.Do(receiveQueue, nil, Backlog), Backlog)
}

func TestSizeOfTheTerminal(t *testing.T) {
	d := New(Config{Cols: 80, Rows: 24})
	h := virtiotest.Start(t, d, virtiotest.Options{Features: featureSize})
	assert.Equal(t, []byte{80, 0, 24, 0}, h.ReadConfig(0, 4))
	d.Resize(300, 100)
	h.WaitConfigInterrupt()
	assert.Equal(t, []byte{0x2c, 1, 100, 0}, h.ReadConfig(0, 4))
	assert.Equal(t, uint32(1), binary.LittleEndian.Uint32(h.ReadConfig(cfgPorts, 4)))
	h.Reset()
	d.Resize(81, 25) // with nobody there
	h.Begin()
	assert.Equal(t, []byte{81, 0, 25, 0}, h.ReadConfig(0, 4))
}

func TestEmergencyWrite(t *testing.T) {
	out := &screen{}
	d := New(Config{Output: out})
	h := virtiotest.New(t, d, virtiotest.Options{})
	for _, c := range "panic" {
		h.Core.WriteConfig(cfgEmergency, []byte{byte(c), 0, 0, 0})
	}
	h.Core.WriteConfig(cfgEmergency, []byte{'!'})
	h.Core.WriteConfig(cfgCols, []byte{1, 2, 3, 4})
	h.Core.WriteConfig(cfgEmergency+1, []byte{1, 2, 3})
	assert.Equal(t, "panic!", string(out.text()))
	assert.Equal(t, make([]byte, cfgSize-cfgEmergency), h.ReadConfig(cfgEmergency, 4))
}

func TestHostileChains(t *testing.T) {
	out := &screen{}
	d := New(Config{Output: out})
	h := virtiotest.Start(t, d, virtiotest.Options{})
	var errors uint64
	for _, queue := range []int{receiveQueue, transmitQueue} {
		write := queue == receiveQueue
		q := h.Queue(queue)
		good := q.Alloc(16)
		for _, list := range [][]virtqtest.Buffer{
			{{Addr: good, Len: 16, Write: write}, {Addr: 64<<20 - 8, Len: 16, Write: write}},
			{{Addr: ^uint64(0) - 8, Len: 64, Write: write}},
			{{Addr: 0xfebf0000, Len: 64, Write: write}},
			{{Addr: good, Len: 16, Write: !write}},
		} {
			require.Equal(t, 3, d.Input([]byte("abc")))
			q.AddBuffers(list)
			h.Kick(queue)
			_, n := h.WaitUsed(queue)
			assert.Zero(t, n)
			errors++
			assert.Equal(t, errors, d.Stats().Errors)
			assert.Equal(t, "abc", string(h.Do(receiveQueue, nil, 16)), "input is not lost to a bad buffer")
		}
		assert.Equal(t, make([]byte, 16), q.Bytes(good, 16))
	}
	assert.Empty(t, out.text())
	assert.Empty(t, h.Failures())
	h.Queue(transmitQueue).Offer(0xffff)
	h.Kick(transmitQueue)
	h.WaitConfigInterrupt()
	assert.NotZero(t, h.Core.Status()&virtio.StatusNeedsReset)
}

// Resets in the middle of a long write and with input waiting; what is not taken yet comes after them.
func TestReset(t *testing.T) {
	out := &screen{block: make(chan struct{})}
	d := New(Config{Output: out})
	h := virtiotest.Start(t, d, virtiotest.Options{})
	const size = 1 << 20
	h.Queue(transmitQueue).Add([][]byte{make([]byte, size)})
	h.Kick(transmitQueue)
	out.block <- struct{}{}
	require.Equal(t, 4, d.Input([]byte("kept")))
	time.AfterFunc(5*time.Millisecond, func() { close(out.block) }) // the output is slow, not stuck
	h.Reset()
	assert.Less(t, len(out.text()), size, "a reset does not wait for the whole")
	h.Begin()
	assert.Equal(t, "kept", string(h.Do(receiveQueue, nil, 16)))
	h.Do(transmitQueue, [][]byte{[]byte("again")})
	assert.True(t, bytes.HasSuffix(out.text(), []byte("again")))
}

// step is a worker that a test calls step by step, with its driver.
func step(t testing.TB, o virtqtest.Options) (*virtio.Queue, *virtqtest.Driver) {
	mem := virtqtest.Memory(t, 1<<20)
	drv := virtqtest.New(t, mem, 4096, 1<<19, queueSize, o)
	q, err := virtq.New(mem, drv.Config())
	require.NoError(t, err)
	return &virtio.Queue{Queue: q}, drv
}

func TestNoAllocation(t *testing.T) {
	d := New(Config{})
	in, inDriver := step(t, virtqtest.Options{})
	out, outDriver := step(t, virtqtest.Options{})
	rx := &receiver{d: d, q: in}
	tx := newTransmitter(d, out)
	a, b := inDriver.Add(nil, 8, 8), outDriver.Add([][]byte{make([]byte, 100), make([]byte, 5000)})
	text := make([]byte, 16)
	assert.Equal(t, 16, d.Input(text))
	once := func() {
		if full, err := rx.deliver(); full || err != nil {
			t.Fatal(full, err)
		}
		if drained, err := tx.Step(); !drained || err != nil {
			t.Fatal(drained, err)
		}
		d.Input(text)
		inDriver.Offer(a)
		outDriver.Offer(b)
	}
	once()
	assert.Zero(t, testing.AllocsPerRun(500, once))
	assert.Equal(t, Stats{In: 16 * 502, Out: 5100 * 502}, d.Stats())
}

func FuzzConsole(f *testing.F) {
	ring := func(at uint16, addr uint64, n uint32, flags, next uint16) []byte {
		b := make([]byte, 16*queueSize+8)
		virtqtest.Put(b[16*int(at):], addr, n, flags, next)
		b[16*queueSize+2], b[16*queueSize+4] = 1, byte(at)
		return b
	}
	f.Add(ring(0, 0x1000, 64, 2, 0), ring(0, 0x1000, 64, 0, 0), []byte("typed"), false)
	f.Add(ring(0, 0xfffff, 64, 2, 0), ring(0, 0xfffff, 64, 0, 0), []byte("typed"), false)
	f.Add(ring(1, 0x1000, 64, 3, 1), ring(1, 0x1000, 64, 1, 1), []byte("typed"), false)
	f.Add(ring(0, 0x1000, 0xffffffff, 2, 0), ring(0, 0, 1<<20, 0, 0), pattern(5000), false)
	f.Add(ring(0, 0x1000, 16, 4, 0), ring(0, 0x1000, 16, 4, 0), []byte("typed"), true)
	f.Fuzz(func(t *testing.T, input, output, typed []byte, packed bool) {
		screen := &screen{}
		d := New(Config{Output: screen})
		in, inDriver := step(t, virtqtest.Options{Packed: packed, Indirect: true})
		out, outDriver := step(t, virtqtest.Options{Packed: packed, Indirect: true})
		copy(inDriver.Bytes(4096, 4096), input)
		copy(outDriver.Bytes(4096, 4096), output)
		watches := []*virtqtest.Watch{inDriver.Watch(), outDriver.Watch()}
		took := d.Input(typed)
		rx := &receiver{d: d, q: in}
		tx := newTransmitter(d, out)
		_, err := rx.deliver()
		require.True(t, err == nil || virtio.IsBadChain(err) == nil)
		_, err = tx.Step()
		require.True(t, err == nil || virtio.IsBadChain(err) == nil)
		s := d.Stats()
		if in.InFlight()+out.InFlight() != 0 || int(s.In)+d.waiting() != took || int(s.Out) != len(screen.all) {
			t.Fatalf("%+v, took %d of %d, %d wait", s, took, len(typed), d.waiting())
		}
		for _, w := range watches { // each queue has a memory of its own
			w.Check()
		}
	})
}

// Linux does not look at the size before it is told of a change.
func TestSizeIsToldAtStart(t *testing.T) {
	h := virtiotest.Start(t, New(Config{Cols: 80, Rows: 24}), virtiotest.Options{Features: featureSize})
	h.WaitConfigInterrupt()
	h.Reset()
	h.Begin()
	h.WaitConfigInterrupt()
}
