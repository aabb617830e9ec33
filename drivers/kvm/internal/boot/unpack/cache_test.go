package unpack

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/linux"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/linux/imagetest"
)

// kernelFile writes a bzImage holding a vmlinux of about n bytes and returns
// its path and the vmlinux.
func kernelFile(t testing.TB, n int) (path string, want []byte) {
	t.Helper()
	want = vmlinux(n)
	path = filepath.Join(t.TempDir(), "vmlinuz")
	require.NoError(t, os.WriteFile(path, bzImage(asPayload(LZ4, pack(t, LZ4, want), len(want))), 0o600))
	return path, want
}

func newCache(t testing.TB) *Cache {
	return &Cache{Dir: filepath.Join(t.TempDir(), "cache", "kernels")}
}

// settleAtOnce lets the index trust files that were written just now.
func settleAtOnce(t testing.TB) {
	old := settleTime
	settleTime = -time.Hour
	t.Cleanup(func() { settleTime = old })
}

// get asks for a kernel, checks its content and returns where it came from.
func get(t testing.TB, c *Cache, path string, want []byte) *Kernel {
	t.Helper()
	k, err := c.Vmlinux(context.Background(), path)
	require.NoError(t, err)
	t.Cleanup(func() { k.Close() })
	requireContent(t, k, want)
	return k
}

func requireContent(t testing.TB, k *Kernel, want []byte) {
	t.Helper()
	require.EqualValues(t, len(want), k.Size)
	got, err := io.ReadAll(io.NewSectionReader(k.File, 0, 1<<40))
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got))
}

func names(t testing.TB, dir, prefix, suffix string) (found []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) && strings.HasSuffix(e.Name(), suffix) {
			found = append(found, filepath.Join(dir, e.Name()))
		}
	}
	return found
}

func TestCacheHit(t *testing.T) {
	c := newCache(t)
	path, want := kernelFile(t, 100000)
	first := get(t, c, path, want)
	assert.Equal(t, Unpacked, first.Origin)
	_, err := first.File.WriteAt([]byte("x"), 0)
	assert.Error(t, err, "the kernel is handed out for reading only")

	second := get(t, c, path, want)
	assert.Equal(t, Cached, second.Origin)
	assert.Equal(t, first.Path, second.Path)
	assert.Empty(t, names(t, c.Dir, indexPrefix, ""), "a file that changed just now is not trusted by its times")
	assert.Empty(t, names(t, c.Dir, tempPrefix, ""))

	// The same content under another name.
	other := filepath.Join(t.TempDir(), "copy")
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(other, b, 0o600))
	assert.Equal(t, Cached, get(t, c, other, want).Origin)
}

func TestCacheIndex(t *testing.T) {
	settleAtOnce(t)
	c := newCache(t)
	path, want := kernelFile(t, 100000)
	get(t, c, path, want)
	st, err := os.Stat(path)
	require.NoError(t, err)
	digest, ok := c.lookup(identityOf(st))
	require.True(t, ok)
	require.Equal(t, c.entryPath(digest), get(t, c, path, want).Path)

	// Another kernel of the same size, with the old time put back.
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	want2 := bytes.Clone(want)
	copy(want2[4000:], "something else")
	b2 := bzImage(asPayload(LZ4, pack(t, LZ4, want2), len(want2)))
	b2 = append(b2, make([]byte, max(0, len(b)-len(b2)))...)[:max(len(b), len(b2))]
	require.NoError(t, os.WriteFile(path, b2, 0o600))
	require.NoError(t, os.Chtimes(path, st.ModTime(), st.ModTime()))
	assert.Equal(t, Unpacked, get(t, c, path, want2).Origin)

	// A wrong index entry leads to a miss, never to another kernel.
	for _, f := range names(t, c.Dir, indexPrefix, "") {
		require.NoError(t, os.WriteFile(f, []byte("garbage\n../../etc/passwd\n"), 0o600))
	}
	assert.Equal(t, Cached, get(t, c, path, want2).Origin)
}

