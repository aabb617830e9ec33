package xdr

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Writer encodes values one after the other. The zero Writer is ready for use.
// It is not safe for concurrent use.
type Writer struct {
	buf []byte
	err error
}

// Reset makes the writer append to buf, and forgets the error.
func (w *Writer) Reset(buf []byte) { w.buf, w.err = buf, nil }

// Bytes are what was written, behind what Reset was given. They are the
// writer's own until the next Reset.
func (w *Writer) Bytes() []byte { return w.buf }

// Len is the number of bytes, with those Reset was given.
func (w *Writer) Len() int { return len(w.buf) }

// Err is the first value that could not be encoded, wrapping ErrTooLong.
func (w *Writer) Err() error { return w.err }

// Fail makes Err answer err, unless there is an error already. For encoders
// built on a Writer that meet a value they cannot write.
func (w *Writer) Fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// Uint32 writes an unsigned int.
func (w *Writer) Uint32(v uint32) { w.buf = binary.BigEndian.AppendUint32(w.buf, v) }

// Int32 writes an int or an enum.
func (w *Writer) Int32(v int32) { w.Uint32(uint32(v)) }

// Uint64 writes an unsigned hyper.
func (w *Writer) Uint64(v uint64) { w.buf = binary.BigEndian.AppendUint64(w.buf, v) }

// Int64 writes a hyper.
func (w *Writer) Int64(v int64) { w.Uint64(uint64(v)) }

// Float64 writes a double.
func (w *Writer) Float64(v float64) { w.Uint64(math.Float64bits(v)) }

// Bool writes a bool, which is also what stands before an optional value
// ("*name" in the protocol's language): true if the value follows.
func (w *Writer) Bool(v bool) {
	var n uint32
	if v {
		n = 1
	}
	w.Uint32(n)
}

// Count writes the number of elements of an array, which follow.
func (w *Writer) Count(n int) {
	if n < 0 || n > math.MaxInt32 {
		w.Fail(fmt.Errorf("array of %d elements: %w", n, ErrTooLong))
		return
	}
	w.Uint32(uint32(n))
}

// Fixed writes opaque data whose length both sides know, such as a UUID.
func (w *Writer) Fixed(p []byte) {
	w.buf = append(w.buf, p...)
	w.pad(len(p))
}

// Opaque writes opaque data behind its length.
func (w *Writer) Opaque(p []byte) {
	if len(p) > math.MaxInt32 {
		w.Fail(fmt.Errorf("opaque data of %d bytes: %w", len(p), ErrTooLong))
		return
	}
	w.Uint32(uint32(len(p)))
	w.Fixed(p)
}

// String writes a string that is not optional. One of more than StringMax
// bytes is an error, as the peer would drop the connection over it.
func (w *Writer) String(s string) {
	if len(s) > StringMax {
		w.Fail(fmt.Errorf("string of %d bytes, the limit is %d: %w", len(s), StringMax, ErrTooLong))
		return
	}
	w.Uint32(uint32(len(s)))
	w.buf = append(w.buf, s...)
	w.pad(len(s))
}

// OptString writes a string that may be absent: nil.
func (w *Writer) OptString(s *string) {
	w.Bool(s != nil)
	if s != nil {
		w.String(*s)
	}
}

func (w *Writer) pad(n int) {
	for range padding(n) {
		w.buf = append(w.buf, 0)
	}
}
