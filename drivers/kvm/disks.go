//go:build linux && amd64

package kvm

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/disk"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/vmm"
)

// prepareDisk opens the image of a disk and locks it. The lock belongs to the open
// file, and so to the VM process that is given it, until that ends however it ends.
func prepareDisk(d *polyvisor.Disk, files map[string]*os.File) (vmm.Disk, error) {
	s := vmm.Disk{
		Name: d.Target, File: "disk-" + d.Target, Format: string(d.Format), ReadOnly: !d.Mode.Writable(), Serial: d.Serial,
		Cache: string(d.Cache), Queues: d.Queues,
	}
	if s.Serial == "" {
		s.Serial = d.Target[:min(len(d.Target), 20)] // by which a guest finds it under /dev/disk/by-id
	}
	f, err := openDisk(d)
	if err != nil {
		return s, err
	}
	files[s.File] = f
	if d.Mode == polyvisor.DeviceReadWriteForce {
		return s, nil
	}
	if err := disk.Lock(f, s.ReadOnly); err != nil {
		if errors.Is(err, disk.ErrLocked) {
			err = &classed{polyvisor.ErrBusy, err}
		}
		return s, fmt.Errorf("disk %s: %w", d.Target, err)
	}
	return s, nil
}

// openDisk opens an image as its mode demands.
func openDisk(d *polyvisor.Disk) (*os.File, error) {
	var f *os.File
	var err error
	flags := os.O_RDWR
	if !d.Mode.Writable() {
		flags = os.O_RDONLY
	}
	if d.Source.Open != nil {
		f, err = reopen(d.Source.Open)
	} else {
		// Not to wait for the other end of a pipe.
		f, err = os.OpenFile(d.Source.Path, flags|unix.O_NONBLOCK, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("disk %s: %w", d.Target, withRemedy(err))
	}
	fi, err := f.Stat()
	switch {
	case err != nil:
	case !fi.Mode().IsRegular() && fi.Mode().Type() != os.ModeDevice:
		err = fmt.Errorf("%w: disk %s: %s is neither a regular file nor a block device; give the path of an image", polyvisor.ErrInvalidConfig, d.Target, f.Name())
	case d.Mode.Writable() && !writable(f):
		err = fmt.Errorf("%w: disk %s: %s is open for reading only; open it for writing, or make the disk read-only", polyvisor.ErrInvalidConfig, d.Target, f.Name())
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// writable says whether a descriptor is open for writing.
func writable(f *os.File) bool {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	flags := unix.O_RDONLY
	_ = raw.Control(func(fd uintptr) { flags, _ = unix.FcntlInt(fd, unix.F_GETFL, 0) })
	return flags&unix.O_ACCMODE == unix.O_RDWR
}

// checkDisks refuses what this engine has not, before anything is stored.
func checkDisks(c *polyvisor.Config) error {
	for _, d := range c.Disks {
		if d.Queues > vmm.MaxDiskQueues {
			return fmt.Errorf("%w: disk %s: %d queues, a disk has at most %d here", polyvisor.ErrInvalidConfig, d.Target, d.Queues, vmm.MaxDiskQueues)
		}
	}
	return nil
}
