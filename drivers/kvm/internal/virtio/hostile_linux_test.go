package virtio_test

import (
	"encoding/binary"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/disk"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/disk/raw"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/guestmem"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio/blk"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio/console"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio/net"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio/rng"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio/virtiotest"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq/virtqtest"
)

// subject is a device of ours, under a guest that is hostile.
type subject struct {
	// make gives one that calls back within each request, where it can.
	make func(t testing.TB, within func()) virtio.Device
	// queue is one that serves requests by itself, with a request for it: what the device reads, and how much it may write.
	queue    int
	request  []byte
	writable []int
	// written is how much the device writes.
	written int
}

// block is the header of a request to a block device.
func block(kind uint32) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, kind), make([]byte, 12)...)
}

// subjects are all devices.
var subjects = map[string]subject{
	"blk": {func(t testing.TB, within func()) virtio.Device {
		path := t.TempDir() + "/disk"
		require.NoError(t, os.WriteFile(path, make([]byte, 64<<10), 0o600))
		img, err := disk.Open(path, disk.Options{}, raw.Open)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, img.Close()) })
		d, err := blk.New(blk.Config{Name: "vda", Image: busyImage{img, within}, Queues: 2})
		require.NoError(t, err)
		return d
	}, 1, block(0), []int{512, 1}, 513},
	"net": {func(t testing.TB, _ func()) virtio.Device {
		fd, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		f, peer := os.NewFile(uintptr(fd[0]), "device"), os.NewFile(uintptr(fd[1]), "peer")
		var drain sync.WaitGroup
		drain.Go(func() {
			for b := make([]byte, 1<<16); ; {
				if _, err := peer.Read(b); err != nil {
					return
				}
			}
		})
		t.Cleanup(func() { peer.Close(); drain.Wait(); f.Close() })
		d, err := net.New(net.Config{MAC: [6]byte{2, 0, 0, 0, 0, 1}, Backend: net.Backend{Files: []*os.File{f}}})
		require.NoError(t, err)
		return d
	}, 1, make([]byte, 72), nil, 0},
	"console": {func(_ testing.TB, within func()) virtio.Device {
		return console.New(console.Config{Output: busyEnd{within}})
	}, 1, []byte("text"), nil, 0},
	"rng": {func(_ testing.TB, within func()) virtio.Device { return rng.New(rng.Config{Source: busyEnd{within}}) }, 0, nil, []int{16}, 16},
}

// busyEnd is the host's side of a device for bytes.
type busyEnd struct{ within func() }

func (e busyEnd) Read(p []byte) (int, error) {
	e.within()
	for i := range p {
		p[i] = 1
	}
	return len(p), nil
}

func (e busyEnd) Write(p []byte) (int, error) { e.within(); return len(p), nil }

// busyImage is an image of a disk.
type busyImage struct {
	disk.Image
	within func()
}

func (i busyImage) ReadAt(p []byte, off int64) (int, error) {
	i.within()
	return i.Image.ReadAt(p, off)
}

func nothing() {}

// add makes the subject's request available.
func (s *subject) add(h *virtiotest.Harness) uint16 {
	var readable [][]byte
	if s.request != nil {
		readable = [][]byte{s.request}
	}
	return h.Queue(s.queue).Add(readable, s.writable...)
}

// serves fails unless the device still serves a request.
func (s *subject) serves(t testing.TB, h *virtiotest.Harness, when string) {
	t.Helper()
	id := s.add(h)
	h.Kick(s.queue)
	got, n := h.WaitUsed(s.queue)
	require.Equal(t, id, got, when)
	require.EqualValues(t, s.written, n, when)
}

// eachDevice runs a test with all devices.
func eachDevice(t *testing.T, o virtiotest.Options, f func(t *testing.T, s subject, h *virtiotest.Harness)) {
	for name, s := range subjects {
		t.Run(name, func(t *testing.T) { f(t, s, virtiotest.Start(t, s.make(t, nothing), o)) })
	}
}

