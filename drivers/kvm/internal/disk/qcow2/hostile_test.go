package qcow2

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sample is an image in memory with some data in it.
func sample(t testing.TB, cs int64) []byte {
	m := &memory{}
	require.NoError(t, Create(m, 1<<20, CreateOptions{ClusterSize: cs}))
	im, err := open(m, "sample", Options{})
	require.NoError(t, err)
	_, err = im.WriteAt([]byte("some data"), 100_000)
	require.NoError(t, err)
	_, err = im.WriteAt(make([]byte, 100_000), 300_000)
	require.NoError(t, err)
	require.NoError(t, im.WriteZeroes(320_000, 40_000, false))
	require.NoError(t, im.Close())
	return m.data
}

// use does everything that there is to do with an image that may be anything. Errors are right, panics are not.
func use(data []byte, readOnly bool) {
	im, err := open(&memory{data: data}, "hostile", Options{ReadOnly: readOnly, CacheBytes: 64 << 10})
	if err != nil {
		return
	}
	_, _ = im.Check(context.Background(), false, nil)
	size := im.Size()
	p := make([]byte, 70_000)
	for _, off := range []int64{0, 65_530, 100_000, 310_000, size / 2, size - int64(len(p))} {
		n := min(int64(len(p)), size-max(off, 0))
		if off < 0 || n <= 0 {
			continue
		}
		_, _ = im.ReadAt(p[:n], off)
		_, _ = im.WriteAt(p[:n], off)
		_ = im.Discard(off, n)
		_ = im.WriteZeroes(off, n, off%2 == 0)
		_, _ = im.WriteAt(p[:min(n, 10)], off)
		_ = im.Flush()
	}
	_ = im.Close()
}

func TestTruncated(t *testing.T) {
	for _, cs := range []int64{512, 4096, 64 << 10} {
		data := sample(t, cs)
		for n := 0; n < len(data); n += 512 {
			use(slices.Clone(data[:n]), n%1024 == 0)
		}
		for n := range headerV3 {
			_, err := open(&memory{data: slices.Clone(data[:n])}, "short", Options{})
			require.Error(t, err)
		}
	}
}

// Each byte of the tables is changed.
func TestDamaged(t *testing.T) {
	for _, cs := range []int64{512, 64 << 10} {
		data := sample(t, cs)
		rnd := rand.New(rand.NewPCG(1, 2))
		for range times(600) {
			b := slices.Clone(data)
			for range 1 + rnd.IntN(3) {
				if at := rnd.IntN(headerV3); rnd.IntN(2) == 0 {
					b[at] ^= 1 << rnd.IntN(8)
					continue
				}
				at := rnd.IntN(len(b)/8) * 8
				if cs > 512 { // where there is something
					at = (rnd.IntN(len(b)/int(cs))*int(cs) + rnd.IntN(16)*8)
				}
				binary.BigEndian.PutUint64(b[at:], uint64(rnd.IntN(len(b)/int(cs)+2))*uint64(cs)|uint64(rnd.IntN(4))<<62|uint64(rnd.IntN(2)))
			}
			use(b, rnd.IntN(4) == 0)
		}
	}
}

func TestRefused(t *testing.T) {
	be := binary.BigEndian
	for _, tt := range []struct {
		name   string
		change func(b []byte)
		want   string
		reads  bool // it is refused for writing only
	}{
		{"magic", func(b []byte) { b[0] = 0 }, "not a qcow2 image", false},
		{"version", func(b []byte) { b[7] = 4 }, "version 4", false},
		{"cluster bits 8", func(b []byte) { b[23] = 8 }, "clusters of 2^8", false},
		{"cluster bits 22", func(b []byte) { b[23] = 22 }, "clusters of 2^22", false},
		{"cluster bits huge", func(b []byte) { b[20] = 255 }, "clusters of 2^", false},
		{"no size", func(b []byte) { be.PutUint64(b[24:], 0) }, "a disk of 0 bytes", false},
		{"huge size", func(b []byte) { be.PutUint64(b[24:], 1<<63) }, "a disk of", false},
		{"encrypted", func(b []byte) { b[35] = 1 }, "encrypted", false},
		{"huge L1", func(b []byte) { be.PutUint32(b[36:], 1<<31) }, "an L1 table of", false},
		{"small L1", func(b []byte) { be.PutUint32(b[36:], 0) }, "too small", false},
		{"L1 outside", func(b []byte) { be.PutUint64(b[40:], 1<<40) }, "not in the file", false},
		{"L1 at no cluster", func(b []byte) { be.PutUint64(b[40:], 70_000) }, "not at a cluster", false},
		{"L1 beyond all", func(b []byte) { be.PutUint64(b[40:], 1<<64-65536) }, "not in the file", false},
		{"refcounts outside", func(b []byte) { be.PutUint64(b[48:], 1<<40) }, "not in the file", false},
		{"many refcounts", func(b []byte) { be.PutUint32(b[56:], 1<<30) }, "refcount table of", false},
		{"tables overlap", func(b []byte) { be.PutUint64(b[48:], be.Uint64(b[40:])) }, "overlap", false},
		{"refcount bits", func(b []byte) { b[99] = 7 }, "refcounts of", false},
		{"header length", func(b []byte) { be.PutUint32(b[100:], 1<<31) }, "a header of", false},
		{"data file", func(b []byte) { b[79] = 4 }, "another file", false},
		{"extended L2", func(b []byte) { b[79] = 16 }, "extended L2", false},
		{"unknown feature", func(b []byte) { b[72] = 128 }, "bit 63", false},
		{"long extension", func(b []byte) { be.PutUint32(b[104:], 77); be.PutUint32(b[108:], 1<<31) }, "longer than the space", false},
		{"backing", func(b []byte) { be.PutUint64(b[8:], 200); b[19] = 4; copy(b[200:], "/etc") }, "does not allow", false},
		{"backing outside", func(b []byte) { be.PutUint64(b[8:], 1<<40); b[19] = 4 }, "not in the first cluster", false},
		{"two tables in one place", func(b []byte) { at := be.Uint64(b[40:]); be.PutUint64(b[at:], be.Uint64(b[65536:])) }, "two tables", true},
		{"L2 at the header", func(b []byte) { at := be.Uint64(b[40:]); be.PutUint64(b[at:], at) }, "where the header or another table is", true},
		{"dirty", func(b []byte) { b[79] = 1 }, "qemu-img check -r all", true},
		{"corrupt", func(b []byte) { b[79] = 2 }, "as its header says", true},
		{"snapshots", func(b []byte) { b[63] = 1 }, "internal snapshots", true},
		{"narrow refcounts", func(b []byte) { b[99] = 3 }, "refcounts of 8 bits", true},
		{"bitmaps", func(b []byte) { b[95] = 1 }, "bitmaps", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := sample(t, 64<<10)
			tt.change(b)
			_, err := open(&memory{data: b}, "hostile", Options{})
			require.ErrorContains(t, err, tt.want)
			_, err = open(&memory{data: b}, "hostile", Options{ReadOnly: true})
			assert.Equal(t, tt.reads, err == nil, err)
		})
	}
}

