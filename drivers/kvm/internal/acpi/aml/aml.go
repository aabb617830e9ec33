// Package aml encodes the ACPI Machine Language, the byte code of a DSDT: as
// much of it as a virtual machine's tables use.
//
//	dsdt := aml.Scope(`\_SB`,
//		aml.Device("COM1",
//			aml.Name("_HID", aml.EISAID("PNP0501")),
//			aml.Name("_CRS", aml.ResourceTemplate(
//				aml.IO(0x3f8, 8),
//				aml.IRQ(4, aml.Line{Edge: true}),
//			)),
//		),
//	)
//	code, err := dsdt.Bytes()
//
// A function that is given something AML cannot express (a malformed name, a
// value out of range) returns a Term that carries the error, and so does every
// Term built from it: only Bytes has to be checked.
//
// Source: ACPI Specification 6.4, chapter 20 (byte code) and section 6.4
// (resource descriptors).
package aml

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// ErrInvalid is what the errors of Bytes unwrap to.
var ErrInvalid = errors.New("not expressible in AML")

// Term is a piece of encoded AML, or the reason why there is none.
type Term struct {
	code []byte
	err  error
}

// Bytes returns the encoding. The slice belongs to the term.
func (t Term) Bytes() ([]byte, error) { return t.code, t.err }

func invalid(format string, args ...any) Term {
	return Term{err: fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))}
}

// raw is a term of bytes that are known to be right.
func raw(code ...byte) Term { return Term{code: code} }

// Join puts terms one after the other: a list of objects or of statements.
func Join(terms ...Term) Term {
	var code []byte
	for _, t := range terms {
		if t.err != nil {
			return t
		}
		code = append(code, t.code...)
	}
	return Term{code: code}
}

// Opcodes. Those above 0xff are the extension prefix 0x5b and a byte.
const (
	opZero        = 0x00
	opOne         = 0x01
	opName        = 0x08
	opByte        = 0x0a
	opWord        = 0x0b
	opDWord       = 0x0c
	opString      = 0x0d
	opQWord       = 0x0e
	opScope       = 0x10
	opBuffer      = 0x11
	opPackage     = 0x12
	opMethod      = 0x14
	opLocal0      = 0x60
	opArg0        = 0x68
	opStore       = 0x70
	opAnd         = 0x7b
	opNotify      = 0x86
	opEqual       = 0x93
	opIf          = 0xa0
	opReturn      = 0xa4
	opExt         = 0x5b
	extRegion     = 0x80
	extField      = 0x81
	extDevice     = 0x82
	prefixRoot    = '\\'
	prefixParent  = '^'
	prefixDual    = 0x2e
	prefixMulti   = 0x2f
	maxPackage    = 255
	maxFieldBits  = 1<<28 - 1
	maxPkgLength  = 1<<28 - 1
	maxNameLength = 255
)

// Path refers to an object by name: segments of one to four capital letters,
// digits and underscores separated by dots, the first maybe after a backslash
// (from the root) or carets (from a parent).
func Path(path string) Term {
	rest := strings.TrimLeft(path, "^")
	code := []byte(path[:len(path)-len(rest)])
	if len(code) == 0 && strings.HasPrefix(rest, `\`) {
		code, rest = []byte{prefixRoot}, rest[1:]
	}
	var segs []string
	if rest != "" {
		segs = strings.Split(rest, ".")
	}
	switch {
	case path == "" || len(path) > maxNameLength:
		return invalid("name %q: want 1 to %d characters", path, maxNameLength)
	case len(segs) == 0:
		code = append(code, 0)
	case len(segs) == 2:
		code = append(code, prefixDual)
	case len(segs) > 2:
		code = append(code, prefixMulti, byte(len(segs))) // at most 128 fit in a path
	}
	for _, s := range segs {
		if !validSegment(s) {
			return invalid("name %q: segment %q is not 1 to 4 of A-Z, _ and, not first, 0-9", path, s)
		}
		code = append(code, (s + "___")[:4]...)
	}
	return Term{code: code}
}

func validSegment(s string) bool {
	for i, c := range []byte(s) {
		letter := c == '_' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 4
}

// segment is a path of exactly one segment.
func segment(name string) Term {
	if !validSegment(name) {
		return invalid("name %q: want one segment", name)
	}
	return Path(name)
}

// pkgLength encodes the length of what follows plus, as the format wants, its
// own.
func pkgLength(n int) Term {
	for size := 1; size <= 4; size++ {
		total := n + size
		if size == 1 && total < 1<<6 || size > 1 && total < 1<<(8*size-4) {
			return lengthBytes(total, size)
		}
	}
	return invalid("package of %d bytes: the most is %d", n, maxPkgLength)
}

// lengthBytes writes a length in size bytes: 6 bits in a lone byte, else 4 bits
// in the first and 8 in each further one.
func lengthBytes(n, size int) Term {
	if size == 1 {
		return raw(byte(n))
	}
	code := []byte{byte(size-1)<<6 | byte(n&0xf)}
	for n >>= 4; len(code) < size; n >>= 8 {
		code = append(code, byte(n))
	}
	return Term{code: code}
}

// packaged is an opcode, the length of the contents, and the contents.
func packaged(op []byte, contents ...Term) Term {
	body := Join(contents...)
	if body.err != nil {
		return body
	}
	return Join(raw(op...), pkgLength(len(body.code)), body)
}

// Integer is a constant in its shortest form.
func Integer(v uint64) Term {
	le := binary.LittleEndian
	switch {
	case v == 0:
		return raw(opZero)
	case v == 1:
		return raw(opOne)
	case v <= 0xff:
		return raw(opByte, byte(v))
	case v <= 0xffff:
		return Term{code: le.AppendUint16([]byte{opWord}, uint16(v))}
	case v <= 0xffffffff:
		return Term{code: le.AppendUint32([]byte{opDWord}, uint32(v))}
	}
	return Term{code: le.AppendUint64([]byte{opQWord}, v)}
}

// String is an ASCII string without NUL.
func String(s string) Term {
	for _, c := range []byte(s) {
		if c == 0 || c > 0x7f {
			return invalid("string %q: want ASCII without NUL", s)
		}
	}
	return Term{code: append(append([]byte{opString}, s...), 0)}
}

// EISAID is a plug-and-play id ("PNP0501") in its compressed form: three
// letters of five bits and four hexadecimal digits, most significant first.
func EISAID(id string) Term {
	if len(id) != 7 {
		return invalid("EISA id %q: want three letters and four hexadecimal digits", id)
	}
	var v uint32
	for _, c := range []byte(id[:3]) {
		if c < 'A' || c > 'Z' {
			return invalid("EISA id %q: want three capital letters first", id)
		}
		v = v<<5 | uint32(c-'@')
	}
	for _, c := range []byte(id[3:]) {
		d := strings.IndexByte("0123456789ABCDEF", c)
		if d < 0 {
			return invalid("EISA id %q: want four capital hexadecimal digits last", id)
		}
		v = v<<4 | uint32(d)
	}
	return Term{code: binary.BigEndian.AppendUint32([]byte{opDWord}, v)}
}

// Buffer is a constant byte array.
func Buffer(data []byte) Term {
	return packaged([]byte{opBuffer}, Integer(uint64(len(data))), Term{code: data})
}

// Package is an array of constants and names, at most 255.
func Package(elems ...Term) Term {
	if len(elems) > maxPackage {
		return invalid("package of %d elements: the most is %d", len(elems), maxPackage)
	}
	return packaged([]byte{opPackage}, raw(byte(len(elems))), Join(elems...))
}
