// Package fwcfg is QEMU's firmware configuration device, by which a machine tells its firmware what it has: a selector
// of 16 bits and a port from which the chosen item is read byte by byte. Items are numbers, or files with names that the
// directory lists.
//
// Of the interface (QEMU, docs/specs/fw_cfg.rst) this is the part that reads through ports. Its direct memory access is
// left out, and the device does not claim to have it: firmware then reads by string instructions, which KVM hands over
// in pieces of up to a page.
package fwcfg

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
)

// Port and Size are where a PC has the device.
const (
	Port = 0x510
	Size = 2
)

// Items that are not files.
const (
	ItemSignature = 0x00
	ItemInterface = 0x01
	ItemUUID      = 0x02
	ItemMemory    = 0x03 // 8 bytes
	ItemCPUs      = 0x05 // 2 bytes: those that are there at the start
	ItemMaxCPUs   = 0x0f // 2 bytes
	itemDirectory = 0x19

	firstFile = 0x20
	maxFiles  = 0x1000
	nameSize  = 56
)

// Device is the device. Its methods are for any goroutine; items are added before the guest runs.
type Device struct {
	items map[uint16]func() []byte
	files []file

	mu   sync.Mutex
	data []byte // the chosen item
	at   int
}

type file struct {
	name string
	size int
}

// New gives a device without files.
func New() *Device {
	d := &Device{items: map[uint16]func() []byte{}}
	d.Add(ItemSignature, []byte("QEMU"))
	d.Add(ItemInterface, []byte{1, 0, 0, 0}) // ports, without direct memory access
	d.items[itemDirectory] = d.directory
	return d
}

// Add adds an item, which the device keeps.
func (d *Device) Add(key uint16, data []byte) { d.items[key] = func() []byte { return data } }

// AddFile adds a file of size bytes whose contents are asked for whenever the guest chooses it; what they have too much or
// too little is cut or read as zero.
func (d *Device) AddFile(name string, size int, contents func() []byte) error {
	if len(name) >= nameSize || len(d.files) == maxFiles {
		return fmt.Errorf("firmware configuration file %q: a name has up to %d bytes, and there are up to %d files", name, nameSize-1, maxFiles)
	}
	d.items[firstFile+uint16(len(d.files))] = func() []byte { b := contents(); return b[:min(size, len(b))] }
	d.files = append(d.files, file{name, size})
	return nil
}

// directory lists the files, in the order of their names as QEMU does.
func (d *Device) directory() []byte {
	be := binary.BigEndian
	order := make([]int, len(d.files))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		if d.files[a].name < d.files[b].name {
			return -1
		}
		return 1
	})
	t := be.AppendUint32(nil, uint32(len(d.files)))
	for _, i := range order {
		t = be.AppendUint32(t, uint32(d.files[i].size))
		t = be.AppendUint16(t, firstFile+uint16(i))
		t = append(t, 0, 0)
		var name [nameSize]byte
		copy(name[:], d.files[i].name)
		t = append(t, name[:]...)
	}
	return t
}

// Read implements bus.Device: the next byte of the item, zero after its end. The selector cannot be read.
func (d *Device) Read(off uint64, p []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range p {
		p[i] = 0
		if off+uint64(i) == 1 && d.at < len(d.data) {
			p[i] = d.data[d.at]
			d.at++
		}
	}
}

// Write implements bus.Device: two bytes at the first port choose an item, one that does not exist is empty. Items cannot
// be written.
func (d *Device) Write(off uint64, p []byte) {
	if off != 0 || len(p) != 2 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.data, d.at = nil, 0
	if get := d.items[binary.LittleEndian.Uint16(p)]; get != nil {
		d.data = get()
	}
}
