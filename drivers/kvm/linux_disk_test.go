//go:build linux && amd64

package kvm_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/disk/qcow2"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/vmmproc"
	"github.com/polyvisor/polyvisor/internal/testguest"
)

const sector = 512

// image makes a raw image with a text at the beginning of each sector.
func (l *lab) image(t *testing.T, sectors int) string {
	t.Helper()
	b := make([]byte, sectors*sector)
	for i := range sectors {
		copy(b[i*sector:], fmt.Sprintf("sector-%d\x00", i))
	}
	path := filepath.Join(t.TempDir(), "disk.img")
	require.NoError(t, os.WriteFile(path, b, 0o600))
	return path
}

// accesses are the guest's accesses to the registers of a device, each of them an exit to
// the VM process.
func (l *lab) accesses(t *testing.T, d *polyvisor.Domain, device string) uint64 {
	t.Helper()
	c, err := vmmproc.Dial(patiently(t), filepath.Join(l.dir, "run", d.UUID().String()))
	require.NoError(t, err)
	defer c.Close()
	s, err := c.Info(patiently(t))
	require.NoError(t, err)
	return s.Accesses[device]
}

// A stock Linux kernel reads and writes disks, whose requests cost no exits to the VM
// process.
func TestLinuxDisks(t *testing.T) {
	l := newLab(t)
	c, ctx := l.open(t), patiently

	t.Run("no exits, and what is written stays", func(t *testing.T) {
		const sectors = 2048
		path := l.image(t, sectors)
		cfg := l.config("disk", 1, 128*polyvisor.MiB, "")
		cfg.OnReboot = polyvisor.ActionRestart
		cfg.Disks = []polyvisor.Disk{{Source: polyvisor.Path(path)}, {Source: polyvisor.Path(l.image(t, 64)), Mode: polyvisor.DeviceReadOnly}}
		d, con := l.boot(t, c, cfg)
		con.write(t, "read vda 7")
		con.await(t, "sector-7\r\n", 1)
		before := l.accesses(t, d, "vda")
		require.NotZero(t, before, "the driver has set the device up")
		for i := range 100 {
			con.write(t, fmt.Sprintf("read vda %d", 100+i))
			con.await(t, fmt.Sprintf("sector-%d\r\n", 100+i), 1)
		}
		con.write(t, "write vda 5 written by the guest")
		con.await(t, "\nwritten\r\n", 1)
		con.write(t, "flush vda")
		con.await(t, "flushed", 1)
		require.Equal(t, before, l.accesses(t, d, "vda"), "a kick is no exit to the VM process")
		s, err := d.Stats(ctx(t))
		require.NoError(t, err)
		require.Len(t, s.Disks, 2)
		require.GreaterOrEqual(t, s.Disks[0].ReadRequests, uint64(101))
		require.EqualValues(t, 1, s.Disks[0].WriteRequests)
		require.EqualValues(t, 1, s.Disks[0].FlushRequests)
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(string(b[5*sector:]), "written by the guest\x00"))

		con.write(t, "write vdb 1 no")
		con.await(t, "error=write vdb 1 no", 1)
		con.write(t, "read vda 2048")
		con.await(t, "error=read vda 2048", 1)

		// The next boot has the same disks, and its counters are added.
		con.write(t, "reboot")
		con.await(t, testguest.Ready, 2)
		l.boots++
		con.write(t, "read vda 5")
		con.await(t, "\nwritten by the guest\r\n", 1)
		s, err = d.Stats(ctx(t))
		require.NoError(t, err)
		require.EqualValues(t, 1, s.Disks[0].WriteRequests, "of the boot before")
		con.write(t, "poweroff")
		require.Equal(t, polyvisor.StopShutdown, wait(t, d).Reason)
	})

	t.Run("a full host", func(t *testing.T) {
		dir := t.TempDir()
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
			t.Skipf("needs the nested machine, or the right to mount: %v", err)
		}
		t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) })
		path := filepath.Join(dir, "disk.img")
		require.NoError(t, os.WriteFile(path, nil, 0o600))
		require.NoError(t, os.Truncate(path, 1<<20))
		sub, err := c.Subscribe(ctx(t), polyvisor.SubscribeOptions{})
		require.NoError(t, err)
		defer sub.Close()
		cfg := l.config("full", 1, 128*polyvisor.MiB, "")
		cfg.Disks = []polyvisor.Disk{{Target: "vdk", Source: polyvisor.Path(path)}}
		d, con := l.boot(t, c, cfg)
		errors := func() int { return strings.Count(con.String(), "error=write vdk") }
		for i := 0; errors() == 0; i += 8 {
			require.Less(t, i, 2048, "no write has failed")
			con.write(t, fmt.Sprintf("write vdk %d x", i))
			eventually(t, func() bool { return errors() > 0 || strings.Count(con.String(), "\nwritten\r\n") == i/8+1 }, "no answer to a write: %s", con)
		}
		for {
			e, err := sub.Next(ctx(t))
			require.NoError(t, err)
			if e.Type != polyvisor.EventDeviceError {
				continue
			}
			require.Equal(t, "vdk", e.Device)
			require.Equal(t, polyvisor.Running, e.State)
			require.Contains(t, e.Detail, "no space left on device")
			break
		}
		s, err := d.Stats(ctx(t))
		require.NoError(t, err)
		require.NotZero(t, s.Disks[0].Errors)
		// The guest lives on, and can write again when there is space.
		require.NoError(t, unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=4m"))
		n := strings.Count(con.String(), "\nwritten\r\n")
		con.write(t, "write vdk 2000 again")
		con.await(t, "\nwritten\r\n", n+1)
		require.NoError(t, d.Destroy(ctx(t)))
	})

	t.Run("the VM process is killed", func(t *testing.T) {
		path := l.image(t, 64)
		cow := filepath.Join(t.TempDir(), "disk.qcow2")
		f, err := os.Create(cow)
		require.NoError(t, err)
		require.NoError(t, qcow2.Create(f, 1<<30, qcow2.CreateOptions{}))
		require.NoError(t, f.Close())
		cfg := l.config("killed", 1, 128*polyvisor.MiB, "")
		cfg.Disks = []polyvisor.Disk{{Source: polyvisor.Path(path)}, {Source: polyvisor.Path(cow), Format: polyvisor.FormatQCOW2}}
		d, con := l.boot(t, c, cfg)
		con.write(t, "write vda 9 before the kill")
		con.await(t, "\nwritten\r\n", 1)
		for i, n := range []int{3, 1 << 20, 1<<21 - 1} {
			con.write(t, fmt.Sprintf("write vdb %d flushed %d", n, n))
			con.await(t, "\nwritten\r\n", 2+i)
		}
		con.write(t, "flush vdb")
		con.await(t, "flushed\r\n", 1)
		con.write(t, "write vdb 5000 not flushed")
		con.await(t, "\nwritten\r\n", 5)
		for _, pid := range l.vmPIDs() {
			require.NoError(t, unix.Kill(pid, unix.SIGKILL))
		}
		require.Equal(t, polyvisor.StopServiceDied, wait(t, d).Reason)
		con.close()
		f, err = os.Open(cow)
		require.NoError(t, err)
		img, err := qcow2.Open(f, qcow2.Options{ReadOnly: true})
		require.NoError(t, err)
		report, err := img.Check(ctx(t), false, nil)
		require.NoError(t, err)
		require.Zero(t, report.Corruptions, "%v", report.Problems)
		require.NoError(t, img.Close())
		d, con = l.boot(t, c, cfg) // the locks went with the process
		con.write(t, "read vda 9")
		con.await(t, "\nbefore the kill\r\n", 1)
		for _, n := range []int{3, 1 << 20, 1<<21 - 1} {
			con.write(t, fmt.Sprintf("read vdb %d", n))
			con.await(t, fmt.Sprintf("\nflushed %d\r\n", n), 1)
		}
		require.NoError(t, d.Destroy(ctx(t)))
	})
}
