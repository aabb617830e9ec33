package acpi

import (
	"fmt"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/acpi/aml"
)

// dsdt is the namespace: power states, events and the devices that cannot be
// found otherwise.
func dsdt(c *Config) aml.Term {
	devices := []aml.Term{powerButton(), eventDevice(c)}
	for i, s := range c.Serial {
		devices = append(devices, serialPort(i, s))
	}
	for i := range c.VCPUs {
		devices = append(devices, processor(i))
	}
	if c.PCI != nil {
		devices = append(devices, hostBridge(c.PCI))
	}
	return aml.Join(
		aml.Name(`\_S5`, aml.Package(aml.Integer(sleepTypeS5), aml.Integer(0), aml.Integer(0), aml.Integer(0))),
		aml.Scope(`\_SB`, devices...),
	)
}

func powerButton() aml.Term {
	return aml.Device("PWRB",
		aml.Name("_HID", aml.EISAID("PNP0C0C")),
		aml.Name("_UID", aml.Integer(0)),
	)
}

// eventDevice is the generic event device (ACPI 6.4, section 5.6.9): its
// interrupt runs _EVT, which asks Device what happened and tells the driver.
func eventDevice(c *Config) aml.Term {
	return aml.Device("GED0",
		aml.Name("_HID", aml.String("ACPI0013")),
		aml.Name("_UID", aml.Integer(0)),
		aml.Name("_CRS", aml.ResourceTemplate(aml.Interrupt(c.EventGSI, aml.Line{}))),
		aml.OperationRegion("EREG", aml.SystemIO, uint64(c.IOBase)+regEvents, 1),
		aml.Field("EREG", aml.ByteAcc, aml.WriteAsZeros, aml.Bits("EVTS", 8)),
		aml.Method("_EVT", 1, true,
			aml.If(aml.Equal(aml.Arg(0), aml.Integer(uint64(c.EventGSI))),
				aml.Store(aml.Path("EVTS"), aml.Local(0)), // reading clears, so once
				aml.If(aml.And(aml.Local(0), aml.Integer(eventPowerButton)),
					aml.Notify(`\_SB.PWRB`, 0x80), // pressed
				),
			),
		),
	)
}

// serialPort is a 16550A.
func serialPort(i int, s SerialPort) aml.Term {
	return aml.Device(fmt.Sprintf("COM%d", i+1),
		aml.Name("_HID", aml.EISAID("PNP0501")),
		aml.Name("_UID", aml.Integer(uint64(i))),
		aml.Name("_CRS", aml.ResourceTemplate(
			aml.IO(s.Base, 8),
			aml.IRQ(s.IRQ, aml.Line{Edge: true}),
		)),
	)
}

// processor is the device of a vCPU; its _UID is that of the MADT.
func processor(i int) aml.Term {
	return aml.Device(fmt.Sprintf("C%03X", i),
		aml.Name("_HID", aml.String("ACPI0007")),
		aml.Name("_UID", aml.Integer(uint64(i))),
	)
}
