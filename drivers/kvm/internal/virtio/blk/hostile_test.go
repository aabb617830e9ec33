package blk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq/virtqtest"
)

// What breaks the rules is refused, moves no data, and the next request is served.
func TestHostileRequests(t *testing.T) {
	const sectors = diskSize / 512
	h := header
	data := func(n int) []byte { return bytes.Repeat([]byte{1}, n) }
	for _, tt := range []struct {
		name     string
		readable [][]byte
		writable []int
		status   int // -1: there is no place for one
	}{
		{"nothing to write to", [][]byte{h(typeOut, 0), data(512)}, nil, -1},
		{"an empty buffer alone", [][]byte{{}}, nil, -1},
		{"no header", nil, []int{1}, statusIOErr},
		{"no header, with room", nil, []int{512, 1}, statusIOErr},
		{"short header", [][]byte{h(typeIn, 0)[:15]}, []int{512, 1}, statusIOErr},
		{"short header in pieces", [][]byte{h(typeIn, 0)[:8], h(typeIn, 0)[8:15]}, []int{512, 1}, statusIOErr},
		{"read into readable memory", [][]byte{h(typeIn, 0), data(512)}, []int{1}, statusIOErr},
		{"read with data both ways", [][]byte{h(typeIn, 0), data(512)}, []int{512, 1}, statusIOErr},
		{"write from writable memory", [][]byte{h(typeOut, 0)}, []int{512, 1}, statusIOErr},
		{"write with data both ways", [][]byte{h(typeOut, 0), data(512)}, []int{512, 1}, statusIOErr},
		{"flush with room", [][]byte{h(typeFlush, 0)}, []int{512, 1}, statusIOErr},
		{"read of no whole sector", [][]byte{h(typeIn, 0)}, []int{511, 1}, statusIOErr},
		{"write of no whole sector", [][]byte{h(typeOut, 0), data(513)}, []int{1}, statusIOErr},
		{"read at the end", [][]byte{h(typeIn, sectors)}, []int{512, 1}, statusIOErr},
		{"read over the end", [][]byte{h(typeIn, sectors-1)}, []int{1024, 1}, statusIOErr},
		{"write over the end", [][]byte{h(typeOut, sectors-1), data(1024)}, []int{1}, statusIOErr},
		{"write far behind", [][]byte{h(typeOut, 1<<40), data(512)}, []int{1}, statusIOErr},
		{"sector times 512 overflows to 0", [][]byte{h(typeOut, 1<<55), data(512)}, []int{1}, statusIOErr},
		{"sector plus length overflows", [][]byte{h(typeOut, math.MaxUint64), data(512)}, []int{1}, statusIOErr},
		{"sector is negative", [][]byte{h(typeIn, 1<<63)}, []int{512, 1}, statusIOErr},
		{"read of nothing behind the end", [][]byte{h(typeIn, sectors+1)}, []int{1}, statusIOErr},
		{"type 2", [][]byte{h(2, 0)}, []int{1}, statusUnsupported},
		{"type 2 with data", [][]byte{h(2, 0), data(96)}, []int{1}, statusUnsupported},
		{"secure erase", [][]byte{h(14, 0), ranges(0, 1, 0)}, []int{1}, statusUnsupported},
		{"type of all ones", [][]byte{h(math.MaxUint32, 0)}, []int{1}, statusUnsupported},
		{"discard without ranges", [][]byte{h(typeDiscard, 0)}, []int{1}, statusIOErr},
		{"discard with half a range", [][]byte{h(typeDiscard, 0), ranges(0, 1, 0)[:8]}, []int{1}, statusIOErr},
		{"discard with too many", [][]byte{h(typeDiscard, 0), slices.Repeat(ranges(0, 1, 0), maxRanges+1)}, []int{1}, statusIOErr},
		{"discard over the end", [][]byte{h(typeDiscard, 0), ranges(sectors-1, 2, 0)}, []int{1}, statusIOErr},
		{"discard overflows", [][]byte{h(typeDiscard, 0), ranges(math.MaxUint64, math.MaxUint32, 0)}, []int{1}, statusIOErr},
		{"discard of too much", [][]byte{h(typeDiscard, 0), ranges(0, maxDiscard+1, 0)}, []int{1}, statusIOErr},
		{"discard, a later range is bad", [][]byte{h(typeDiscard, 0), ranges(0, 1, 0, 5, 1, 0, sectors, 1, 0)}, []int{1}, statusIOErr},
		{"discard with unmap", [][]byte{h(typeDiscard, 0), ranges(0, 1, 1)}, []int{1}, statusUnsupported},
		{"discard with unknown flag", [][]byte{h(typeDiscard, 0), ranges(0, 1, 2)}, []int{1}, statusUnsupported},
		{"zeroes with unknown flag", [][]byte{h(typeWriteZeroes, 0), ranges(0, 1, 0, 0, 1, 3)}, []int{1}, statusUnsupported},
		{"zeroes of too much", [][]byte{h(typeWriteZeroes, 0), ranges(0, maxZeroes+1, 0)}, []int{1}, statusIOErr},
		{"zeroes over the end", [][]byte{h(typeWriteZeroes, 0), ranges(sectors, 1, 0)}, []int{1}, statusIOErr},
		{"serial number into nothing", [][]byte{h(typeGetID, 0)}, []int{1}, statusOK},
		{"read of nothing", [][]byte{h(typeIn, sectors)}, []int{1}, statusOK},
		{"write of nothing", [][]byte{h(typeOut, 0)}, []int{1}, statusOK},
	} {
		t.Run(tt.name, func(t *testing.T) {
			img := newMemory(diskSize)
			before := noise(9, diskSize)
			copy(img.data, before)
			g := boot(t, Config{Image: img})
			p := g.send(0, tt.readable, tt.writable...)
			b, written := p.answer()
			if tt.status >= 0 {
				assert.EqualValues(t, tt.status, b[len(b)-1])
				for _, x := range b[:len(b)-1] {
					require.EqualValues(t, 0xa5, x, "data moved")
				}
			}
			if len(tt.writable) == 1 {
				assert.EqualValues(t, 1, written)
			} else {
				assert.Zero(t, written, "what lies before the status was not written")
			}
			assert.True(t, bytes.Equal(before, img.contents()), "the disk changed")
			got, status := g.read(0, 1, 512)
			assert.EqualValues(t, statusOK, status)
			assert.Equal(t, before[512:1024], got)
		})
	}
}

