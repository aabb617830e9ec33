//go:build linux && amd64

package vmm

import (
	"io"
	"sync/atomic"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/acpi"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/bus"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/i8042"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/kvmapi"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/serial"
)

// Where the devices are.
const (
	com1Port = 0x3f8
	com1IRQ  = 4
	kbdIRQ   = 1
)

// platform is the machine's devices and the buses that lead to them. It is the processors' bus.
type platform struct {
	ports, mem *bus.Bus
	com1       *serial.Port
	power      *acpi.Device
	counts     []*counted

	unclaimedPorts, unclaimedMem atomic.Uint64
	// unclaimed is told of accesses that reach no device, when it is set.
	unclaimed func(space string, addr uint64)
}

// counted counts the accesses to a device.
type counted struct {
	bus.Device
	name string
	n    atomic.Uint64
}

func (c *counted) Read(off uint64, p []byte)  { c.n.Add(1); c.Device.Read(off, p) }
func (c *counted) Write(off uint64, p []byte) { c.n.Add(1); c.Device.Write(off, p) }

func newPlatform(vm *kvmapi.VM, acpiBase uint16, console io.Writer, stop func(Stop) bool) (*platform, error) {
	p := &platform{ports: bus.New("port", bus.PortLast), mem: bus.New("memory", bus.MMIOLast)}
	line := func(gsi uint32) func(bool) {
		// The call fails only for a line that does not exist.
		return func(level bool) { _ = vm.IRQLine(gsi, level) }
	}
	p.com1 = serial.New(serial.Config{Output: console, IRQ: line(com1IRQ)})
	kbd := i8042.New(i8042.Config{
		Reset: func() { stop(Stop{StopReboot, "reset line of the keyboard controller"}) },
		IRQ:   line(kbdIRQ),
	})
	p.power = acpi.NewDevice(acpi.DeviceConfig{
		PowerOff: func() { stop(Stop{StopShutdown, "ACPI S5"}) },
		Reset:    func() { stop(Stop{StopReboot, "ACPI reset register"}) },
		IRQ:      line(acpi.EventGSI),
	})
	for _, d := range []struct {
		base, size uint64
		name       string
		dev        bus.Device
	}{
		{com1Port, serial.Size, "com1", p.com1},
		{i8042.DataPort, 1, "i8042", kbd.Data()},
		{i8042.CommandPort, 1, "i8042", kbd.Command()},
		{uint64(acpiBase), acpi.DeviceSize, "acpi", p.power},
	} {
		if err := p.add(p.ports, d.base, d.size, d.name, d.dev); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *platform) add(b *bus.Bus, base, size uint64, name string, d bus.Device) error {
	c := &counted{Device: d, name: name}
	p.counts = append(p.counts, c)
	return b.Add(base, size, name, c)
}

// close ends those who wait for a device. Processors may not run any more.
func (p *platform) close() { p.com1.Close() }

// accesses gives the accesses by device, of those that were accessed.
func (p *platform) accesses() map[string]uint64 {
	m := map[string]uint64{}
	add := func(name string, n uint64) {
		if n > 0 {
			m[name] += n
		}
	}
	for _, c := range p.counts {
		add(c.name, c.n.Load())
	}
	add("unclaimed_port", p.unclaimedPorts.Load())
	add("unclaimed_mem", p.unclaimedMem.Load())
	return m
}

func (p *platform) lostPort(port uint16) {
	p.unclaimedPorts.Add(1)
	if p.unclaimed != nil {
		p.unclaimed("port", uint64(port))
	}
}

func (p *platform) lostMem(addr uint64) {
	p.unclaimedMem.Add(1)
	if p.unclaimed != nil {
		p.unclaimed("mem", addr)
	}
}

// PortRead implements the processors' bus.
func (p *platform) PortRead(port uint16, data []byte) {
	if !p.ports.Read(uint64(port), data) {
		p.lostPort(port)
	}
}

// PortWrite implements the processors' bus.
func (p *platform) PortWrite(port uint16, data []byte) {
	if !p.ports.Write(uint64(port), data) {
		p.lostPort(port)
	}
}

// MemRead implements the processors' bus.
func (p *platform) MemRead(addr uint64, data []byte) {
	if !p.mem.Read(addr, data) {
		p.lostMem(addr)
	}
}

// MemWrite implements the processors' bus.
func (p *platform) MemWrite(addr uint64, data []byte) {
	if !p.mem.Write(addr, data) {
		p.lostMem(addr)
	}
}
