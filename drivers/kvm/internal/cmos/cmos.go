// Package cmos is a PC's real-time clock with its memory (Motorola MC146818): the time that firmware asks for, and a few
// bytes in which it looks for the size of memory. It tells UTC by the host's clock. It has no alarm and no interrupts, and
// what the guest writes over the time is forgotten.
package cmos

import (
	"sync"
	"time"
)

// Port and Size are where a PC has the device: an index, then data.
const (
	Port = 0x70
	Size = 2
)

// Registers.
const (
	regSeconds = 0x00
	regMinutes = 0x02
	regHours   = 0x04
	regWeekday = 0x06
	regDay     = 0x07
	regMonth   = 0x08
	regYear    = 0x09
	regA       = 0x0a
	regB       = 0x0b
	regC       = 0x0c
	regD       = 0x0d
	regLow     = 0x34 // memory from 16 MiB to 4 GiB in units of 64 KiB, two bytes
	regHigh    = 0x5b // memory from 4 GiB on in units of 64 KiB, three bytes
	regCentury = 0x32

	registers = 128

	dividerOn  = 0x26 // 32768 Hz, rate 1024 Hz; no update is ever in progress
	b24Hours   = 1 << 1
	bBinary    = 1 << 2
	dValid     = 1 << 7
	afternoon  = 1 << 7
	bKept      = b24Hours | bBinary
	indexMask  = registers - 1
	lowStart   = 16 << 20
	memoryUnit = 16 // log2 of 64 KiB
)

// Device is the clock. Its methods are for any goroutine.
type Device struct {
	now func() time.Time

	mu    sync.Mutex
	index byte
	ram   [registers]byte
}

// New gives the clock of a machine whose memory ends at low below 4 GiB and has high bytes from there on. A nil now is
// the host's clock.
func New(low, high uint64, now func() time.Time) *Device {
	if now == nil {
		now = time.Now
	}
	d := &Device{now: now}
	d.ram[regA], d.ram[regB], d.ram[regD] = dividerOn, b24Hours, dValid
	if low > lowStart {
		n := (low - lowStart) >> memoryUnit
		d.ram[regLow], d.ram[regLow+1] = byte(n), byte(n>>8)
	}
	n := min(high>>memoryUnit, 1<<24-1)
	d.ram[regHigh], d.ram[regHigh+1], d.ram[regHigh+2] = byte(n), byte(n>>8), byte(n>>16)
	return d
}

// Read implements bus.Device. The index reads as all ones, as on a PC.
func (d *Device) Read(off uint64, p []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range p {
		p[i] = 0xff
		if off+uint64(i) == 1 {
			p[i] = d.register(d.index)
		}
	}
}

// Write implements bus.Device.
func (d *Device) Write(off uint64, p []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, v := range p {
		switch off + uint64(i) {
		case 0:
			d.index = v & indexMask // the highest bit switches off the NMI
		case 1:
			d.set(d.index, v)
		}
	}
}

func (d *Device) set(reg, v byte) {
	switch {
	case reg <= regYear || reg == regA || reg == regC || reg == regD || reg == regCentury:
	case reg == regB:
		d.ram[reg] = v & bKept
	default:
		d.ram[reg] = v
	}
}

func (d *Device) register(reg byte) byte {
	t := d.now().UTC()
	switch reg {
	case regSeconds:
		return d.digits(t.Second())
	case regMinutes:
		return d.digits(t.Minute())
	case regHours:
		return d.hours(t.Hour())
	case regWeekday:
		return d.digits(int(t.Weekday()) + 1)
	case regDay:
		return d.digits(t.Day())
	case regMonth:
		return d.digits(int(t.Month()))
	case regYear:
		return d.digits(t.Year() % 100)
	case regCentury:
		return d.digits(t.Year() / 100 % 100)
	}
	return d.ram[reg]
}

func (d *Device) hours(h int) byte {
	if d.ram[regB]&b24Hours != 0 {
		return d.digits(h)
	}
	pm := byte(0)
	if h >= 12 {
		pm = afternoon
	}
	return d.digits((h+11)%12+1) | pm
}

// digits gives a number of up to two digits as register B wants it.
func (d *Device) digits(n int) byte {
	if d.ram[regB]&bBinary != 0 {
		return byte(n)
	}
	return byte(n/10<<4 | n%10)
}
