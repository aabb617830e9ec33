package disk

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fileImage stands for a format: an image that holds its file and nothing else.
type fileImage struct {
	Image
	f *os.File
}

func (i fileImage) Close() error { return i.f.Close() }

func openAny(f *os.File, _ Options) (Image, error) { return fileImage{f: f}, nil }

func TestOpen(t *testing.T) {
	path := newFile(t)
	img, err := Open(path, Options{}, openAny)
	require.NoError(t, err)

	_, err = Open(path, Options{}, openAny)
	require.ErrorIs(t, err, ErrLocked)
	_, err = Open(path, Options{ReadOnly: true}, openAny)
	require.ErrorIs(t, err, ErrLocked)
	shared, err := Open(path, Options{NoLock: true}, openAny)
	require.NoError(t, err)
	require.NoError(t, shared.Close())

	require.NoError(t, img.Close())
	a, err := Open(path, Options{ReadOnly: true}, openAny)
	require.NoError(t, err)
	b, err := Open(path, Options{ReadOnly: true}, openAny)
	require.NoError(t, err)
	require.NoError(t, a.Close())
	require.NoError(t, b.Close())
}

// What cannot be opened is said so, and leaves neither a descriptor (TestMain looks) nor a lock.
func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	for _, tt := range []struct{ path, says string }{
		{filepath.Join(dir, "absent"), "no such file"},
		{fifo, "a FIFO"},
		{"/dev/null", "a character device"},
		{dir, "directory"},
	} {
		for _, o := range []Options{{}, {ReadOnly: true}} {
			_, err := Open(tt.path, o, openAny)
			require.Error(t, err)
			assert.Contains(t, err.Error(), tt.says)
			assert.Contains(t, err.Error(), tt.path)
		}
	}

	path := newFile(t)
	bad := errors.New("not of this format")
	_, err := Open(path, Options{}, func(*os.File, Options) (Image, error) { return nil, bad })
	require.ErrorIs(t, err, bad)
	img, err := Open(path, Options{}, openAny)
	require.NoError(t, err)
	require.NoError(t, img.Close())
}

func TestFromFileWantsTheAccessItNeeds(t *testing.T) {
	for _, tt := range []struct {
		flags int
		o     Options
		says  string
	}{
		{os.O_RDONLY, Options{}, "read-only"},
		{os.O_WRONLY, Options{}, "not open for reading"},
		{os.O_WRONLY, Options{ReadOnly: true}, "not open for reading"},
		{os.O_RDONLY, Options{ReadOnly: true}, ""},
		{os.O_RDWR, Options{ReadOnly: true}, ""},
		{os.O_RDWR, Options{}, ""},
	} {
		f, err := os.OpenFile(newFile(t), tt.flags, 0)
		require.NoError(t, err)
		img, err := FromFile(f, tt.o, openAny)
		if tt.says == "" {
			require.NoError(t, err)
			require.NoError(t, img.Close())
			continue
		}
		require.ErrorContains(t, err, tt.says)
		require.ErrorIs(t, f.Close(), os.ErrClosed, "the file is closed with the error")
	}
}

func TestParseCache(t *testing.T) {
	for _, c := range []Cache{Writeback, Writethrough, None, Unsafe} {
		got, err := ParseCache(c.String())
		require.NoError(t, err)
		assert.Equal(t, c, got)
	}
	got, err := ParseCache("")
	require.NoError(t, err)
	assert.Equal(t, Writeback, got)
	_, err = ParseCache("directsync")
	require.ErrorContains(t, err, "writethrough")
	assert.Equal(t, "Cache(7)", Cache(7).String())
}

func TestErrno(t *testing.T) {
	assert.Equal(t, syscall.ENOSPC, Errno(&os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}))
	assert.Equal(t, syscall.EIO, Errno(errors.New("no number")))
}
