package blk

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/disk"
)

// tracer is an image that remembers what was not synced. When the power goes, of that any part may be there, in
// sectors, and in any order; what was synced is there. It is the proof of what the device promises: a process that is killed
// loses nothing that it wrote, since the page cache stays, but a host that loses its power does.
type tracer struct {
	mu     sync.Mutex
	now    []byte // what reads see
	stable []byte
	loose  []extent
	lies   bool // Flush does nothing
}

type extent struct {
	off  int64
	data []byte
}

func newTracer(size int) *tracer { return &tracer{now: make([]byte, size), stable: make([]byte, size)} }

func (d *tracer) Size() int64 { return int64(len(d.now)) }

func (d *tracer) ReadAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return copy(p, d.now[off:]), nil
}

func (d *tracer) WriteAt(p []byte, off int64) (int, error) {
	runtime.Gosched()
	d.mu.Lock()
	defer d.mu.Unlock()
	e := extent{off, bytes.Clone(p)}
	copy(d.now[off:], e.data)
	d.loose = append(d.loose, e)
	return len(p), nil
}

func (d *tracer) WriteZeroes(off, n int64, _ bool) error {
	_, err := d.WriteAt(make([]byte, n), off)
	return err
}

func (d *tracer) Discard(off, n int64) error { return d.WriteZeroes(off, n, true) }

// Flush makes stable what had been written when it began, and nothing else.
func (d *tracer) Flush() error {
	d.mu.Lock()
	n := len(d.loose)
	d.mu.Unlock()
	for range 3 {
		runtime.Gosched()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lies {
		return nil
	}
	for _, e := range d.loose[:n] {
		copy(d.stable[e.off:], e.data)
	}
	d.loose = append([]extent(nil), d.loose[n:]...)
	return nil
}

func (d *tracer) Close() error { return nil }

// cutPower gives what a disk may hold if the power goes now.
func (d *tracer) cutPower(r *rand.Rand) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	left := bytes.Clone(d.stable)
	for _, e := range d.loose {
		for at := 0; at < len(e.data); at += 512 {
			if r.IntN(2) == 0 {
				copy(left[e.off+int64(at):], e.data[at:at+512])
			}
		}
	}
	return left
}

// syncTracer is a tracer with durable writes.
type syncTracer struct{ *tracer }

func (d syncTracer) WriteDurable(p [][]byte, off int64) error {
	b := bytes.Join(p, nil)
	d.mu.Lock()
	defer d.mu.Unlock()
	// What was written to the same place before does not come back.
	copy(d.now[off:], b)
	copy(d.stable[off:], b)
	for i, e := range d.loose {
		from, to := max(off, e.off), min(off+int64(len(b)), e.off+int64(len(e.data)))
		if from < to {
			copy(d.loose[i].data[from-e.off:to-e.off], b[from-off:])
		}
	}
	return nil
}

// workload writes random sectors with rising versions, at most one write to a sector at a time, and flushes now and
// then. It knows for each sector which version must have survived by what the device answered.
type workload struct {
	g        *guest
	r        *rand.Rand
	through  bool // each answer stands for stable storage
	sectors  int
	history  [][][]byte // contents of each sector by version
	answered []int      // versions
	stable   []int
	busy     []bool
	inFlight []*errand
}

type errand struct {
	p       *pending
	first   int
	n       int
	version []int
	flushed []int // of a flush: what was answered when it was made
}

func newWorkload(g *guest, seed uint64, through bool) *workload {
	w := &workload{g: g, r: rand.New(rand.NewPCG(seed, 1)), through: through, sectors: 64}
	w.history = make([][][]byte, w.sectors)
	for s := range w.history {
		w.history[s] = [][]byte{make([]byte, 512)}
	}
	w.answered, w.stable, w.busy = make([]int, w.sectors), make([]int, w.sectors), make([]bool, w.sectors)
	return w
}

// step makes one request or takes one answer.
func (w *workload) step() {
	queue := w.r.IntN(w.g.dev.c.Queues)
	switch op := w.r.IntN(10); {
	case op < 3 && len(w.inFlight) > 0 || len(w.inFlight) >= 24:
		i := w.r.IntN(len(w.inFlight))
		e := w.inFlight[i]
		w.inFlight = append(w.inFlight[:i], w.inFlight[i+1:]...)
		w.take(e)
	case op == 3 && w.g.dev.Features()&FeatureFlush != 0:
		e := &errand{p: w.g.send(queue, [][]byte{header(typeFlush, 0)}, 1), flushed: append([]int(nil), w.answered...)}
		w.inFlight = append(w.inFlight, e)
	default:
		w.change(queue, op)
	}
}

func (w *workload) change(queue, op int) {
	first := w.r.IntN(w.sectors)
	n := 1 + w.r.IntN(min(4, w.sectors-first))
	for s := first; s < first+n; s++ {
		if w.busy[s] {
			return
		}
	}
	e := &errand{first: first, n: n}
	data := make([]byte, n*512)
	for i := range n {
		s := first + i
		version := len(w.history[s])
		b := data[i*512 : i*512+512]
		if op != 4 {
			copy(b, fmt.Sprintf("sector %d version %d", s, version))
		}
		w.history[s] = append(w.history[s], bytes.Clone(b))
		w.busy[s] = true
		e.version = append(e.version, version)
	}
	if op == 4 {
		e.p = w.g.send(queue, [][]byte{header(typeWriteZeroes, 0), ranges(uint64(first), uint64(n), 0)}, 1)
	} else {
		e.p = w.g.send(queue, [][]byte{header(typeOut, uint64(first)), data}, 1)
	}
	w.inFlight = append(w.inFlight, e)
}

