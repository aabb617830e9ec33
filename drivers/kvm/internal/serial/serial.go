// Package serial is a 16550A UART: eight I/O ports, one interrupt line, a
// writer for what the guest sends and a bounded buffer for what it receives.
//
// COM1 of a machine:
//
//	com1 := serial.New(serial.Config{
//		Output: ring,                                       // must not block
//		IRQ:    func(level bool) { vm.IRQLine(4, level) },  // KVM_IRQ_LINE, GSI 4
//	})
//	ports.Add(0x3f8, serial.Size, "COM1", com1)
//	...
//	com1.Feed(ctx, typed)   // from the goroutine that reads the console
//	com1.Reset()            // machine reset, with the vCPUs stopped
//	com1.Close()            // ends every Feed
//
// Sources: National Semiconductor PC16550D data sheet; the behaviour that
// Linux's 8250 driver tests for when it decides which chip it has.
package serial

import (
	"errors"
	"io"
	"sync"
)

// Size is the number of I/O ports.
const Size = 8

// FIFOSize is the depth of the receive FIFO that the guest sees.
const FIFOSize = 16

// Backlog is how many received bytes wait, at most, for the guest's FIFO.
const Backlog = 4096

// ErrClosed is returned by Feed on a closed port.
var ErrClosed = errors.New("serial port is closed")

// Registers by offset; the first two are the divisor latch while LCR.DLAB is
// set. IIR is read and FCR written at the same offset.
const (
	regData = 0 // RBR read, THR write
	regIER  = 1
	regIIR  = 2
	regLCR  = 3
	regMCR  = 4
	regLSR  = 5
	regMSR  = 6
	regSCR  = 7
)

const (
	ierRX, ierTHRE, ierLine, ierModem, ierMask = 1, 2, 4, 8, 0x0f

	iirNone, iirModem, iirTHRE, iirRX, iirLine, iirTimeout, iirFIFO = 1, 0, 2, 4, 6, 0x0c, 0xc0

	fcrEnable, fcrClearRX = 1, 2

	lcrDLAB = 0x80

	mcrDTR, mcrRTS, mcrOut1, mcrOut2, mcrLoop, mcrMask = 1, 2, 4, 8, 0x10, 0x1f

	lsrData, lsrOverrun, lsrIdle = 1, 2, 0x60 // idle: THRE and TEMT

	msrDeltaCTS, msrDeltaDSR, msrTrailRI, msrDeltaDCD = 1, 2, 4, 8
	msrCTS, msrDSR, msrRI, msrDCD                     = 0x10, 0x20, 0x40, 0x80
)

// pollReads is how many times in a row the guest reads LSR, touching no other
// register, until it counts as waiting for input.
const pollReads = 8

// Config connects a port to its machine.
type Config struct {
	// Output receives each byte the guest sends, at once and in order, one
	// Write of one byte each, on the vCPU's thread with the port locked. It
	// must return quickly (the guest does not run meanwhile), must not keep
	// the slice, and must not call the port. Its errors are dropped: a line
	// has no way back. Nil discards.
	Output io.Writer
	// IRQ drives the interrupt line. It is called for changes only, with the
	// port locked, so that the levels arrive in order; it must not call the
	// port. Both levels must reach an edge-triggered input: the fall re-arms
	// it. Nil means not connected.
	IRQ func(level bool)
}

// Port is a UART. It is safe for concurrent use by vCPUs and feeders.
//
// Transmission takes no time: the transmitter is always empty, so a driver's
// wait ends at its first look at LSR.
//
// Reception follows the request-to-send line, as a peer with hardware flow
// control does: bytes given to Input and Feed move from the backlog into the
// guest's FIFO while MCR.RTS is on. So what was typed before the guest opened
// the port is not lost when the driver clears the FIFO to start. A guest that
// never touches RTS receives too, once it enables the receive interrupt or
// polls LSR (8 reads in a row, and nothing else). There is no overrun but in
// loopback.
//
// There is no timer. A FIFO that holds fewer bytes than its trigger level
// reports the character timeout interrupt at once instead of four character
// times later.
type Port struct {
	out io.Writer
	irq func(bool)

	mu    sync.Mutex // protects all below
	level bool       // of the interrupt line
	regs  registers

	fifo     [FIFOSize]byte
	fifoHead int
	fifoLen  int

	back     [Backlog]byte
	backHead int
	backLen  int

	tx     [1]byte       // what Output is given; here so that it needs no allocation
	room   chan struct{} // closed when the backlog has room; nil while nobody waits
	closed bool
}

