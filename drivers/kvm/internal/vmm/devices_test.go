//go:build linux && amd64

package vmm

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/disk/qcow2"
)

// withDevices gives a machine every device, and the files behind them.
func withDevices(t *testing.T) (Spec, map[string]*os.File) {
	t.Helper()
	dir := t.TempDir()
	raw, err := os.Create(filepath.Join(dir, "raw"))
	require.NoError(t, err)
	require.NoError(t, raw.Truncate(1<<20))
	cow, err := os.Create(filepath.Join(dir, "qcow2"))
	require.NoError(t, err)
	require.NoError(t, qcow2.Create(cow, 1<<20, qcow2.CreateOptions{}))
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	files := map[string]*os.File{"raw": raw, "qcow2": cow, "net": os.NewFile(uintptr(pair[0]), "net"), "peer": os.NewFile(uintptr(pair[1]), "peer")}
	t.Cleanup(func() {
		for _, f := range files {
			f.Close()
		}
	})
	s := guestSpec("")
	s.Disks = []Disk{{Name: "vda", File: "raw", Format: "raw"}, {Name: "vdb", File: "qcow2", Format: "qcow2", Serial: "S", Queues: 2}}
	s.NICs = []NIC{{Name: "nic", MAC: [6]byte{0x52, 0x54, 0, 0, 0, 1}, MTU: 1400, Files: []string{"net"}}}
	s.RNG = &RNG{BytesPerSecond: 1000}
	return s, files
}

// A thousand machines with all devices leave nothing.
func TestMachinesWithDevicesLeaveNothing(t *testing.T) {
	needKVM(t)
	spec, files := withDevices(t)
	rounds := 1000
	if testing.Short() || os.Getenv("POLYVISOR_NESTED") == "1" { // where each takes a second
		rounds = 5
	}
	look := func() (descriptors, goroutines int) {
		entries, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		return len(entries), runtime.NumGoroutine()
	}
	life := func(start bool) {
		m, err := New(t.Context(), spec, Options{Files: files})
		require.NoError(t, err)
		if start {
			require.NoError(t, m.Start())
		}
		require.Len(t, m.Info().Disks, 2)
		require.Len(t, m.Info().NICs, 1)
		require.NoError(t, m.Close())
	}
	life(true)
	descriptors, goroutines := look()
	for n := range rounds {
		life(n%10 != 0)
	}
	d, g := look()
	require.Equal(t, descriptors, d)
	require.LessOrEqual(t, g, goroutines)
}

// What is wrong with a device is told by its name, and nothing is left.
func TestDevicesThatCannotBe(t *testing.T) {
	needKVM(t)
	for name, tt := range map[string]struct {
		change func(s *Spec, files map[string]*os.File)
		want   string
	}{
		"no file":      {func(s *Spec, _ map[string]*os.File) { s.Disks[0].File = "lost" }, "disk vda: invalid machine specification: its file is not open"},
		"format":       {func(s *Spec, _ map[string]*os.File) { s.Disks[0].Format = "vmdk" }, `disk vda: invalid machine specification: unknown format "vmdk"`},
		"not qcow2":    {func(s *Spec, _ map[string]*os.File) { s.Disks[0].Format = "qcow2" }, "disk vda"},
		"cache":        {func(s *Spec, _ map[string]*os.File) { s.Disks[1].Cache = "some" }, "disk vdb"},
		"empty image":  {func(_ *Spec, f map[string]*os.File) { _ = f["raw"].Truncate(0) }, "is empty"},
		"no back end":  {func(s *Spec, _ map[string]*os.File) { s.NICs[0].Files = nil }, "nic nic"},
		"group MAC":    {func(s *Spec, _ map[string]*os.File) { s.NICs[0].MAC[0] = 1 }, "nic nic"},
		"rng's source": {func(s *Spec, _ map[string]*os.File) { s.RNG.File = "lost" }, "lost"},
		"too many": {func(s *Spec, _ map[string]*os.File) {
			for len(s.Disks) < 40 {
				s.Disks = append(s.Disks, s.Disks[0])
			}
		}, "the PCI bus is full"},
	} {
		t.Run(name, func(t *testing.T) {
			spec, files := withDevices(t)
			tt.change(&spec, files)
			_, err := New(t.Context(), spec, Options{Files: files})
			require.ErrorContains(t, err, tt.want)
			require.False(t, strings.Contains(err.Error(), "\n"), "%v", err)
		})
	}
}
