package blk

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/disk"
)

// broken is an image that fails as it is told.
type broken struct {
	*memory
	mu    sync.Mutex
	fails map[string]error
}

func newBroken() *broken {
	b := &broken{memory: newMemory(diskSize), fails: map[string]error{}}
	b.log = true
	b.hook = func(op string, _, _ int64) error {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.fails[op]
	}
	return b
}

func (b *broken) set(op string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fails[op] = err
}

// told collects failures.
type told struct {
	mu  sync.Mutex
	all []Failure
}

func (l *told) add(f Failure) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, f)
}

func (l *told) take() []Failure {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.all
	l.all = nil
	return all
}

func TestFailures(t *testing.T) {
	for _, tt := range []struct {
		op     string
		says   string
		sector uint64
		do     func(g *guest) byte
	}{
		{"read", "read", 7, func(g *guest) byte { _, s := g.read(0, 7, 512); return s }},
		{"write", "write", 9, func(g *guest) byte { return g.write(0, 9, make([]byte, 1024)) }},
		{"discard", "discard", 11, func(g *guest) byte { return g.ranged(typeDiscard, 11, 1, 0) }},
		{"zero", "write zeroes", 13, func(g *guest) byte { return g.ranged(typeWriteZeroes, 13, 1, 0) }},
		{"unmap", "write zeroes", 15, func(g *guest) byte { return g.ranged(typeWriteZeroes, 15, 1, 1) }},
		{"flush", "flush", 0, func(g *guest) byte { return g.flush(0) }},
	} {
		for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT} {
			t.Run(tt.op+" "+errno.Error(), func(t *testing.T) {
				img := newBroken()
				var l told
				g := boot(t, Config{Name: "vda", Image: img, OnFailure: l.add})
				require.EqualValues(t, statusOK, tt.do(g))
				img.set(tt.op, fmt.Errorf("disk image x: %w", errno))
				require.EqualValues(t, statusIOErr, tt.do(g))
				all := l.take()
				require.Len(t, all, 1)
				assert.Equal(t, "vda", all[0].Disk)
				assert.Equal(t, tt.says, all[0].Op)
				assert.Equal(t, tt.sector, all[0].Sector)
				assert.Equal(t, errno, all[0].Errno())
				for _, part := range []string{"vda", tt.says, errno.Error()} {
					assert.Contains(t, all[0].String(), part)
				}
				s := g.dev.Stats()
				assert.EqualValues(t, 1, s.Read.Errors+s.Write.Errors+s.Discard.Errors+s.WriteZeroes.Errors+s.Flush.Errors)

				// Many of the same are told once in a while, with their number.
				for range 50 {
					require.EqualValues(t, statusIOErr, tt.do(g))
				}
				var n uint64
				for _, f := range l.take() {
					n += 1 + f.Repeated
				}
				assert.LessOrEqual(t, n, uint64(50))

				// Other than a flush, what fails may work again.
				img.set(tt.op, nil)
				want := byte(statusOK)
				if tt.op == "flush" {
					want = statusIOErr
				}
				require.Equal(t, want, tt.do(g))
			})
		}
	}
}

func TestRepeatedFailures(t *testing.T) {
	var l told
	var f failures
	one := Failure{Op: "read", Err: syscall.EIO}
	f.report(l.add, 0, one)
	f.report(l.add, 1, one)
	f.report(l.add, 2, Failure{Op: "read", Err: syscall.ENOSPC})
	f.report(l.add, 3, one)
	f.report(l.add, 1e9, one)
	all := l.take()
	require.Len(t, all, 3)
	assert.Equal(t, []uint64{0, 0, 2}, []uint64{all[0].Repeated, all[1].Repeated, all[2].Repeated})
	assert.Contains(t, all[2].String(), "2 more")
	f.report(nil, 5e9, one)
}

