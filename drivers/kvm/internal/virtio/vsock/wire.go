package vsock

import "encoding/binary"

// hostCID is the address of the host (section 5.10.4).
const hostCID = 2

// streamType is the only type of socket offered.
const streamType = 1

// operation is what a packet means (section 5.10.6).
type operation uint16

const (
	opRequest       operation = 1
	opResponse      operation = 2
	opReset         operation = 3
	opShutdown      operation = 4
	opData          operation = 5
	opCreditUpdate  operation = 6
	opCreditRequest operation = 7
)

// Flags of opShutdown: the sender will not receive, will not send.
const (
	shutReceive = 1
	shutSend    = 2
	shutBoth    = shutReceive | shutSend
)

// headerLen is the size of struct virtio_vsock_hdr.
const headerLen = 44

// header stands before each packet.
type header struct {
	srcCID, dstCID   uint64
	srcPort, dstPort uint32
	length           uint32
	kind             uint16
	op               operation
	flags            uint32
	// credit of the sender: the size of its buffer, and how many bytes have left that so far.
	alloc, forwarded uint32
}

func (h *header) decode(b *[headerLen]byte) {
	le := binary.LittleEndian
	h.srcCID, h.dstCID = le.Uint64(b[0:]), le.Uint64(b[8:])
	h.srcPort, h.dstPort = le.Uint32(b[16:]), le.Uint32(b[20:])
	h.length = le.Uint32(b[24:])
	h.kind, h.op = le.Uint16(b[28:]), operation(le.Uint16(b[30:]))
	h.flags = le.Uint32(b[32:])
	h.alloc, h.forwarded = le.Uint32(b[36:]), le.Uint32(b[40:])
}

func (h *header) encode(b *[headerLen]byte) {
	le := binary.LittleEndian
	le.PutUint64(b[0:], h.srcCID)
	le.PutUint64(b[8:], h.dstCID)
	le.PutUint32(b[16:], h.srcPort)
	le.PutUint32(b[20:], h.dstPort)
	le.PutUint32(b[24:], h.length)
	le.PutUint16(b[28:], h.kind)
	le.PutUint16(b[30:], uint16(h.op))
	le.PutUint32(b[32:], h.flags)
	le.PutUint32(b[36:], h.alloc)
	le.PutUint32(b[40:], h.forwarded)
}
