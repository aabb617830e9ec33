package testguest

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cavaliergopher/cpio"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestCompareVersions(t *testing.T) {
	// Each is newer than the one before it.
	order := []string{
		"2.6.32", "5.10.0-9-amd64", "5.10.0-28-amd64", "6.1", "6.1.0-9-cloud-amd64", "6.1.0-56-cloud-amd64",
		"6.9.1", "6.10-rc3", "6.10", "6.10.2", "6.18.44-fc-v657", "10.0.0",
	}
	for i, a := range order {
		for j, b := range order {
			c := compareVersions(a, b)
			assert.Equal(t, i < j, c < 0, "%s before %s", a, b)
			assert.Equal(t, i == j, c == 0, "%s same as %s", a, b)
		}
	}
}

func TestFindKernel(t *testing.T) {
	write := func(names ...string) string {
		dir := t.TempDir()
		for _, n := range names {
			require.NoError(t, os.WriteFile(filepath.Join(dir, n), nil, 0o644))
		}
		return dir
	}
	dir := write("vmlinuz-6.1.0-9-amd64", "vmlinuz-6.1.0-10-amd64", "vmlinuz-6.1.0-11-amd64.old", "vmlinuz",
		"vmlinuz-0123rescue.old", "vmlinuz-rescue-9", "initrd.img-7.0.0", "config-8.0")
	path, release, err := findKernel(dir)
	require.NoError(t, err)
	assert.Equal(t, "6.1.0-10-amd64", release)
	assert.Equal(t, filepath.Join(dir, "vmlinuz-6.1.0-10-amd64"), path)

	for _, dir := range []string{write("config-6.1"), filepath.Join(t.TempDir(), "gone")} {
		_, _, err = findKernel(dir)
		require.ErrorIs(t, err, ErrNoKernel)
		assert.Contains(t, err.Error(), "apt-get install")
	}

	dir = t.TempDir()
	require.NoError(t, os.Symlink("gone", filepath.Join(dir, "vmlinuz-6.1.0")))
	_, _, err = findKernel(dir)
	require.ErrorIs(t, err, os.ErrNotExist)
	assert.Contains(t, err.Error(), "leads nowhere")

	if os.Getuid() != 0 {
		dir = write("vmlinuz-6.1.0")
		require.NoError(t, os.Chmod(filepath.Join(dir, "vmlinuz-6.1.0"), 0))
		_, _, err = findKernel(dir)
		require.ErrorIs(t, err, os.ErrPermission)
		assert.Contains(t, err.Error(), "run as root")
	}
}

// moduleTree is a module directory with a module and what it depends on.
func moduleTree(t *testing.T) string {
	root := t.TempDir()
	for name, data := range map[string]string{
		"modules.dep": "kernel/mid-dle.ko: kernel/base.ko\nkernel/base.ko:\n", "kernel/mid-dle.ko": "middle", "kernel/base.ko": "base",
	} {
		p := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(p), 0o755))
		require.NoError(t, os.WriteFile(p, []byte(data), 0o644))
	}
	return root
}

