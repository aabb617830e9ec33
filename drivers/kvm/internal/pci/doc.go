// Package pci is a PCI Express bus: configuration space behind a window of memory (ECAM), functions with capabilities,
// one memory BAR each, and MSI-X. It knows neither KVM nor virtio; where a BAR lies and what an interrupt does are told
// by callbacks.
//
// Functions sit on bus 0, beside the host bridge. That leaves hot-plug to ACPI, as on a conventional bus: root ports
// would cost each device a bridge to probe at every boot, and a boot is dominated by such accesses. Configuration by the
// ports 0xcf8 and 0xcfc is only for machines whose firmware begins with it, for the same reason: where a guest finds them
// it takes two exits for every access instead of one.
package pci

import (
	"errors"
	"fmt"
	"sync"
)

const (
	// ConfigSize is the configuration space of a function (PCI Express Base Specification, section 7.2.2).
	ConfigSize = 4096
	// Slots is the number of devices on the bus, the host bridge in slot 0 included.
	Slots = 32
	// ECAMSize is the size of the window for one bus.
	ECAMSize = Slots * functionsPerSlot * ConfigSize

	functionsPerSlot = 8
)

// ErrFull is the error of a function for which the bus has no place.
var ErrFull = errors.New("the PCI bus is full")

// Bus is bus 0. It is a device of the memory bus, to which the window belongs.
type Bus struct {
	mu    sync.Mutex
	slots [Slots]*Function
}

// NewBus gives a bus with a host bridge, which is what QEMU's generic PCI Express host bridge says of itself, so that no
// guest has a quirk for it.
func NewBus() *Bus {
	return NewBusWith(NewFunction(ID{Vendor: 0x1b36, Device: 0x0008, Class: ClassHostBridge}))
}

// NewBusWith gives a bus with a host bridge of the caller's.
func NewBusWith(bridge *Function) *Bus {
	b := &Bus{}
	b.slots[0] = bridge
	return b
}

// AddAt puts a function into a slot.
func (b *Bus) AddAt(slot int, f *Function) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.slots[slot] != nil {
		return fmt.Errorf("%w: slot %d is taken", ErrFull, slot)
	}
	b.slots[slot] = f
	return nil
}

// Add puts a function into the first free slot and says which.
func (b *Bus) Add(f *Function) (slot int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, s := range b.slots {
		if s == nil {
			b.slots[i] = f
			return i, nil
		}
	}
	return 0, fmt.Errorf("%w: it has %d slots", ErrFull, Slots)
}

// find gives the function of an offset in the window, and the offset in its configuration space.
func (b *Bus) find(off uint64) (*Function, int) {
	slot, function, reg := off/(functionsPerSlot*ConfigSize), off/ConfigSize%functionsPerSlot, int(off%ConfigSize)
	if slot >= Slots || function != 0 {
		return nil, 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.slots[slot], reg
}

// Read implements bus.Device: all ones where there is no function.
func (b *Bus) Read(off uint64, p []byte) {
	f, reg := b.find(off)
	if f == nil {
		for i := range p {
			p[i] = 0xff
		}
		return
	}
	f.ReadConfig(reg, p)
}

// Write implements bus.Device.
func (b *Bus) Write(off uint64, p []byte) {
	if f, reg := b.find(off); f != nil {
		f.WriteConfig(reg, p)
	}
}
