package blk

import (
	"encoding/binary"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/disk"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq"
)

// op is what a request comes to.
type op uint8

const (
	opNothing op = iota // answered already: refused, or done without the storage
	opRead
	opWrite
	opFlush
	opDiscard
	opZeroes
)

// request is one request of the guest, from the ring to its answer.
type request struct {
	q       *queue
	chain   virtq.Chain
	arrived int64

	op      op
	off     int64
	bytes   int64    // that it moves or touches
	data    [][]byte // the guest's memory for it, without header and status
	ranges  []span   // of discards and zeroings
	spans   [maxRanges]span
	status  []byte
	result  byte
	written uint32 // bytes at the start of the writable part
	kind    kind   // for the statistics
}

// span is a checked range of the disk, in bytes.
type span struct {
	off, n int64
	unmap  bool
}

// release lets go of the guest's memory.
func (r *request) release() {
	clear(r.data)
	r.data, r.status = r.data[:0], nil
}

// parse reads a request, once, and judges it. What it refuses is an opNothing with its status in place.
func (r *request) parse(d *Device) {
	r.op, r.off, r.bytes, r.result, r.written, r.ranges = opNothing, 0, 0, statusOK, 0, nil
	r.data, r.kind = r.data[:0], kindInvalid
	in, out := r.chain.Readable, r.chain.Writable
	if len(out) == 0 { // no place for a status
		return
	}
	last := out[len(out)-1]
	r.status = last[len(last)-1:]
	var header [headerSize]byte
	if take(header[:], 0, in) < headerSize {
		r.refuse(statusIOErr)
		return
	}
	typ, sector := binary.LittleEndian.Uint32(header[:]), binary.LittleEndian.Uint64(header[8:])
	if typ == typeIn || typ == typeGetID {
		if r.chain.ReadableLen() != headerSize {
			r.refuse(statusIOErr)
			return
		}
		r.data = appendPart(r.data, out, 0, r.chain.WritableLen()-1)
	} else {
		if r.chain.WritableLen() != 1 {
			r.refuse(statusIOErr)
			return
		}
		r.data = appendPart(r.data, in, headerSize, r.chain.ReadableLen()-headerSize)
	}
	switch typ {
	case typeIn:
		r.transfer(d, opRead, sector, r.chain.WritableLen()-1)
	case typeOut:
		r.transfer(d, opWrite, sector, r.chain.ReadableLen()-headerSize)
	case typeFlush:
		r.op, r.kind = opFlush, kindFlush
	case typeGetID:
		r.identify(d)
	case typeDiscard:
		r.parseRanges(d, opDiscard, FeatureDiscard)
	case typeWriteZeroes:
		r.parseRanges(d, opZeroes, FeatureWriteZeroes)
	default:
		r.refuse(statusUnsupported)
	}
}

// refuse answers without doing anything.
func (r *request) refuse(status byte) {
	r.op, r.kind = opNothing, kindInvalid
	if status == statusUnsupported {
		r.kind = kindUnsupported
	}
	r.answer(status)
}

// answer puts the status in its place. What lies before it in the writable part counts as written only after success.
func (r *request) answer(status byte) {
	r.result = status
	r.status[0] = status
	r.written = 0
	if n := r.chain.WritableLen(); status == statusOK || n == 1 {
		r.written = uint32(n)
	}
}

func (r *request) transfer(d *Device, o op, sector, n uint64) {
	if n%disk.SectorSize != 0 || !d.inside(sector, n/disk.SectorSize) || o == opWrite && d.c.ReadOnly {
		r.refuse(statusIOErr)
		return
	}
	r.op, r.kind, r.off, r.bytes = o, kindRead, int64(sector)*disk.SectorSize, int64(n)
	if o == opWrite {
		r.kind = kindWrite
	}
}

// inside says whether n sectors from sector on lie on the disk.
func (d *Device) inside(sector, n uint64) bool {
	return sector <= d.sectors && n <= d.sectors-sector
}

// identify gives the serial number, as much of it as there is room for.
func (r *request) identify(d *Device) {
	id := d.id[:]
	for _, b := range r.data {
		n := copy(b, id)
		clear(b[n:])
		id = id[n:]
	}
	r.kind = kindID
	r.answer(statusOK)
}

// parseRanges copies and checks all ranges before any is acted on.
func (r *request) parseRanges(d *Device, o op, feature uint64) {
	n := r.chain.ReadableLen() - headerSize
	switch {
	case d.features&feature == 0 || d.c.ReadOnly:
		r.refuse(statusUnsupported)
		return
	case n == 0 || n%rangeSize != 0 || n/rangeSize > maxRanges:
		r.refuse(statusIOErr)
		return
	}
	limit := uint32(maxDiscard)
	if o == opZeroes {
		limit = maxZeroes
	}
	r.ranges = r.spans[:0]
	for i := range n / rangeSize {
		var b [rangeSize]byte
		take(b[:], int(i*rangeSize), r.data)
		sector := binary.LittleEndian.Uint64(b[:])
		sectors, flags := binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:])
		if flags&^flagUnmap != 0 || o == opDiscard && flags != 0 {
			r.refuse(statusUnsupported)
			return
		}
		if sectors > limit || !d.inside(sector, uint64(sectors)) {
			r.refuse(statusIOErr)
			return
		}
		s := span{off: int64(sector) * disk.SectorSize, n: int64(sectors) * disk.SectorSize, unmap: flags&flagUnmap != 0}
		r.ranges = append(r.ranges, s)
		r.bytes += s.n
	}
	r.op, r.kind, r.off = o, kindDiscard, r.ranges[0].off
	if o == opZeroes {
		r.kind = kindZeroes
	}
}

// take copies what p holds from byte skip on into b, and gives how much there was.
func take(b []byte, skip int, p [][]byte) (n int) {
	for _, s := range p {
		if skip >= len(s) {
			skip -= len(s)
			continue
		}
		n += copy(b[n:], s[skip:])
		skip = 0
		if n == len(b) {
			break
		}
	}
	return n
}

// appendPart appends to dst the parts of p's slices that make up the n bytes after the first skip.
func appendPart(dst, p [][]byte, skip, n uint64) [][]byte {
	for _, s := range p {
		if n == 0 {
			break
		}
		if skip >= uint64(len(s)) {
			skip -= uint64(len(s))
			continue
		}
		s = s[skip:]
		skip = 0
		s = s[:min(uint64(len(s)), n)]
		n -= uint64(len(s))
		dst = append(dst, s)
	}
	return dst
}
