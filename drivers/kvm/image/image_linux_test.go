package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func run(t *testing.T, args ...string) {
	t.Helper()
	if _, err := exec.LookPath(args[0]); err != nil {
		t.Skipf("no %s: apt-get install qemu-utils", args[0])
	}
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	require.NoError(t, err, string(out))
}

// newRaw8 is a raw image of 8 MiB with data, zeroes and holes.
func newRaw8(t *testing.T) (string, []byte) {
	t.Helper()
	data := make([]byte, 8<<20)
	rnd := rand.New(rand.NewPCG(1, 1))
	for _, at := range []int{0, 1 << 20, 5<<20 + 4096*3} {
		for i := range 300_000 {
			data[at+i] = byte(rnd.Uint32()) & 3
		}
	}
	path := filepath.Join(t.TempDir(), "disk.img")
	f, err := os.Create(path)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(int64(len(data))))
	for _, at := range []int64{0, 1 << 20, 5 << 20} {
		_, err = f.WriteAt(data[at:at+700_000], at)
		require.NoError(t, err)
	}
	require.NoError(t, f.Close())
	return path, data
}

func TestConvertThereAndBack(t *testing.T) {
	raw, data := newRaw8(t)
	dir := t.TempDir()
	var last, total int64
	progress := func(done, all int64) {
		assert.GreaterOrEqual(t, done, last)
		last, total = done, all
	}
	for _, cluster := range []int64{512, 0, 2 << 20} {
		last = 0
		q, back := filepath.Join(dir, "q"), filepath.Join(dir, "back")
		require.NoError(t, Convert(t.Context(), raw, q, ConvertOptions{ClusterSize: cluster, Force: true, Progress: progress}))
		require.Equal(t, total, last)
		require.EqualValues(t, len(data), total)
		r, err := Check(t.Context(), q, false, nil)
		require.NoError(t, err)
		require.Zero(t, r.Corruptions+r.Leaks, r.Problems)
		require.NoError(t, Convert(t.Context(), q, back, ConvertOptions{To: Raw, Force: true}))
		got, err := os.ReadFile(back)
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, got))
		d, err := Info(back, Raw)
		require.NoError(t, err)
		require.Less(t, d.Used, int64(2<<20), "holes stay holes")
		run(t, "qemu-img", "check", "-q", q)
		run(t, "qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", raw, q)
	}
}

func TestConvertWhatQEMUMakes(t *testing.T) {
	raw, data := newRaw8(t)
	for _, options := range []string{"compat=0.10", "compat=1.1", "compression_type=zlib", "compression_type=zstd", "refcount_bits=1", "refcount_bits=64", "lazy_refcounts=on"} {
		t.Run(options, func(t *testing.T) {
			dir := t.TempDir()
			q, back := filepath.Join(dir, "q"), filepath.Join(dir, "back")
			args := []string{"qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", options, raw, q}
			if strings.HasPrefix(options, "compression") {
				args = append(args, "-c")
			}
			run(t, args...)
			r, err := Check(t.Context(), q, false, nil)
			require.NoError(t, err)
			require.Zero(t, r.Corruptions+r.Leaks, r.Problems)
			require.NoError(t, Convert(t.Context(), q, back, ConvertOptions{To: Raw}))
			got, err := os.ReadFile(back)
			require.NoError(t, err)
			require.True(t, bytes.Equal(data, got))
		})
	}
}

func TestBackingOnlyIfAllowed(t *testing.T) {
	raw, data := newRaw8(t)
	dir := t.TempDir()
	base := filepath.Join(dir, "base")
	require.NoError(t, Convert(t.Context(), raw, base, ConvertOptions{}))
	top := filepath.Join(dir, "top")
	require.ErrorContains(t, Create(top, 0, CreateOptions{Backing: "base"}), "not stated")
	require.NoError(t, Create(top, 0, CreateOptions{Backing: "base", BackingFormat: QCOW2}))
	out := filepath.Join(dir, "out")
	require.ErrorContains(t, Convert(t.Context(), top, out, ConvertOptions{}), "does not allow")
	require.NoError(t, Convert(t.Context(), top, out, ConvertOptions{Backing: true, To: Raw}))
	got, err := os.ReadFile(out)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, got))
	d, err := Info(top, "")
	require.NoError(t, err)
	require.Equal(t, "base", d.Backing)
	run(t, "qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", raw, top)

	// A loop ends.
	run(t, "qemu-img", "rebase", "-u", "-F", "qcow2", "-b", "top", base)
	require.ErrorContains(t, Convert(t.Context(), top, filepath.Join(dir, "loop"), ConvertOptions{Backing: true}), "based on itself")
	// A long chain too.
	for i := range 20 {
		name := filepath.Join(dir, fmt.Sprint("chain", i))
		run(t, "qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", fmt.Sprint("chain", i+1), name, "1M")
	}
	require.ErrorContains(t, Convert(t.Context(), filepath.Join(dir, "chain0"), filepath.Join(dir, "long"), ConvertOptions{Backing: true}), "more than 16")
}