func TestCacheRepairs(t *testing.T) {
	settleAtOnce(t)
	for name, damage := range map[string]func(t *testing.T, entry, meta string){
		"entry gone":      func(t *testing.T, entry, _ string) { require.NoError(t, os.Remove(entry)) },
		"entry empty":     func(t *testing.T, entry, _ string) { require.NoError(t, os.Truncate(entry, 0)) },
		"entry cut":       func(t *testing.T, entry, _ string) { require.NoError(t, os.Truncate(entry, 5000)) },
		"entry too long":  func(t *testing.T, entry, _ string) { require.NoError(t, os.Truncate(entry, 1<<20)) },
		"byte flipped":    func(t *testing.T, entry, _ string) { scribble(t, entry, 70000) },
		"header flipped":  func(t *testing.T, entry, _ string) { scribble(t, entry, 4) },
		"meta gone":       func(t *testing.T, _, meta string) { require.NoError(t, os.Remove(meta)) },
		"meta empty":      func(t *testing.T, _, meta string) { require.NoError(t, os.Truncate(meta, 0)) },
		"meta is garbage": func(t *testing.T, _, meta string) { require.NoError(t, os.WriteFile(meta, []byte("{]"), 0o600)) },
		"meta is huge":    func(t *testing.T, _, meta string) { require.NoError(t, os.Truncate(meta, 1<<30)) },
		"entry is another file": func(t *testing.T, entry, _ string) {
			require.NoError(t, os.Remove(entry))
			require.NoError(t, os.WriteFile(entry, vmlinux(100000-1), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCache(t)
			path, want := kernelFile(t, 100000)
			k := get(t, c, path, want)
			require.NoError(t, os.Chmod(k.Path, 0o600))
			damage(t, k.Path, strings.TrimSuffix(k.Path, entrySuffix)+metaSuffix)
			assert.Equal(t, Unpacked, get(t, c, path, want).Origin)
			assert.Equal(t, Cached, get(t, c, path, want).Origin)
		})
	}
}

// scribble changes one byte and puts the modification time back.
func scribble(t *testing.T, path string, off int64) {
	st, err := os.Stat(path)
	require.NoError(t, err)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	_, err = f.WriteAt([]byte{0xa5}, off)
	require.NoError(t, err)
	require.NoError(t, os.Chtimes(path, st.ModTime(), st.ModTime()))
}

// TestCacheMoved keeps entries that were copied to another place.
func TestCacheMoved(t *testing.T) {
	c, moved := newCache(t), newCache(t)
	path, want := kernelFile(t, 100000)
	get(t, c, path, want)
	require.NoError(t, os.MkdirAll(moved.Dir, 0o700))
	require.NoError(t, os.CopyFS(moved.Dir, os.DirFS(c.Dir)))
	assert.Equal(t, Cached, get(t, moved, path, want).Origin)
}

func TestCacheEviction(t *testing.T) {
	settleAtOnce(t)
	c := newCache(t)
	pathA, wantA := kernelFile(t, 100000)
	pathB, wantB := kernelFile(t, 200000)
	pathC, wantC := kernelFile(t, 300000)
	a, b := get(t, c, pathA, wantA), get(t, c, pathB, wantB)
	// A was used last, whatever the clock's resolution.
	old := time.Now().Add(-time.Minute)
	require.NoError(t, os.Chtimes(strings.TrimSuffix(b.Path, entrySuffix)+metaSuffix, old, old))

	c.MaxBytes = 450000
	get(t, c, pathC, wantC)
	assert.FileExists(t, a.Path)
	assert.NoFileExists(t, b.Path)
	requireContent(t, b, wantB) // its descriptor is still good

	c.MaxBytes = 1
	assert.Equal(t, Unpacked, get(t, c, pathB, wantB).Origin)
	assert.Len(t, names(t, c.Dir, "", entrySuffix), 1, "only the entry in use stays")
	assert.Len(t, names(t, c.Dir, "", metaSuffix), 1)
}

func TestCacheSweepsLeftovers(t *testing.T) {
	c := newCache(t)
	require.NoError(t, os.MkdirAll(c.Dir, 0o700))
	dead, alive := filepath.Join(c.Dir, tempPrefix+"dead"), filepath.Join(c.Dir, tempPrefix+"alive")
	for _, f := range []string{dead, alive} {
		require.NoError(t, os.WriteFile(f, []byte("half a kernel"), 0o600))
	}
	old := time.Now().Add(-2 * staleTemp)
	require.NoError(t, os.Chtimes(dead, old, old))
	path, want := kernelFile(t, 1000)
	get(t, c, path, want)
	assert.NoFileExists(t, dead)
	assert.FileExists(t, alive)
}

func TestCacheConcurrent(t *testing.T) {
	c := newCache(t)
	path, want := kernelFile(t, 3<<20)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			k, err := c.Vmlinux(context.Background(), path)
			if assert.NoError(t, err) {
				got, err := io.ReadAll(io.NewSectionReader(k.File, 0, k.Size))
				assert.NoError(t, err)
				assert.True(t, bytes.Equal(want, got))
				assert.NoError(t, k.CacheErr)
				k.Close()
			}
		})
		wg.Go(func() {
			child := exec.Command(os.Args[0])
			child.Env = append(os.Environ(), childEnv+"="+path, childEnv+"_DIR="+c.Dir)
			out, err := child.CombinedOutput()
			assert.NoError(t, err)
			assert.Regexp(t, `(?m)^(unpacked|cached) \d+$`, string(out))
		})
	}
	wg.Wait()
	assert.Equal(t, Cached, get(t, c, path, want).Origin)
	assert.Len(t, names(t, c.Dir, "", entrySuffix), 1)
	assert.Empty(t, names(t, c.Dir, tempPrefix, ""))
}

