// Package i8042 is a keyboard controller without keyboard and mouse: what is
// left of it that firmware and kernels want is the reset line, and an answer
// to every probe, since a probe that is not answered waits for seconds.
//
//	kbc := i8042.New(i8042.Config{Reset: machine.RequestReset})
//	ports.Add(i8042.DataPort, 1, "i8042 data", kbc.Data())
//	ports.Add(i8042.CommandPort, 1, "i8042 command", kbc.Command())
//	...
//	kbc.Reset() // machine reset, with the vCPUs stopped
//
// Port 0x61 lies between the two and is not here: it is the gate of timer
// channel 2, which belongs to KVM's PIT (KVM_CREATE_PIT2 with
// KVM_PIT_SPEAKER_DUMMY). Nor is port 0x92, the fast A20 gate and reset: A20
// is always on, our tables name no such port, and the kernels we boot reset by
// ACPI, this controller or a triple fault.
//
// Sources: IBM PS/2 Hardware Interface Technical Reference, keyboard and
// auxiliary device controller; Intel 8042 data sheet.
package i8042

import "sync"

// The controller's two I/O ports.
const (
	DataPort    = 0x60
	CommandPort = 0x64
)

// Status register.
const (
	statFull    = 0x01 // the output buffer has a byte for the guest
	statSystem  = 0x04 // the self test has passed
	statCommand = 0x08 // the last write was to the command port
	statUnlock  = 0x10 // the keyboard is not locked
	statTimeout = 0x40 // the byte in the buffer stands for a device that did not answer
)

// Configuration byte: the controller's RAM byte 0.
const (
	confIRQ    = 0x01 // interrupt when the output buffer fills
	confSystem = 0x04
	confNoKbd  = 0x10
	confNoAux  = 0x20
	confXlate  = 0x40
)

// Output port.
const (
	outNoReset = 0x01 // the reset line, active low
	outA20     = 0x02
)

const resend = 0xfe // what a PS/2 device or controller says to what it does not know

// Config connects the controller to its machine. Nil functions are not called.
type Config struct {
	// Reset is called when the guest pulls the processor's reset line. It is
	// called on the vCPU's thread with nothing locked, maybe by several vCPUs
	// and more than once, and should only note the request.
	Reset func()
	// IRQ drives ISA IRQ 1, edge-triggered, for a guest that enabled it in
	// the configuration byte. It is called for changes only, with the
	// controller locked; it must not call the controller.
	IRQ func(level bool)
}

// Controller is the device behind both ports. It is safe for concurrent use.
type Controller struct {
	reset func()
	irq   func(bool)

	mu    sync.Mutex // protects all below
	level bool       // of the interrupt line
	state
}

type state struct {
	ram     [32]byte // byte 0 is the configuration
	output  byte     // the output port
	data    byte     // the output buffer; keeps its value when it was read
	status  byte     // full, command and timeout bits
	pending byte     // the command that waits for its data byte, or 0
}

// resetState is what firmware leaves behind: self test passed, A20 on, no
// second port, no interrupt.
func resetState() state {
	s := state{output: outNoReset | outA20}
	s.ram[0] = confSystem | confXlate | confNoAux
	return s
}

// New returns a controller in its reset state.
func New(c Config) *Controller {
	k := &Controller{reset: c.Reset, irq: c.IRQ, state: resetState()}
	if k.reset == nil {
		k.reset = func() {}
	}
	if k.irq == nil {
		k.irq = func(bool) {}
	}
	return k
}

// Reset puts the controller back to the state of New.
func (k *Controller) Reset() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.state = resetState()
	k.update()
}

// update sets the interrupt line.
func (k *Controller) update() {
	level := k.status&statFull != 0 && k.ram[0]&confIRQ != 0
	if level != k.level {
		k.level = level
		k.irq(level)
	}
}

// answer fills the output buffer. An answer that was not read is lost, so that
// no sequence of commands needs more than this one byte.
func (k *Controller) answer(v byte) {
	k.data = v
	k.status = k.status&^statTimeout | statFull
}

// noDevice answers for a keyboard or mouse that is not there, as a controller
// does after it waited in vain.
func (k *Controller) noDevice() {
	k.answer(resend)
	k.status |= statTimeout
}
