//go:build linux && amd64

package vmm

import (
	"context"
	"errors"
	"fmt"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/acpi"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/kvmapi"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/pci"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio/virtiopci"
)

// The part of the hole below 4 GiB that belongs to PCI: BARs, then configuration space. The interrupt chips and KVM's own
// pages are above.
const (
	barBase  = 0xc0000000
	barEnd   = 0xe0000000
	ecamBase = 0xe0000000
)

// pciRequired are the capabilities that devices on PCI need beside those of every machine.
var pciRequired = []struct {
	cap  kvmapi.Cap
	name string
}{
	{kvmapi.CapIOEventFD, "KVM_CAP_IOEVENTFD"},
	{kvmapi.CapIOEventFDAnyLen, "KVM_CAP_IOEVENTFD_ANY_LENGTH"},
	{kvmapi.CapSignalMSI, "KVM_CAP_SIGNAL_MSI"},
}

// pciTables describes the bus to the guest.
func pciTables() *acpi.PCI {
	return &acpi.PCI{ECAM: ecamBase, WindowBase: barBase, WindowSize: barEnd - barBase}
}

// doorbell is an eventfd that KVM signals when the guest kicks.
type doorbell struct{ *kvmapi.EventFD }

// Ring implements virtio.Doorbell. It fails only when the machine is being closed.
func (d doorbell) Ring() { _ = d.Signal() }

// pciBus is the machine's bus with its devices.
type pciBus struct {
	vm      *kvmapi.VM
	p       *platform
	bus     *pci.Bus
	devices []*virtioDevice

	low, high uint64 // between which BARs may lie
}

// virtioDevice is a device on the bus.
type virtioDevice struct {
	name      string
	transport *virtiopci.Transport
	bells     []doorbell
	failed    func(error)
	counted   *counted // accesses to the BAR
}

// newPCI puts the bus into the platform.
func (m *Machine) newPCI() (*pciBus, error) {
	p := m.platform
	b := &pciBus{vm: m.vm, p: p, bus: pci.NewBus(), low: barBase, high: barEnd}
	return b, p.add(p.mem, ecamBase, pci.ECAMSize, "pci", b.bus)
}

// add puts a device onto the bus. An error leaves nothing of it, but the bus may have to be closed.
func (b *pciBus) add(name string, dev virtio.Device, mem memory, onFail func(error)) (err error) {
	d := &virtioDevice{name: name, failed: onFail}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("device %s: %w", name, err), d.closeBells())
		}
	}()
	var bells []virtio.Doorbell
	for range dev.QueueSizes() {
		e, err := kvmapi.NewEventFD()
		if err != nil {
			return err
		}
		d.bells = append(d.bells, doorbell{e})
		bells = append(bells, doorbell{e})
	}
	d.transport, err = virtiopci.New(virtiopci.Config{
		Device: dev, Memory: mem, Doorbells: bells, OnFail: onFail,
		BAR:     uint32(barBase + len(b.devices)*virtiopci.BARSize),
		Enable:  func(base uint64) error { return b.enable(d, base) },
		Disable: func(base uint64) { b.disable(d, base, len(d.bells)) },
		// One system call, as a write to an irqfd would be, and neither a descriptor nor a route for each vector, which
		// would have to be changed whenever the guest moves an interrupt. It fails for an address where no
		// interrupt controller is, which is as on real hardware: a write to nowhere.
		Send: func(addr uint64, data uint32) { _ = b.vm.SignalMSI(addr, data) },
	})
	if err != nil {
		return err
	}
	if _, err = b.bus.Add(d.transport.Function()); err != nil {
		return err
	}
	d.counted = &counted{Device: d.transport, name: name}
	b.p.counts = append(b.p.counts, d.counted)
	b.devices = append(b.devices, d)
	return nil
}

// enable lets the BAR of a device answer at base, and its doorbells ring there without an exit to us.
func (b *pciBus) enable(d *virtioDevice, base uint64) error {
	if base < b.low || base > b.high-virtiopci.BARSize {
		return fmt.Errorf("device %s: the BAR is not to lie at %#x", d.name, base)
	}
	if err := b.p.mem.Add(base, virtiopci.BARSize, d.name, d.counted); err != nil {
		return err
	}
	for i, bell := range d.bells {
		// Length 0 is any length, which KVM answers by the address alone, before it decodes the instruction.
		if err := b.vm.IOEventFD(bell.EventFD, kvmapi.IOEvent{Addr: virtiopci.Doorbell(base, i)}); err != nil {
			b.disable(d, base, i)
			// The host is short of something. The guest sees a device that does not answer, and no reason.
			d.failed(fmt.Errorf("the doorbell of queue %d: %w", i, err))
			return err
		}
	}
	return nil
}

// disable undoes enable, for the first n doorbells.
func (b *pciBus) disable(d *virtioDevice, base uint64, n int) {
	for i, bell := range d.bells[:n] {
		_ = b.vm.RemoveIOEventFD(bell.EventFD, kvmapi.IOEvent{Addr: virtiopci.Doorbell(base, i)})
	}
	_ = b.p.mem.Remove(base, virtiopci.BARSize)
}

// stop ends the work of all devices, which need the doorbells for that. Processors may not run any more.
func (b *pciBus) stop() {
	for _, d := range b.devices {
		d.transport.Close()
	}
}

// pause returns when nothing of any device touches guest memory, until resume. If ctx ends before, the devices go on and
// the error is ctx's. Processors may not run meanwhile.
func (b *pciBus) pause(ctx context.Context) error {
	for _, d := range b.devices {
		if err := d.transport.Core().Pause(ctx); err != nil {
			b.resume()
			return fmt.Errorf("device %s has requests under way: %w", d.name, err)
		}
	}
	return nil
}

// resume undoes pause, or does nothing.
func (b *pciBus) resume() {
	for _, d := range b.devices {
		d.transport.Core().Resume()
	}
}

// close gives the doorbells back, after stop.
func (b *pciBus) close() error {
	var errs []error
	for _, d := range b.devices {
		errs = append(errs, d.closeBells())
	}
	return errors.Join(errs...)
}

func (d *virtioDevice) closeBells() error {
	var errs []error
	for _, e := range d.bells {
		errs = append(errs, e.Close())
	}
	return errors.Join(errs...)
}