// Whatever goes wrong, nothing is left and nothing is replaced.
func TestNothingIsLeft(t *testing.T) {
	raw, _ := newRaw8(t)
	dir := t.TempDir()
	to := filepath.Join(dir, "to")
	left := func() []string {
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := Convert(ctx, raw, to, ConvertOptions{Progress: func(int64, int64) { cancel() }})
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, left())

	// A limit of the file size is a full disk that needs no root.
	full := exec.Command("/bin/sh", "-c", `ulimit -f 600; trap '' XFSZ; exec "$0" -test.run='^TestFullDisk$'`, os.Args[0])
	full.Env = append(os.Environ(), "IMAGE_TEST_FROM="+raw, "IMAGE_TEST_TO="+to)
	out, err := full.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), "PASS")
	require.Empty(t, left())

	require.NoError(t, os.WriteFile(to, []byte("mine"), 0o600))
	require.ErrorIs(t, Convert(t.Context(), raw, to, ConvertOptions{}), fs.ErrExist)
	require.ErrorIs(t, Create(to, 1<<20, CreateOptions{}), fs.ErrExist)
	got, err := os.ReadFile(to)
	require.NoError(t, err)
	require.Equal(t, "mine", string(got))
	require.Equal(t, []string{"to"}, left())
}

func TestFullDisk(t *testing.T) {
	if os.Getenv("IMAGE_TEST_FROM") == "" {
		t.Skip("run by TestNothingIsLeft")
	}
	for _, to := range []Format{Raw, QCOW2} {
		err := Convert(t.Context(), os.Getenv("IMAGE_TEST_FROM"), os.Getenv("IMAGE_TEST_TO"), ConvertOptions{To: to})
		require.True(t, errors.Is(err, syscall.EFBIG) || errors.Is(err, syscall.ENOSPC), err)
	}
}

func TestInUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	require.NoError(t, Create(path, 1<<20, CreateOptions{}))
	f, err := openFile(path, true)
	require.NoError(t, err)
	require.ErrorIs(t, Resize(path, 2<<20, ResizeOptions{}), ErrInUse)
	_, err = Check(t.Context(), path, true, nil)
	require.ErrorIs(t, err, ErrInUse)
	require.ErrorIs(t, Convert(t.Context(), path, path+"2", ConvertOptions{}), ErrInUse)
	require.ErrorIs(t, Create(path, 1<<20, CreateOptions{Force: true}), ErrInUse)
	_, err = Info(path, "")
	require.NoError(t, err, "looking is allowed")
	require.NoError(t, f.Close())
	require.NoError(t, Resize(path, 2<<20, ResizeOptions{}))
	require.ErrorContains(t, Resize(path, 1<<20, ResizeOptions{}), "smaller")
	require.NoError(t, Resize(path, 1<<20, ResizeOptions{Shrink: true}))

	fifo := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, unix.Mkfifo(fifo, 0o600))
	_, err = Check(t.Context(), fifo, false, nil)
	require.ErrorContains(t, err, "neither")
	_, err = Info(fifo, "")
	require.ErrorContains(t, err, "neither")
}

func TestForeignFormats(t *testing.T) {
	for _, format := range []string{"vmdk", "vhdx", "vdi", "vpc"} {
		path := filepath.Join(t.TempDir(), "d")
		run(t, "qemu-img", "create", "-q", "-f", format, path, "10M")
		err := Convert(t.Context(), path, path+".qcow2", ConvertOptions{})
		require.ErrorContains(t, err, "qemu-img convert -f "+format)
		require.ErrorContains(t, Convert(t.Context(), path, path+".qcow2", ConvertOptions{From: Format(format)}), "qemu-img convert -f "+format)
	}
}