func (w *workload) take(e *errand) {
	require.EqualValues(w.g.t, statusOK, e.p.status())
	if e.flushed != nil {
		for s, v := range e.flushed {
			w.stable[s] = max(w.stable[s], v)
		}
		return
	}
	for i, v := range e.version {
		w.answered[e.first+i] = v
		w.busy[e.first+i] = false
		if w.through {
			w.stable[e.first+i] = v
		}
	}
}

// lost gives the sectors whose contents are older than what the guest was told is on disk, or that never were.
func (w *workload) lost(left []byte) (sectors []int) {
	for s := range w.sectors {
		b := left[s*512 : s*512+512]
		found := false
		for _, h := range w.history[s][w.stable[s]:] {
			found = found || bytes.Equal(h, b)
		}
		if !found {
			sectors = append(sectors, s)
		}
	}
	return sectors
}

// losses runs the workload on an image and cuts the power every few steps.
func losses(g *guest, img *tracer, seed uint64, through bool) (n int) {
	w := newWorkload(g, seed, through)
	for i := range 1500 {
		w.step()
		if i%5 == 0 {
			n += len(w.lost(img.cutPower(w.r)))
		}
	}
	for _, e := range w.inFlight {
		w.take(e)
	}
	return n
}

func TestPowerCut(t *testing.T) {
	const all = ^uint64(0)
	for _, tt := range []struct {
		name      string
		cache     disk.Cache
		features  uint64 // that are negotiated, of those offered
		writeback byte   // what the driver writes into the configuration
		through   bool
	}{
		{"writeback", disk.Writeback, all, 1, false},
		{"none", disk.None, all, 1, false},
		{"writeback without CONFIG_WCE", disk.Writeback, all &^ FeatureConfigWCE, 1, false},
		{"writeback without FLUSH", disk.Writeback, all &^ (FeatureFlush | FeatureConfigWCE), 1, true},
		{"writeback without FLUSH, with CONFIG_WCE", disk.Writeback, all &^ FeatureFlush, 1, true},
		{"driver turns the cache off", disk.Writeback, all, 0, true},
		{"writethrough", disk.Writethrough, all, 1, true},
		{"writethrough without FLUSH", disk.Writethrough, all &^ FeatureFlush, 1, true},
	} {
		for _, durable := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, durable writes %t", tt.name, durable), func(t *testing.T) {
				img := newTracer(64 * 512)
				var i disk.Image = img
				if durable {
					i = syncTracer{img}
				}
				d := newDevice(t, Config{Image: i, Cache: tt.cache, Queues: 2})
				g := bootWith(t, d, d.Features()&tt.features)
				d.WriteConfig(configWriteback, []byte{tt.writeback})
				assert.Zero(t, losses(g, img, 1, tt.through))
			})
		}
	}
}

// The test above does see it when something is lost: with the unsafe mode, which says so by not offering FLUSH, and
// with storage that does nothing for a flush.
func TestPowerCutIsNoticed(t *testing.T) {
	img := newTracer(64 * 512)
	g := boot(t, Config{Image: img, Cache: disk.Unsafe})
	assert.Zero(t, g.dev.Features()&FeatureFlush)
	assert.NotZero(t, losses(g, img, 2, true))

	for _, through := range []bool{false, true} {
		img := newTracer(64 * 512)
		img.lies = true
		cache := disk.Writeback
		if through {
			cache = disk.Writethrough
		}
		assert.NotZero(t, losses(boot(t, Config{Image: img, Cache: cache}), img, 3, through))
	}
}

// With cache mode unsafe a driver that flushes all the same gets its answer at once.
func TestUnsafeFlush(t *testing.T) {
	img := newMemory(diskSize)
	img.log = true
	g := boot(t, Config{Image: img, Cache: disk.Unsafe})
	require.EqualValues(t, statusOK, g.write(0, 0, make([]byte, 512)))
	require.EqualValues(t, statusOK, g.flush(0))
	assert.Equal(t, []string{"write"}, img.operations())
}

// A switched cache is told in the configuration and outlives neither a reset nor cache mode writethrough.
func TestWritebackByte(t *testing.T) {
	for _, tt := range []struct {
		cache        disk.Cache
		first, later byte
	}{{disk.Writeback, 1, 0}, {disk.None, 1, 0}, {disk.Writethrough, 0, 0}} {
		d := newDevice(t, Config{Image: newMemory(512), Cache: tt.cache})
		get := func() byte {
			b := []byte{7}
			d.ReadConfig(configWriteback, b)
			return b[0]
		}
		g := bootWith(t, d, d.Features())
		assert.Equal(t, tt.first, get())
		d.WriteConfig(configWriteback, []byte{0})
		assert.Equal(t, tt.later, get())
		d.WriteConfig(configWriteback, []byte{1})
		assert.Equal(t, tt.first, get())
		d.WriteConfig(configWriteback, []byte{0})
		g.read(0, 0, 512) // it has started
		g.reset()
		assert.Equal(t, tt.first, get())
		g.start(d.Features() &^ FeatureFlush)
		g.read(0, 0, 512)
		assert.Zero(t, get(), "a driver without FLUSH has no cache")
	}
}
