//go:build linux

package nestedvm

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/polyvisor/polyvisor/internal/nestedvm/wire"
	"github.com/stretchr/testify/require"
)

type frame struct {
	kind    wire.Kind
	payload string
}

// play has a session talk to a machine that reads its work and says the frames.
func play(t *testing.T, cfg Config, frames ...frame) (Result, error) {
	t.Helper()
	ours, theirs, err := socketPair()
	require.NoError(t, err)
	defer ours.Close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer theirs.Close()
		_, _, err := wire.NewReader(theirs).Next()
		w := wire.NewWriter(theirs)
		for _, f := range frames {
			if err == nil {
				err = w.Frame(f.kind, []byte(f.payload))
			}
		}
	}()
	e := &emulator{port: ours, console: &tail{max: 1000}, ended: ended, kill: func() { ours.Close() }}
	_, _ = e.console.Write([]byte("what the kernel said"))
	if cfg.Commands == nil {
		cfg.Commands = []Command{{Args: []string{"/x"}}}
	}
	s := &session{cfg: cfg, emulator: e}
	err = s.serve()
	<-ended
	return s.result, err
}

var (
	ready = frame{wire.KindReady, `{}`}
	start = frame{wire.KindStart, `{"Index":0}`}
	exit  = frame{wire.KindExit, `{"Index":0,"Code":4}`}
	done  = frame{wire.KindDone, `{}`}
)

func TestSession(t *testing.T) {
	var out bytes.Buffer
	res, err := play(t, Config{Stdout: &out}, ready, start, frame{wire.KindStdout, "hello"}, exit, done)
	require.NoError(t, err)
	require.Equal(t, "hello", out.String())
	require.Equal(t, 4, res.ExitCode())
}

// A machine that dies before it is up, and whose QEMU has nothing to say of it, may come up at the next try.
func TestDiesAtBoot(t *testing.T) {
	_, err := play(t, Config{})
	require.ErrorIs(t, err, ErrHung)
}

func TestSessionFaults(t *testing.T) {
	full := Config{Stdout: writerFunc(func([]byte) (int, error) { return 0, errors.New("disk full") })}
	for name, c := range map[string]struct {
		cfg    Config
		frames []frame
		want   []string
	}{
		"dies at boot":         {Config{}, nil, []string{"died during its boot", "what the kernel said"}},
		"dies in a command":    {Config{}, []frame{ready, start}, []string{"died during command [/x]", "what the kernel said"}},
		"dies after it":        {Config{}, []frame{ready, start, exit}, []string{"died during the copying of artifacts"}},
		"no KVM":               {Config{}, []frame{{wire.KindReady, `{"Fault":"no /dev/kvm"}`}}, []string{"no /dev/kvm", "what the kernel said"}},
		"no JSON":              {Config{}, []frame{{wire.KindReady, `{`}}, []string{"nested machine: "}},
		"wrong command":        {Config{}, []frame{ready, {wire.KindStart, `{"Index":1}`}}, []string{"starts command 1"}},
		"a second command":     {Config{}, []frame{ready, start, exit, {wire.KindStart, `{"Index":1}`}}, []string{"starts command 1"}},
		"exit of no command":   {Config{}, []frame{ready, exit}, []string{"while no command runs"}},
		"output of no one":     {Config{}, []frame{ready, {wire.KindStdout, "x"}}, []string{"output while no command runs"}},
		"spec":                 {Config{}, []frame{{wire.KindSpec, `{}`}}, []string{"unexpected frame"}},
		"done too early":       {Config{}, []frame{ready, done}, []string{"done after 0 of 1 commands"}},
		"artifacts fail":       {Config{}, []frame{ready, start, exit, {wire.KindDone, `{"Fault":"no space"}`}}, []string{"no space"}},
		"artifacts are no tar": {Config{}, []frame{ready, start, exit, {wire.KindTar, "x"}, done}, []string{"artifacts of the nested machine"}},
		"writer fails":         {full, []frame{ready, start, {wire.KindStdout, "x"}}, []string{"disk full"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := play(t, c.cfg, c.frames...)
			require.Error(t, err)
			for _, w := range c.want {
				require.ErrorContains(t, err, w)
			}
		})
	}
}

