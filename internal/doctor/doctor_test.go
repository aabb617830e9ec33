package doctor

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// fakeHost is a host with the given files.
func fakeHost(t *testing.T, files map[string]string) Host {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	return Host{Root: root}
}

func find(t *testing.T, h Host, name string) Check {
	t.Helper()
	for _, c := range h.Checks() {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no check %q", name)
	return Check{}
}

func TestChecks(t *testing.T) {
	const intel, amd, guest = "processor : 0\nflags : fpu vmx\n", "flags\t: fpu svm hypervisor\n", "flags : fpu hypervisor\n"
	for _, tc := range []struct {
		title, check string
		files        map[string]string
		status       Status
		detail, fix  string
	}{
		{"kvm", "kvm device", map[string]string{"dev/kvm": ""}, OK, "/dev/kvm can be opened", ""},
		{"no kvm, intel", "kvm device", map[string]string{"proc/cpuinfo": intel}, Missing, "/dev/kvm does not exist", "sudo modprobe kvm_intel;"},
		{"no kvm, amd", "kvm device", map[string]string{"proc/cpuinfo": amd}, Missing, "does not exist", "sudo modprobe kvm_amd;"},
		{"no kvm in a guest", "kvm device", map[string]string{"proc/cpuinfo": guest}, Missing, "does not exist", "turn on nested virtualization where it runs"},
		{"no kvm, switched off", "kvm device", map[string]string{"proc/cpuinfo": "flags : fpu\n"}, Missing, "does not exist", "firmware setup"},
		{"no proc", "kvm device", nil, Missing, "does not exist", "firmware setup"},

		{"vmx", "kvm kind", map[string]string{"proc/cpuinfo": intel, "sys/module/kvm_intel/x": ""}, OK, "VMX (kvm_intel)", ""},
		{"svm in a guest", "kvm kind", map[string]string{"proc/cpuinfo": amd, "sys/module/kvm_amd/x": ""}, OK, "SVM (kvm_amd); this host is a virtual machine itself", ""},
		{"pvm", "kvm kind", map[string]string{"proc/cpuinfo": guest, "sys/module/kvm_pvm/x": ""}, Warn, "PVM (kvm_pvm)", "the built-in guest runs here"},
		{"not loaded", "kvm kind", map[string]string{"proc/cpuinfo": intel}, Missing, "the CPU has VMX, but kvm_intel is not loaded", "sudo modprobe kvm_intel"},
		{"nothing", "kvm kind", map[string]string{"proc/cpuinfo": guest}, Missing, "no CPU virtualization", "nested"},
		{"unknown", "kvm kind", nil, Warn, "/proc/cpuinfo cannot be read", "mount /proc"},

		{"nested Y", "nested", map[string]string{"sys/module/kvm_intel/parameters/nested": "Y\n"}, OK, "guests can run", ""},
		{"nested 1", "nested", map[string]string{"sys/module/kvm_amd/parameters/nested": "1\n"}, OK, "guests can run", ""},
		{"nested N", "nested", map[string]string{"sys/module/kvm_intel/parameters/nested": "N\n"}, Warn, "cannot run", "echo options kvm_intel nested=1 | sudo tee /etc/modprobe.d/kvm_intel.conf"},
		{"not nested", "nested", nil, Missing, "no nested virtualization", "VMX or SVM"},

		{"tun", "tun", map[string]string{"dev/net/tun": ""}, OK, "/dev/net/tun", ""},
		{"no tun", "tun", nil, Missing, "no such file", "sudo modprobe tun"},
		{"no vhost-net", "vhost-net", nil, Missing, "no such file", "sudo modprobe vhost_net"},
		{"no vhost-vsock", "vhost-vsock", nil, Missing, "no such file", "sudo modprobe vhost_vsock"},

		{"huge pages", "huge pages", map[string]string{
			"sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages": "8\n", "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages": "3\n",
			"sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages": "0\n", "sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages": "0\n",
		}, OK, "3 of 8 pages of 2MiB free", ""},
		{"no huge pages", "huge pages", map[string]string{
			"sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages": "0\n", "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages": "0\n",
		}, Missing, "none is reserved", "sysctl vm.nr_hugepages"},
		{"no hugetlbfs", "huge pages", nil, Missing, "the kernel has none", "CONFIG_HUGETLBFS"},
		{"thp", "transparent huge pages", map[string]string{"sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n"}, OK, "madvise", ""},
		{"thp never", "transparent huge pages", map[string]string{"sys/kernel/mm/transparent_hugepage/enabled": "always madvise [never]\n"}, Warn, "never", "echo madvise"},
		{"thp garbled", "transparent huge pages", map[string]string{"sys/kernel/mm/transparent_hugepage/enabled": "?"}, Warn, "not known: ?", ""},
		{"no thp", "transparent huge pages", nil, Missing, "none", "CONFIG_TRANSPARENT_HUGEPAGE"},

		{"memory", "memory", map[string]string{"proc/meminfo": "MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\n"}, OK, "4096 MiB available of 8192 MiB", ""},
		{"low memory", "memory", map[string]string{"proc/meminfo": "MemTotal: 8388608 kB\nMemAvailable: 4096 kB\n"}, Warn, "4 MiB available", "--memory"},
		{"garbled memory", "memory", map[string]string{"proc/meminfo": "MemTotal: lots kB\n"}, Warn, "MemTotal", ""},

		{"kernel", "kernel", map[string]string{"boot/vmlinuz-6.1": ""}, OK, "boot/vmlinuz-6.1", ""},
		{"no kernel", "kernel", nil, Missing, "no kernel", "--kernel PATH"},
	} {
		t.Run(tc.title, func(t *testing.T) {
			c := find(t, fakeHost(t, tc.files), tc.check)
			require.Equal(t, tc.status, c.Status, c)
			require.Contains(t, c.Detail, tc.detail)
			require.Contains(t, c.Fix, tc.fix)
			if tc.status == OK {
				require.Empty(t, c.Fix)
			}
		})
	}
}

func TestDeviceErrors(t *testing.T) {
	for _, tc := range []struct {
		err         error
		kvm, tun    Status
		detail, fix string
	}{
		{&fs.PathError{Op: "open", Path: "x", Err: unix.EACCES}, Missing, Warn, "/dev/my-kvm may not be opened by this user", "usermod -aG kvm"},
		{&fs.PathError{Op: "open", Path: "x", Err: unix.ENODEV}, Missing, Missing, "/dev/my-kvm: no such device", "firmware"},
	} {
		h := fakeHost(t, nil)
		h.Device = "/dev/my-kvm"
		h.open = func(string) error { return tc.err }
		c := find(t, h, "kvm device")
		require.Equal(t, tc.kvm, c.Status)
		require.Equal(t, tc.detail, c.Detail)
		require.Contains(t, c.Fix, tc.fix)
		require.Equal(t, tc.tun, find(t, h, "tun").Status)
	}
}

func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	mine, open, file := filepath.Join(dir, "mine"), filepath.Join(dir, "open"), filepath.Join(dir, "file")
	require.NoError(t, os.Mkdir(mine, 0o700))
	require.NoError(t, os.Mkdir(open, 0o755))
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for _, tc := range []struct {
		dir    string
		access error
		status Status
		detail string
	}{
		{mine, nil, OK, mine},
		{filepath.Join(mine, "a", "b"), nil, OK, "b can be made"},
		{open, nil, Missing, "can be entered by others (mode 0755)"},
		{file, nil, Missing, "is not a directory"},
		{filepath.Join(file, "x"), nil, Missing, "not a directory"},
		{mine, unix.EROFS, Missing, "is not writable: read-only file system"},
		{filepath.Join(mine, "a"), unix.EACCES, Missing, "a cannot be made: " + mine + ": permission denied"},
	} {
		h := fakeHost(t, nil)
		h.State = tc.dir
		h.access = func(string, uint32) error { return tc.access }
		c := find(t, h, "state directory")
		require.Equal(t, tc.status, c.Status, c)
		require.Contains(t, c.Detail, tc.detail)
		require.Equal(t, tc.status == OK, c.Fix == "", c)
	}
}

