package pci

import (
	"encoding/binary"
	"sync"
)

// Ports of the older way to configuration space (PCI Local Bus Specification 3.0, section 3.2.2.3.2): an address, then
// data.
const (
	AddressPort = 0xcf8
	DataPort    = 0xcfc

	addressEnable   = 1 << 31
	addressReadable = addressEnable | 0xfffffc
)

// Ports is configuration space by ports: two devices of the port bus for one Bus. Between a processor's two accesses
// another's may come, as on real hardware, where the guest's lock keeps them apart.
type Ports struct {
	bus     *Bus
	control func(v byte)

	mu      sync.Mutex
	address uint32
}

// NewPorts gives the ports of a bus. control is told of bytes written to the port behind AddressPort, which on a PC resets
// the machine.
func NewPorts(b *Bus, control func(v byte)) *Ports { return &Ports{bus: b, control: control} }

// Address is the device for the four bytes from AddressPort on.
func (c *Ports) Address() *Address { return &Address{c} }

// Address is the address register, which is read and written in whole alone.
type Address struct{ c *Ports }

// Read implements bus.Device.
func (a *Address) Read(off uint64, p []byte) {
	if off != 0 || len(p) != 4 {
		clear(p)
		return
	}
	a.c.mu.Lock()
	binary.LittleEndian.PutUint32(p, a.c.address)
	a.c.mu.Unlock()
}

// Write implements bus.Device.
func (a *Address) Write(off uint64, p []byte) {
	switch {
	case off == 0 && len(p) == 4:
		a.c.mu.Lock()
		a.c.address = binary.LittleEndian.Uint32(p) & addressReadable
		a.c.mu.Unlock()
	case off == 1 && len(p) == 1:
		a.c.control(p[0])
	}
}

// offset gives where in the bus's window the four bytes are that the address names.
func (c *Ports) offset() (uint64, bool) {
	c.mu.Lock()
	a := uint64(c.address)
	c.mu.Unlock()
	bus, function, reg := a>>16&0xff, a>>8&0xff, a&0xfc
	return function*ConfigSize + reg, a&addressEnable != 0 && bus == 0
}

// Read implements bus.Device for the four bytes from DataPort on.
func (c *Ports) Read(off uint64, p []byte) {
	if at, ok := c.offset(); ok {
		c.bus.Read(at+off, p)
		return
	}
	for i := range p {
		p[i] = 0xff
	}
}

// Write implements bus.Device.
func (c *Ports) Write(off uint64, p []byte) {
	if at, ok := c.offset(); ok {
		c.bus.Write(at+off, p)
	}
}
