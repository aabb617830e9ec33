package i8042

// Commands, beyond those that read (0x20-0x3f) and write (0x60-0x7f) the
// controller's RAM and those that pulse the output port (0xf0-0xff).
const (
	cmdPassword   = 0xa4 // is there a password?
	cmdDisableAux = 0xa7
	cmdEnableAux  = 0xa8
	cmdTestAux    = 0xa9
	cmdSelfTest   = 0xaa
	cmdTestKbd    = 0xab
	cmdDisableKbd = 0xad
	cmdEnableKbd  = 0xae
	cmdReadInput  = 0xc0
	cmdReadOutput = 0xd0
	cmdSetOutput  = 0xd1 // takes a byte
	cmdFromKbd    = 0xd2 // takes a byte and returns it
	cmdFromAux    = 0xd3 // takes a byte and returns it, as if by the mouse
	cmdToAux      = 0xd4 // takes a byte
	cmdA20Off     = 0xdd
	cmdA20On      = 0xdf
	cmdTestLines  = 0xe0
)

// Data is the device of DataPort.
func (k *Controller) Data() Port { return Port{k, DataPort} }

// Command is the device of CommandPort: status when read, commands when
// written.
func (k *Controller) Command() Port { return Port{k, CommandPort} }

// Port is one of the controller's ports, one byte wide; what a wider access
// touches beyond reads as ones.
type Port struct {
	k  *Controller
	io uint16
}

// Read implements the device side of a port bus. The data port returns its
// last byte again while the buffer is empty, and 0 after reset.
func (p Port) Read(off uint64, data []byte) {
	for i := range data {
		data[i] = 0xff
	}
	if off != 0 || len(data) == 0 {
		return
	}
	k := p.k
	k.mu.Lock()
	defer k.mu.Unlock()
	if p.io == CommandPort {
		data[0] = k.status | statUnlock
		if k.ram[0]&confSystem != 0 {
			data[0] |= statSystem
		}
		return
	}
	data[0] = k.data
	k.status &^= statFull | statTimeout
	k.update()
}

// Write implements the device side of a port bus.
func (p Port) Write(off uint64, data []byte) {
	if off != 0 || len(data) == 0 {
		return
	}
	k := p.k
	k.mu.Lock()
	var reset bool
	if p.io == CommandPort {
		reset = k.command(data[0])
	} else {
		reset = k.parameter(data[0])
	}
	k.update()
	k.mu.Unlock()
	if reset {
		k.reset()
	}
}

// command runs a command byte and tells whether it resets the machine.
func (k *Controller) command(c byte) (reset bool) {
	k.status |= statCommand
	k.pending = 0
	switch {
	case c >= 0xf0:
		return c&outNoReset == 0 // a zero bit pulses that line low
	case c&0xe0 == 0x20:
		k.answer(k.ram[c&0x1f])
		return false
	case c&0xe0 == 0x60:
		k.pending = c
		return false
	}
	switch c {
	case cmdPassword:
		k.answer(0xf1) // none
	case cmdDisableAux:
		k.ram[0] |= confNoAux
	case cmdEnableAux:
		k.ram[0] &^= confNoAux
	case cmdTestAux:
		k.answer(1) // clock line stuck: there is no such port
	case cmdSelfTest:
		k.ram[0] |= confSystem
		k.answer(0x55)
	case cmdTestKbd:
		k.answer(0) // the lines are fine, nobody is on them
	case cmdDisableKbd:
		k.ram[0] |= confNoKbd
	case cmdEnableKbd:
		k.ram[0] &^= confNoKbd
	case cmdReadInput:
		k.answer(0x80) // keyboard not locked
	case cmdReadOutput:
		k.answer(k.output)
	case cmdA20Off, cmdA20On:
		k.output = k.output&^outA20 | c&outA20
	case cmdTestLines:
		k.answer(0)
	case cmdSetOutput, cmdFromKbd, cmdFromAux, cmdToAux:
		k.pending = c
	default:
		k.answer(resend)
	}
	return false
}

// parameter runs a byte written to the data port: the parameter of the command
// before it, or else a byte for the keyboard.
func (k *Controller) parameter(v byte) (reset bool) {
	c := k.pending
	k.pending = 0
	k.status &^= statCommand
	switch {
	case c&0xe0 == 0x60:
		k.ram[c&0x1f] = v
	case c == cmdSetOutput:
		k.output = v
		return v&outNoReset == 0
	case c == cmdFromKbd, c == cmdFromAux:
		// Without the mark of a mouse's byte the second tells that there is none.
		k.answer(v)
	case c == cmdToAux:
		k.noDevice()
	default:
		k.ram[0] &^= confNoKbd // sending to the keyboard enables its port
		k.noDevice()
	}
	return false
}
