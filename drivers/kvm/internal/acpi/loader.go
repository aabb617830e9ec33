package acpi

import "encoding/binary"

// The files of QEMU's interface by which firmware is given tables: it puts the first two into memory where it likes, and
// the third is a list of commands by which it writes addresses and checksums into them (QEMU,
// hw/acpi/bios-linker-loader.c).
const (
	FileRSDP   = "etc/acpi/rsdp"
	FileTables = "etc/acpi/tables"
	FileLoader = "etc/table-loader"
)

// Files are the contents of the three.
type Files struct{ RSDP, Tables, Loader []byte }

// Commands of the loader.
const (
	loaderAllocate = 1
	loaderPointer  = 2
	loaderChecksum = 3
	loaderSize     = 128
	loaderName     = 56

	zoneHigh  = 1
	zoneBelow = 2 // where a search for the RSDP finds it
)

// BuildFiles gives the tables of a machine for its firmware. Base and Size of the Config do not matter. The sizes of the
// files depend on nothing that PCI says of addresses.
func BuildFiles(c Config) (*Files, error) {
	c.Base, c.Size = 0, 1<<32-1
	t, err := Build(c)
	if err != nil {
		return nil, err
	}
	// Addresses in the image count from its beginning, where the RSDP is, and in the file of the tables from the first of
	// them.
	first := t.Entries[1].Addr
	f := &Files{RSDP: t.Image[:rsdpSize:rsdpSize], Tables: t.Image[first:]}
	l := loader{}
	l.allocate(FileRSDP, 16, zoneBelow)
	l.allocate(FileTables, 64, zoneHigh)
	for _, e := range t.Entries[1:] {
		at, end := e.Addr-first, e.Addr-first+e.Size
		switch e.Signature {
		case "FACP":
			l.pointer(FileTables, f.Tables, at+40, 4, first)
			l.pointer(FileTables, f.Tables, at+140, 8, first)
		case "XSDT":
			for p := at + headerSize; p < end; p += 8 {
				l.pointer(FileTables, f.Tables, p, 8, first)
			}
		default:
			continue // has no addresses, so its checksum is right
		}
		l.checksum(FileTables, f.Tables, at+9, at, e.Size)
	}
	l.pointer(FileRSDP, f.RSDP, 24, 8, first)
	l.checksum(FileRSDP, f.RSDP, 8, 0, 20)
	l.checksum(FileRSDP, f.RSDP, 32, 0, rsdpSize)
	f.Loader = l.list
	return f, nil
}

// loader is a list of commands.
type loader struct{ list []byte }

func (l *loader) command(kind uint32, names ...string) []byte {
	at := len(l.list)
	l.list = append(l.list, make([]byte, loaderSize)...)
	c := l.list[at:]
	binary.LittleEndian.PutUint32(c, kind)
	for i, n := range names {
		copy(c[4+i*loaderName:], n)
	}
	return c[4+len(names)*loaderName:]
}

func (l *loader) allocate(name string, align uint32, zone byte) {
	c := l.command(loaderAllocate, name)
	binary.LittleEndian.PutUint32(c, align)
	c[4] = zone
}

// pointer makes the address at an offset of a file one into the tables, and lets the firmware add where those are.
func (l *loader) pointer(name string, data []byte, at uint64, size byte, first uint64) {
	le := binary.LittleEndian
	if size == 4 {
		le.PutUint32(data[at:], le.Uint32(data[at:])-uint32(first))
	} else {
		le.PutUint64(data[at:], le.Uint64(data[at:])-first)
	}
	c := l.command(loaderPointer, name, FileTables)
	le.PutUint32(c, uint32(at))
	c[4] = size
}

// checksum clears a checksum and lets the firmware calculate it.
func (l *loader) checksum(name string, data []byte, at, from, size uint64) {
	data[at] = 0
	c := l.command(loaderChecksum, name)
	binary.LittleEndian.PutUint32(c, uint32(at))
	binary.LittleEndian.PutUint32(c[4:], uint32(from))
	binary.LittleEndian.PutUint32(c[8:], uint32(size))
}
