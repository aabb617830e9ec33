package acpi

import "encoding/binary"

// Flags of an interrupt (ACPI 6.4, table 5.26): active high, and how it is
// triggered.
const (
	intiEdgeHigh  = 1 | 1<<2
	intiLevelHigh = 1 | 3<<2
)

// madt is the body of the interrupt controller table (ACPI 6.4, section
// 5.2.12) of KVM's in-kernel chips: a local APIC per vCPU, one I/O APIC with 24
// inputs and id 0, and two 8259s which the guest has to mask.
func madt(c *Config) []byte {
	le := binary.LittleEndian
	const dual8259 = 1
	t := le.AppendUint32(nil, localAPICBase)
	t = le.AppendUint32(t, dual8259)
	for i := range c.VCPUs {
		const enabled = 1
		t = append(t, 0, 8, byte(i), byte(i)) // processor uid, APIC id
		t = le.AppendUint32(t, enabled)
	}
	t = append(t, 1, 12, 0, 0) // I/O APIC, id 0
	t = le.AppendUint32(t, ioAPICBase)
	t = le.AppendUint32(t, 0) // its first input is GSI 0
	if c.TimerGSI != 0 {
		t = appendOverride(t, 0, c.TimerGSI, intiEdgeHigh)
	}
	if c.EventGSI < 16 {
		t = appendOverride(t, byte(c.EventGSI), c.EventGSI, intiLevelHigh)
	}
	const allProcessors, lint1 = 0xff, 1
	return append(t, 4, 6, allProcessors, 0, 0, lint1) // NMI
}

// appendOverride tells that an ISA interrupt is not edge-triggered or not at
// the input of its own number.
func appendOverride(t []byte, irq byte, gsi uint32, flags uint16) []byte {
	t = append(t, 2, 10, 0, irq)
	t = binary.LittleEndian.AppendUint32(t, gsi)
	return binary.LittleEndian.AppendUint16(t, flags)
}
