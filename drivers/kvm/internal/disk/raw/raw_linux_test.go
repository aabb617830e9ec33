package raw

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/disk"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/guestmem"
)

const size = 1 << 20

// newImage opens a new file of random contents, which it gives too.
func newImage(t *testing.T, o disk.Options) (*Image, []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.img")
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{1}).Read(data)
	require.NoError(t, os.WriteFile(path, data, 0o600))
	img, err := disk.Open(path, o, Open)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, img.Close()) })
	return img.(*Image), data
}

// modes are images that differ in how they reach the file.
var modes = []struct {
	name   string
	direct bool
	align  int64 // 0: what the file system says
}{{"page cache", false, 0}, {"direct", true, 0}, {"direct, 4096", true, 4096}}

func forModes(t *testing.T, f func(t *testing.T, i *Image, data []byte)) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			i, data := newImage(t, disk.Options{Direct: m.direct})
			if m.align != 0 {
				i.direct.align, i.direct.memAlign = m.align, int(m.align)
			}
			f(t, i, data)
		})
	}
}

// cut cuts b into slices at random places, empty ones among them.
func cut(r *rand.Rand, b []byte) (p [][]byte) {
	for len(b) > 0 {
		n := min(len(b), r.IntN(len(b)+1))
		if r.IntN(3) == 0 {
			n = min(len(b), 512*r.IntN(9))
		}
		p, b = append(p, b[:n:n]), b[n:]
	}
	return p
}

// Random operations give what the same operations give on a slice.
func TestModel(t *testing.T) {
	forModes(t, func(t *testing.T, i *Image, want []byte) {
		r := rand.New(rand.NewPCG(1, 2))
		mem, err := guestmem.New(size)
		require.NoError(t, err)
		defer mem.Close()
		ram, err := mem.Slice(0, size)
		require.NoError(t, err)
		for range 600 {
			unit := []int{1, 512, 4096}[r.IntN(3)]
			off := r.IntN(size/unit) * unit
			n := min(size-off, unit*(1+r.IntN(40)))
			if r.IntN(20) == 0 {
				n = size - off // more than one buffer
			}
			at := 0
			if r.IntN(2) == 0 {
				at = r.IntN(size - n + 1)
			}
			b := ram[at : at+n]
			switch op := r.IntN(7); op {
			case 0:
				_, err = i.ReadAt(b, int64(off))
				require.NoError(t, err)
				require.True(t, bytes.Equal(want[off:off+n], b))
			case 1:
				require.NoError(t, i.ReadVec(cut(r, b), int64(off)))
				require.True(t, bytes.Equal(want[off:off+n], b))
			case 2, 3, 4:
				for j := range b {
					b[j] = byte(r.Uint32())
				}
				switch op {
				case 2:
					_, err = i.WriteAt(b, int64(off))
				case 3:
					err = i.WriteVec(cut(r, b), int64(off))
				case 4:
					err = i.WriteDurable(cut(r, b), int64(off))
				}
				require.NoError(t, err)
				copy(want[off:], b)
			case 5:
				require.NoError(t, i.WriteZeroes(int64(off), int64(n), r.IntN(2) == 0))
				clear(want[off : off+n])
			case 6:
				// A file's holes read as zeroes.
				require.NoError(t, i.Discard(int64(off), int64(n)))
				clear(want[off : off+n])
			}
		}
		require.NoError(t, i.Flush())
		got, err := os.ReadFile(i.name)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got), "the file is the disk, and as long as before")
	})
}

// Writers of neighbouring bytes do not undo each other, also where a unit has to be read and written whole.
func TestNeighbours(t *testing.T) {
	forModes(t, func(t *testing.T, i *Image, want []byte) {
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				b := bytes.Repeat([]byte{byte(w)}, 512)
				for n := range 50 {
					off := int64(n*8+w) * 512
					var err error
					switch w {
					case 0:
						err = i.WriteZeroes(off, 512, false)
					default:
						_, err = i.WriteAt(b, off)
					}
					assert.NoError(t, err)
				}
			})
		}
		wg.Wait()
		for n := range 50 * 8 {
			copy(want[n*512:], bytes.Repeat([]byte{byte(n % 8)}, 512))
		}
		got := make([]byte, size)
		_, err := i.ReadAt(got, 0)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got))
	})
}

