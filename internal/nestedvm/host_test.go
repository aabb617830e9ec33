//go:build linux

package nestedvm

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cavaliergopher/cpio"
	"github.com/stretchr/testify/require"
	"github.com/ulikunitz/xz"
)

func TestCompareVersions(t *testing.T) {
	sorted := []string{
		"", "5.10.0-9-cloud-amd64", "5.10.0-10-cloud-amd64", "6.1.0-9-cloud-amd64", "6.1.0-56-cloud-amd64",
		"6.1.0-056-cloud-amd64x", "6.12.1-1-cloud-amd64", "6.12.1+1-cloud-amd64x", "10.0",
	}
	// A plus sorts before a minus, as bytes do.
	sorted[6], sorted[7] = sorted[7], sorted[6]
	for i, a := range sorted {
		for j, b := range sorted {
			require.Equal(t, compareInts(i, j), compareVersions(a, b), "%q and %q", a, b)
		}
	}
}

func compareInts(a, b int) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// fakeKernels makes a /boot and a /lib/modules.
func fakeKernels(t *testing.T, withModules bool, releases ...string) (boot, modules string) {
	t.Helper()
	boot, modules = t.TempDir(), t.TempDir()
	for _, r := range releases {
		require.NoError(t, os.WriteFile(filepath.Join(boot, "vmlinuz-"+r), nil, 0o644))
		if withModules {
			writeModules(t, filepath.Join(modules, r), "kernel/kvm.ko:\n")
		}
	}
	return boot, modules
}

func writeModules(t *testing.T, dir, dep string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "kernel"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "modules.dep"), []byte(dep), 0o644))
}

func TestFindKernel(t *testing.T) {
	boot, modules := fakeKernels(t, true, "6.1.0-9-cloud-amd64", "6.1.0-56-cloud-amd64", "7.0-amd64")
	h, err := findKernel(boot, modules)
	require.NoError(t, err)
	require.Equal(t, "6.1.0-56-cloud-amd64", h.release)

	require.NoError(t, os.RemoveAll(filepath.Join(modules, h.release)))
	h, err = findKernel(boot, modules)
	require.NoError(t, err)
	require.Equal(t, "6.1.0-9-cloud-amd64", h.release, "one that has its modules is to be taken")

	boot, modules = fakeKernels(t, false, "6.1.0-9-cloud-amd64")
	_, err = findKernel(boot, modules)
	require.ErrorContains(t, err, "modules.dep")
	boot, modules = fakeKernels(t, true)
	_, err = findKernel(boot, modules)
	require.ErrorContains(t, err, "vmlinuz-*-cloud-amd64")
}

func TestAvailableSaysWhatIsMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := Available()
	require.Error(t, err)
	require.True(t, strings.HasPrefix(err.Error(), "needs the nested machine"), err)
	require.ErrorContains(t, err, "qemu-system-x86_64")
	require.ErrorContains(t, err, "apt-get install")
	_, runErr := findHost()
	require.Equal(t, err, runErr)
}

func TestModuleOrder(t *testing.T) {
	dir := t.TempDir()
	writeModules(t, dir, "kernel/kvm-amd.ko.xz: kernel/kvm.ko kernel/irqbypass.ko\nkernel/kvm.ko: kernel/irqbypass.ko\nkernel/irqbypass.ko:\n"+
		"kernel/a.ko: kernel/b.ko\nkernel/b.ko: kernel/a.ko\nkernel/c.ko: kernel/gone.ko\n")
	tree, err := readModuleTree(dir)
	require.NoError(t, err)
	want := []string{"kernel/irqbypass.ko", "kernel/kvm.ko", "kernel/kvm-amd.ko.xz"}
	for _, names := range [][]string{{"kvm-amd"}, {"kvm_amd"}, {"kvm", "kvm-amd"}, {"irqbypass", "kvm-amd", "kvm"}} {
		got, err := tree.order(names...)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for name, want := range map[string]string{"a": "depends on itself", "c": "no line for kernel/gone.ko", "zz": "no kernel module zz"} {
		_, err := tree.order(name)
		require.ErrorContains(t, err, want)
	}
	for _, bad := range []string{"nonsense\n", "../up.ko:\n", "/abs.ko:\n"} {
		writeModules(t, dir, bad)
		_, err := readModuleTree(dir)
		require.ErrorContains(t, err, "run depmod", bad)
	}
}

func TestModuleRead(t *testing.T) {
	dir := t.TempDir()
	var packed bytes.Buffer
	w, err := xz.NewWriter(&packed)
	require.NoError(t, err)
	_, err = w.Write([]byte("a module"))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	for name, content := range map[string][]byte{
		"plain.ko": []byte("a module"), "packed.ko.xz": packed.Bytes(), "cut.ko.xz": packed.Bytes()[:packed.Len()-9], "other.ko.zst": {},
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o644))
	}
	tree := &moduleTree{dir: dir}
	for _, name := range []string{"plain.ko", "packed.ko.xz"} {
		b, err := tree.read(name)
		require.NoError(t, err)
		require.Equal(t, "a module", string(b))
	}
	for _, name := range []string{"cut.ko.xz", "other.ko.zst", "none.ko"} {
		_, err := tree.read(name)
		require.ErrorContains(t, err, name)
	}
}

