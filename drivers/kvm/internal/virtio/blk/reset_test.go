package blk

import (
	"bytes"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// gate makes the operations of an image wait.
type gate struct {
	inside atomic.Int32
	most   atomic.Int32
	open   chan struct{}
}

func newGate(m *memory) *gate {
	g := &gate{open: make(chan struct{})}
	m.hook = func(string, int64, int64) error {
		n := g.inside.Add(1)
		for most := g.most.Load(); n > most && !g.most.CompareAndSwap(most, n); most = g.most.Load() {
		}
		<-g.open
		g.inside.Add(-1)
		return nil
	}
	return g
}

// until waits for a condition.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !f(); runtime.Gosched() {
		require.False(t, time.Now().After(deadline), "%s", what)
	}
}

// ours counts the goroutines that have something of this package to do; the runtime starts some of its own when it likes.
func ours() int {
	buf := make([]byte, 1<<20)
	n := 0
	for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(g, "/internal/virtio/") {
			n++
		}
	}
	return n
}

// A reset waits for the I/O under way; what it brings is dropped, and what had not begun never does.
func TestResetWithRequestsInFlight(t *testing.T) {
	img := newMemory(diskSize)
	for n := range img.data {
		img.data[n] = 1
	}
	gate := newGate(img)
	g := boot(t, Config{Image: img, Queues: 2})
	var all []*pending
	for n := range 200 {
		queue := n % 2
		if n%3 == 0 {
			all = append(all, g.send(queue, [][]byte{header(typeFlush, 0)}, 1))
		} else {
			all = append(all, g.send(queue, [][]byte{header(typeIn, uint64(n))}, 512, 1))
		}
	}
	until(t, "nothing runs", func() bool { return gate.inside.Load() > 2 })
	stopped := make(chan struct{})
	go func() {
		g.reset()
		close(stopped)
	}()
	until(t, "not stopping", g.dev.stopping.Load)
	select {
	case <-stopped:
		require.Fail(t, "stopped with I/O under way")
	case <-time.After(20 * time.Millisecond):
	}
	close(gate.open)
	<-stopped
	assert.Zero(t, gate.inside.Load())
	g.poll(0)
	g.poll(1)
	answered := 0
	for _, p := range all {
		if p.done {
			answered++
		}
	}
	assert.Zero(t, answered)
	memory := make([][]byte, len(all))
	for i, p := range all {
		memory[i] = bytes.Join(p.writable, nil)
	}
	time.Sleep(5 * time.Millisecond)
	for i, p := range all {
		require.Equal(t, memory[i], bytes.Join(p.writable, nil), "guest memory was touched after the reset")
	}

	// It serves again.
	img.hook = nil
	g.start(g.dev.Features())
	b, status := g.read(1, 0, 512)
	require.EqualValues(t, statusOK, status)
	assert.Equal(t, img.contents()[:512], b)
}

func TestManyResets(t *testing.T) {
	img := newMemory(diskSize)
	g := boot(t, Config{Image: img, Queues: 4})
	const most = 2 + 4 // the test, TestMain, and a worker for each queue
	for n := range 300 {
		for i := range n % 20 {
			if i%2 == 0 {
				g.send(i%4, [][]byte{header(typeFlush, 0)}, 1)
			} else {
				g.send(i%4, [][]byte{header(typeIn, 0)}, 512, 1)
			}
		}
		g.reset()
		g.reset() // a second one finds nothing to do
		g.dev.Stop()
		g.start(g.dev.Features())
	}
	until(t, "goroutines", func() bool { return ours() <= most })
	assert.EqualValues(t, statusOK, g.flush(3))
}

// Slow requests overlap, up to the bound, and do not keep the device from taking more than it has helpers for.
func TestParallelism(t *testing.T) {
	img := newMemory(diskSize)
	gate := newGate(img)
	g := boot(t, Config{Image: img})
	var all []*pending
	for range 3 * slots {
		all = append(all, g.send(0, [][]byte{header(typeWriteZeroes, 0), ranges(0, 1, 0)}, 1))
	}
	until(t, "not as many at a time as there may be", func() bool { return gate.inside.Load() == Helpers })
	time.Sleep(5 * time.Millisecond)
	assert.EqualValues(t, Helpers, gate.most.Load())
	close(gate.open)
	for _, p := range all {
		require.EqualValues(t, statusOK, p.status())
	}
	assert.EqualValues(t, Helpers, gate.most.Load())
}

// A request that hangs does not hold up others, once it is known that requests may.
func TestOvertaking(t *testing.T) {
	img := newMemory(diskSize)
	hang := make(chan struct{})
	img.hook = func(op string, off, _ int64) error {
		if op == "flush" {
			<-hang
		}
		return nil
	}
	g := boot(t, Config{Image: img})
	first := g.send(0, [][]byte{header(typeFlush, 0)}, 1)
	for range 100 {
		_, status := g.read(0, 0, 512)
		require.EqualValues(t, statusOK, status)
	}
	g.poll(0)
	assert.False(t, first.done)
	close(hang)
	assert.EqualValues(t, statusOK, first.status())
}

// Reads that turn out slow go to helpers: the second and later ones run at the same time.
func TestSlowReadsOverlap(t *testing.T) {
	img := newMemory(diskSize)
	var inside, most atomic.Int32
	img.hook = func(string, int64, int64) error {
		if n := inside.Add(1); n > most.Load() {
			most.Store(n)
		}
		time.Sleep(time.Millisecond)
		inside.Add(-1)
		return nil
	}
	g := boot(t, Config{Image: img})
	var all []*pending
	for range 40 {
		all = append(all, g.add(0, [][]byte{header(typeIn, 0)}, 512, 1))
	}
	g.kick(0)
	for _, p := range all {
		require.EqualValues(t, statusOK, p.status())
	}
	assert.Greater(t, most.Load(), int32(1))
}

// Brief requests that are there together are answered together.
func TestOneInterruptForABatch(t *testing.T) {
	g := boot(t, Config{Image: newMemory(diskSize)})
	var all []*pending
	for range 32 {
		all = append(all, g.add(0, [][]byte{header(typeGetID, 0)}, 20, 1))
	}
	g.kick(0)
	for _, p := range all {
		require.EqualValues(t, statusOK, p.status())
	}
	assert.LessOrEqual(t, g.dev.Stats().Batches, uint64(2))
}
