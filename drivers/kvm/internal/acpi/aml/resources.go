package aml

import "encoding/binary"

// Resource is a resource descriptor, the element of ResourceTemplate.
type Resource Term

// ResourceTemplate is the buffer of descriptors that _CRS returns. The end tag
// has checksum 0, which means that there is none.
func ResourceTemplate(resources ...Resource) Term {
	terms := make([]Term, len(resources))
	for i, r := range resources {
		terms[i] = Term(r)
	}
	body := Join(append(terms, raw(0x79, 0))...)
	if body.err != nil {
		return body
	}
	return Buffer(body.code)
}

// IO is a fixed range of I/O ports with 16-bit decoding.
func IO(base uint16, size uint8) Resource {
	if size == 0 || int(base)+int(size) > 1<<16 {
		return Resource(invalid("I/O ports %#x, %d of them: outside 16 bits", base, size))
	}
	lo, hi := byte(base), byte(base>>8)
	return Resource(raw(0x47, 1, lo, hi, lo, hi, 1, size))
}

// Line is how an interrupt line signals. The zero value is level-triggered,
// active high, not shared.
type Line struct{ Edge, Low, Shared bool }

// IRQ is one interrupt of the ISA bus, 0 to 15.
func IRQ(irq uint8, l Line) Resource {
	if irq > 15 {
		return Resource(invalid("ISA interrupt %d: the last is 15", irq))
	}
	mask := uint16(1) << irq
	return Resource(raw(0x23, byte(mask), byte(mask>>8), flag(l.Edge, 0)|flag(l.Low, 3)|flag(l.Shared, 4)))
}

// Interrupt is an interrupt that the device consumes, by its global number.
func Interrupt(gsi uint32, l Line) Resource {
	code := []byte{0x89, 6, 0, 1 | flag(l.Edge, 1) | flag(l.Low, 2) | flag(l.Shared, 3), 1}
	return Resource{code: binary.LittleEndian.AppendUint32(code, gsi)}
}

// Memory32Fixed is a range of registers below 4 GiB, readable and writable.
func Memory32Fixed(base, size uint32) Resource {
	if size == 0 || base+(size-1) < base {
		return Resource(invalid("memory at %#x, size %#x: outside 32 bits", base, size))
	}
	code := binary.LittleEndian.AppendUint32([]byte{0x86, 9, 0, 1}, base)
	return Resource{code: binary.LittleEndian.AppendUint32(code, size)}
}

// Window is a range of memory addresses.
type Window struct {
	Base, Size uint64
	Producer   bool // a bridge passes it on; otherwise the device uses it itself
	Cacheable  bool
}

// QWordMemory is a fixed range of memory addresses, readable and writable.
func QWordMemory(w Window) Resource {
	if w.Size == 0 || w.Base+(w.Size-1) < w.Base {
		return Resource(invalid("memory at %#x, size %#x: outside 64 bits", w.Base, w.Size))
	}
	const minFixed, maxFixed = 1 << 2, 1 << 3
	code := []byte{0x8a, 0x2b, 0, 0, minFixed | maxFixed | flag(!w.Producer, 0), 1 | flag(w.Cacheable, 1)}
	for _, v := range []uint64{0, w.Base, w.Base + (w.Size - 1), 0, w.Size} {
		code = binary.LittleEndian.AppendUint64(code, v)
	}
	return Resource{code: code}
}

// BusNumbers is a fixed range of PCI bus numbers that a host bridge passes on.
func BusNumbers(first, last uint8) Resource {
	if last < first {
		return Resource(invalid("PCI buses %d to %d", first, last))
	}
	const busNumber, minFixed, maxFixed = 2, 1 << 2, 1 << 3
	code := []byte{0x88, 0x0d, 0, busNumber, minFixed | maxFixed, 0}
	for _, v := range []uint16{0, uint16(first), uint16(last), 0, uint16(last) - uint16(first) + 1} {
		code = binary.LittleEndian.AppendUint16(code, v)
	}
	return Resource{code: code}
}

func flag(on bool, bit int) byte {
	if on {
		return 1 << bit
	}
	return 0
}
