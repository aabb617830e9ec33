package unpack

import (
	"encoding/binary"
	"io"
)

// x86Filter undoes the x86 branch filter of xz: the encoder has replaced the
// relative operand of CALL (E8) and JMP (E9) by an absolute one where it looks
// like an operand, which is when its top byte is 00 or FF.
//
// Opcode bytes can occur inside operands. history remembers, for the three
// bytes before the current opcode, which of them looked like an opcode whose
// operand was left alone; bit 0 is the byte next to it. With such neighbours
// an operand is converted only if the encoder could tell them apart too.
type x86Filter struct {
	w       io.Writer
	pos     uint32 // stream position of buf[0], plus the filter's start offset
	buf     []byte // not yet converted; fewer than 5 bytes between writes
	history uint32
	gap     uint32 // bytes since the last opcode byte, counted from buf[0]; saturates
}

const x86Operand = 4

func newX86Filter(w io.Writer, start uint32) *x86Filter {
	return &x86Filter{w: w, pos: start, gap: ^uint32(0)}
}

// Write converts what it can and passes it on. The last four bytes stay until
// more arrive, because they may be part of an instruction.
func (f *x86Filter) Write(p []byte) (int, error) {
	f.buf = append(f.buf, p...)
	if len(f.buf) <= x86Operand {
		return len(p), nil
	}
	n := f.convert(f.buf)
	if _, err := f.w.Write(f.buf[:n]); err != nil {
		return 0, err
	}
	f.pos += uint32(n)
	f.buf = append(f.buf[:0], f.buf[n:]...)
	return len(p), nil
}

// Flush passes on the end of the stream, which is never converted.
func (f *x86Filter) Flush() error {
	if len(f.buf) == 0 {
		return nil
	}
	_, err := f.w.Write(f.buf)
	f.buf = nil
	return err
}

func maybeOperand(top byte) bool { return top == 0x00 || top == 0xff }

// convert works on b in place and returns how many bytes are final.
func (f *x86Filter) convert(b []byte) int {
	// last is the index of the latest opcode byte; it may be negative.
	last := -1 - int64(f.gap)
	i := int64(0)
	for ; i < int64(len(b)-x86Operand); i++ {
		if b[i]&0xfe != 0xe8 {
			continue
		}
		if d := i - last; d > 3 {
			f.history = 0
		} else {
			f.history = f.history << (d - 1) & 7
		}
		last = i
		if !f.plausible(b[i:]) || !maybeOperand(b[i+x86Operand]) {
			f.history = f.history<<1 | 1
			continue
		}
		operand := b[i+1 : i+1+x86Operand]
		rel := f.relative(binary.LittleEndian.Uint32(operand), f.pos+uint32(i)+1+x86Operand)
		binary.LittleEndian.PutUint32(operand, rel)
		i += x86Operand
	}
	f.gap = uint32(min(i-last-1, 1<<16))
	return int(i)
}

// nearest is the distance in bytes from the end of the operand to the byte
// that the oldest remembered opcode would have taken for its top byte.
func nearest(history uint32) int {
	switch {
	case history >= 4:
		return 3
	case history >= 2:
		return 2
	}
	return int(history)
}

// plausible says whether earlier opcode bytes leave room for an operand here:
// at most one of them, and not one that would have been converted itself.
func (f *x86Filter) plausible(b []byte) bool {
	switch f.history {
	case 0:
		return true
	case 1, 2, 4:
		return !maybeOperand(b[x86Operand-nearest(f.history)])
	}
	return false
}

// relative turns an absolute operand into a relative one of 25 bits with sign.
// When the result would make an earlier opcode byte look convertible, the
// encoder inverted the bits below it and converted again.
func (f *x86Filter) relative(abs, next uint32) uint32 {
	rel := abs - next
	if f.history != 0 {
		shift := 8 * nearest(f.history)
		// The second round undoes the encoder's; there is never a third.
		if maybeOperand(byte(rel >> (24 - shift))) {
			rel = (rel ^ (1<<(32-shift) - 1)) - next
		}
	}
	return uint32(int32(rel<<7) >> 7)
}
