package guestmem

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const mib, gib = uint64(1) << 20, uint64(1) << 30

func newMemory(t testing.TB, size uint64, opts ...Option) *Memory {
	t.Helper()
	m, err := New(size, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { m.Close() })
	return m
}

func TestLayout(t *testing.T) {
	for _, c := range []struct {
		size uint64
		want [][2]uint64
	}{
		{PageSize, [][2]uint64{{0, PageSize}}},
		{128 * mib, [][2]uint64{{0, 128 * mib}}},
		{3 * gib, [][2]uint64{{0, 3 * gib}}},
		{3*gib + PageSize, [][2]uint64{{0, 3 * gib}, {4 * gib, PageSize}}},
		{64 * gib, [][2]uint64{{0, 3 * gib}, {4 * gib, 61 * gib}}},
	} {
		m := newMemory(t, c.size)
		var got [][2]uint64
		var total uint64
		for _, r := range m.Regions() {
			got = append(got, [2]uint64{r.GuestAddr, r.Size})
			total += r.Size
			assert.Zero(t, (uint64(r.HostAddr)-r.GuestAddr)%hugePage, "huge pages need congruent addresses")
			assert.Equal(t, r.GuestAddr+r.Size, r.End())
		}
		assert.Equal(t, c.want, got)
		assert.Equal(t, c.size, total)
		assert.Equal(t, c.size, m.Size())
	}
}

func TestNewErrors(t *testing.T) {
	for _, size := range []uint64{0, 1, PageSize + 1, MaxSize + PageSize, math.MaxUint64 &^ (PageSize - 1)} {
		_, err := New(size)
		assert.Error(t, err, size)
	}
}

func TestBounds(t *testing.T) {
	m := newMemory(t, 3*gib+2*PageSize)
	end := HoleEnd + 2*PageSize
	for _, c := range []struct {
		gpa, n uint64
		ok     bool
	}{
		{0, 0, true}, {0, 1, true}, {0, 3 * gib, true}, {0, 3*gib + 1, false},
		{HoleStart - 1, 1, true}, {HoleStart - 1, 2, false}, {HoleStart, 1, false},
		{HoleEnd - 1, 1, false}, {HoleEnd - 1, 2, false}, {HoleEnd, 1, true}, {HoleEnd, 2 * PageSize, true},
		{HoleEnd, 2*PageSize + 1, false}, {end - 1, 1, true}, {end, 1, false}, {end, 0, true},
		{1, math.MaxUint64, false}, {math.MaxUint64, 1, false}, {math.MaxUint64, math.MaxUint64, false},
		{HoleEnd, math.MaxUint64, false}, {PageSize, math.MaxUint64 - PageSize + 1, false},
	} {
		b, err := m.Slice(c.gpa, c.n)
		if !c.ok {
			var ae *AddressError
			require.ErrorAs(t, err, &ae, "%#x+%#x", c.gpa, c.n)
			assert.Equal(t, AddressError{c.gpa, c.n}, *ae)
			continue
		}
		require.NoError(t, err, "%#x+%#x", c.gpa, c.n)
		assert.Len(t, b, int(c.n))
		assert.Equal(t, len(b), cap(b), "append must not run into the guest")
	}
}

func TestReadWrite(t *testing.T) {
	m := newMemory(t, 3*gib+PageSize, WithHugePages())
	for _, gpa := range []uint64{0, 12345, HoleStart - 5, HoleEnd, HoleEnd + PageSize - 5} {
		require.NoError(t, m.WriteAt([]byte("hello"), gpa))
		p := make([]byte, 5)
		require.NoError(t, m.ReadAt(p, gpa))
		assert.Equal(t, "hello", string(p))
		s, err := m.Slice(gpa, 5)
		require.NoError(t, err)
		assert.Equal(t, "hello", string(s))
	}
	assert.Error(t, m.WriteAt([]byte("hello"), HoleStart-4))
	p := make([]byte, 4)
	require.NoError(t, m.ReadAt(p, HoleStart-4))
	assert.Equal(t, "ello", string(p), "a refused write leaves all as it was")
	assert.Error(t, m.ReadAt(p, HoleStart-3))
}