func TestManySlices(t *testing.T) {
	forModes(t, func(t *testing.T, i *Image, want []byte) {
		p := make([][]byte, 2500) // more than the kernel takes at a time
		for j := range p {
			p[j] = bytes.Repeat([]byte{byte(j)}, 300)
		}
		require.NoError(t, i.WriteVec(p, 1024))
		copy(want[1024:], bytes.Join(p, nil))
		for j := range p {
			clear(p[j])
		}
		require.NoError(t, i.ReadVec(p, 1024))
		require.True(t, bytes.Equal(want[1024:1024+2500*300], bytes.Join(p, nil)))
	})
}

func TestDiscardGivesSpaceBack(t *testing.T) {
	forModes(t, func(t *testing.T, i *Image, _ []byte) {
		blocks := func() int64 {
			var st unix.Stat_t
			require.NoError(t, unix.Fstat(int(i.file.Fd()), &st))
			return st.Blocks
		}
		require.NoError(t, i.Flush())
		before := blocks()
		require.NoError(t, i.Discard(0, size/2))
		assert.LessOrEqual(t, blocks(), before/2+16)
		require.NoError(t, i.WriteZeroes(size/2, size/4, true))
		assert.LessOrEqual(t, blocks(), before/4+16)
	})
}

func TestOpenRefuses(t *testing.T) {
	for _, tt := range []struct {
		size int64
		o    disk.Options
		says string
	}{
		{0, disk.Options{}, "empty"},
		{512*3 + 1, disk.Options{}, "not a multiple of 512"},
	} {
		path := filepath.Join(t.TempDir(), "disk.img")
		require.NoError(t, os.WriteFile(path, make([]byte, tt.size), 0o600))
		_, err := disk.Open(path, tt.o, Open)
		require.ErrorContains(t, err, tt.says)
		assert.ErrorContains(t, err, path)
		assert.ErrorContains(t, err, "truncate -s")
	}
}

func TestDirectIsRefused(t *testing.T) {
	// A regular file that has no such mode.
	f, err := os.Open("/proc/version")
	require.NoError(t, err)
	defer f.Close()
	_, err = newDirect(f, 4096)
	require.ErrorIs(t, err, unix.EINVAL)
	assert.ErrorContains(t, err, "cache mode writeback")
	assert.ErrorContains(t, err, "/proc/version")

	// A size that is no multiple of the unit of the storage.
	i, _ := newImage(t, disk.Options{Direct: true})
	_, err = newDirect(i.file, 4096+i.direct.align/2)
	require.ErrorContains(t, err, fmt.Sprintf("multiple of %d", i.direct.align))
}

// The page cache is really bypassed.
func TestDirectFlag(t *testing.T) {
	i, _ := newImage(t, disk.Options{Direct: true})
	flags, err := unix.FcntlInt(i.file.Fd(), unix.F_GETFL, 0)
	require.NoError(t, err)
	assert.NotZero(t, flags&unix.O_DIRECT)
}

func TestAllocs(t *testing.T) {
	forModes(t, func(t *testing.T, i *Image, _ []byte) {
		mem, err := guestmem.New(size)
		require.NoError(t, err)
		defer mem.Close()
		ram, err := mem.Slice(0, size)
		require.NoError(t, err)
		one := [][]byte{ram[:4096]}
		var many [][]byte
		for n := range 64 {
			many = append(many, ram[n*8192:n*8192+4096])
		}
		for _, p := range [][][]byte{one, many} {
			for name, f := range map[string]func() error{
				"read":          func() error { return i.ReadVec(p, 8192) },
				"write":         func() error { return i.WriteVec(p, 8192) },
				"durable write": func() error { return i.WriteDurable(p, 8192) },
				"flush":         i.Flush,
			} {
				assert.Zero(t, testing.AllocsPerRun(10, func() {
					if err := f(); err != nil {
						t.Fatal(err)
					}
				}), "%s of %d slices", name, len(p))
			}
		}
	})
}

func TestFileBecomesShorter(t *testing.T) {
	i, _ := newImage(t, disk.Options{})
	require.NoError(t, os.Truncate(i.name, size/2))
	_, err := i.ReadAt(make([]byte, 1024), size/2-512)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.ErrorContains(t, err, i.name)
	require.ErrorIs(t, i.ReadVec([][]byte{make([]byte, 512), make([]byte, 512)}, size/2-512), io.ErrUnexpectedEOF)
	assert.Equal(t, unix.EIO, disk.Errno(err))
}
