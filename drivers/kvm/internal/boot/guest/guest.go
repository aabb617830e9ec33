// Package guest is the built-in guest: a few KiB of 64-bit machine code that
// runs when a domain names no kernel, and the test subject of the engine on
// hosts whose KVM cannot run Linux.
//
// The source is guest.S and devices/devices.c, its virtio drivers; `go generate` compiles and assembles them with GNU tools into
// devices/devices.s and guest.bin, which are checked in and embedded. The guest says on the first
// serial port how much memory answers and how many processors came up, then
// obeys commands line by line; type help at its prompt. It sleeps in HLT while
// it waits, and answers the ACPI power button by powering off.
//
// # Command line
//
//	auto=COMMANDS    run these first, parted by semicolons. COMMANDS is all that
//	                 follows, or what stands between double quotes:
//	                 auto=echo hi;poweroff or auto="echo hi;poweroff" noirq
//	noirq            poll instead of sleeping until an interrupt
//
// # Entry
//
// The guest is entered like the 64-bit entry point of Linux: long mode, flat
// segments (CS selector 0x08 or 0x10), interrupts off, an identity map of the
// first 2 MiB, RSI = address of the info page. The info page takes the place
// of boot_params. All numbers in it are little-endian:
//
//	  0  8 bytes  "PVGUEST1"
//	 16  uint32   number of processors
//	 20  uint32   number of memory ranges
//	 24  uint16   port of the 16550 serial device
//	 28  uint32   its interrupt line at the IOAPIC
//	 32  uint16   ACPI sleep control port;  34  uint8  value that means S5
//	 36  uint16   ACPI reset port;          38  uint8  value that resets
//	 40  uint16   event port (GED), one byte, 0: none
//	 44  uint32   its interrupt line;       48  uint8  bits of the power button
//	 52  uint32   address of the IOAPIC;    56  uint32 address of the local APIC
//	 60  uint32   offset of the command line, which ends by a zero byte
//	 64  uint32   address of the configuration space of PCI (ECAM), 0: none
//	 68  uint32   address of the first BAR; all are within 2 MiB of it
//	128  memory ranges: address uint64, size uint64
package guest

