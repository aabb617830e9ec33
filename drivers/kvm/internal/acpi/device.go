package acpi

import "sync"

// DeviceSize is the number of I/O ports of Device.
const DeviceSize = 8

// Registers of Device, each one byte.
const (
	regSleepControl = 0 // SLP_TYP and SLP_EN
	regSleepStatus  = 1 // WAK_STS, always clear: the machine does not sleep, it stops
	regReset        = 2 // resets when resetValue is written
	regEvents       = 4 // events since the last read; reading clears them
)

const (
	sleepEnable    = 1 << 5
	sleepTypeShift = 2
	sleepTypeMask  = 7 << sleepTypeShift

	sleepTypeS5 = 5    // our choice, told by \_S5
	resetValue  = 0x42 // our choice, told by the FADT; unlikely to be written by a probe

	eventPowerButton = 1 << 0
)

// Registers says where the device's registers are and what goes into them, for
// a guest that does not read the tables.
type Registers struct {
	SleepControl uint16 // I/O port; writing S5 there turns the machine off
	S5           byte
	Reset        uint16 // I/O port; writing ResetValue there resets
	ResetValue   byte
	Events       uint16 // I/O port; one byte, cleared by reading
	PowerButton  byte   // its bit for the power button
}

// RegistersAt returns the registers of a device added to the bus at ioBase.
func RegistersAt(ioBase uint16) Registers {
	return Registers{
		SleepControl: ioBase + regSleepControl,
		S5:           sleepEnable | sleepTypeS5<<sleepTypeShift,
		Reset:        ioBase + regReset,
		ResetValue:   resetValue,
		Events:       ioBase + regEvents,
		PowerButton:  eventPowerButton,
	}
}

// DeviceConfig connects a Device to its machine. Nil functions are not called.
type DeviceConfig struct {
	// PowerOff is called when the guest enters S5. PowerOff and Reset are
	// called on the vCPU's thread with nothing locked, maybe by several vCPUs
	// and more than once, and should only note the request. The guest goes on
	// running until the machine stops it.
	PowerOff func()
	// Reset is called when the guest writes the reset register.
	Reset func()
	// IRQ drives the event interrupt, a level-triggered, active-high line on
	// Config.EventGSI. It is called for changes only, with the device locked,
	// so that the levels arrive in order; it must not call the device.
	IRQ func(level bool)
}

// Device is the power management hardware that the tables describe, at
// Config.IOBase. It is safe for concurrent use.
//
// Its registers are bytes. A wide access reaches each byte it covers in turn;
// there is nothing but zeros between registers, and ones past the end.
type Device struct {
	c DeviceConfig

	mu     sync.Mutex // protects all below
	events byte
	sleep  byte // SLP_TYP as last written
}

// NewDevice returns a device in its reset state, with the interrupt low.
func NewDevice(c DeviceConfig) *Device {
	nop := func() {}
	if c.PowerOff == nil {
		c.PowerOff = nop
	}
	if c.Reset == nil {
		c.Reset = nop
	}
	if c.IRQ == nil {
		c.IRQ = func(bool) {}
	}
	return &Device{c: c}
}

// PowerButton presses the power button: the event is pending and the interrupt
// stays high until the guest reads the event register. A press while the last
// one is pending changes nothing. It cannot tell whether the guest listens.
func (d *Device) PowerButton() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.setEvents(d.events | eventPowerButton)
}

// Reset forgets pending events and lowers the interrupt.
func (d *Device) Reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sleep = 0
	d.setEvents(0)
}

func (d *Device) setEvents(events byte) {
	was := d.events != 0
	d.events = events
	if level := events != 0; level != was {
		d.c.IRQ(level)
	}
}

// Read implements the device side of a port bus.
func (d *Device) Read(off uint64, p []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range p {
		if off >= DeviceSize {
			p[i] = 0xff
			continue
		}
		p[i] = d.readRegister(off)
		off++
	}
}

func (d *Device) readRegister(off uint64) byte {
	switch off {
	case regSleepControl:
		return d.sleep
	case regEvents:
		v := d.events
		d.setEvents(0)
		return v
	}
	return 0
}

// Write implements the device side of a port bus.
func (d *Device) Write(off uint64, p []byte) {
	for _, v := range p {
		switch {
		case off >= DeviceSize:
			return
		case off == regReset && v == resetValue:
			d.c.Reset()
		case off == regSleepControl:
			d.mu.Lock()
			d.sleep = v & sleepTypeMask // SLP_EN reads as zero
			d.mu.Unlock()
			if v&sleepEnable != 0 && v&sleepTypeMask == sleepTypeS5<<sleepTypeShift {
				d.c.PowerOff()
			}
		}
		off++
	}
}