// Firecracker's CVE-2019-18960 and QEMU's CVE-2021-3416: buffers that end at the end of memory are memory; those that end behind it,
// wrap around, or lie where devices are, are not, and nothing is written for them. The configuration space and the BARs
// are no memory either, so that a device cannot be had to drive itself or another.
func TestBuffersWhereNoMemoryIs(t *testing.T) {
	const end = 16 << 20
	eachDevice(t, virtiotest.Options{Memory: end}, func(t *testing.T, s subject, h *virtiotest.Harness) {
		q := h.Queue(s.queue)
		for _, bad := range []virtqtest.Buffer{
			{Addr: end, Len: 1}, {Addr: end - 8, Len: 9}, {Addr: end - 8, Len: 64 << 10}, {Addr: ^uint64(0) - 7, Len: 16}, {Addr: 0, Len: end + 1},
			{Addr: 0xc0000000, Len: 64}, {Addr: 0xc0003000, Len: 4}, {Addr: 0xe0008000, Len: 64}, {Addr: 0xfee00000, Len: 4}, {Addr: 0xfffffff8, Len: 64},
		} {
			for _, write := range []bool{false, true} {
				bad.Write = write
				good := virtqtest.Buffer{Addr: q.Alloc(64), Len: 64, Write: write}
				id := q.AddBuffers([]virtqtest.Buffer{good, bad})
				w := q.Watch()
				for i := range h.Core.Queues() {
					w.Beside(h.Queue(i)) // a worker that has just begun asks not to be kicked
				}
				h.Kick(s.queue)
				got, n := h.WaitUsed(s.queue)
				require.Equal(t, id, got, "%+v", bad)
				require.Zero(t, n, "%+v", bad)
				require.Equal(t, make([]byte, 64), q.Bytes(good.Addr, 64), "what lies before it is not written either")
				w.Check()
				s.serves(t, h, "after a buffer where no memory is")
			}
		}
		// At the very end of memory is memory.
		list, at := []virtqtest.Buffer(nil), uint64(end)
		for i := len(s.writable) - 1; i >= 0; i-- {
			at -= uint64(s.writable[i])
			list = append([]virtqtest.Buffer{{Addr: at, Len: uint32(s.writable[i]), Write: true}}, list...)
		}
		if n := uint64(len(s.request)); n > 0 {
			at -= n
			copy(q.Bytes(at, n), s.request)
			list = append([]virtqtest.Buffer{{Addr: at, Len: uint32(n)}}, list...)
		}
		q.AddBuffers(list)
		h.Kick(s.queue)
		_, n := h.WaitUsed(s.queue)
		require.EqualValues(t, s.written, n)
		require.Empty(t, h.Failures())
	})
}

// Firecracker's denial of service on itself: a ring that is ahead by more than it has entries ends the device's work until a reset, and
// does not keep it busy.
func TestRingsThatAreAhead(t *testing.T) {
	eachDevice(t, virtiotest.Options{}, func(t *testing.T, s subject, h *virtiotest.Harness) {
		for _, ahead := range []uint16{0x8000, 0xffff, 1000} {
			s.serves(t, h, "before")
			q := h.Queue(s.queue)
			index := q.Bytes(q.Config().Driver+2, 2)
			guestmem.Store16(index, guestmem.Load16(index)+ahead)
			h.Kick(s.queue)
			h.WaitConfigInterrupt()
			require.NotZero(t, h.Core.Status()&virtio.StatusNeedsReset)
			h.Reset()
			h.Begin()
		}
		s.serves(t, h, "after resets")
	})
}

