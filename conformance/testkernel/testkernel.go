// Package testkernel is a kernel for machines of type amd64 that says what it was
// booted with: the CRC-32 of its initial RAM disk and its command line. It is a
// few hundred bytes and needs a first serial port and nothing else.
//
// The source is kernel.S; `go generate` assembles it with GNU binutils into
// kernel.bin, which is checked in and embedded.
package testkernel

import (
	_ "embed"
	"encoding/binary"
)

//go:generate as --64 -o kernel.o kernel.S
//go:generate objcopy -O binary -j .text kernel.o kernel.bin
//go:generate rm kernel.o
//go:generate sh -c "sha256sum kernel.S kernel.bin > kernel.sum"

//go:embed kernel.bin
var code []byte

// loadAddr is where the kernel wants to be in memory. It runs anywhere.
const loadAddr = 1 << 20

// ELF gives the kernel as an ELF file. Who boots it enters it as the 64-bit
// entry point of Linux is entered (Documentation/arch/x86/boot.rst). On the
// serial port it prints a line that begins with "initrd: crc32 " and holds the
// CRC-32 (IEEE) of its initial RAM disk as eight hexadecimal digits, then one
// that begins with "command line: "; then it halts.
func ELF() []byte {
	const headerSize, programSize = 64, 56
	le := binary.LittleEndian
	header := make([]byte, headerSize+programSize)
	copy(header, "\x7fELF\x02\x01\x01")
	le.PutUint16(header[16:], 2)          // an executable
	le.PutUint16(header[18:], 62)         // amd64
	le.PutUint32(header[20:], 1)          // version
	le.PutUint64(header[24:], loadAddr)   // entry
	le.PutUint64(header[32:], headerSize) // the program header
	le.PutUint16(header[52:], headerSize)
	le.PutUint16(header[54:], programSize)
	le.PutUint16(header[56:], 1)
	p := header[headerSize:]
	le.PutUint32(p, 1)     // to be loaded
	le.PutUint32(p[4:], 7) // may be read, written and executed
	le.PutUint64(p[8:], uint64(len(header)))
	le.PutUint64(p[16:], loadAddr)
	le.PutUint64(p[24:], loadAddr)
	le.PutUint64(p[32:], uint64(len(code)))
	le.PutUint64(p[40:], uint64(len(code)))
	return append(header, code...)
}
