package xdr

import (
	"encoding/binary"
	"math"
)

// Reader decodes values one after the other. After the first error each method
// gives the zero value and Err tells the error. The zero Reader is at the end
// of an empty message. It is not safe for concurrent use.
type Reader struct {
	buf []byte
	off int
	err error
}

// NewReader reads buf.
func NewReader(buf []byte) *Reader { return &Reader{buf: buf} }

// Reset makes the reader read buf from its start, and forgets the error.
func (r *Reader) Reset(buf []byte) { r.buf, r.off, r.err = buf, 0, nil }

// Err is the first error, wrapping ErrMalformed unless it came from Fail.
func (r *Reader) Err() error { return r.err }

// Fail makes Err answer err, unless there is an error already. For decoders
// built on a Reader that meet a value that cannot be, such as an unknown
// discriminant.
func (r *Reader) Fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// Malformed is Fail with an error that wraps ErrMalformed and tells where.
func (r *Reader) Malformed(format string, args ...any) {
	if r.err == nil {
		r.err = malformed(r.off, format, args...)
	}
}

// Remaining is the number of bytes not read yet.
func (r *Reader) Remaining() int { return len(r.buf) - r.off }

// take gives the next n bytes, or nil after an error.
func (r *Reader) take(n int) []byte {
	if r.err != nil {
		return nil
	}
	if n > len(r.buf)-r.off {
		r.Malformed("%d bytes wanted, %d left", n, len(r.buf)-r.off)
		return nil
	}
	p := r.buf[r.off : r.off+n : r.off+n]
	r.off += n
	return p
}

// Uint32 reads an unsigned int.
func (r *Reader) Uint32() uint32 {
	if p := r.take(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

// Int32 reads an int or an enum.
func (r *Reader) Int32() int32 { return int32(r.Uint32()) }

// Uint64 reads an unsigned hyper.
func (r *Reader) Uint64() uint64 {
	if p := r.take(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

// Int64 reads a hyper.
func (r *Reader) Int64() int64 { return int64(r.Uint64()) }

// Float64 reads a double.
func (r *Reader) Float64() float64 { return math.Float64frombits(r.Uint64()) }

// Bool reads a bool, which is also what stands before an optional value. Other
// numbers than 0 and 1 are an error (RFC 4506 section 4.4).
func (r *Reader) Bool() bool {
	v := r.Uint32()
	if v > 1 {
		r.off -= 4
		r.Malformed("bool of value %d", v)
		return false
	}
	return v == 1
}

// Count reads the number of elements of an array. More than limit, or more than
// fit into what is left when each takes at least elemSize bytes (1 if less is
// given), is an error; so the result may be given to make.
func (r *Reader) Count(limit, elemSize int) int {
	n := r.Uint32()
	if r.err != nil {
		return 0
	}
	if uint64(n) > uint64(max(limit, 0)) {
		r.off -= 4
		r.Malformed("array of %d elements, the limit is %d", n, limit)
		return 0
	}
	if uint64(n)*uint64(max(elemSize, 1)) > uint64(r.Remaining()) {
		r.off -= 4
		r.Malformed("array of %d elements in %d bytes", n, r.Remaining()-4)
		return 0
	}
	return int(n)
}

// Fixed reads opaque data of len(dst) bytes into dst.
func (r *Reader) Fixed(dst []byte) {
	if p := r.take(len(dst) + padding(len(dst))); p != nil {
		copy(dst, p)
	}
}

// Opaque reads opaque data of at most limit bytes. The result is part of the
// message, not a copy.
func (r *Reader) Opaque(limit int) []byte {
	n := r.Uint32()
	if r.err != nil {
		return nil
	}
	if uint64(n) > uint64(max(limit, 0)) {
		r.off -= 4
		r.Malformed("%d bytes of data, the limit is %d", n, limit)
		return nil
	}
	if uint64(n) > uint64(r.Remaining()) { // before int(n), which may be 32 bits wide
		r.off -= 4
		r.Malformed("%d bytes of data, %d left", n, r.Remaining()-4)
		return nil
	}
	p := r.take(int(n) + padding(int(n)))
	if p == nil {
		return nil
	}
	return p[:n:n]
}

// String reads a string of at most StringMax bytes. Its bytes are whatever the
// peer sent, not necessarily UTF-8.
func (r *Reader) String() string { return string(r.Opaque(StringMax)) }

// OptString reads a string that may be absent: nil.
func (r *Reader) OptString() *string {
	if !r.Bool() {
		return nil
	}
	s := r.String()
	if r.err != nil {
		return nil
	}
	return &s
}