func TestPlatform(t *testing.T) {
	require.Equal(t, OK, platform("linux", "amd64").Status)
	require.Equal(t, Missing, platform("darwin", "arm64").Status)
}

func TestNewestKernel(t *testing.T) {
	_, err := NewestKernel(t.TempDir())
	require.ErrorIs(t, err, fs.ErrNotExist)
	h := fakeHost(t, map[string]string{"boot/config-6.1": "", "boot/vmlinuz-": "", "boot/vmlinuz-7.0.old": ""})
	_, err = NewestKernel(h.Root)
	require.ErrorIs(t, err, fs.ErrNotExist)

	h = fakeHost(t, map[string]string{"boot/vmlinuz-6.9.0-1": "", "boot/vmlinuz-6.10.0-1": "", "boot/vmlinuz-6.2.0-1": ""})
	require.NoError(t, os.Mkdir(filepath.Join(h.Root, "boot/vmlinuz-9.0"), 0o755))
	path, err := NewestKernel(h.Root)
	require.NoError(t, err)
	require.Equal(t, "vmlinuz-6.10.0-1", filepath.Base(path), "by value, and a file")

	refused := errors.New("refused")
	path, err = newestKernel(h.Root, func(path string) error {
		if filepath.Base(path) != "vmlinuz-6.9.0-1" {
			return refused
		}
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, "vmlinuz-6.9.0-1", filepath.Base(path), "the newest that can be read")
	_, err = newestKernel(h.Root, func(string) error { return refused })
	require.ErrorIs(t, err, refused)
}

func TestInitrdOf(t *testing.T) {
	for of, files := range map[string][]string{
		"initrd.img-6.1.0-1":  {"initrd.img-6.1.0-1", "initrd.img-6.1.0-10", "initrd-6.1.0-1"},
		"initramfs-6.2-1.img": {"vmlinuz-6.2-1", "initramfs-6.2-1.img"},
		"initrd-6.4-default":  {"initrd-6.4-default"},
	} {
		h := fakeHost(t, map[string]string{})
		require.NoError(t, os.Mkdir(filepath.Join(h.Root, "boot"), 0o755))
		for _, f := range files {
			require.NoError(t, os.WriteFile(filepath.Join(h.Root, "boot", f), nil, 0o600))
		}
		version := strings.TrimSuffix(strings.TrimLeft(of, "abcdefghijklmnopqrstuvwxyz.-"), ".img")
		path, err := InitrdOf(filepath.Join(h.Root, "boot/vmlinuz-"+version))
		require.NoError(t, err)
		require.Equal(t, filepath.Join(h.Root, "boot", of), path)
		for _, other := range []string{"vmlinuz-9", "bzImage", "vmlinuz-"} {
			_, err = InitrdOf(filepath.Join(h.Root, "boot", other))
			require.ErrorIs(t, err, fs.ErrNotExist)
			require.ErrorContains(t, err, other)
		}
	}
}

func TestCompareVersions(t *testing.T) {
	ordered := []string{
		"0-rescue-4ab1", "2.6.32", "5.10.0-9-amd64", "5.10.0-28-amd64", "6.1.0-rc1", "6.1.0", "6.1.0-9-cloud-amd64",
		"6.1.0-056-amd64", "6.1.0-56-cloud-amd64", "6.10.0-1", "10.0",
	}
	for i, a := range ordered {
		for j, b := range ordered {
			got := compareVersions(a, b)
			switch {
			case i < j:
				require.Negative(t, got, "%s %s", a, b)
			case i > j:
				require.Positive(t, got, "%s %s", a, b)
			default:
				require.Zero(t, got)
			}
		}
	}
	require.True(t, slices.IsSortedFunc(ordered, compareVersions))
}

func FuzzCompareVersions(f *testing.F) {
	f.Add("6.1.0-56-cloud-amd64", "6.10.0-rc2", "6")
	f.Add("~", "", "-rc")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		ab, ba := compareVersions(a, b), compareVersions(b, a)
		if ab != -ba {
			t.Fatalf("%q %q: %d and %d", a, b, ab, ba)
		}
		if ab <= 0 && compareVersions(b, c) <= 0 && compareVersions(a, c) > 0 {
			t.Fatalf("%q <= %q <= %q, but not the first and the last", a, b, c)
		}
	})
}

// On this very machine every check gives an answer with a remedy.
func TestThisHost(t *testing.T) {
	for _, c := range (Host{State: t.TempDir(), Run: t.TempDir()}).Checks() {
		require.NotEmpty(t, c.Name)
		require.NotEmpty(t, c.Detail, c.Name)
		require.Equal(t, c.Status == OK, c.Fix == "", c)
	}
}

func TestSoftware(t *testing.T) {
	for _, tc := range []struct {
		modules []string
		want    string
	}{
		{nil, ""},
		{[]string{"kvm"}, ""},
		{[]string{"kvm_pvm"}, "PVM"},
		{[]string{"kvm_amd"}, ""},
		{[]string{"kvm_pvm", "kvm_intel"}, ""},
	} {
		files := make(map[string]string)
		for _, m := range tc.modules {
			files["sys/module/"+m+"/x"] = ""
		}
		require.Equal(t, tc.want, fakeHost(t, files).Software(), tc.modules)
	}
}
