//go:build linux && amd64

package vmm

import (
	"fmt"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/acpi"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/guest"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/guestmem"
)

// writeACPI puts the tables that describe the machine into memory and says where they begin.
func writeACPI(mem *guestmem.Memory, spec *Spec) (rsdp uint64, err error) {
	c := tablesOf(spec, acpi.IOBase)
	c.Base, c.Size = acpi.WindowBase, acpi.WindowSize
	if spec.hasPCI() {
		c.PCI = pciTables()
	}
	t, err := acpi.Build(c)
	if err != nil {
		return 0, err
	}
	if err := mem.WriteAt(t.Image, acpi.WindowBase); err != nil {
		return 0, fmt.Errorf("write the ACPI tables: %w", err)
	}
	return t.RSDP, nil
}

// tablesOf says what the tables are to tell, but for the PCI bus and where they lie.
func tablesOf(spec *Spec, ioBase uint16) acpi.Config {
	return acpi.Config{
		VCPUs:    spec.VCPUs,
		IOBase:   ioBase,
		EventGSI: acpi.EventGSI,
		TimerGSI: 0, // the routing that KVM_CREATE_IRQCHIP leaves behind
		Serial:   []acpi.SerialPort{{Base: com1Port, IRQ: com1IRQ}},
	}
}

// hardware tells the built-in guest, which reads no tables, where its devices are.
func hardware(pci bool) guest.Hardware {
	h := guest.PC()
	r := acpi.RegistersAt(acpi.IOBase)
	h.SleepPort, h.SleepValue = r.SleepControl, r.S5
	h.ResetPort, h.ResetValue = r.Reset, r.ResetValue
	h.EventPort, h.EventLine, h.EventMask = r.Events, acpi.EventGSI, r.PowerButton
	if pci {
		h.ECAM, h.BARs = ecamBase, barBase
	}
	return h
}
