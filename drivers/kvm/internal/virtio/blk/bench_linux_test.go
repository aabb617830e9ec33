package blk

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/disk"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/guestmem"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio/virtiotest"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq/virtqtest"
)

const (
	benchSize  = 64 << 20
	benchBlock = 4096
	benchRound = 4096 // requests in one turn
)

// idle is a device that does not work by itself: a benchmark calls the code of its queue.
type idle struct {
	*Device
	queue chan *queue
}

func (d idle) Start(r *virtio.Run) error {
	d.features = r.Features
	d.jobs = make(chan *request, slots)
	d.started.Store(Helpers) // none is to be started: the benchmark does what is given to them
	d.queue <- newQueue(d.Device, r.Queues[0], &d.counters[0])
	return nil
}

func (d idle) Stop() {}

// ringer is a driver that costs next to nothing: its requests are written once, and then made available again and again.
type ringer struct {
	h           *virtiotest.Harness
	avail, used []byte
	size        uint64
	ids         []uint16
	offsets     []int64
	buffers     [][]byte
	n, seen     uint16
}

func newRinger(b testing.TB, d virtio.Device, depth int) *ringer {
	h := virtiotest.New(b, d, virtiotest.Options{Features: d.Features(), Indirect: true, EventIdx: true})
	h.Begin()
	q := h.Queue(0)
	r := &ringer{h: h, size: uint64(q.Config().Size)}
	r.avail, r.used = q.Bytes(q.Config().Driver, 6+2*r.size), q.Bytes(q.Config().Device, 6+8*r.size)
	rnd := rand.New(rand.NewPCG(1, 1))
	for range depth {
		off := rnd.Int64N(benchSize/benchBlock) * benchBlock
		head, data, status := q.Alloc(headerSize), q.Alloc(2*benchBlock), q.Alloc(1)
		data = (data + benchBlock - 1) &^ (benchBlock - 1)
		copy(q.Bytes(head, headerSize), header(typeIn, uint64(off/512)))
		r.ids = append(r.ids, q.AddBuffers([]virtqtest.Buffer{{Addr: head, Len: headerSize}, {Addr: data, Len: benchBlock, Write: true}, {Addr: status, Len: 1, Write: true}}))
		r.offsets, r.buffers = append(r.offsets, off), append(r.buffers, q.Bytes(data, benchBlock))
	}
	r.n = uint16(depth)
	return r
}

func (r *ringer) again(id uint16) {
	guestmem.Store16(r.avail[4+2*(uint64(r.n)%r.size):], id)
	r.n++
	guestmem.Store16(r.avail[2:], r.n)
}

// direct does n requests by calling the queue's code, with no goroutine to be woken.
func (r *ringer) direct(b testing.TB, q *queue, n int) {
	for range n / len(r.ids) {
		for _, id := range r.ids {
			r.again(id)
		}
		guestmem.Store16(r.avail[4+2*r.size:], r.seen) // an interrupt for the first answer, please
		if q.drain() != nil {
			b.Fatal("the queue is at its end")
		}
		for len(q.d.jobs) > 0 { // the host was busy, and a read took long
			for next := <-q.d.jobs; next != nil; {
				next = q.d.serve(next)
			}
		}
		if r.seen = guestmem.Load16(r.used[2:]); r.seen != r.n {
			b.Fatal("not all were answered")
		}
	}
}

// woken does n requests of a device at work, and sleeps while there is no answer.
func (r *ringer) woken(n int) {
	out := 0
	send := func(id uint16) {
		if out < n {
			r.again(id)
			out++
		}
	}
	before := r.n
	for _, id := range r.ids {
		send(id)
	}
	r.kick(before)
	for done := 0; done < n; {
		now := guestmem.Load16(r.used[2:])
		if now == r.seen {
			guestmem.Store16(r.avail[4+2*r.size:], r.seen)
			guestmem.Fence()
			if guestmem.Load16(r.used[2:]) == r.seen {
				r.h.WaitInterrupt(0)
			}
			continue
		}
		before := r.n
		for ; r.seen != now; r.seen++ {
			done++
			send(uint16(guestmem.Load32(r.used[4+8*(uint64(r.seen)%r.size):])))
		}
		r.kick(before)
	}
}

func (r *ringer) kick(before uint16) {
	guestmem.Fence()
	if event := guestmem.Load16(r.used[4+8*r.size:]); r.n-event-1 < r.n-before {
		r.h.Kick(0)
	}
}

// preads does n reads of the same blocks to the same memory.
func (r *ringer) preads(b testing.TB, fd, n int) {
	for i := range n {
		i %= len(r.ids)
		if m, err := unix.Pread(fd, r.buffers[i], r.offsets[i]); m != benchBlock || err != nil {
			b.Fatal(m, err)
		}
	}
}

// threadTime is the processor time of this thread: of work that never sleeps it is all that counts, and load of others does not.
func threadTime(b testing.TB) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		b.Fatal(err)
	}
	return time.Duration(t.Nano())
}

// BenchmarkRead reads blocks of 4 KiB that are in the page cache, bare and through the device in turns. of-pread is
// the bare processor time by the device's for the work of the device alone; of-pread-woken is the same by the clock with two goroutines
// that wake each other, the driver's and the device's.
func BenchmarkRead(b *testing.B) {
	img, path := rawImage(b, benchSize, disk.Options{})
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	fd := int(f.Fd())
	for _, depth := range []int{1, 32} {
		b.Run(fmt.Sprintf("depth=%d", depth), func(b *testing.B) {
			still := idle{newDevice(b, Config{Image: img}), make(chan *queue, 1)}
			alone := newRinger(b, still, depth)
			q := <-still.queue
			_ = q.drain()
			alone.seen = alone.n
			busy := newDevice(b, Config{Image: img})
			pair := newRinger(b, busy, depth)
			pair.h.Kick(0)
			for range depth {
				pair.h.WaitUsed(0)
			}
			pair.seen = pair.n

			var bare, bareWall, direct, woken time.Duration
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			for b.Loop() {
				at, cpu := time.Now(), threadTime(b)
				alone.preads(b, fd, benchRound)
				bare += threadTime(b) - cpu
				bareWall += time.Since(at)
				cpu = threadTime(b)
				alone.direct(b, q, benchRound)
				direct += threadTime(b) - cpu
				runtime.UnlockOSThread() // else each wake-up would be one of a thread
				at = time.Now()
				pair.woken(benchRound)
				woken += time.Since(at)
				runtime.LockOSThread()
			}
			n := float64(b.N * benchRound)
			b.ReportMetric(float64(bare)/n, "ns/pread")
			b.ReportMetric(float64(direct)/n, "ns/request")
			b.ReportMetric(float64(bare)/float64(direct), "of-pread")
			b.ReportMetric(float64(bareWall)/float64(woken), "of-pread-woken")
			s := busy.Stats()
			b.ReportMetric(float64(s.Batches)/float64(s.Read.Requests), "batches/request")
		})
	}
}