func TestClose(t *testing.T) {
	m, err := New(mib)
	require.NoError(t, err)
	require.NoError(t, m.Close())
	require.NoError(t, m.Close())
	_, err = m.Slice(0, 1)
	assert.ErrorIs(t, err, ErrClosed)
	assert.ErrorIs(t, m.WriteAt([]byte{1}, 0), ErrClosed)
	assert.ErrorIs(t, m.ReadAt([]byte{1}, 0), ErrClosed)
	assert.Empty(t, m.Regions())
}

// The flags that the kernel reports of the mapping: dd is "not in core dumps", nr "not reserved".
func TestMappingFlags(t *testing.T) {
	m := newMemory(t, 8*mib)
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skip("needs /proc/self/smaps")
	}
	_, entry, ok := strings.Cut(string(smaps), fmt.Sprintf("\n%x-", m.Regions()[0].HostAddr))
	require.True(t, ok, "the mapping is listed")
	_, flags, _ := strings.Cut(entry, "VmFlags:")
	flags, _, _ = strings.Cut(flags, "\n")
	assert.Contains(t, strings.Fields(flags), "dd")
	assert.Contains(t, strings.Fields(flags), "nr")
}

func TestSliceAllocatesNothing(t *testing.T) {
	m := newMemory(t, mib)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		if _, err := m.Slice(4096, 512); err != nil {
			t.Fatal(err)
		}
	}))
}

// Compares Slice with the definition: every byte lies in one and the same region.
func FuzzSlice(f *testing.F) {
	m := newMemory(f, 3*gib+mib)
	for _, a := range []uint64{0, HoleStart, HoleEnd, HoleEnd + mib, math.MaxUint64} {
		for _, n := range []uint64{0, 1, mib, gib, math.MaxUint64} {
			f.Add(a, n)
		}
	}
	f.Fuzz(func(t *testing.T, gpa, n uint64) {
		want := false
		for _, r := range m.Regions() {
			if gpa >= r.GuestAddr && gpa <= r.End() && n <= r.End()-gpa {
				want = true
			}
		}
		b, err := m.Slice(gpa, n)
		var ae *AddressError
		if want != (err == nil) || (err != nil && !errors.As(err, &ae)) || (err == nil && uint64(len(b)) != n) {
			t.Fatalf("Slice(%#x, %#x) = %d bytes, %v; want inside: %v", gpa, n, len(b), err, want)
		}
		if n > 0 && n < mib && err == nil {
			b[0]++
			b[n-1]++
		}
	})
}

// Region gives what Slice would allow, no more and no less.
func TestRegion(t *testing.T) {
	m, err := New(HoleStart + 1<<20)
	require.NoError(t, err)
	for _, tt := range []struct{ gpa, base, size uint64 }{
		{0, 0, HoleStart}, {HoleStart - 1, 0, HoleStart}, {HoleStart, 0, 0}, {HoleEnd - 1, 0, 0},
		{HoleEnd, HoleEnd, 1 << 20}, {HoleEnd + 1<<20 - 1, HoleEnd, 1 << 20}, {HoleEnd + 1<<20, 0, 0}, {^uint64(0), 0, 0},
	} {
		base, ram := m.Region(tt.gpa)
		require.Equal(t, tt.base, base, "%#x", tt.gpa)
		require.EqualValues(t, tt.size, len(ram), "%#x", tt.gpa)
	}
	require.NoError(t, m.Close())
	_, ram := m.Region(0)
	require.Empty(t, ram)
}

func TestView(t *testing.T) {
	m, err := New(PageSize)
	require.NoError(t, err)
	defer m.Close()
	b, err := m.Slice(0, 19)
	require.NoError(t, err)
	type pair struct{ a, b Uint16 }
	v := View[pair](b)
	require.Len(t, v, 4, "what is left over is not in it")
	v[1].b.Store(0x1234)
	require.EqualValues(t, 0x1234, v[1].b.Load())
	require.Equal(t, []byte{0x34, 0x12}, b[6:8])
	require.EqualValues(t, 0x1234, Load16(b[6:]))
	require.Panics(t, func() { View[uint32](b[2:]) })
	require.Empty(t, View[uint64](nil))
}
