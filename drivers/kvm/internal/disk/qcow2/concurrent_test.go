package qcow2

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// Several users, each with its own sectors, which share clusters and tables.
func TestConcurrentUse(t *testing.T) {
	path := create(t, 8<<20, CreateOptions{ClusterSize: 4096})
	im := openPath(t, path, Options{CacheBytes: 64 << 10})
	const users = 6
	var wg sync.WaitGroup
	for u := range users {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(u), 1))
			want := map[int64]byte{}
			p, zero := make([]byte, 512), make([]byte, 512)
			for i := range times(1500) {
				off := (rnd.Int64N(2<<20/512/users)*users + int64(u)) * 512
				switch rnd.IntN(8) {
				case 0:
					if err := im.WriteZeroes(off, 512, i%2 == 0); err != nil {
						t.Error(err)
						return
					}
					want[off] = 0
				case 1:
					if err := im.Flush(); err != nil {
						t.Error(err)
						return
					}
				case 2:
					// Whole clusters beyond what is compared come and go.
					far := 4<<20 + rnd.Int64N(512)*4096
					_, err := im.WriteAt(bytes.Repeat([]byte{0xee}, 4096), far)
					if err = errors.Join(err, im.Discard(far, 4096)); err != nil {
						t.Error(err)
						return
					}
				case 3, 4:
					if _, err := im.ReadAt(p, off); err != nil || !bytes.Equal(p, bytes.Repeat([]byte{want[off]}, 512)) {
						t.Errorf("sector at %d: %v, %d in place of %d", off, err, p[0], want[off])
						return
					}
				default:
					want[off] = byte(1 + rnd.IntN(200))
					if _, err := im.WriteAt(append(zero[:0:0], bytes.Repeat([]byte{want[off]}, 512)...), off); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	requireSound(t, im, 0)
	require.NoError(t, im.Close())
	im = openPath(t, path, Options{ReadOnly: true})
	requireSound(t, im, 0)
	require.NoError(t, im.Close())
}

// childPath has the image for the process that is killed.
const childPath = "QCOW2_TEST_CHILD"

// A process that writes, flushes, and tells which round is flushed, until it is killed.
func TestKilledChild(t *testing.T) {
	path := os.Getenv(childPath)
	if path == "" {
		t.Skip("run by TestKill")
	}
	im := openPath(t, path, Options{CacheBytes: 64 << 10})
	p := make([]byte, 4096)
	for i := int64(1); ; i++ {
		binary.BigEndian.PutUint64(p, uint64(i))
		_, err := im.WriteAt(p, i%2000*12288)
		require.NoError(t, err)
		if i%3 == 0 {
			require.NoError(t, im.Discard((i*7)%2000*12288+4096, 8192))
		}
		if i%5 == 0 {
			require.NoError(t, im.Flush())
			fmt.Println("flushed", i)
		}
	}
}

// kill -9 in the middle: what was flushed is there, and nothing is damaged.
func TestKill(t *testing.T) {
	needQEMU(t)
	for round := range 4 {
		path := create(t, 32<<20, CreateOptions{ClusterSize: 4096})
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledChild$", "-test.v")
		cmd.Env = append(os.Environ(), childPath+"="+path)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		var flushed int64
		s := bufio.NewScanner(out)
		for s.Scan() {
			n, ok := strings.CutPrefix(s.Text(), "flushed ")
			if !ok {
				continue
			}
			flushed, err = strconv.ParseInt(n, 10, 64)
			require.NoError(t, err)
			if flushed >= int64(50+round*70) {
				require.NoError(t, cmd.Process.Signal(syscall.SIGKILL))
				break
			}
		}
		for s.Scan() { // what it said before it died counts too
			if n, ok := strings.CutPrefix(s.Text(), "flushed "); ok {
				flushed, err = strconv.ParseInt(n, 10, 64)
				require.NoError(t, err)
			}
		}
		_ = cmd.Wait()
		require.NotZero(t, flushed)
		text, code := tryRun(t, "qemu-img", "check", "-f", "qcow2", path)
		require.Contains(t, []int{0, 3}, code, text)
		im := openPath(t, path, Options{})
		p := make([]byte, 8)
		for i := max(1, flushed-1900); i <= flushed; i++ {
			_, err := im.ReadAt(p, i%2000*12288)
			require.NoError(t, err)
			require.GreaterOrEqual(t, binary.BigEndian.Uint64(p), uint64(i), "round %d of %d", i, flushed)
		}
		// Leaks are repaired.
		r, err := im.Check(t.Context(), true, nil)
		require.NoError(t, err)
		require.Zero(t, r.Corruptions, r.Problems)
		require.Equal(t, r.Leaks, r.Repaired)
		requireSound(t, im, 0)
		require.NoError(t, im.Close())
		run(t, "qemu-img", "check", "-q", "-f", "qcow2", path)
	}
}

func TestResize(t *testing.T) {
	needQEMU(t)
	for _, cs := range []int64{512, 4096, 64 << 10} {
		rnd := rand.New(rand.NewPCG(3, uint64(cs)))
		want := make([]byte, 512*301)
		path := create(t, int64(len(want)), CreateOptions{ClusterSize: cs})
		for _, sectors := range []int{3000, 299, 300, 20_000, 1, 4097} {
			im := openPath(t, path, Options{})
			for range 40 {
				step(t, rnd, im, want)
			}
			require.NoError(t, im.Resize(int64(sectors)*512))
			want = append(want[:min(len(want), sectors*512):min(len(want), sectors*512)], make([]byte, max(sectors*512-len(want), 0))...)
			require.True(t, bytes.Equal(want, contents(t, im)))
			require.NoError(t, im.Close())
			run(t, "qemu-img", "check", "-q", "-f", "qcow2", path)
			raw := filepath.Join(t.TempDir(), "raw")
			run(t, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw)
			got, err := os.ReadFile(raw)
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, got), "as QEMU reads it")
		}
	}
}

// faulty is storage that fails.
type faulty struct {
	*memory
	write, sync error
}

func (f *faulty) WriteAt(p []byte, off int64) (int, error) {
	if f.write != nil {
		return 0, f.write
	}
	return f.memory.WriteAt(p, off)
}

func (f *faulty) Sync() error { return errors.Join(f.sync, f.memory.Sync()) }

// A full disk is an error with its number and nothing worse; a failed sync is never forgotten.
func TestFaults(t *testing.T) {
	f := &faulty{memory: &memory{}}
	require.NoError(t, Create(f, 1<<20, CreateOptions{ClusterSize: 4096}))
	im, err := open(f, "faulty", Options{})
	require.NoError(t, err)
	_, err = im.WriteAt(make([]byte, 10_000), 0)
	require.NoError(t, err)
	f.write = syscall.ENOSPC
	_, err = im.WriteAt(make([]byte, 10_000), 50_000)
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.ErrorIs(t, im.Flush(), syscall.ENOSPC)
	f.write = nil
	_, err = im.WriteAt(make([]byte, 10_000), 50_000)
	require.NoError(t, err)
	require.NoError(t, im.Flush())
	requireSound(t, im, 0)

	_, err = im.WriteAt([]byte{1}, 90_000)
	require.NoError(t, err)
	f.sync = syscall.EIO
	require.ErrorIs(t, im.Flush(), syscall.EIO)
	f.sync = nil
	require.ErrorIs(t, im.Flush(), syscall.EIO, "the kernel may have dropped it")
	_, err = im.WriteAt([]byte{1}, 900_000)
	require.ErrorIs(t, err, syscall.EIO)
	require.Error(t, im.Close())
}