// What could not be made durable is gone from the page cache, so that the next flush would not notice: it fails all the
// same, also after a reset of the device by the guest.
func TestFailedFlushIsForEver(t *testing.T) {
	img := newBroken()
	var l told
	g := boot(t, Config{Name: "vda", Image: img, OnFailure: l.add})
	require.EqualValues(t, statusOK, g.write(0, 0, make([]byte, 512)))
	img.set("flush", syscall.EIO)
	require.EqualValues(t, statusIOErr, g.flush(0))
	img.set("flush", nil)
	calls := len(img.operations())
	require.EqualValues(t, statusIOErr, g.flush(0))
	assert.Len(t, img.operations(), calls, "it was not even tried")
	g.reset()
	g.start(g.dev.Features())
	require.EqualValues(t, statusIOErr, g.flush(0))
	_, status := g.read(0, 0, 512)
	require.EqualValues(t, statusOK, status, "reading goes on")
	assert.ErrorIs(t, errLost, syscall.EIO)
	assert.ErrorContains(t, errLost, "start it anew")
}

// Writes through the cache are flushed, so the same holds for them; they are not claimed either.
func TestFailedWriteThrough(t *testing.T) {
	img := newBroken()
	g := boot(t, Config{Image: img, Cache: disk.Writethrough})
	require.EqualValues(t, statusOK, g.write(0, 0, make([]byte, 512)))
	assert.Equal(t, []string{"write", "flush"}, img.operations())
	img.set("flush", syscall.EIO)
	require.EqualValues(t, statusIOErr, g.write(0, 0, make([]byte, 512)))
	img.set("flush", nil)
	require.EqualValues(t, statusIOErr, g.write(0, 0, make([]byte, 512)))
	require.EqualValues(t, statusIOErr, g.ranged(typeDiscard, 0, 1, 0))
	require.EqualValues(t, statusIOErr, g.flush(0))
}

// brokenDurable fails its durable writes.
type brokenDurable struct{ *broken }

func (b brokenDurable) WriteDurable([][]byte, int64) error { return b.begin("durable", 0, 0) }

func TestFailedDurableWrite(t *testing.T) {
	img := newBroken()
	g := boot(t, Config{Image: brokenDurable{img}, Cache: disk.Writethrough})
	img.set("durable", syscall.EIO)
	require.EqualValues(t, statusIOErr, g.write(0, 0, make([]byte, 512)))
	img.set("durable", nil)
	require.EqualValues(t, statusOK, g.write(0, 0, make([]byte, 512)), "which says nothing of others")
	require.EqualValues(t, statusIOErr, g.flush(0), "which would")
}

// An image that gives no errno, as at the end of a file that was cut, is an input/output error.
func TestShortImage(t *testing.T) {
	img := newBroken()
	var l told
	g := boot(t, Config{Image: img, OnFailure: l.add})
	img.set("read", io.ErrUnexpectedEOF)
	_, status := g.read(0, 0, 512)
	require.EqualValues(t, statusIOErr, status)
	all := l.take()
	require.Len(t, all, 1)
	assert.Equal(t, syscall.EIO, all[0].Errno())
	assert.ErrorIs(t, all[0].Err, io.ErrUnexpectedEOF)
}

// Of flushes that run at the same time as one that fails none claims success: the kernel tells of an error once.
func TestFlushesBesideAFailedOne(t *testing.T) {
	var once sync.Once
	img := newMemory(diskSize)
	entered, leave := make(chan struct{}), make(chan struct{})
	img.hook = func(op string, _, _ int64) (err error) {
		if op == "flush" {
			once.Do(func() {
				close(entered)
				<-leave
				err = errors.Join(syscall.EIO)
			})
		}
		return err
	}
	g := boot(t, Config{Image: img, Queues: 2})
	require.EqualValues(t, statusOK, g.write(0, 0, make([]byte, 512)))
	first := g.send(0, [][]byte{header(typeFlush, 0)}, 1)
	<-entered
	var others []*pending
	for n := range 6 {
		others = append(others, g.send(n%2, [][]byte{header(typeFlush, 0)}, 1))
	}
	close(leave)
	require.EqualValues(t, statusIOErr, first.status())
	for _, p := range others {
		require.EqualValues(t, statusIOErr, p.status())
	}
}
