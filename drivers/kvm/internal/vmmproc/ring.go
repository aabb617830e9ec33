package vmmproc

import "slices"

// ringSize is how much of what the guest printed is kept, in bytes.
const ringSize = 64 << 10

// ring keeps the last bytes of a stream. Positions count from the first byte of
// the stream.
type ring struct {
	buf []byte // grows to ringSize with what is printed
	end uint64
}

func (r *ring) write(p []byte) {
	r.end += uint64(len(p))
	if n := int(min(r.end, ringSize)); n > len(r.buf) {
		r.buf = slices.Grow(r.buf, n-len(r.buf))[:n]
	}
	if len(p) > ringSize {
		p = p[len(p)-ringSize:]
	}
	at := int((r.end - uint64(len(p))) % ringSize)
	n := copy(r.buf[at:], p)
	copy(r.buf, p[n:])
}

// start is the position of the oldest byte that is kept.
func (r *ring) start() uint64 { return r.end - uint64(len(r.buf)) }

// read copies bytes from position pos on, or from the oldest that are kept, and
// gives the position after them.
func (r *ring) read(p []byte, pos uint64) (int, uint64) {
	pos = max(pos, r.start())
	total := 0
	for total < len(p) && pos < r.end {
		at := int(pos % ringSize)
		avail := min(len(r.buf)-at, int(r.end-pos))
		n := copy(p[total:], r.buf[at:at+avail])
		total += n
		pos += uint64(n)
	}
	return total, pos
}