// archive makes a tar archive of headers; the content of files is their name.
func archive(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(h.Name))
		}
		h.Mode = 0o644
		require.NoError(t, w.WriteHeader(&h))
		if h.Typeflag == tar.TypeReg {
			_, err := w.Write([]byte(h.Name))
			require.NoError(t, err)
		}
	}
	require.NoError(t, w.Close())
	// The writer refuses to write this.
	return bytes.ReplaceAll(b.Bytes(), []byte("ABC.sparse"), []byte("GNU.sparse"))
}

func TestUnpack(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(dir, "outside")
	require.NoError(t, os.Mkdir(outside, 0o755))
	for name, c := range map[string]struct {
		headers []tar.Header
		want    string
	}{
		"file":            {[]tar.Header{{Name: "0/a", Typeflag: tar.TypeReg}}, ""},
		"directories":     {[]tar.Header{{Name: "0/", Typeflag: tar.TypeDir}, {Name: "0/d/", Typeflag: tar.TypeDir}, {Name: "0/d/f", Typeflag: tar.TypeReg}}, ""},
		"up":              {[]tar.Header{{Name: "0/../outside/f", Typeflag: tar.TypeReg}}, "escapes"},
		"up directory":    {[]tar.Header{{Name: "0/../outside/d/", Typeflag: tar.TypeDir}}, "escapes"},
		"through a link":  {[]tar.Header{{Name: "0/link/f", Typeflag: tar.TypeReg}}, "escapes"},
		"symbolic link":   {[]tar.Header{{Name: "0/l", Typeflag: tar.TypeSymlink, Linkname: "/etc"}}, "neither a file nor a directory"},
		"device":          {[]tar.Header{{Name: "0/l", Typeflag: tar.TypeChar}}, "neither a file nor a directory"},
		"not asked for":   {[]tar.Header{{Name: "1/a", Typeflag: tar.TypeReg}}, "not one that was asked for"},
		"negative":        {[]tar.Header{{Name: "-1/a", Typeflag: tar.TypeReg}}, "not one that was asked for"},
		"sparse":          {[]tar.Header{{Name: "0/s", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"ABC.sparse.x": "y"}}}, "sparse"},
		"no number":       {[]tar.Header{{Name: "a", Typeflag: tar.TypeReg}}, "not one that was asked for"},
		"absolute inside": {[]tar.Header{{Name: "0//etc/f", Typeflag: tar.TypeReg}}, "escapes"},
	} {
		t.Run(name, func(t *testing.T) {
			dst := filepath.Join(dir, name)
			require.NoError(t, os.Mkdir(dst, 0o755))
			require.NoError(t, os.Symlink(outside, filepath.Join(dst, "link")))
			err := unpackTar(bytes.NewReader(archive(t, c.headers...)), map[string]string{"/x": dst})
			if c.want == "" {
				require.NoError(t, err)
				last := c.headers[len(c.headers)-1].Name
				got, err := os.ReadFile(filepath.Join(dst, last[2:]))
				require.NoError(t, err)
				require.Equal(t, last, string(got))
				return
			}
			require.ErrorContains(t, err, c.want)
			left, err := os.ReadDir(outside)
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(archive(f, tar.Header{Name: "0/d/", Typeflag: tar.TypeDir}, tar.Header{Name: "0/d/f", Typeflag: tar.TypeReg}))
	f.Add(archive(f, tar.Header{Name: "0/../f", Typeflag: tar.TypeReg}))
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, in []byte) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "dst"), 0o755); err != nil {
			t.Fatal(err)
		}
		_ = unpackTar(bytes.NewReader(in), map[string]string{"/x": filepath.Join(dir, "dst", "in")})
		for d, want := range map[string]string{dir: "dst", filepath.Join(dir, "dst"): "in"} {
			entries, err := os.ReadDir(d)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				if e.Name() != want {
					t.Fatalf("%s appeared in %s", e.Name(), d)
				}
			}
		}
	})
}
