//go:build linux && amd64

package vmm

import (
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/kvmapi"
	hvc "github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio/console"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio/rng"
)

// memory is guest memory as devices see it.
type memory interface {
	Slice(gpa, n uint64) ([]byte, error)
}

// devices are those of the Spec.
type devices struct {
	disks   []*blockDevice
	nics    []*networkDevice
	rng     *rng.Device
	console *hvc.Device
}

// addDevices puts the devices of the Spec onto a PCI bus, which there is only if there are any.
func (m *Machine) addDevices(sys *kvmapi.System, opts Options) error {
	if !m.spec.hasPCI() {
		return nil
	}
	for _, r := range pciRequired {
		n, err := sys.CheckExtension(r.cap)
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("this host's KVM lacks %s, which devices need (use Linux 4.14 or newer on x86-64)", r.name)
		}
	}
	newBus := m.newPCI
	if m.firmware != nil {
		newBus = m.newFirmwarePCI
	}
	b, err := newBus()
	if err != nil {
		return err
	}
	m.pci = b
	m.undo.add(b.close)
	failed := func(name string) func(error) {
		return func(err error) {
			if opts.OnDeviceError != nil {
				opts.OnDeviceError(name, err.Error())
			}
		}
	}
	// In the order of the Spec, which is that in which a guest finds and names them.
	for _, s := range m.spec.Disks {
		d, err := m.newDisk(s, opts, failed(s.Name))
		if err != nil {
			return err
		}
		m.devices.disks = append(m.devices.disks, d)
		if err := b.add(s.Name, d, m.mem, failed(s.Name)); err != nil {
			return err
		}
	}
	for _, s := range m.spec.NICs {
		d, err := m.newNIC(s, opts, failed(s.Name))
		if err != nil {
			return err
		}
		m.devices.nics = append(m.devices.nics, d)
		if err := b.add(s.Name, d, m.mem, failed(s.Name)); err != nil {
			return err
		}
	}
	if s := m.spec.RNG; s != nil {
		source, err := randomSource(s, opts)
		if err != nil {
			return err
		}
		m.devices.rng = rng.New(rng.Config{Source: source, BytesPerSecond: s.BytesPerSecond, OnError: failed("rng")})
		if err := b.add("rng", m.devices.rng, m.mem, failed("rng")); err != nil {
			return err
		}
	}
	if m.spec.VirtioConsole {
		m.devices.console = hvc.New(hvc.Config{Output: opts.Console})
		m.undo.add(func() error { m.devices.console.Close(); return nil })
		if err := b.add("console", m.devices.console, m.mem, failed("console")); err != nil {
			return err
		}
	}
	if s := m.spec.Vsock; s != nil {
		d, err := newVsock(s, opts.Vsock)
		if err != nil {
			return err
		}
		if err := b.add("vsock", d, m.mem, failed("vsock")); err != nil {
			return err
		}
	}
	// After all that devices use was added: it is undone first. Before the guest runs there is nothing to stop.
	m.undo.add(func() error { b.stop(); return nil })
	return nil
}

// randomSource is where random numbers come from: the kernel, or the file of the Spec.
func randomSource(s *RNG, opts Options) (io.Reader, error) {
	if s.File == "" {
		return kernelRandom{}, nil
	}
	f := opts.Files[s.File]
	if f == nil {
		return nil, fmt.Errorf("%w: the random number device's file %q is not open", ErrSpec, s.File)
	}
	return f, nil
}

// kernelRandom reads the kernel's random numbers, without a descriptor.
type kernelRandom struct{}

func (kernelRandom) Read(p []byte) (int, error) {
	n, err := unix.Getrandom(p, 0)
	return max(n, 0), err
}
