package acpi

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The addresses of our machines. Firmware-less guests look for the RSDP on
// 16-byte boundaries from 0xe0000 to 0xfffff (ACPI 6.4, section 5.2.5.1).
const (
	WindowBase = 0xe0000
	WindowSize = 0x10000
	IOBase     = 0x600
	EventGSI   = 9

	localAPICBase = 0xfee00000
	ioAPICBase    = 0xfec00000
)

// MaxVCPUs is the most processors that the tables can list, all with 8-bit
// local APIC ids (255 is the broadcast).
const MaxVCPUs = 255

// ErrConfig is what the errors of Build unwrap to.
var ErrConfig = errors.New("acpi: no tables for this machine")

// Config is the machine that the tables describe.
type Config struct {
	// Base is the guest-physical address of the image, below 4 GiB and a
	// multiple of 16; Size is how many bytes there are for it.
	Base, Size uint64
	// VCPUs is 1 to MaxVCPUs; vCPU i has local APIC id i.
	VCPUs int
	// IOBase is the first port of Device.
	IOBase uint16
	// EventGSI is the input of the I/O APIC (0 to 23) that DeviceConfig.IRQ
	// drives. One below 16 is taken from the ISA bus: it must not be that of a
	// serial port, nor 0, 2 or TimerGSI.
	EventGSI uint32
	// TimerGSI is the input of the I/O APIC that the PIT (ISA interrupt 0)
	// drives: 2 when KVM_SET_GSI_ROUTING was told so, as on a PC, or 0 with
	// the routing that KVM_CREATE_IRQCHIP leaves behind.
	TimerGSI uint32
	// Serial lists the serial ports, COM1 first; at most 4.
	Serial []SerialPort
	// PCI describes the PCI Express bus; nil is a machine without one.
	PCI *PCI
}

// PCI is a PCI Express host bridge with bus 0 alone.
type PCI struct {
	// ECAM is where the 1 MiB of configuration space lies, at a multiple of that.
	ECAM uint64
	// Window is where the BARs lie.
	WindowBase, WindowSize uint64
	// More is where they may lie beside that.
	More []Window
}

// Window is a range of addresses.
type Window struct{ Base, Size uint64 }

// SerialPort is a 16550A in I/O space with an edge-triggered ISA interrupt
// (1 to 15), which arrives at the I/O APIC's input of the same number.
type SerialPort struct {
	Base uint16
	IRQ  uint8
}

// Tables is an image of all tables and where things are in it.
type Tables struct {
	// Image is to be written to Config.Base. It begins with the RSDP.
	Image []byte
	// RSDP is the guest-physical address to tell the guest.
	RSDP uint64
	// Entries lists the tables in the order of the image.
	Entries []Entry
}

// Entry is one table: its signature and guest-physical range.
type Entry struct {
	Signature  string
	Addr, Size uint64
}

func (c *Config) validate() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrConfig, fmt.Sprintf(format, args...))
	}
	if c.VCPUs < 1 || c.VCPUs > MaxVCPUs {
		return bad("%d vCPUs: want 1 to %d", c.VCPUs, MaxVCPUs)
	}
	if c.Base%16 != 0 || c.Base >= 1<<32 || c.Size > 1<<32-c.Base {
		return bad("base %#x, size %#x: want a multiple of 16 and an end within 4 GiB", c.Base, c.Size)
	}
	if c.IOBase == 0 || int(c.IOBase)+DeviceSize > 1<<16 {
		return bad("I/O base %#x: want %d ports from 1 to 0xffff", c.IOBase, DeviceSize)
	}
	if c.TimerGSI != 0 && c.TimerGSI != 2 {
		return bad("timer on GSI %d: want 0 or 2", c.TimerGSI)
	}
	if c.EventGSI > 23 || c.EventGSI == 0 || c.EventGSI == 2 {
		return bad("event interrupt on GSI %d: want 1 to 23, not 2", c.EventGSI)
	}
	if len(c.Serial) > 4 {
		return bad("%d serial ports: the most is 4", len(c.Serial))
	}
	if p := c.PCI; p != nil && (p.ECAM == 0 || p.ECAM%ecamSize != 0 || p.WindowSize == 0) {
		return bad("PCI configuration space at %#x, window of %#x bytes: want a multiple of 1 MiB, and a window", p.ECAM, p.WindowSize)
	}
	for i, s := range c.Serial {
		if s.IRQ < 1 || s.IRQ > 15 || s.IRQ == 2 {
			return bad("serial port %d: interrupt %d: want 1 to 15, not 2", i, s.IRQ)
		}
		if uint32(s.IRQ) == c.EventGSI {
			return bad("serial port %d: interrupt %d belongs to ACPI events", i, s.IRQ)
		}
		if s.Base == 0 || int(s.Base)+8 > 1<<16 {
			return bad("serial port %d: I/O base %#x: want 8 ports from 1 to 0xffff", i, s.Base)
		}
	}
	return nil
}

