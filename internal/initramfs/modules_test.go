package initramfs

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/cavaliergopher/cpio"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/ulikunitz/xz"

	"github.com/polyvisor/polyvisor/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// moduleTree is a module directory with every kind of packing.
func moduleTree(t *testing.T) string {
	root := t.TempDir()
	put := func(name string, data []byte) {
		p := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(p), 0o755))
		require.NoError(t, os.WriteFile(p, data, 0o644))
	}
	pack := func(newWriter func(io.Writer) (io.WriteCloser, error), text string) []byte {
		var b bytes.Buffer
		w, err := newWriter(&b)
		require.NoError(t, err)
		_, err = io.WriteString(w, text)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		return b.Bytes()
	}
	put("modules.dep", []byte("kernel/top.ko: kernel/mid-dle.ko.xz kernel/base.ko.zst\nkernel/mid-dle.ko.xz: kernel/base.ko.zst\n"+
		"kernel/base.ko.zst:\nkernel/alone.ko.gz:\nkernel/a.ko: kernel/b.ko\nkernel/b.ko: kernel/a.ko\nkernel/gone.ko:\n"))
	put("modules.builtin", []byte("kernel/drivers/acpi/button.ko\n"))
	put("kernel/top.ko", []byte("top"))
	put("kernel/mid-dle.ko.xz", pack(func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) }, "middle"))
	put("kernel/base.ko.zst", pack(func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) }, "base"))
	put("kernel/alone.ko.gz", pack(func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil }, "alone"))
	return root
}

func TestModules(t *testing.T) {
	root := moduleTree(t)
	got, err := Modules(root, []string{"top", "button", "alone", "mid_dle"})
	require.NoError(t, err)
	assert.Equal(t, []Module{
		{"base.ko", []byte("base")}, {"mid_dle.ko", []byte("middle")}, {"top.ko", []byte("top")}, {"alone.ko", []byte("alone")},
	}, got)

	for name, says := range map[string]string{"absent": "absent is not in", "a": "in a circle", "gone": "gone.ko"} {
		_, err = Modules(root, []string{name})
		require.Error(t, err)
		assert.Contains(t, err.Error(), says)
	}
	require.NoError(t, os.WriteFile(filepath.Join(root, "kernel/alone.ko.gz"), []byte("this is no gzip file"), 0o644))
	_, err = Modules(root, []string{"alone"})
	require.ErrorIs(t, err, gzip.ErrHeader)
	_, err = Modules(t.TempDir(), []string{"x"})
	require.ErrorIs(t, err, os.ErrNotExist)
	assert.Contains(t, err.Error(), "depmod")
}

func TestArchive(t *testing.T) {
	a := New()
	a.File("/usr/bin/tool", []byte("tool"))
	a.Link("bin/sh", "/usr/bin/tool")
	a.Dir("usr/lib")
	b, err := a.Close()
	require.NoError(t, err)
	type entry struct {
		mode cpio.FileMode
		text string
	}
	got := map[string]entry{}
	for r := cpio.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		text := h.Linkname
		if text == "" {
			b, err := io.ReadAll(r)
			require.NoError(t, err)
			text = string(b)
		}
		got[h.Name] = entry{h.Mode, text}
	}
	dir := entry{cpio.TypeDir | 0o755, ""}
	assert.Equal(t, map[string]entry{
		"usr": dir, "usr/bin": dir, "usr/bin/tool": {cpio.TypeReg | 0o755, "tool"}, "bin": dir, "bin/sh": {cpio.TypeSymlink | 0o777, "/usr/bin/tool"}, "usr/lib": dir,
	}, got)
	for _, name := range []string{"", "..", "a/../../b", "a\x00b"} {
		a := New()
		a.File(name, nil)
		a.File("fine", nil)
		_, err := a.Close()
		assert.ErrorContains(t, err, "bad file name", name)
	}
}
