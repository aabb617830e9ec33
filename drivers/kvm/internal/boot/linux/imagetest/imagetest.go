// Package imagetest builds small ELF and bzImage files for the tests of the
// boot packages. The files have the structure of real kernels but hold no code.
package imagetest

import "encoding/binary"

// Segment is one ELF program header and its file data.
type Segment struct {
	Type         uint32 // 1 PT_LOAD, 4 PT_NOTE
	VAddr, PAddr uint64
	MemSize      uint64 // 0 means the length of Data
	Data         []byte
	Align        uint64
	// Patch, if not nil, may change the 56 bytes of the finished header.
	Patch func(phdr []byte)
}

// Program header types.
const (
	Load = 1
	Note = 4
)

// ELF describes an ELF file. The zero values of Type and Machine mean an
// executable for x86-64.
type ELF struct {
	Entry    uint64
	Type     uint16
	Machine  uint16
	Segments []Segment
	Trailer  []byte // appended after the last segment
}

// Build lays the file out: header, program headers, segment data, trailer.
func (e ELF) Build() []byte {
	le := binary.LittleEndian
	b := make([]byte, 64+56*len(e.Segments))
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], orDefault(e.Type, 2))
	le.PutUint16(b[18:], orDefault(e.Machine, 62))
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[24:], e.Entry)
	le.PutUint64(b[32:], 64)
	le.PutUint16(b[52:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], uint16(len(e.Segments)))
	for i, s := range e.Segments {
		for len(b)%16 != 0 {
			b = append(b, 0)
		}
		p := b[64+56*i:]
		le.PutUint32(p, s.Type)
		le.PutUint64(p[8:], uint64(len(b)))
		le.PutUint64(p[16:], s.VAddr)
		le.PutUint64(p[24:], s.PAddr)
		le.PutUint64(p[32:], uint64(len(s.Data)))
		le.PutUint64(p[40:], orDefault(s.MemSize, uint64(len(s.Data))))
		le.PutUint64(p[48:], s.Align)
		if s.Patch != nil {
			s.Patch(p[:56])
		}
		b = append(b, s.Data...)
	}
	return append(b, e.Trailer...)
}

// NoteBytes encodes one ELF note with 4-byte alignment.
func NoteBytes(owner string, typ uint32, desc []byte) []byte {
	le := binary.LittleEndian
	var b []byte
	b = le.AppendUint32(b, uint32(len(owner)+1))
	b = le.AppendUint32(b, uint32(len(desc)))
	b = le.AppendUint32(b, typ)
	for _, part := range [][]byte{append([]byte(owner), 0), desc} {
		b = append(b, part...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
	}
	return b
}

// BzImage describes a bzImage. The zero value is a 64-bit kernel of protocol
// 2.15 with an empty payload.
type BzImage struct {
	Version    uint16 // 0 means 0x20f
	SetupSects byte   // 0 means 7
	Payload    []byte
	InitSize   uint32 // 0 means 4 MiB
	Trailer    []byte // appended after the CRC, as a signature would be
	// Patch, if not nil, may change the finished file.
	Patch func(file []byte)
}

// PayloadOffset is where the payload starts, relative to the protected-mode code.
const PayloadOffset = 0x2c0

// Build lays the file out: setup, protected-mode code with the payload in it.
func (z BzImage) Build() []byte {
	le := binary.LittleEndian
	sects := orDefault(z.SetupSects, 7)
	code := make([]byte, PayloadOffset, PayloadOffset+len(z.Payload)+32)
	code = append(code, z.Payload...)
	for len(code)%16 != 0 || len(code) < PayloadOffset+len(z.Payload)+4 {
		code = append(code, 0)
	}
	b := make([]byte, (int(sects)+1)*512)
	copy(b, "MZ")
	b[0x1f1] = sects
	le.PutUint32(b[0x1f4:], uint32(len(code)/16))
	le.PutUint16(b[0x1fe:], 0xaa55)
	b[0x200], b[0x201] = 0xeb, 0x26c-0x202
	copy(b[0x202:], "HdrS")
	le.PutUint16(b[0x206:], orDefault(z.Version, 0x20f))
	b[0x211] = 1
	le.PutUint32(b[0x214:], 0x100000)
	le.PutUint32(b[0x22c:], 0x7fffffff)
	le.PutUint32(b[0x230:], 0x200000)
	b[0x234], b[0x235] = 1, 21
	le.PutUint16(b[0x236:], 0x7f)
	le.PutUint32(b[0x238:], 2047)
	le.PutUint32(b[0x248:], PayloadOffset)
	le.PutUint32(b[0x24c:], uint32(len(z.Payload)))
	le.PutUint64(b[0x258:], 0x1000000)
	le.PutUint32(b[0x260:], orDefault(z.InitSize, 4<<20))
	b = append(append(b, code...), z.Trailer...)
	if z.Patch != nil {
		z.Patch(b)
	}
	return b
}

// WithSize appends the 32-bit length of the unpacked data, as the kernel build
// does for every compression but gzip.
func WithSize(packed []byte, unpacked int) []byte {
	return binary.LittleEndian.AppendUint32(packed[:len(packed):len(packed)], uint32(unpacked))
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