// A guest that has more requests for each that is served does not keep a reset from ending. It adds them while the device is
// within one, where that can be arranged, so that the ring never runs empty.
func TestResetUnderEndlessRequestsOfAnyDevice(t *testing.T) {
	for name, s := range subjects {
		t.Run(name, func(t *testing.T) {
			var more atomic.Pointer[func()]
			none := func() {}
			more.Store(&none)
			h := virtiotest.Start(t, s.make(t, func() { (*more.Load())() }), virtiotest.Options{})
			for range 3 {
				q := h.Queue(s.queue)
				cfg := q.Config()
				id := s.add(h)
				ring, used := q.Bytes(cfg.Driver, 6+2*uint64(cfg.Size)), q.Bytes(cfg.Device+2, 2)
				for i := range int(cfg.Size) {
					binary.LittleEndian.PutUint16(ring[4+2*i:], id)
				}
				add := func() { guestmem.Store16(ring[2:], guestmem.Load16(used)+cfg.Size/2) }
				more.Store(&add)
				add()
				h.Kick(s.queue)
				var stop atomic.Bool
				var guest sync.WaitGroup
				if name == "net" { // whose host's side is a socket
					guest.Go(func() {
						for !stop.Load() {
							if now := guestmem.Load16(used); guestmem.Load16(ring[2:])-now < cfg.Size/4 {
								guestmem.Store16(ring[2:], now+cfg.Size/2)
							}
						}
					})
				}
				require.Eventually(t, func() bool { h.Kick(s.queue); return guestmem.Load16(used) > 200 }, virtiotest.Patience, time.Millisecond)
				require.Empty(t, h.Failures())
				h.Reset()
				stop.Store(true)
				guest.Wait()
				more.Store(&none)
				h.Begin()
				s.serves(t, h, "after a reset under load")
			}
		})
	}
}

// Cloud Hypervisor's pauses that hung (#7881): a device waits at a reset for the queues that work, and not for all there are.
func TestSomeQueuesOnly(t *testing.T) {
	for name, s := range subjects {
		for _, queues := range [][]int{{}, {s.queue}, {0}} {
			t.Run(name, func(t *testing.T) {
				h := virtiotest.Start(t, s.make(t, nothing), virtiotest.Options{Queues: queues})
				for queue := range h.Core.Queues() {
					h.Kick(queue)
				}
				h.Reset()
				h.Begin()
				if len(queues) > 0 && queues[0] == s.queue {
					s.serves(t, h, "with some queues")
				}
				require.Empty(t, h.Failures())
			})
		}
	}
}

// QEMU's CVE-2011-2512 and Firecracker's CVE-2026-5747: kicks of any queue, and registers that are rewritten while the device works,
// change nothing; it goes on with the rings that it was given.
func TestRegistersRewrittenAtWork(t *testing.T) {
	eachDevice(t, virtiotest.Options{}, func(t *testing.T, s subject, h *virtiotest.Harness) {
		elsewhere := h.Queue(s.queue).Alloc(64 << 10)
		for _, v := range []uint64{0, 1, 2, 4096, 32768, 65535, 1 << 31, elsewhere, ^uint64(0)} {
			for _, f := range []virtio.QueueField{virtio.QueueSize, virtio.QueueEnable, virtio.QueueDesc, virtio.QueueDriver, virtio.QueueDevice} {
				before := h.Core.Queue(s.queue, f)
				for _, queue := range []int{s.queue, -1, 0, 1, 64, 65535, 1<<31 - 1, -1 << 31} {
					h.Core.SetQueue(queue, f, v)
					h.Kick(queue)
				}
				require.Equal(t, before, h.Core.Queue(s.queue, f))
				features := h.Core.Features()
				h.Core.SetFeatures(v&1 != 0, uint32(v))
				require.Equal(t, features, h.Core.Features())
			}
			h.Core.SetStatus(virtio.StatusFeaturesOK | virtio.StatusDriverOK | uint8(v)&^virtio.StatusFailed | virtio.StatusAcknowledge)
			s.serves(t, h, "after writes to its registers")
		}
		require.Empty(t, h.Failures())
	})
}
