//go:build linux

package main

import (
	"fmt"
	"os"

	"github.com/polyvisor/polyvisor/internal/nestedvm/wire"
	"golang.org/x/sys/unix"
)

// mountAll makes the machine look like a booted system.
func mountAll() error {
	if err := leaveRootfs(); err != nil {
		return fmt.Errorf("leave the kernel's rootfs: %w", err)
	}
	const safe = unix.MS_NOSUID | unix.MS_NODEV
	for _, m := range []struct {
		source, target, fstype string
		flags                  uintptr
		data                   string
	}{
		{"proc", "/proc", "proc", safe | unix.MS_NOEXEC, ""},
		{"sysfs", "/sys", "sysfs", safe | unix.MS_NOEXEC, ""},
		{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=0755"},
		{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "ptmxmode=0666,mode=0620,gid=5"},
		{"tmpfs", "/dev/shm", "tmpfs", safe, "mode=1777,size=95%"},
		{"tmpfs", "/run", "tmpfs", safe, "mode=0755"},
		{"tmpfs", "/tmp", "tmpfs", safe, "mode=1777,size=95%"},
		{"cgroup2", "/sys/fs/cgroup", "cgroup2", safe | unix.MS_NOEXEC, ""},
		{"debugfs", "/sys/kernel/debug", "debugfs", safe | unix.MS_NOEXEC, ""},
	} {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return fmt.Errorf("mount point: %w", err)
		}
		if err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.fstype, m.target, err)
		}
	}
	if err := os.MkdirAll(wire.RuntimeDir, 0o700); err != nil {
		return err
	}
	for link, target := range map[string]string{
		"/dev/fd": "/proc/self/fd", "/dev/stdin": "fd/0", "/dev/stdout": "fd/1", "/dev/stderr": "fd/2",
	} {
		if err := os.Symlink(target, link); err != nil && !os.IsExist(err) {
			return err
		}
	}
	return nil
}

// leaveRootfs binds the initramfs over itself: a process in the kernel's own rootfs could not pivot_root,
// which a sandbox under test may want to.
func leaveRootfs() error {
	const over = "/.root"
	if err := os.Mkdir(over, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("/", over, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if err := os.Chdir(over); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return err
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	return os.Remove(over)
}
