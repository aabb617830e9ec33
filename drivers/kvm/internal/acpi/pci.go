package acpi

import (
	"encoding/binary"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/acpi/aml"
)

// ecamSize is the configuration space of one bus.
const ecamSize = 1 << 20

// mcfg says where configuration space is (PCI Firmware Specification 3.3, section 4.1.2).
func mcfg(p *PCI) []byte {
	t := make([]byte, 8) // reserved
	t = binary.LittleEndian.AppendUint64(t, p.ECAM)
	return append(t, 0, 0, 0, 0, 0, 0, 0, 0) // segment group 0, buses 0 to 0
}

// hostBridge is the bus, and a device that holds its configuration space: a guest uses that only if a mainboard device
// reserves it. There are no interrupt lines, and thus no _PRT.
func hostBridge(p *PCI) aml.Term {
	resources := []aml.Resource{
		aml.BusNumbers(0, 0),
		aml.QWordMemory(aml.Window{Base: p.WindowBase, Size: p.WindowSize, Producer: true}),
	}
	for _, w := range p.More {
		resources = append(resources, aml.QWordMemory(aml.Window{Base: w.Base, Size: w.Size, Producer: true}))
	}
	return aml.Join(
		aml.Device("PCI0",
			aml.Name("_HID", aml.EISAID("PNP0A08")),
			aml.Name("_CID", aml.EISAID("PNP0A03")),
			aml.Name("_SEG", aml.Integer(0)),
			aml.Name("_BBN", aml.Integer(0)),
			aml.Name("_UID", aml.Integer(0)),
			aml.Name("_CRS", aml.ResourceTemplate(resources...)),
		),
		aml.Device("MBRD",
			aml.Name("_HID", aml.EISAID("PNP0C02")),
			aml.Name("_UID", aml.Integer(0)),
			aml.Name("_CRS", aml.ResourceTemplate(aml.QWordMemory(aml.Window{Base: p.ECAM, Size: ecamSize}))),
		),
	)
}
