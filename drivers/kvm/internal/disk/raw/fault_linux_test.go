package raw

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/disk"
)

// moody is a system that does what it is asked in small parts, is interrupted now and then, and fails when told to.
type moody struct {
	system
	r       *rand.Rand
	fails   map[string]error
	calls   map[string]int
	noDSync bool
}

func (m *moody) mood(op string) error {
	m.calls[op]++
	if err := m.fails[op]; err != nil {
		return err
	}
	if m.r != nil && m.r.IntN(4) == 0 {
		return unix.EINTR
	}
	return nil
}

// some gives the first part of the slices, not nothing.
func (m *moody) some(p [][]byte) [][]byte {
	n := total(p)
	if m.r == nil || n < 2 {
		return p
	}
	left := 1 + m.r.Int64N(n)
	var q [][]byte
	for _, b := range p {
		b = b[:min(int64(len(b)), left)]
		left -= int64(len(b))
		q = append(q, b)
	}
	return q
}

func (m *moody) read(p []byte, off int64) (int, error) {
	if err := m.mood("read"); err != nil {
		return -1, err
	}
	return m.system.read(m.some([][]byte{p})[0], off)
}

func (m *moody) write(p []byte, off int64) (int, error) {
	if err := m.mood("write"); err != nil {
		return -1, err
	}
	return m.system.write(m.some([][]byte{p})[0], off)
}

func (m *moody) readVec(p [][]byte, off int64) (int, error) {
	if err := m.mood("read"); err != nil {
		return -1, err
	}
	return m.system.readVec(m.some(p), off)
}

func (m *moody) writeVec(p [][]byte, off int64, flags int) (int, error) {
	if m.noDSync && flags&unix.RWF_DSYNC != 0 {
		return -1, unix.EOPNOTSUPP
	}
	if err := m.mood("write"); err != nil {
		return -1, err
	}
	return m.system.writeVec(m.some(p), off, flags)
}

func (m *moody) sync() error {
	if err := m.mood("sync"); err != nil {
		return err
	}
	return m.system.sync()
}

func (m *moody) allocate(mode uint32, off, n int64) error {
	if err := m.mood("allocate"); err != nil {
		return err
	}
	return m.system.allocate(mode, off, n)
}

func makeMoody(i *Image) *moody {
	m := &moody{system: i.sys, fails: map[string]error{}, calls: map[string]int{}}
	i.sys = m
	return m
}

func TestShortTransfersAndInterrupts(t *testing.T) {
	i, want := newImage(t, disk.Options{})
	m := makeMoody(i)
	m.r = rand.New(rand.NewPCG(3, 4))
	for range 300 {
		off := int64(m.r.IntN(size - 40000))
		b := make([]byte, 1+m.r.IntN(40000))
		for j := range b {
			b[j] = byte(m.r.Uint32())
		}
		p := cut(m.r, b)
		require.NoError(t, i.WriteVec(p, off))
		copy(want[off:], b)
		require.NoError(t, i.WriteDurable(p, off))
		clear(b)
		require.NoError(t, i.ReadVec(p, off))
		require.True(t, bytes.Equal(want[off:off+int64(len(b))], b))
		_, err := i.ReadAt(b, off)
		require.NoError(t, err)
		require.NoError(t, i.Flush())
		require.NoError(t, i.Discard(off&^511, 512))
		clear(want[off&^511 : off&^511+512])
	}
	got := make([]byte, size)
	_, err := i.ReadAt(got, 0)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got))
}

// What a short durable write left over is made durable too.
func TestShortDurableWriteSyncs(t *testing.T) {
	i, _ := newImage(t, disk.Options{})
	m := makeMoody(i)
	m.r = rand.New(rand.NewPCG(5, 6))
	for m.calls["write"] < 3 {
		clear(m.calls)
		require.NoError(t, i.WriteDurable([][]byte{make([]byte, 9000), make([]byte, 9000)}, 0))
	}
	assert.NotZero(t, m.calls["sync"])
}

func TestErrorsHaveErrnoAndName(t *testing.T) {
	p := [][]byte{make([]byte, 512), make([]byte, 512)}
	for _, tt := range []struct {
		op string
		f  func(*Image) error
	}{
		{"read", func(i *Image) error { return i.ReadVec(p, 0) }},
		{"read", func(i *Image) error { return i.ReadVec(p[:1], 0) }},
		{"read", func(i *Image) error { _, err := i.ReadAt(p[0], 0); return err }},
		{"write", func(i *Image) error { return i.WriteVec(p, 0) }},
		{"write", func(i *Image) error { return i.WriteVec(p[:1], 0) }},
		{"write", func(i *Image) error { _, err := i.WriteAt(p[0], 0); return err }},
		{"write", func(i *Image) error { return i.WriteDurable(p[:1], 0) }},
		{"sync", (*Image).Flush},
		{"allocate", func(i *Image) error { return i.Discard(0, 512) }},
		{"allocate", func(i *Image) error { return i.WriteZeroes(0, 512, true) }},
		{"allocate", func(i *Image) error { return i.WriteZeroes(0, 512, false) }},
	} {
		for _, errno := range []unix.Errno{unix.EIO, unix.ENOSPC, unix.EDQUOT} {
			i, _ := newImage(t, disk.Options{})
			makeMoody(i).fails[tt.op] = errno
			err := tt.f(i)
			require.ErrorIs(t, err, errno, tt.op)
			assert.Equal(t, errno, disk.Errno(err))
			assert.ErrorContains(t, err, i.name)
		}
	}
}

// Without RWF_DSYNC a durable write is a write and a flush, and fails as either does.
func TestDurableWithoutTheFlag(t *testing.T) {
	i, want := newImage(t, disk.Options{})
	m := makeMoody(i)
	m.noDSync = true
	p := [][]byte{bytes.Repeat([]byte{7}, 512)}
	require.NoError(t, i.WriteDurable(p, 512))
	assert.Equal(t, 1, m.calls["sync"])
	copy(want[512:], p[0])
	got := make([]byte, size)
	_, err := i.ReadAt(got, 0)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got))
	m.fails["sync"] = unix.EIO
	require.ErrorIs(t, i.WriteDurable(p, 512), unix.EIO)
}

// Storage without holes: a discard does nothing, zeroes are written.
func TestWithoutHoles(t *testing.T) {
	for _, errno := range []unix.Errno{unix.EOPNOTSUPP, unix.ENOSYS, unix.EINVAL} {
		i, want := newImage(t, disk.Options{})
		makeMoody(i).fails["allocate"] = errno
		require.NoError(t, i.Discard(0, 4096))
		for _, unmap := range []bool{true, false} {
			off := int64(8192)
			if unmap {
				off = 300 << 10
			}
			require.NoError(t, i.WriteZeroes(off, 3*zeroChunk+512, unmap))
			clear(want[off : off+3*zeroChunk+512])
		}
		got := make([]byte, size)
		_, err := i.ReadAt(got, 0)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got))
	}
}