type entry struct {
	name, content string
	mode          cpio.FileMode
	inode         int64
}

func readArchive(t *testing.T, b []byte) []entry {
	t.Helper()
	var found []entry
	for r := cpio.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		require.NoError(t, err)
		data, err := io.ReadAll(r)
		require.NoError(t, err)
		if h.Linkname != "" {
			data = []byte(h.Linkname)
		}
		found = append(found, entry{h.Name, string(data), h.Mode, h.Inode})
	}
}

func TestInitramfs(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "t", "sub"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "t", "sub", "f"), []byte("content"), 0o755))
	require.NoError(t, os.Symlink("sub/f", filepath.Join(dir, "t", "l")))
	var b bytes.Buffer
	a := newInitramfs(&b)
	for _, f := range []File{
		{Path: "/data/x", Data: []byte("inline")},
		{Path: "/data/x", Data: []byte("too late")},
		{Source: filepath.Join(dir, "t"), Path: "/data"},
		{Source: filepath.Join(dir, "t", "sub", "f"), Path: "/again/f"},
		{Source: filepath.Join(dir, "t", "l"), Path: "/other/mode", Mode: 0o600},
	} {
		require.NoError(t, a.add(f))
	}
	require.NoError(t, a.close())
	got := readArchive(t, b.Bytes())
	byName := map[string]entry{}
	var names []string
	for _, e := range got {
		byName[e.name] = e
		names = append(names, e.name)
	}
	require.Equal(t, []string{"data", "data/x", "data/l", "data/sub", "data/sub/f", "again", "again/f", "other", "other/mode"}, names)
	require.Equal(t, "inline", byName["data/x"].content)
	require.Equal(t, "sub/f", byName["data/l"].content)
	require.Equal(t, "content", byName["data/sub/f"].content)
	require.Empty(t, byName["again/f"].content, "a file that comes twice is a link")
	require.Equal(t, byName["data/sub/f"].inode, byName["again/f"].inode)
	require.Equal(t, "content", byName["other/mode"].content)
	require.Equal(t, cpio.FileMode(cpio.TypeReg|0o600), byName["other/mode"].mode)
	inodes := map[int64]int{}
	for _, e := range got {
		inodes[e.inode]++
	}
	for inode, n := range inodes {
		require.True(t, n == 1 || inode == byName["again/f"].inode, "inode %d has %d names", inode, n)
	}

	for name, f := range map[string]File{
		"relative":    {Path: "x", Data: []byte("y")},
		"root":        {Path: "/", Data: []byte("y")},
		"missing":     {Path: "/x", Source: filepath.Join(dir, "none")},
		"under file":  {Path: "/data/x/y", Data: []byte("y")},
		"over a dir":  {Path: "/data", Data: []byte("y")},
		"device file": {Path: "/x", Source: "/dev/null"},
	} {
		t.Run(name, func(t *testing.T) { require.ErrorContains(t, a.add(f), "file for the nested machine") })
	}
}

func TestTail(t *testing.T) {
	l := &tail{max: 10}
	for _, s := range []string{"0123", "4567", "89abcdef\r\n", ""} {
		_, err := l.Write([]byte(s))
		require.NoError(t, err)
	}
	require.Equal(t, "89abcdef", l.String())
	_, err := l.Write(bytes.Repeat([]byte("z"), 100))
	require.NoError(t, err)
	require.Equal(t, strings.Repeat("z", 10), l.String())
	require.Len(t, slices.Clone(l.buf), 10)
}
