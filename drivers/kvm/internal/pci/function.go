package pci

import (
	"encoding/binary"
	"sync"
)

// Class codes: base class, subclass, interface.
const (
	ClassHostBridge = 0x060000
	ClassOther      = 0xff0000
	ClassStorage    = 0x018000
	ClassNetwork    = 0x020000
	ClassSerial     = 0x078000
)

// Registers of a type 0 header (PCI Local Bus Specification 3.0, section 6.1).
const (
	regVendor       = 0x00
	regCommand      = 0x04
	regStatus       = 0x06
	regRevision     = 0x08
	regClass        = 0x09
	regBAR0         = 0x10
	regSubVendor    = 0x2c
	regCapabilities = 0x34
	regLine         = 0x3c

	firstCapability = 0x40
	headerEnd       = 0x100

	commandMemory = 1 << 1
	commandMaster = 1 << 2
	commandNoINTx = 1 << 10
	statusCaps    = 1 << 4
)

// ID is how a function introduces itself.
type ID struct {
	Vendor, Device       uint16
	SubVendor, SubDevice uint16
	Revision             uint8
	Class                uint32
}

// Function is a function with a type 0 header. Its methods are for any goroutine.
type Function struct {
	mu    sync.Mutex
	cfg   [headerEnd]byte
	write [headerEnd]byte // bits that the guest may change
	caps  []capability
	told  []register
	next  int // where the next capability goes

	barSize uint64
	mapped  uint64 // where the BAR lies now, 0 for nowhere
	barMap  func(base uint64) error
	unmap   func(base uint64)
	msix    *MSIX
	msixAt  int
}

// register is a part of configuration space whose owner is told of changes.
type register struct {
	at, size int
	changed  func([]byte)
}

// capability is a part of configuration space that somebody else answers for.
type capability struct {
	at, size int
	hook     Hook
}

// Hook answers for the body of a capability; off counts from its first byte. It is called on processors' threads.
type Hook interface {
	ReadCapability(off int, p []byte)
	WriteCapability(off int, p []byte)
}

// NewFunction gives a function without a BAR and capabilities.
func NewFunction(id ID) *Function {
	f := &Function{next: firstCapability}
	le := binary.LittleEndian
	le.PutUint16(f.cfg[regVendor:], id.Vendor)
	le.PutUint16(f.cfg[regVendor+2:], id.Device)
	f.cfg[regRevision] = id.Revision
	f.cfg[regClass], f.cfg[regClass+1], f.cfg[regClass+2] = byte(id.Class), byte(id.Class>>8), byte(id.Class>>16)
	le.PutUint16(f.cfg[regSubVendor:], id.SubVendor)
	le.PutUint16(f.cfg[regSubVendor+2:], id.SubDevice)
	le.PutUint16(f.write[regCommand:], commandMemory|commandMaster|commandNoINTx)
	f.write[regLine] = 0xff
	return f
}

// AddCapability appends a capability (section 6.7) and says where it is. Its body is what follows the two bytes of its
// header; writable has the bits of it that the guest may change, and may be shorter. hook answers for the body in place of
// both, if it is not nil. It is for the time before the guest runs.
func (f *Function) AddCapability(id byte, body, writable []byte, hook Hook) int {
	at := f.next
	if at+2+len(body) > headerEnd {
		panic("pci: capabilities do not fit")
	}
	f.next = (at + 2 + len(body) + 3) &^ 3
	f.cfg[at] = id
	copy(f.cfg[at+2:], body)
	copy(f.write[at+2:], writable)
	if hook != nil {
		f.caps = append(f.caps, capability{at + 2, len(body), hook})
	}
	// At the end of the list, so that a guest finds them in the order in which they came.
	link := regCapabilities
	for f.cfg[link] != 0 {
		link = int(f.cfg[link]) + 1
	}
	f.cfg[link] = byte(at)
	f.cfg[regStatus] |= statusCaps
	return at
}

// AddRegisters puts registers of the function's own at an offset behind the header; writable has the bits that the guest
// may change, and may be shorter. changed is called with their value after each write to one of them, if it is not nil; it
// must not call the function. It is for the time before the guest runs.
func (f *Function) AddRegisters(at int, value, writable []byte, changed func([]byte)) {
	copy(f.cfg[at:], value)
	copy(f.write[at:], writable)
	if changed != nil {
		f.told = append(f.told, register{at, len(value), changed})
	}
}

// SetBAR gives the function one memory BAR of 32 bits at base, size a power of two of at least 16. enable is called when
// the guest makes it answer at an address, and disable with that address before it answers elsewhere or no more; an
// error of enable leaves it without an answer. It is for the time before the guest runs.
func (f *Function) SetBAR(base uint32, size uint64, enable func(base uint64) error, disable func(base uint64)) {
	f.barSize, f.barMap, f.unmap = size, enable, disable
	binary.LittleEndian.PutUint32(f.cfg[regBAR0:], base)
	binary.LittleEndian.PutUint32(f.write[regBAR0:], uint32(^(size - 1)))
}

// ReadConfig reads configuration space, zeroes beyond the first 256 bytes: there are no extended capabilities.
func (f *Function) ReadConfig(reg int, p []byte) {
	clear(p)
	if reg >= headerEnd {
		return
	}
	if c := f.hookOf(reg); c != nil {
		c.hook.ReadCapability(reg-c.at, p[:min(len(p), c.at+c.size-reg)])
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	copy(p, f.cfg[reg:])
}

// WriteConfig writes what may be written of it.
func (f *Function) WriteConfig(reg int, p []byte) {
	if reg >= headerEnd {
		return
	}
	if c := f.hookOf(reg); c != nil {
		c.hook.WriteCapability(reg-c.at, p[:min(len(p), c.at+c.size-reg)])
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, b := range p {
		if at := reg + i; at < headerEnd {
			f.cfg[at] = f.cfg[at]&^f.write[at] | b&f.write[at]
		}
	}
	if reg < regBAR0+4 && reg+len(p) > regCommand {
		f.place()
	}
	for _, r := range f.told {
		if reg < r.at+r.size && reg+len(p) > r.at {
			r.changed(f.cfg[r.at : r.at+r.size])
		}
	}
	if f.msix != nil && reg < f.msixAt+4 && reg+len(p) > f.msixAt {
		control := binary.LittleEndian.Uint16(f.cfg[f.msixAt+2:])
		f.msix.control(control&msixEnable != 0, control&msixMaskAll != 0)
	}
}

// hookOf gives the capability with a hook that a register is in.
func (f *Function) hookOf(reg int) *capability {
	for i := range f.caps {
		if c := &f.caps[i]; reg >= c.at && reg < c.at+c.size {
			return c
		}
	}
	return nil
}

// place lets the BAR answer where the registers say. f.mu is held.
func (f *Function) place() {
	if f.barSize == 0 {
		return
	}
	base := uint64(binary.LittleEndian.Uint32(f.cfg[regBAR0:]))
	if f.cfg[regCommand]&commandMemory == 0 {
		base = 0
	}
	if base == f.mapped {
		return
	}
	if f.mapped != 0 {
		f.unmap(f.mapped)
		f.mapped = 0
	}
	if base != 0 && f.barMap(base) == nil {
		f.mapped = base
	}
}
