package qcow2

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// memory is storage that remembers in which order it was written and synced.
type memory struct {
	data []byte
	ops  []op
}

// op is a write or a hole; without data and hole it is a sync. A mark is what the disk must have from then on.
type op struct {
	off  int64
	data []byte
	hole int64
	mark []byte
}

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(m.data)) {
		return 0, io.EOF
	}
	n := copy(p, m.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	m.ops = append(m.ops, op{off: off, data: slices.Clone(p)})
	m.data = apply(m.data, m.ops[len(m.ops)-1])
	return len(p), nil
}

func apply(data []byte, o op) []byte {
	if o.hole > 0 {
		if o.off < int64(len(data)) {
			clear(data[o.off:min(o.off+o.hole, int64(len(data)))])
		}
		return data
	}
	if end := o.off + int64(len(o.data)); end > int64(len(data)) {
		data = append(data, make([]byte, end-int64(len(data)))...)
	}
	copy(data[o.off:], o.data)
	return data
}

func (m *memory) Sync() error {
	m.ops = append(m.ops, op{})
	return nil
}

func (m *memory) Punch(off, n int64) {
	m.ops = append(m.ops, op{off: off, hole: n})
	m.data = apply(m.data, m.ops[len(m.ops)-1])
}

// Extend is traced as a write of the last byte, which may be lost as any other.
func (m *memory) Extend(size int64) error {
	if size <= int64(len(m.data)) {
		return nil
	}
	_, err := m.WriteAt([]byte{0}, size-1)
	return err
}

func (m *memory) Size() (int64, error) { return int64(len(m.data)), nil }
func (m *memory) Close() error         { return nil }

func (o op) isSync() bool { return o.data == nil && o.hole == 0 && o.mark == nil }

// sectors splits a write where a power cut may tear it.
func (o op) sectors() []op {
	if o.hole > 0 {
		return []op{o}
	}
	var list []op
	for off, data := o.off, o.data; len(data) > 0; {
		n := min(512-off%512, int64(len(data)))
		list = append(list, op{off: off, data: data[:n]})
		off, data = off+n, data[n:]
	}
	return list
}

// afterCut is what a power cut after the operations may leave: all that was synced, and any sectors of the rest.
func afterCut(base []byte, ops []op, rnd *rand.Rand) []byte {
	synced := 0
	for i, o := range ops {
		if o.isSync() {
			synced = i
		}
	}
	data := slices.Clone(base)
	for _, o := range ops[:synced] {
		if o.mark == nil && !o.isSync() {
			data = apply(data, o)
		}
	}
	keep := rnd.IntN(5) // of four
	for _, o := range ops[synced:] {
		if o.mark != nil || o.isSync() {
			continue
		}
		for _, s := range o.sectors() {
			if rnd.IntN(4) < keep {
				data = apply(data, s)
			}
		}
	}
	return data
}

// A power cut at any moment leaves an image without corruption, with all that was there at the last flush, but for what was written since.
func TestPowerCuts(t *testing.T) {
	withQEMU := 0
	for _, cs := range []int64{512, 1024, 4096, 64 << 10} {
		for seed := range uint64(6) {
			rnd := rand.New(rand.NewPCG(seed, uint64(cs)))
			size := min(cs*200, 1<<20)
			m := &memory{}
			require.NoError(t, Create(m, size, CreateOptions{ClusterSize: cs}))
			base := slices.Clone(m.data)
			m.ops = nil
			im, err := open(m, "memory", Options{CacheBytes: 8192})
			require.NoError(t, err)
			// allowed[i] are the values that sector i may have after a cut, since the last flush that returned.
			want := make([]byte, size)
			type state struct {
				ops     int
				allowed [][][]byte
			}
			allowed := make([][][]byte, size/512)
			sector := func(b []byte, i int) []byte { return b[i*512 : i*512+512] }
			settle := func() {
				for i := range allowed {
					allowed[i] = [][]byte{slices.Clone(sector(want, i))}
				}
			}
			settle()
			var states []state
			for range times(60) {
				before := len(m.ops)
				flush := rnd.IntN(6) == 0
				if flush {
					require.NoError(t, im.Flush())
				} else {
					old := slices.Clone(want)
					discarded, n := aligned(t, rnd, im, want)
					for i := discarded / 512; i < (discarded+n)/512; i++ {
						allowed[i] = append(slices.Clone(allowed[i]), make([]byte, 512))
					}
					for i := range allowed {
						if !bytes.Equal(sector(old, i), sector(want, i)) {
							allowed[i] = append(slices.Clone(allowed[i]), slices.Clone(sector(want, i)))
						}
					}
				}
				snapshot := state{allowed: slices.Clone(allowed)}
				// Within an operation, whatever is allowed before or after it.
				for at := before; at <= len(m.ops); at++ {
					snapshot.ops = at
					states = append(states, snapshot)
				}
				if flush {
					settle()
					states = append(states, state{len(m.ops), slices.Clone(allowed)})
				}
			}
			for k, s := range states {
				if k%3 != int(seed)%3 && cs > 512 {
					continue
				}
				data := afterCut(base, m.ops[:s.ops], rnd)
				after, err := open(&memory{data: data}, "cut", Options{ReadOnly: true})
				require.NoError(t, err)
				r, err := after.Check(context.Background(), false, nil)
				require.NoError(t, err)
				require.Zero(t, r.Corruptions, "clusters of %d, seed %d, after %d operations: %v", cs, seed, s.ops, r.Problems)
				got := contents(t, after)
				for i, values := range s.allowed {
					ok := slices.ContainsFunc(values, func(v []byte) bool { return bytes.Equal(v, sector(got, i)) })
					require.True(t, ok, "clusters of %d, seed %d, after %d operations: sector %d is not what it was at the flush or since", cs, seed, s.ops, i)
				}
				if k%97 == 0 {
					withQEMU++
					qemuCheck(t, data, withQEMU)
				}
			}
		}
	}
}

// aligned does an operation on whole sectors. It gives the range of a discard.
func aligned(t *testing.T, rnd *rand.Rand, im *Image, want []byte) (off, n int64) {
	t.Helper()
	size := int64(len(want))
	n = (1 + rnd.Int64N(min(size/512, 1<<rnd.IntN(10)))) * 512
	off = rnd.Int64N((size-n)/512+1) * 512
	switch rnd.IntN(5) {
	case 0:
		require.NoError(t, im.Discard(off, n))
		copy(want, contents(t, im))
		return off, n
	case 1:
		require.NoError(t, im.WriteZeroes(off, n, rnd.IntN(2) == 0))
		clear(want[off : off+n])
	default:
		for i := range want[off : off+n] {
			want[off+int64(i)] = byte(rnd.Uint32()) | 1
		}
		_, err := im.WriteAt(want[off:off+n], off)
		require.NoError(t, err)
	}
	return 0, 0
}

func qemuCheck(t *testing.T, data []byte, i int) {
	t.Helper()
	needQEMU(t)
	path := filepath.Join(t.TempDir(), fmt.Sprint(i))
	require.NoError(t, os.WriteFile(path, data, 0o600))
	out, code := tryRun(t, "qemu-img", "check", "-f", "qcow2", path)
	require.Contains(t, []int{0, 3}, code, "only leaks: %s", out)
}
