//go:build linux && amd64

package kvm

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/vmm"
)

// rngFile is the name under which the VM process is given a source of random
// numbers.
const rngFile = "rng"

// prepareDevices opens what is behind the devices of a configuration, with the
// caller's permissions, and says what the machine is to have.
func (d *driver) prepareDevices(ctx context.Context, c *polyvisor.Config, s *vmm.Spec, files map[string]*os.File) error {
	for i := range c.Disks {
		disk, err := prepareDisk(&c.Disks[i], files)
		if err != nil {
			return err
		}
		s.Disks = append(s.Disks, disk)
	}
	for i := range c.NICs {
		nic, err := d.prepareNIC(ctx, c.Name, &c.NICs[i], files)
		if err != nil {
			return err
		}
		s.NICs = append(s.NICs, nic)
	}
	s.VirtioConsole = c.Console.Virtio
	if c.RNG != nil {
		s.RNG = &vmm.RNG{BytesPerSecond: uint64(c.RNG.BytesPerSecond)}
		switch c.RNG.Source {
		case "", "/dev/urandom", "/dev/random": // the kernel's own, by getrandom(2)
		default:
			f, err := openRandom(c.RNG.Source)
			if err != nil {
				return err
			}
			files[rngFile], s.RNG.File = f, rngFile
		}
	}
	if c.Vsock != nil {
		s.Vsock = &vmm.Vsock{CID: c.Vsock.CID}
	}
	return nil
}

// openRandom opens a device of the host that gives random numbers. Another kind of
// file comes to an end, or makes its reader wait.
func openRandom(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("rng: %w", err)
	}
	fi, err := f.Stat()
	if err == nil && fi.Mode()&os.ModeCharDevice == 0 {
		err = fmt.Errorf("%w: rng: %s is not a character device, such as /dev/hwrng", polyvisor.ErrInvalidConfig, path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