// Build returns the tables. Its error wraps ErrConfig and says which field
// cannot be.
func Build(c Config) (*Tables, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	b := builder{base: c.Base}
	rsdp := b.place("RSDP", make([]byte, rsdpSize)) // known address; filled in last
	code, err := dsdt(&c).Bytes()
	if err != nil {
		return nil, fmt.Errorf("%w: DSDT: %w", ErrConfig, err)
	}
	dsdtAddr := b.table("DSDT", 2, code)
	listed := []uint64{
		b.table("FACP", 6, fadt(&c, dsdtAddr)), // first, as ACPICA wants it early
		b.table("APIC", 5, madt(&c)),
	}
	if c.PCI != nil {
		listed = append(listed, b.table("MCFG", 1, mcfg(c.PCI)))
	}
	var list []byte
	for _, addr := range listed {
		list = binary.LittleEndian.AppendUint64(list, addr)
	}
	xsdt := b.table("XSDT", 1, list)
	if n := uint64(len(b.image)); n > c.Size {
		return nil, fmt.Errorf("%w: the tables take %d bytes, there are %d", ErrConfig, n, c.Size)
	}
	fillRSDP(b.image[:rsdpSize], xsdt)
	return &Tables{Image: b.image, RSDP: rsdp, Entries: b.entries}, nil
}

// builder lays tables out one after the other.
type builder struct {
	base    uint64
	image   []byte
	entries []Entry
}

// place appends bytes at the next multiple of 16 and returns their address.
func (b *builder) place(signature string, p []byte) uint64 {
	for len(b.image)%16 != 0 {
		b.image = append(b.image, 0)
	}
	addr := b.base + uint64(len(b.image))
	b.image = append(b.image, p...)
	b.entries = append(b.entries, Entry{signature, addr, uint64(len(p))})
	return addr
}

const (
	headerSize = 36
	rsdpSize   = 36

	oemID      = "POLYVR"
	oemTableID = "POLYVISR"
	creatorID  = "PLYV"
)

// table appends a system description table (ACPI 6.4, section 5.2.6) and
// returns its address.
func (b *builder) table(signature string, revision byte, body []byte) uint64 {
	le := binary.LittleEndian
	t := append([]byte{}, signature...)
	t = le.AppendUint32(t, uint32(headerSize+len(body)))
	t = append(t, revision, 0)
	t = append(t, oemID+oemTableID...)
	t = le.AppendUint32(t, 1) // revision of the table's contents
	t = append(t, creatorID...)
	t = le.AppendUint32(t, 1)
	t = append(t, body...)
	t[9] = -sum(t)
	return b.place(signature, t)
}

// fillRSDP writes the root pointer (ACPI 6.4, section 5.2.5.3) without an
// RSDT: whoever knows revision 2 uses the XSDT.
func fillRSDP(p []byte, xsdt uint64) {
	copy(p, "RSD PTR ")
	copy(p[9:], oemID)
	p[15] = 2 // revision
	binary.LittleEndian.PutUint32(p[20:], rsdpSize)
	binary.LittleEndian.PutUint64(p[24:], xsdt)
	p[8] = -sum(p[:20])
	p[32] = -sum(p)
}

func sum(p []byte) (s byte) {
	for _, b := range p {
		s += b
	}
	return s
}