// registers is the state that a machine reset puts back.
type registers struct {
	ier, lcr, mcr, scr, dll, dlm byte

	fifoOn  bool
	trigger int  // bytes in the FIFO for the receive interrupt
	overrun bool // LSR.OE until LSR is read
	thre    bool // THRE interrupt not yet acknowledged
	delta   byte // low half of MSR until it is read

	rtsSeen bool // the guest has used RTS
	polling bool // the guest waits by polling
	polls   int  // reads of LSR in a row
}

// resetRegisters is the state after power on: 9600 baud, transmitter idle, no
// interrupt.
var resetRegisters = registers{dll: 12, trigger: 1, thre: true}

// New returns a port in its reset state.
func New(c Config) *Port {
	p := &Port{out: c.Output, irq: c.IRQ, regs: resetRegisters}
	if p.out == nil {
		p.out = io.Discard
	}
	if p.irq == nil {
		p.irq = func(bool) {}
	}
	return p
}

// Reset puts the registers and the guest's FIFO back to their state after
// power on and lowers the interrupt. The backlog stays: its bytes have not
// been sent to the guest yet.
func (p *Port) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.regs = resetRegisters
	p.fifoHead, p.fifoLen = 0, 0
	p.update()
}

// source is the interrupt that IIR reports: the enabled one of highest
// priority, or iirNone.
func (p *Port) source() byte {
	r := &p.regs
	switch {
	case r.ier&ierLine != 0 && r.overrun:
		return iirLine
	case r.ier&ierRX != 0 && p.fifoLen > 0:
		if r.fifoOn && p.fifoLen < r.trigger {
			return iirTimeout
		}
		return iirRX
	case r.ier&ierTHRE != 0 && r.thre:
		return iirTHRE
	case r.ier&ierModem != 0 && r.delta != 0:
		return iirModem
	}
	return iirNone
}

// update refills the FIFO and sets the interrupt line. Every change of state
// ends with it.
func (p *Port) update() {
	p.receive()
	if level := p.source() != iirNone; level != p.level {
		p.level = level
		p.irq(level)
	}
}

// modem is the upper half of MSR: a peer that is always ready or, in loopback,
// the lines that the guest drives itself.
func (r *registers) modem() byte {
	if r.mcr&mcrLoop == 0 {
		return msrCTS | msrDSR | msrDCD
	}
	var m byte
	for _, l := range [...]struct{ out, in byte }{
		{mcrRTS, msrCTS}, {mcrDTR, msrDSR}, {mcrOut1, msrRI}, {mcrOut2, msrDCD},
	} {
		if r.mcr&l.out != 0 {
			m |= l.in
		}
	}
	return m
}

// setMCR changes the modem control lines and notes what that changes in MSR.
func (r *registers) setMCR(v byte) {
	was := r.modem()
	if r.mcr&^v&mcrRTS != 0 {
		r.polling = false // turned off on purpose: it counts again
	}
	r.mcr = v & mcrMask
	now := r.modem()
	r.delta |= (was ^ now) >> 4 & (msrDeltaCTS | msrDeltaDSR | msrDeltaDCD)
	if was&^now&msrRI != 0 {
		r.delta |= msrTrailRI // the ring indicator counts only its end
	}
	if v&(mcrRTS|mcrLoop) == mcrRTS {
		r.rtsSeen = true
	}
}