func TestInitramfs(t *testing.T) {
	prog := filepath.Join(t.TempDir(), "prog")
	require.NoError(t, os.WriteFile(prog, []byte("the init"), 0o755))
	root := moduleTree(t)
	opts := Options{
		Init: prog, Release: filepath.Base(root), ModulesRoot: filepath.Dir(root), Modules: []string{"mid-dle"}, DeviceModules: []string{"mid-dle"},
		Files: map[string][]byte{"/usr/bin/tool": []byte("tool")},
	}
	path, err := WriteInitramfs(t.Context(), t.TempDir(), opts)
	require.NoError(t, err)
	img, err := os.ReadFile(path)
	require.NoError(t, err)
	got := map[string]string{}
	for r := cpio.NewReader(bytes.NewReader(img)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		data, err := io.ReadAll(r)
		require.NoError(t, err)
		got[h.Name] = string(data)
		assert.EqualValues(t, 0o755, h.Mode&0o777, h.Name)
		assert.Equal(t, len(data) == 0 && h.Name != "modules/list", h.Mode&cpio.TypeDir == cpio.TypeDir, h.Name)
	}
	assert.Equal(t, map[string]string{
		"dev": "", "proc": "", "sys": "", "modules": "", "init": "the init", "usr": "", "usr/bin": "", "usr/bin/tool": "tool",
		"modules/list": "base.ko\nmid_dle.ko\n", "modules/devices": "base.ko\nmid_dle.ko\n", "modules/base.ko": "base", "modules/mid_dle.ko": "middle",
	}, got)

	again, err := Initramfs(t.Context(), opts)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(img, again), "two builds differ")

	_, err = Initramfs(t.Context(), Options{Init: prog, Modules: []string{"x"}})
	assert.ErrorContains(t, err, "Options.Release")
	_, err = Initramfs(t.Context(), Options{Init: prog, Files: map[string][]byte{"../x": nil}})
	assert.ErrorContains(t, err, "bad file name")
	_, err = Initramfs(t.Context(), Options{Init: prog + "-gone"})
	assert.ErrorIs(t, err, os.ErrNotExist)
}

const sampleReport = Prefix + "release=6.1.0\r\n" + Prefix + "cpus=2\r\n[    1.0] a kernel message\r\n" + Prefix + "memtotal_kib=1000\r\n" +
	Prefix + "memavailable_kib=900\r\n" + Prefix + "uptime_ns=1500000000\r\n" + Prefix + "realtime_ns=1700000000000000000\r\n" +
	Prefix + "clocksource=kvm-clock\r\n" + Prefix + "cmdline=console=ttyS0 a=b\r\n" + Prefix + "report=done\r\n"

func TestParseReport(t *testing.T) {
	want := Report{Release: "6.1.0", CPUs: 2, MemTotal: 1000 << 10, MemAvailable: 900 << 10, Uptime: 1500 * time.Millisecond,
		Time: time.Unix(1700000000, 0), Clocksource: "kvm-clock", CommandLine: "console=ttyS0 a=b"}
	incomplete := Prefix + "release=9\n" + Prefix + "cpus=9\n"
	for name, text := range map[string]string{
		"alone":                    sampleReport,
		"after noise and an echo":  FirstLine + "\r\n" + Prefix + "error=module x\n> report" + sampleReport + Ready,
		"before an incomplete one": sampleReport + incomplete,
		"after an incomplete one":  incomplete + sampleReport,
		"the last of two":          strings.ReplaceAll(sampleReport, "cpus=2", "cpus=7") + sampleReport + Prefix + "uptime_ns=9\n",
	} {
		got, err := ParseReport(text)
		require.NoError(t, err, name)
		assert.Equal(t, want, got, name)
	}
	assert.Equal(t, []string{"module x"}, Errors("x\n"+Prefix+"error=module x\r\n"))

	for name, text := range map[string]string{
		"nothing": "", "incomplete": incomplete + Prefix + "report=done\n", "cut": sampleReport[:len(sampleReport)-8],
	} {
		_, err := ParseReport(text)
		assert.True(t, errors.Is(err, ErrNoReport), "%s: %v", name, err)
	}
	for _, bad := range []string{"cpus=-1", "cpus=99999999", "cpus=x"} {
		_, err := ParseReport(strings.Replace(sampleReport, "cpus=2", bad, 1))
		assert.ErrorContains(t, err, "cpus", bad)
	}
}

func FuzzParseReport(f *testing.F) {
	f.Add(sampleReport)
	f.Add(Prefix + "report=done")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseReport(text)
		if err == nil && (r.CPUs < 0 || r.CPUs > maxCPUs) {
			t.Errorf("accepted %+v", r)
		}
		Errors(text)
	})
}
