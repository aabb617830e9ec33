package guest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/internal/agent/proto"
)

func TestFiles(t *testing.T) {
	c, ctx := pair(t, &Server{}), limited(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	const size = 5<<20 + 3
	sent, got := sha256.New(), sha256.New()
	require.NoError(t, c.Put(ctx, path, 0o640, io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{9}), size), sent)))
	fi, err := os.Stat(path)
	require.NoError(t, err)
	require.EqualValues(t, size, fi.Size())
	require.Equal(t, os.FileMode(0o640), fi.Mode())
	mode, err := c.Get(ctx, path, got)
	require.NoError(t, err)
	require.EqualValues(t, 0o640, mode)
	require.Equal(t, sent.Sum(nil), got.Sum(nil))

	// It is replaced as a whole, or not.
	require.NoError(t, c.Put(ctx, path, 0o755, strings.NewReader("")))
	var out bytes.Buffer
	mode, err = c.Get(ctx, path, &out)
	require.NoError(t, err)
	require.EqualValues(t, 0o755, mode)
	require.Empty(t, out.Bytes())
	broken := errors.New("broken")
	require.ErrorIs(t, c.Put(ctx, path, 0o600, io.MultiReader(strings.NewReader(strings.Repeat("x", 1<<20)), readerFunc(func([]byte) (int, error) { return 0, broken }))), broken)
	_, err = c.Get(ctx, path, &out)
	require.NoError(t, err)
	require.Empty(t, out.Bytes())
	require.Eventually(t, func() bool { l, err := os.ReadDir(dir); return err == nil && len(l) == 1 }, time.Minute, time.Millisecond, "something is left")
	require.NoError(t, c.Put(ctx, path, 0o600, strings.NewReader(strings.Repeat("x", 1<<20))))
	_, err = c.Get(ctx, path, writerFunc(func([]byte) (int, error) { return 0, broken }))
	require.ErrorIs(t, err, broken)
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestFilesRefused(t *testing.T) {
	c, ctx := pair(t, &Server{}), limited(t)
	dir := t.TempDir()
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	for _, tt := range []struct {
		path, put, get string
	}{
		{filepath.Join(dir, "none"), "", proto.FailNotFound},
		{filepath.Join(dir, "no", "dir"), proto.FailNotFound, proto.FailNotFound},
		{dir, proto.FailInvalid, proto.FailInvalid},
		{filepath.Join(dir, "pipe"), proto.FailInvalid, proto.FailInvalid},
		{"relative", proto.FailInvalid, proto.FailInvalid},
		{"/zero\x00byte", proto.FailInvalid, proto.FailInvalid},
	} {
		var f *proto.Failure
		_, err := c.Get(ctx, tt.path, io.Discard)
		require.ErrorAs(t, err, &f, tt.path)
		require.Equal(t, tt.get, f.Code, f.Message)
		if tt.put != "" {
			require.ErrorAs(t, c.Put(ctx, tt.path, 0o600, strings.NewReader("x")), &f, tt.path)
			require.Equal(t, tt.put, f.Code, f.Message)
		}
	}
}

func TestPingTimeAndVersion(t *testing.T) {
	c, ctx := pair(t, &Server{Problems: []string{"no module"}}), limited(t)
	a, err := c.Ping(ctx)
	require.NoError(t, err)
	require.Equal(t, &proto.Answer{Version: proto.Version, Problems: []string{"no module"}}, a)

	var set time.Time
	before := setClock
	defer func() { setClock = before }()
	setClock = func(t time.Time) error { set = t; return nil }
	now := time.Unix(1700000000, 123456789)
	require.NoError(t, c.SetTime(ctx, now))
	require.True(t, now.Equal(set))
	setClock = func(time.Time) error { return syscall.EPERM }
	var f *proto.Failure
	require.ErrorAs(t, c.SetTime(ctx, now), &f)
	require.Equal(t, proto.FailPermission, f.Code)
}

func TestIdentify(t *testing.T) {
	root := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(root, "etc"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("root:x:0:0:root:/root:/bin/sh\nbad line\napp:x:1000:1001::/srv/app:/bin/sh\nnowhere:x:7:7:::\n"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(root, "etc/group"), []byte("root:x:0:\nkvm:x:104:app,other\ndisk:x:6:other,app\nweb:x:33:\n"), 0o644))
	for _, tt := range []struct {
		text string
		want identity
	}{
		{"", identity{"root", 0, 0, []uint32{}, "/root"}},
		{"root", identity{"root", 0, 0, []uint32{}, "/root"}},
		{"app", identity{"app", 1000, 1001, []uint32{104, 6}, "/srv/app"}},
		{"1000", identity{"app", 1000, 1001, []uint32{104, 6}, "/srv/app"}},
		{"app:web", identity{"app", 1000, 33, []uint32{}, "/srv/app"}},
		{"5:6", identity{"5", 5, 6, []uint32{}, "/"}},
		{"nowhere", identity{"nowhere", 7, 7, []uint32{}, "/"}},
		{":web", identity{"root", 0, 33, []uint32{}, "/root"}},
	} {
		got, err := identify(root, tt.text)
		require.NoError(t, err, tt.text)
		require.Equal(t, &tt.want, got, tt.text)
	}
	for _, bad := range []string{"none", "app:none", "4294967295", "-1", "0:4294967296"} {
		_, err := identify(root, bad)
		require.Error(t, err, bad)
	}
	got, err := identify(t.TempDir(), "") // a guest without the files
	require.NoError(t, err)
	require.Equal(t, &identity{"root", 0, 0, []uint32{}, "/"}, got)
}

func TestMountOptions(t *testing.T) {
	flags, data := mountOptions("ro,nosuid,mode=755,,size=1m,rw")
	require.EqualValues(t, syscall.MS_RDONLY|syscall.MS_NOSUID, flags)
	require.Equal(t, "mode=755,size=1m", data)
}

func TestPressed(t *testing.T) {
	press := append(make([]byte, 16), 1, 0, 116, 0, 1, 0, 0, 0)
	release := append(make([]byte, 16), 1, 0, 116, 0, 0, 0, 0, 0)
	require.True(t, pressed(append(release, press...)))
	require.False(t, pressed(release))
	require.False(t, pressed(press[:23]))
}
