// Package acpi describes a virtual machine to its guest by ACPI tables, and is
// the little hardware that those tables speak of: power off, reset and the
// power button.
//
// The machine is hardware-reduced (ACPI 6.4, section 4.1): no PM timer, no
// system control interrupt, no fixed events. The power button is a device of
// the namespace (PNP0C0C) whose press is reported by a generic event device
// (ACPI0013) with an interrupt line of its own.
//
//	cfg := acpi.Config{
//		Base: acpi.WindowBase, Size: acpi.WindowSize,
//		VCPUs:  n,             // vCPU i has local APIC id i
//		IOBase: acpi.IOBase,
//		EventGSI: acpi.EventGSI,
//		Serial: []acpi.SerialPort{{Base: 0x3f8, IRQ: 4}},
//	}
//	tables, err := acpi.Build(cfg)
//	guestmem.WriteAt(tables.Image, cfg.Base)        // and e820: reserved
//	// boot_params.acpi_rsdp_addr, hvm_start_info.rsdp_paddr = tables.RSDP
//
//	pm := acpi.NewDevice(acpi.DeviceConfig{
//		PowerOff: func() { machine.RequestStop(shutdown) },
//		Reset:    func() { machine.RequestReset() },
//		IRQ:      func(level bool) { vm.IRQLine(acpi.EventGSI, level) }, // KVM_IRQ_LINE
//	})
//	ports.Add(acpi.IOBase, acpi.DeviceSize, "acpi", pm)
//	...
//	pm.PowerButton() // asks the guest to shut down
//	pm.Reset()       // machine reset, with the vCPUs stopped
//
// The tables do not change while the machine runs, but the guest may write
// over them: a machine reset writes tables.Image again.
//
// Sources: ACPI Specification 6.4, chapters 4 and 5; ACPI table fields that
// Linux and ACPICA look at on hardware-reduced machines.
package acpi