func TestUnusableCache(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	open := filepath.Join(t.TempDir(), "open")
	require.NoError(t, os.Mkdir(open, 0o700))
	require.NoError(t, os.Chmod(open, 0o777))
	path, want := kernelFile(t, 100000)
	for name, tt := range map[string]struct{ dir, text string }{
		"below a file":       {filepath.Join(file, "cache"), "not a directory"},
		"a file":             {file, "not a directory"},
		"writable by others": {open, "writable by others"},
		"below /proc":        {"/proc/polyvisor-cache", "/proc/polyvisor-cache"},
	} {
		t.Run(name, func(t *testing.T) {
			k := get(t, &Cache{Dir: tt.dir}, path, want)
			assert.Equal(t, Uncached, k.Origin)
			assert.Empty(t, k.Path)
			assert.ErrorContains(t, k.CacheErr, tt.text)
		})
	}
	k := get(t, &Cache{}, path, want)
	assert.Equal(t, Uncached, k.Origin)
	assert.NoError(t, k.CacheErr, "no cache was asked for")
}

func TestOriginal(t *testing.T) {
	want := vmlinux(5000)
	path := filepath.Join(t.TempDir(), "vmlinux")
	require.NoError(t, os.WriteFile(path, want, 0o600))
	c := newCache(t)
	k := get(t, c, path, want)
	assert.Equal(t, Original, k.Origin)
	assert.Equal(t, path, k.Path)
	assert.NoDirExists(t, c.Dir)
}

