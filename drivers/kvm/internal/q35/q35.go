// Package q35 is what UEFI firmware for QEMU's PC asks of the chip set before it believes in it: Intel's Q35 memory
// controller, where it moves the window of PCI configuration space, and the ICH9 south bridge with its power management
// timer, which firmware waits by, its power-off and its reset register.
//
// Operating systems are told nothing of it: to them the machine is one with hardware-reduced ACPI. They turn it off
// and reset it through the firmware.
//
// Sources: Intel 3 Series Express Chipset Family datasheet (316966), Intel I/O Controller Hub 9 datasheet (316972).
package q35

import (
	"encoding/binary"
	"sync"
	"time"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/pci"
)

// Ports.
const (
	PMPort = 0x600 // where firmware puts the power management registers anyway
	PMSize = 0x80

	// LPCSlot is where the south bridge sits.
	LPCSlot = 31
)

// Registers.
const (
	intel    = 0x8086
	mchID    = 0x29c0
	lpcID    = 0x2918
	classLPC = 0x060100

	mchWindow     = 0x60 // PCIEXBAR, 8 bytes
	windowEnable  = 1 << 0
	windowLength  = 3 << 1 // 0 is 256 MiB
	windowAddress = 0xff0000000

	lpcPMBase    = 0x40
	lpcACPI      = 0x44 // ACPI_CNTL
	acpiEnable   = 1 << 7
	ioSpace      = 1 << 0
	lpcRoot      = 0xf0 // RCBA
	lpcInterrupt = 0x60 // PIRQA to D, E to H at 0x68
	pirqOff      = 0x80

	pmControl   = 0x04
	sleepEnable = 1 << 13
	sleepType   = 7 << 10 // 0 is S5
	sciEnable   = 1 << 0
	pmTimer     = 0x08
	timerHz     = 3579545
	timerMask   = 1<<24 - 1

	resetCPU = 1 << 2
)

// HostBridge gives the memory controller. moved is told where the firmware puts the window of configuration space, 256 MiB
// at a multiple of that below 64 GiB, or 0 for nowhere; it is called on a processor's thread.
func HostBridge(moved func(base uint64)) *pci.Function {
	f := pci.NewFunction(pci.ID{Vendor: intel, Device: mchID, Class: pci.ClassHostBridge})
	var last uint64
	f.AddRegisters(mchWindow, make([]byte, 8), []byte{windowEnable | windowLength, 0, 0, 0xf0, 0x0f, 0, 0, 0}, func(b []byte) {
		v := binary.LittleEndian.Uint64(b)
		base := v & windowAddress
		if v&windowEnable == 0 || v&windowLength != 0 {
			base = 0
		}
		if base != last {
			last = base
			moved(base)
		}
	})
	return f
}

// SouthBridge gives the bridge whose power management registers answer at PMPort, which cannot be changed.
func SouthBridge() *pci.Function {
	f := pci.NewFunction(pci.ID{Vendor: intel, Device: lpcID, Class: classLPC})
	f.AddRegisters(lpcPMBase, []byte{PMPort&0xff | ioSpace, PMPort >> 8, 0, 0, acpiEnable, 0, 0, 0}, nil, nil)
	off := []byte{pirqOff, pirqOff, pirqOff, pirqOff}
	all := []byte{0xff, 0xff, 0xff, 0xff}
	f.AddRegisters(lpcInterrupt, off, all, nil)
	f.AddRegisters(lpcInterrupt+8, off, all, nil)
	f.AddRegisters(lpcRoot, make([]byte, 4), all, nil)
	return f
}

// Power is the power management registers. Its methods are for any goroutine.
type Power struct {
	powerOff func()
	start    time.Time

	mu  sync.Mutex
	sci bool
}

// NewPower gives the registers. powerOff is called on a processor's thread and must not wait for it.
func NewPower(powerOff func()) *Power { return &Power{powerOff: powerOff, start: time.Now()} }

// Read implements bus.Device.
func (p *Power) Read(off uint64, b []byte) {
	var regs [pmTimer + 4]byte
	p.mu.Lock()
	if p.sci {
		regs[pmControl] = sciEnable
	}
	p.mu.Unlock()
	// In two steps, since nanoseconds times the frequency leave 64 bits after less than two hours.
	d := time.Since(p.start)
	ticks := uint64(d/time.Second)*timerHz + uint64(d%time.Second)*timerHz/uint64(time.Second)
	binary.LittleEndian.PutUint32(regs[pmTimer:], uint32(ticks&timerMask))
	clear(b)
	if off < uint64(len(regs)) {
		copy(b, regs[off:])
	}
}

// Write implements bus.Device: only the control register takes anything.
func (p *Power) Write(off uint64, b []byte) {
	if off != pmControl || len(b) < 2 {
		return
	}
	v := binary.LittleEndian.Uint16(b)
	p.mu.Lock()
	p.sci = v&sciEnable != 0
	p.mu.Unlock()
	if v&(sleepEnable|sleepType) == sleepEnable {
		p.powerOff()
	}
}

// Resets says whether a byte written to the reset control register, port 0xcf9, resets the machine.
func Resets(v byte) bool { return v&resetCPU != 0 }
