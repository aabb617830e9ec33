//go:build linux && amd64

package kvm_test

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	diskfs "github.com/diskfs/go-diskfs"
	"github.com/diskfs/go-diskfs/disk"
	"github.com/diskfs/go-diskfs/filesystem"
	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/internal/testguest"
)

// Files of Debian's packages ovmf and grub-efi-amd64-bin.
const (
	ovmfCode      = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	ovmfVariables = "/usr/share/OVMF/OVMF_VARS_4M.fd"
	grubLoader    = "/usr/lib/grub/x86_64-efi/monolithic/grubx64.efi"
)

const grubConfig = `serial --unit=0
terminal_output serial
linux /vmlinuz console=ttyS0 quiet panic=-1
initrd /initrd.img
boot
`

// bootDisk makes a disk that boots by itself: a GPT with one FAT partition, in which the loader, the kernel and the
// initial RAM disk lie where a distribution's installer puts them.
func (l *lab) bootDisk(t *testing.T) string {
	t.Helper()
	const (
		size   = 96 << 20
		sector = 512
		first  = 2048
	)
	name := filepath.Join(t.TempDir(), "boot.img")
	d, err := diskfs.Create(name, size, sector)
	require.NoError(t, err)
	defer d.Close()
	require.NoError(t, d.Partition(&gpt.Table{
		LogicalSectorSize: sector, PhysicalSectorSize: sector, ProtectiveMBR: true,
		Partitions: []*gpt.Partition{{Start: first, End: size/sector - first, Type: gpt.EFISystemPartition, Name: "ESP"}},
	}))
	fs, err := d.CreateFilesystem(disk.FilesystemSpec{Partition: 1, FSType: filesystem.TypeFat32})
	require.NoError(t, err)
	config := filepath.Join(t.TempDir(), "grub.cfg")
	require.NoError(t, os.WriteFile(config, []byte(grubConfig), 0o600))
	for to, from := range map[string]string{
		"/EFI/BOOT/BOOTX64.EFI": grubLoader, "/EFI/debian/grub.cfg": config, "/vmlinuz": l.kernel, "/initrd.img": l.initrd,
	} {
		require.NoError(t, fs.Mkdir(filepath.Dir(to)))
		in, err := os.Open(from)
		require.NoError(t, err)
		out, err := fs.OpenFile(to, os.O_CREATE|os.O_RDWR)
		require.NoError(t, err)
		_, err = io.Copy(out, in)
		require.NoError(t, err)
		require.NoError(t, out.Close())
		require.NoError(t, in.Close())
	}
	return name
}

// A disk boots through the firmware and its own loader, the guest's power button works, and what the firmware has noted
// is kept with the domain.
func TestLinuxFirmware(t *testing.T) {
	l := newLab(t)
	for _, f := range []string{ovmfCode, ovmfVariables, grubLoader} {
		if _, err := os.Stat(f); err != nil {
			t.Skipf("needs Debian's packages ovmf and grub-efi-amd64-bin: %v", err)
		}
	}
	slowFirmwareTimer(t)
	c := l.open(t)
	cfg := &polyvisor.Config{
		Name: "firmware", VCPUs: 1, Memory: 256 * polyvisor.MiB, Console: polyvisor.ConsoleConfig{Log: l.log},
		Boot: polyvisor.Boot{Firmware: polyvisor.Path(ovmfCode)}, Disks: []polyvisor.Disk{{Source: polyvisor.Path(l.bootDisk(t))}},
	}
	d := started(t, c, cfg)
	con := console(t, d)
	con.await(t, testguest.Ready, 1)
	require.Empty(t, testguest.Errors(con.String()))
	con.write(t, "read vda 1")
	con.await(t, "EFI PART", 1)

	require.NoError(t, d.Shutdown(patiently(t)))
	require.Equal(t, polyvisor.StopShutdown, wait(t, d).Reason)
	require.Contains(t, con.String(), "power button")

	kept := filepath.Join(l.dir, "state", "domains", d.UUID().String(), "nvram")
	got, err := os.ReadFile(kept)
	require.NoError(t, err)
	began, err := os.ReadFile(ovmfVariables)
	require.NoError(t, err)
	require.Len(t, got, len(began))
	require.NotEqual(t, began, got, "the firmware notes what it can boot from")
	require.NoError(t, d.Undefine(patiently(t)))
	require.NoFileExists(t, kept)
}

// slowFirmwareTimer keeps the nested machine alive: QEMU's emulation of SVM aborts when a guest writes its register CR8
// while an interrupt waits for it (QEMU 7.2, target/i386: cpu_interrupt without the lock), which is what the end of each
// of OVMF's interrupt handlers does. Its only interrupt is a periodic timer; when KVM makes that slow the next one does
// not come before the handler's end. Firmware's clock, by which nothing is timed here, goes slow with it.
func slowFirmwareTimer(t *testing.T) {
	t.Helper()
	const period = "/sys/module/kvm/parameters/min_timer_period_us"
	if os.Getenv("POLYVISOR_NESTED") != "1" {
		return
	}
	old, err := os.ReadFile(period)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(period, []byte("200000"), 0))
	t.Cleanup(func() { require.NoError(t, os.WriteFile(period, old, 0)) })
}