import (
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

//go:generate gcc -m64 -O1 -S -o devices/devices.s -ffreestanding -fno-pic -fno-stack-protector -fno-builtin -fno-asynchronous-unwind-tables -fno-ident -fcf-protection=none -fno-tree-loop-distribute-patterns -fno-tree-vectorize -mgeneral-regs-only -mno-red-zone -mcmodel=small -ffixed-r15 -Wall -Wextra -Werror devices/devices.c
//go:generate as --64 -o guest.o guest.S
//go:generate as --64 -o devices.o devices/devices.s
//go:generate ld -N -Ttext=0x100000 -e start -o guest.elf guest.o devices.o
//go:generate objcopy -O binary -j .text -j .rodata guest.elf guest.bin
//go:generate rm guest.o devices.o guest.elf
//go:generate sh -c "sha256sum guest.S devices/devices.c devices/devices.s guest.bin > guest.sum"

//go:embed guest.bin
var image []byte

// What the guest prints, for those who wait for it.
const (
	Banner = "polyvisor built-in guest 1" // first line
	Prompt = "pv> "                       // waits for a command
)

var (
	// ErrCommandLine means that the command line cannot be handed over.
	ErrCommandLine = errors.New("bad command line for the built-in guest")
	// ErrMemory means that guest memory does not suit the guest.
	ErrMemory = errors.New("bad memory for the built-in guest")
)

// Memory is guest RAM. Slice returns the size bytes at a guest-physical
// address, or an error when they are not one contiguous range inside RAM.
type Memory interface {
	Slice(addr, size uint64) ([]byte, error)
}

// Hardware says where the guest finds the devices it uses.
type Hardware struct {
	SerialPort uint16
	SerialLine uint32

	SleepPort  uint16 // ACPI sleep control register
	SleepValue uint8  // what to write there for S5, with the enable bit
	ResetPort  uint16 // ACPI reset register
	ResetValue uint8

	EventPort uint16 // generic event register, one byte, cleared by reading; 0: none
	EventLine uint32
	EventMask uint8 // its bits that mean the power button

	IOAPIC, LocalAPIC uint32

	// ECAM is the configuration space of PCI, and BARs where the windows of its functions begin, between 3 and 4 GiB; 0: no
	// such bus.
	ECAM, BARs uint32
}

// PC returns the addresses that every PC has: first serial port, IOAPIC, local
// APIC. The ACPI registers are left for the caller.
func PC() Hardware {
	return Hardware{SerialPort: 0x3f8, SerialLine: 4, IOAPIC: 0xfec00000, LocalAPIC: 0xfee00000}
}

// Config is what the guest is told about its machine.
type Config struct {
	CommandLine string // at most MaxCommandLine bytes
	CPUs        int
	// LowRAM is the RAM from address 0, at most 3 GiB; HighRAM the RAM from
	// 4 GiB on. Both in bytes.
	LowRAM, HighRAM uint64
	Hardware        Hardware
}

// Entry says how to start the first processor.
type Entry struct {
	RIP, RSI uint64
}

// Load writes the guest and its info page into guest memory. It may be called
// again on used memory, as for a reset. An error leaves memory partly written.
func Load(mem Memory, cfg Config) (Entry, error) {
	if err := cfg.check(); err != nil {
		return Entry{}, err
	}
	b, err := mem.Slice(imageAddr, memoryEnd-imageAddr)
	if err == nil && len(b) != memoryEnd-imageAddr {
		err = fmt.Errorf("%d bytes instead of %d", len(b), memoryEnd-imageAddr)
	}
	if err != nil {
		return Entry{}, fmt.Errorf("%w: %#x-%#x: %w", ErrMemory, uint64(imageAddr), uint64(memoryEnd), err)
	}
	clear(b)
	copy(b, image)
	cfg.encode(b[infoAddr-imageAddr:][:infoSize])
	return Entry{RIP: imageAddr, RSI: infoAddr}, nil
}

func (c Config) check() error {
	switch {
	case c.LowRAM < freeAddr || c.LowRAM > lowRAMMax:
		return fmt.Errorf("%w: %#x bytes below the hole at 3 GiB; it needs 2 MiB to 3 GiB there", ErrMemory, c.LowRAM)
	case c.HighRAM > highRAMMax:
		return fmt.Errorf("%w: %#x bytes above 4 GiB, more than a processor can address", ErrMemory, c.HighRAM)
	case c.CPUs < 1 || c.CPUs > 255:
		return fmt.Errorf("built-in guest: %d processors; it counts 1 to 255", c.CPUs)
	case len(c.CommandLine) > MaxCommandLine:
		return fmt.Errorf("%w: %d bytes, at most %d fit; shorten it", ErrCommandLine, len(c.CommandLine), MaxCommandLine)
	case strings.IndexByte(c.CommandLine, 0) >= 0:
		return fmt.Errorf("%w: it contains a zero byte", ErrCommandLine)
	}
	return nil
}

type memRange struct{ addr, size uint64 }

// ranges lists RAM without the legacy area of a PC, like an e820 map.
func (c Config) ranges() []memRange {
	r := []memRange{{0, legacyStart}, {imageAddr, c.LowRAM - imageAddr}}
	if c.HighRAM != 0 {
		r = append(r, memRange{highRAMAddr, c.HighRAM})
	}
	return r
}

// encode fills the zeroed info page.
func (c Config) encode(p []byte) {
	le, h := binary.LittleEndian, c.Hardware
	ranges := c.ranges()
	copy(p, infoMagic)
	le.PutUint32(p[16:], uint32(c.CPUs))
	le.PutUint32(p[20:], uint32(len(ranges)))
	le.PutUint16(p[24:], h.SerialPort)
	le.PutUint32(p[28:], h.SerialLine)
	le.PutUint16(p[32:], h.SleepPort)
	p[34] = h.SleepValue
	le.PutUint16(p[36:], h.ResetPort)
	p[38] = h.ResetValue
	le.PutUint16(p[40:], h.EventPort)
	le.PutUint32(p[44:], h.EventLine)
	p[48] = h.EventMask
	le.PutUint32(p[52:], h.IOAPIC)
	le.PutUint32(p[56:], h.LocalAPIC)
	le.PutUint32(p[60:], commandLineOffset)
	le.PutUint32(p[64:], h.ECAM)
	le.PutUint32(p[68:], h.BARs)
	for i, r := range ranges {
		le.PutUint64(p[128+16*i:], r.addr)
		le.PutUint64(p[136+16*i:], r.size)
	}
	copy(p[commandLineOffset:], c.CommandLine)
}
