package qcow2

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func needQEMU(t testing.TB) {
	t.Helper()
	for _, program := range []string{"qemu-img", "qemu-io"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("no %s: apt-get install qemu-utils", program)
		}
	}
}

func run(t testing.TB, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	require.NoError(t, err, "%s %q: %s", program, args, out)
	return string(out)
}

func create(t testing.TB, size int64, o CreateOptions) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.qcow2")
	f, err := os.Create(path)
	require.NoError(t, err)
	require.NoError(t, Create(f, size, o))
	require.NoError(t, f.Close())
	return path
}

func openPath(t testing.TB, path string, o Options) *Image {
	t.Helper()
	flags := os.O_RDWR
	if o.ReadOnly {
		flags = os.O_RDONLY
	}
	f, err := os.OpenFile(path, flags, 0)
	require.NoError(t, err)
	im, err := Open(f, o)
	if err != nil {
		f.Close()
	}
	require.NoError(t, err)
	return im
}

func requireSound(t testing.TB, im *Image, leaks int64) {
	t.Helper()
	r, err := im.Check(context.Background(), false, nil)
	require.NoError(t, err)
	require.Zero(t, r.Corruptions, r.Problems)
	require.Equal(t, leaks, r.Leaks, r.Problems)
}

// step does a random operation on an image and on what is to be its contents.
func step(t testing.TB, rnd *rand.Rand, im *Image, want []byte) {
	t.Helper()
	size := int64(len(want))
	n := 1 + rnd.Int64N(min(size, 1<<(9+rnd.IntN(11))))
	off := rnd.Int64N(size - n + 1)
	if rnd.IntN(2) == 0 {
		off, n = off&^511, (n+511)&^511
		n = min(n, size-off)
	}
	switch rnd.IntN(8) {
	case 0:
		// Either is right for each byte.
		require.NoError(t, im.Discard(off, n))
		got := make([]byte, n)
		_, err := im.ReadAt(got, off)
		require.NoError(t, err)
		for i := range got {
			if got[i] != 0 {
				require.Equal(t, want[off+int64(i)], got[i])
			}
		}
		copy(want[off:], got)
	case 1:
		require.NoError(t, im.WriteZeroes(off, n, rnd.IntN(2) == 0))
		clear(want[off : off+n])
	case 2:
		require.NoError(t, im.Flush())
	case 3:
		got := make([]byte, n)
		_, err := im.ReadAt(got, off)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want[off:off+n], got), "%d bytes at %d", n, off)
	default:
		p := want[off : off+n]
		for i := range p {
			p[i] = byte(rnd.Uint32())
		}
		_, err := im.WriteAt(p, off)
		require.NoError(t, err)
	}
}

func contents(t testing.TB, im *Image) []byte {
	t.Helper()
	b := make([]byte, im.Size())
	_, err := im.ReadAt(b, 0)
	require.NoError(t, err)
	return b
}

// What we write at random QEMU reads, and finds nothing to complain of.
func TestRandomThenQEMU(t *testing.T) {
	needQEMU(t)
	for _, cs := range []int64{512, 4096, 64 << 10, 2 << 20} {
		for _, maker := range []string{"ours", "qemu", "qemu v2", "qemu backing", "qemu compressed"} {
			t.Run(fmt.Sprintf("%s %d", maker, cs), func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(uint64(cs), 7))
				size := int64(5<<20 + 1536)
				want := make([]byte, size)
				path := filepath.Join(t.TempDir(), "disk.qcow2")
				o := Options{CacheBytes: 8192}
				opts := fmt.Sprintf("cluster_size=%d", cs)
				switch maker {
				case "ours":
					path = create(t, size, CreateOptions{ClusterSize: cs})
				case "qemu":
					run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-o", opts, path, fmt.Sprint(size))
				case "qemu v2":
					run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-o", opts+",compat=0.10", path, fmt.Sprint(size))
				default:
					for i := range want[:4<<20] {
						want[i] = byte(rnd.Uint32() & 3)
					}
					raw := filepath.Join(t.TempDir(), "raw")
					require.NoError(t, os.WriteFile(raw, want[:4<<20], 0o600))
					if maker == "qemu backing" {
						run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", raw, "-o", opts, path, fmt.Sprint(size))
						o.Backing = func(name, format string) (Backing, error) {
							require.Equal(t, "raw", format)
							f, err := os.Open(name)
							return fileBacking{f}, err
						}
					} else {
						run(t, "qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", opts, raw, path)
						run(t, "qemu-img", "resize", "-q", path, fmt.Sprint(size))
					}
				}
				for range 3 {
					im := openPath(t, path, o)
					require.True(t, bytes.Equal(want, contents(t, im)), "after opening")
					for range times(150) {
						step(t, rnd, im, want)
					}
					require.True(t, bytes.Equal(want, contents(t, im)))
					require.NoError(t, im.Close())

					run(t, "qemu-img", "check", "-q", "-f", "qcow2", path)
					raw := filepath.Join(t.TempDir(), "raw")
					run(t, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw)
					got, err := os.ReadFile(raw)
					require.NoError(t, err)
					require.True(t, bytes.Equal(want, got), "as QEMU reads it")

					ro := o
					ro.ReadOnly = true
					im = openPath(t, path, ro)
					requireSound(t, im, 0)
					_, err = im.WriteAt([]byte{1}, 0)
					assert.Error(t, err)
					require.NoError(t, im.Close())
				}
			})
		}
	}
}

type fileBacking struct{ *os.File }

func (f fileBacking) Size() int64 {
	fi, err := f.Stat()
	if err != nil {
		return 0
	}
	return fi.Size()
}

// tryRun gives what a program prints and its exit code.
func tryRun(t testing.TB, program string, args ...string) (string, int) {
	t.Helper()
	cmd := exec.Command(program, args...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		require.NoError(t, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}
