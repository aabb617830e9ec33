package bus

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// ram is a device of bytes that fails the test when it is reached beyond its
// range.
type ram struct {
	t     testing.TB
	bytes []byte
	calls []string
}

func (r *ram) check(op string, off uint64, p []byte) {
	if len(p) == 0 || len(p) > MaxAccess || off+uint64(len(p)) > uint64(len(r.bytes)) || cap(p) < len(p) {
		r.t.Errorf("%s off %#x len %d on a device of %d bytes", op, off, len(p), len(r.bytes))
	}
	r.calls = append(r.calls, fmt.Sprintf("%s %d+%d", op, off, len(p)))
}

func (r *ram) Read(off uint64, p []byte)  { r.check("r", off, p); copy(p, r.bytes[off:]) }
func (r *ram) Write(off uint64, p []byte) { r.check("w", off, p); copy(r.bytes[off:], p) }

func newRAM(t testing.TB, size int, fill byte) *ram {
	r := &ram{t: t, bytes: make([]byte, size)}
	for i := range r.bytes {
		r.bytes[i] = fill + byte(i)
	}
	return r
}

func TestAccess(t *testing.T) {
	b := New("port", PortLast)
	a, c, top := newRAM(t, 8, 0x10), newRAM(t, 2, 0x20), newRAM(t, 2, 0x30)
	require.NoError(t, b.Add(0x3f8, 8, "a", a))
	require.NoError(t, b.Add(0x400, 2, "c", c))
	require.NoError(t, b.Add(0xfffe, 2, "top", top))

	for _, tc := range []struct {
		name string
		addr uint64
		n    int
		hit  bool
		want []byte
	}{
		{"one byte", 0x3f8, 1, true, []byte{0x10}},
		{"last byte", 0x3ff, 1, true, []byte{0x17}},
		{"whole device", 0x3f8, 8, true, []byte{0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17}},
		{"odd length", 0x3f9, 3, true, []byte{0x11, 0x12, 0x13}},
		{"nobody", 0x80, 4, false, []byte{0xff, 0xff, 0xff, 0xff}},
		{"from a hole into a device", 0x3f6, 4, true, []byte{0xff, 0xff, 0x10, 0x11}},
		{"two devices", 0x3fe, 4, true, []byte{0x16, 0x17, 0x20, 0x21}},
		{"out of a device into a hole", 0x401, 8, true, []byte{0x21, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
		{"ends just before a device", 0x3f4, 4, false, []byte{0xff, 0xff, 0xff, 0xff}},
		{"past the end of the space", 0xffff, 4, true, []byte{0x31, 0xff, 0xff, 0xff}},
		{"outside the space", 0x10000, 1, false, []byte{0xff}},
		{"top of 64 bits", ^uint64(0), 8, false, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
		{"too long", 0x3f8, 9, false, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
		{"empty", 0x3f8, 0, false, []byte{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := make([]byte, tc.n)
			require.Equal(t, tc.hit, b.Read(tc.addr, p))
			require.Equal(t, tc.want, p)
			require.Equal(t, tc.hit, b.Write(tc.addr, p), "writing back what was read")
			q := make([]byte, tc.n)
			b.Read(tc.addr, q)
			require.Equal(t, tc.want, q)
		})
	}
	a.calls, c.calls = nil, nil
	b.Write(0x3fe, []byte{1, 2, 3, 4})
	require.Equal(t, []string{"w 6+2"}, a.calls)
	require.Equal(t, []string{"w 0+2"}, c.calls)
}

func TestAddRemove(t *testing.T) {
	full := New("mmio", ^uint64(0))
	d := newRAM(t, 1, 0)
	require.NoError(t, full.Add(0, ^uint64(0), "all but one byte", d))
	require.NoError(t, full.Add(^uint64(0), 1, "last", d))
	require.ErrorIs(t, full.Add(^uint64(0), 2, "wraps", d), ErrRange)

	b := New("port", PortLast)
	require.NoError(t, b.Add(0x100, 0x10, "mid", d))
	for _, tc := range []struct {
		base, size uint64
		want       error
	}{
		{0x100, 0, ErrRange},
		{0x10000, 1, ErrRange},
		{0xffff, 2, ErrRange},
		{0x10, ^uint64(0), ErrRange},
		{^uint64(0), 1, ErrRange},
		{0x100, 0x10, ErrOverlap},
		{0x0ff, 2, ErrOverlap},
		{0x10f, 1, ErrOverlap},
		{0x104, 2, ErrOverlap},
		{0, 0x10000, ErrOverlap},
		{0x110, 0x10, nil},
		{0x0f0, 0x10, nil},
	} {
		err := b.Add(tc.base, tc.size, "new", d)
		if tc.want == nil {
			require.NoError(t, err)
			continue
		}
		require.ErrorIs(t, err, tc.want)
		var re *RangeError
		require.True(t, errors.As(err, &re))
		require.Contains(t, err.Error(), `port space: "new"`)
		if tc.want == ErrOverlap {
			require.Equal(t, Range{"mid", 0x100, 0x10}, re.With)
			require.Contains(t, err.Error(), `"mid" at 0x100`)
		}
	}
	require.Equal(t, []Range{{"new", 0xf0, 0x10}, {"mid", 0x100, 0x10}, {"new", 0x110, 0x10}}, b.Ranges())
	require.ErrorIs(t, b.Remove(0x100, 0xf), ErrNoRange)
	require.ErrorIs(t, b.Remove(0x101, 0xf), ErrNoRange)
	require.ErrorIs(t, b.Remove(0x5000, 1), ErrNoRange)
	require.NoError(t, b.Remove(0x100, 0x10))
	require.False(t, b.Write(0x100, []byte{1}))
	require.NoError(t, b.Add(0x100, 0x10, "again", d))
}

// zero is a device without state, for the race and allocation tests.
type zero struct{}

func (zero) Read(_ uint64, p []byte) { clear(p) }
func (zero) Write(uint64, []byte)    {}

func TestConcurrentChange(t *testing.T) {
	b := New("port", PortLast)
	require.NoError(t, b.Add(0x3f8, 8, "fixed", zero{}))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			p := make([]byte, 4)
			for {
				select {
				case <-stop:
					return
				default:
				}
				if !b.Read(0x3f8, p) || p[0] != 0 {
					t.Error("the fixed device was not found")
					return
				}
				b.Write(0x500, p)
			}
		}()
	}
	for range 500 {
		for a := uint64(0); a < 4; a++ {
			require.NoError(t, b.Add(0x500+2*a, 2, "moving", zero{}))
			require.NoError(t, b.Add(0x300+2*a, 2, "moving", zero{}))
		}
		for a := uint64(0); a < 4; a++ {
			require.NoError(t, b.Remove(0x500+2*a, 2))
			require.NoError(t, b.Remove(0x300+2*a, 2))
		}
	}
	close(stop)
	wg.Wait()
	require.Len(t, b.Ranges(), 1)
}

func TestNoAllocation(t *testing.T) {
	b := New("port", PortLast)
	for i := range uint64(20) {
		require.NoError(t, b.Add(0x1000+0x100*i, 8, "dev", zero{}))
	}
	p := make([]byte, 8)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		b.Read(0x1500, p[:4])
		b.Write(0x1500, p[:4])
		b.Write(0x1504, p) // splits
		b.Read(0x1504, p)
		b.Read(0x80, p[:1]) // nobody
	}))
}

func BenchmarkRead(b *testing.B) {
	s := New("port", PortLast)
	for i := range uint64(20) {
		if err := s.Add(0x1000+0x100*i, 8, "dev", zero{}); err != nil {
			b.Fatal(err)
		}
	}
	p := make([]byte, 4)
	b.ReportAllocs()
	for b.Loop() {
		s.Read(0x1500, p)
	}
}