// An entry that points to a table is not written through.
func TestDataOverTables(t *testing.T) {
	be := binary.BigEndian
	for name, target := range map[string]func(b []byte) uint64{
		"header":         func([]byte) uint64 { return 0 },
		"L1":             func(b []byte) uint64 { return be.Uint64(b[40:]) },
		"refcount table": func(b []byte) uint64 { return be.Uint64(b[48:]) },
		"refcount block": func(b []byte) uint64 { return be.Uint64(b[65536:]) },
		"L2":             func(b []byte) uint64 { return be.Uint64(b[be.Uint64(b[40:]):]) & offsetMask },
	} {
		t.Run(name, func(t *testing.T) {
			b := sample(t, 64<<10)
			l2 := be.Uint64(b[be.Uint64(b[40:]):]) & offsetMask
			be.PutUint64(b[l2+8:], target(b)|flagCopied)
			before := slices.Clone(b)
			im, err := open(&memory{data: b}, "hostile", Options{})
			require.NoError(t, err)
			_, err = im.WriteAt([]byte{1, 2, 3}, 65536)
			if name != "header" { // 0 is no cluster
				require.ErrorIs(t, err, ErrCorrupt)
				require.Equal(t, before, im.file.(*memory).data)
			}
		})
	}
}

// Reading, and writing to clusters that are there, make nothing for the collector.
func TestAllocations(t *testing.T) {
	path := create(t, 64<<20, CreateOptions{})
	im := openPath(t, path, Options{})
	defer im.Close()
	p := make([]byte, 200_000)
	_, err := im.WriteAt(p, 0)
	require.NoError(t, err)
	for name, f := range map[string]func(){
		"read":        func() { _, err = im.ReadAt(p, 100) },
		"read a hole": func() { _, err = im.ReadAt(p, 30<<20) },
		"write":       func() { _, err = im.WriteAt(p[:100_000], 4096) },
	} {
		assert.Zero(t, testing.AllocsPerRun(100, f), name)
		require.NoError(t, err)
	}
}

func FuzzOpen(f *testing.F) {
	for _, cs := range []int64{512, 4096} {
		f.Add(sample(f, cs), false)
		f.Add(sample(f, cs), true)
	}
	f.Fuzz(func(t *testing.T, data []byte, readOnly bool) {
		if len(data) > 1<<20 {
			return
		}
		use(data, readOnly)
	})
}

// Operations that bytes name, on an image and on plain memory.
func FuzzReadWrite(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 255, 0, 0, 0, 9})
	f.Add([]byte{2, 200, 10, 9, 0, 0, 0, 9, 3, 200, 1, 50, 2, 0, 255, 255})
	f.Fuzz(func(t *testing.T, program []byte) {
		const size = 128 << 10
		m := &memory{}
		require.NoError(t, Create(m, size, CreateOptions{ClusterSize: 512}))
		im, err := open(m, "fuzz", Options{CacheBytes: 8192})
		require.NoError(t, err)
		want := make([]byte, size)
		for i := 0; len(program) >= 4 && i < 64; i++ {
			off := int64(binary.BigEndian.Uint16(program[1:])) * 2
			n := min(int64(program[3])*64+1, size-off)
			switch program[0] % 5 {
			case 0:
				require.NoError(t, im.Flush())
			case 1:
				require.NoError(t, im.WriteZeroes(off, n, program[3]%2 == 0))
				clear(want[off : off+n])
			case 2:
				require.NoError(t, im.Discard(off, n))
				_, err := im.ReadAt(want[off:off+n], off)
				require.NoError(t, err)
			default:
				for k := range want[off : off+n] {
					want[off+int64(k)] = byte(i + 1)
				}
				_, err := im.WriteAt(want[off:off+n], off)
				require.NoError(t, err)
			}
			program = program[4:]
		}
		require.Equal(t, want, contents(t, im))
		require.NoError(t, im.Close())
		im, err = open(&memory{data: m.data}, "again", Options{ReadOnly: true})
		require.NoError(t, err)
		require.Equal(t, want, contents(t, im))
		requireSound(t, im, 0)
	})
}