// A guest that rewrites a request while the device looks at it gets what it had written at one moment or another, and never an access
// that was judged by one and done by another: outside of the disk, or a write to a disk that is to be read.
func TestRequestsThatChange(t *testing.T) {
	for _, readOnly := range []bool{false, true} {
		img := newMemory(diskSize)
		bad := make(chan string, 1)
		var done atomic.Int64
		img.hook = func(op string, off, n int64) error {
			done.Add(1)
			if off < 0 || n < 0 || off+n > diskSize || readOnly && op != "read" && op != "flush" {
				select {
				case bad <- fmt.Sprintf("%s of %d bytes at %d", op, n, off):
				default:
				}
				return syscall.EIO
			}
			return nil
		}
		g := boot(t, Config{Image: img, ReadOnly: readOnly})
		q := g.h.Queue(0)
		space := q.Alloc(1024)
		list := []virtqtest.Buffer{{Addr: space, Len: headerSize + 32}, {Addr: q.Alloc(1), Len: 1, Write: true}} // ranges, or what is to be written
		other := []virtqtest.Buffer{{Addr: space, Len: headerSize}, {Addr: q.Alloc(513), Len: 513, Write: true}}
		b := q.Bytes(space, headerSize+32)
		var stop atomic.Bool
		var guest sync.WaitGroup
		guest.Go(func() {
			sectors, kinds := []uint64{0, 1 << 40, diskSize/512 - 1, ^uint64(0)}, []uint32{typeIn, typeOut, typeDiscard, typeWriteZeroes}
			for i := 0; !stop.Load(); i++ {
				for range 8 {
					binary.LittleEndian.PutUint64(b[8:], sectors[i%4])
					binary.LittleEndian.PutUint32(b, kinds[i/4%4])
					binary.LittleEndian.PutUint64(b[headerSize+16*(i%2):], sectors[(i+1)%4])
					binary.LittleEndian.PutUint32(b[headerSize+16*(i%2)+8:], uint32(1)<<(i%32))
				}
			}
		})
		for n := 0; n < 400 || done.Load() == 0; n++ {
			const together = 32
			for i := range together {
				if i%2 == 0 {
					q.AddBuffers(list)
				} else {
					q.AddBuffers(other)
				}
			}
			g.kick(0)
			for range together {
				g.h.WaitUsed(0)
			}
		}
		stop.Store(true)
		guest.Wait()
		select {
		case what := <-bad:
			t.Errorf("read-only %t: %s", readOnly, what)
		default:
		}
	}
}
