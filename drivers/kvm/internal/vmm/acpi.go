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
	var bus *acpi.PCI
	if spec.hasPCI() {
		bus = pciTables()
	}
	t, err := acpi.Build(acpi.Config{
		Base: acpi.WindowBase, Size: acpi.WindowSize,
		VCPUs:    spec.VCPUs,
		PCI:      bus,
		IOBase:   acpi.IOBase,
		EventGSI: acpi.EventGSI,
		TimerGSI: 0, // the routing that KVM_CREATE_IRQCHIP leaves behind
		Serial:   []acpi.SerialPort{{Base: com1Port, IRQ: com1IRQ}},
	})
	if err != nil {
		return 0, err
	}
	if err := mem.WriteAt(t.Image, acpi.WindowBase); err != nil {
		return 0, fmt.Errorf("write the ACPI tables: %w", err)
	}
	return t.RSDP, nil
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