func TestCacheErrors(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, b, 0o600))
		return path
	}
	fifo := filepath.Join(dir, "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	corrupt := fixture(t, "x86.xz")
	corrupt[len(corrupt)/2] ^= 1
	notELF := bytes.Repeat([]byte("not a kernel. "), 1000)
	broken := vmlinux(5000)
	broken[56] = 0 // no program headers
	arm := imagetest.ELF{Machine: 183, Segments: []imagetest.Segment{{Type: 1, Data: branchy(100)}}}.Build()
	for _, tt := range []struct {
		path string
		want error
	}{
		{filepath.Join(dir, "missing"), linux.ErrRead},
		{filepath.Join(dir, "missing"), os.ErrNotExist},
		{dir, linux.ErrRead},
		{fifo, linux.ErrRead},
		{write("empty", nil), linux.ErrTruncated},
		{write("text", notELF), linux.ErrBadMagic},
		{write("brokenELF", broken), linux.ErrMalformed},
		{write("arm64", arm), linux.ErrUnsupported},
		{write("corrupt", bzImage(corrupt)), ErrCorrupt},
		{write("notELF", bzImage(imagetest.WithSize(pack(t, LZ4, notELF), len(notELF)))), linux.ErrBadMagic},
		{write("arm64bz", bzImage(imagetest.WithSize(pack(t, Zstd, arm), len(arm)))), linux.ErrUnsupported},
	} {
		c := newCache(t)
		_, err := c.Vmlinux(context.Background(), tt.path)
		var typed *linux.Error
		require.ErrorAs(t, err, &typed, tt.path)
		assert.ErrorIs(t, err, tt.want)
		assert.Contains(t, err.Error(), tt.path)
		if _, err := os.Stat(c.Dir); err == nil {
			assert.Empty(t, names(t, c.Dir, "", ""), "nothing stays behind")
		}
	}
}

func TestCachePermission(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("needs a user other than root, who may read everything")
	}
	path, _ := kernelFile(t, 1000)
	require.NoError(t, os.Chmod(path, 0))
	_, err := newCache(t).Vmlinux(context.Background(), path)
	assert.ErrorIs(t, err, os.ErrPermission)
	assert.ErrorContains(t, err, "readable for this user")
}

func TestCacheCancelled(t *testing.T) {
	path, _ := kernelFile(t, 100000)
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("changed my mind"))
	c := newCache(t)
	_, err := c.Vmlinux(ctx, path)
	assert.ErrorIs(t, err, context.Canceled)
	assert.Empty(t, names(t, c.Dir, "", ""))
	_, err = (&Cache{}).Vmlinux(ctx, path)
	assert.ErrorIs(t, err, context.Canceled)
}

func TestSparseFile(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "sparse"))
	require.NoError(t, err)
	defer f.Close()
	data := make([]byte, 300<<10+123)
	copy(data[5000:], branchy(10000))
	copy(data[100<<10-10:], branchy(20))
	copy(data[200<<10:], branchy(4096))
	for _, chunk := range []int{1, 100, 4095, 4096, 4097, 1 << 20, len(data)} {
		require.NoError(t, f.Truncate(0))
		s := newSparseFile(f)
		for rest := data; len(rest) > 0; rest = rest[min(chunk, len(rest)):] {
			n, err := s.Write(rest[:min(chunk, len(rest))])
			require.NoError(t, err)
			require.Equal(t, min(chunk, len(rest)), n)
		}
		require.NoError(t, s.finish())
		got, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<40))
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, got), chunk)
	}
	st, err := f.Stat()
	require.NoError(t, err)
	assert.Less(t, st.Sys().(*syscall.Stat_t).Blocks*512, int64(100<<10))
}

func BenchmarkCache(b *testing.B) {
	img := stockKernel(b)
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			c := newCache(b)
			get1(b, c, img.Name)
			b.StopTimer()
			os.RemoveAll(c.Dir)
			b.StartTimer()
		}
	})
	b.Run("again", func(b *testing.B) {
		c := newCache(b)
		for b.Loop() {
			get1(b, c, img.Name)
		}
	})
}

func get1(b *testing.B, c *Cache, path string) {
	k, err := c.Vmlinux(context.Background(), path)
	require.NoError(b, err)
	k.Close()
}
