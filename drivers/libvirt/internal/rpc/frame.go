package rpc

import (
	"encoding/binary"
	"fmt"
)

// Programs of the protocol, and their only version.
const (
	ProgramRemote    uint32 = 0x20008086 // REMOTE_PROGRAM, src/remote/remote_protocol.x
	ProgramQEMU      uint32 = 0x20008087 // QEMU_PROGRAM, src/remote/qemu_protocol.x
	ProgramLXC       uint32 = 0x20008088 // LXC_PROGRAM, src/remote/lxc_protocol.x
	ProgramKeepAlive uint32 = 0x6b656570 // KEEPALIVE_PROGRAM, src/rpc/virkeepaliveprotocol.x

	version uint32 = 1
)

// Procedures of the keepalive program.
const (
	keepAlivePing uint32 = 1
	keepAlivePong uint32 = 2
)

// Types of frames (virNetMessageType).
const (
	TypeCall         uint32 = 0
	TypeReply        uint32 = 1
	TypeMessage      uint32 = 2
	TypeStream       uint32 = 3
	TypeCallWithFDs  uint32 = 4
	TypeReplyWithFDs uint32 = 5
	TypeStreamHole   uint32 = 6
)

// Status of frames (virNetMessageStatus).
const (
	StatusOK       uint32 = 0
	StatusError    uint32 = 1
	StatusContinue uint32 = 2
)

const (
	// HeaderSize is the length of the length word and the header together:
	// the shortest frame.
	HeaderSize = 28

	// MaxMessage is the longest frame that is sent or accepted, the length
	// word not counted (VIR_NET_MESSAGE_MAX of libvirt 5.2 and later).
	MaxMessage = 32 << 20

	// maxStreamPayload is the most data that is sent in one frame of a
	// stream: every libvirt accepts it (VIR_NET_MESSAGE_LEGACY_PAYLOAD_MAX).
	maxStreamPayload = 262120
)

// Header is what each frame begins with, behind the length word.
type Header struct {
	Program, Version, Procedure, Type, Serial, Status uint32
}

// String names the fields as they are in the protocol's description.
func (h Header) String() string {
	return fmt.Sprintf("program %#x version %d procedure %d type %d serial %d status %d", h.Program, h.Version, h.Procedure, h.Type, h.Serial, h.Status)
}

// AppendFrame appends the frame of h and payload to dst. The payload's length
// is not checked.
func AppendFrame(dst []byte, h Header, payload []byte) []byte {
	dst = appendHeader(dst, h, len(payload))
	return append(dst, payload...)
}

func appendHeader(dst []byte, h Header, payload int) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(HeaderSize+payload))
	dst = binary.BigEndian.AppendUint32(dst, h.Program)
	dst = binary.BigEndian.AppendUint32(dst, h.Version)
	dst = binary.BigEndian.AppendUint32(dst, h.Procedure)
	dst = binary.BigEndian.AppendUint32(dst, h.Type)
	dst = binary.BigEndian.AppendUint32(dst, h.Serial)
	return binary.BigEndian.AppendUint32(dst, h.Status)
}

// FrameLength reads the length word at the start of p, which has at least four
// bytes, and checks it.
func FrameLength(p []byte) (int, error) {
	n := binary.BigEndian.Uint32(p)
	switch {
	case n < HeaderSize:
		return 0, fmt.Errorf("%w: frame of %d bytes, its header alone has %d", ErrProtocol, n, HeaderSize)
	case n > MaxMessage+4:
		return 0, fmt.Errorf("%w: frame of %d bytes, the limit is %d", ErrProtocol, n, MaxMessage+4)
	}
	return int(n), nil
}

// ParseHeader reads the header of a frame, whose length word is the first of
// the HeaderSize bytes in p.
func ParseHeader(p []byte) Header {
	_ = p[HeaderSize-1]
	return Header{
		Program:   binary.BigEndian.Uint32(p[4:]),
		Version:   binary.BigEndian.Uint32(p[8:]),
		Procedure: binary.BigEndian.Uint32(p[12:]),
		Type:      binary.BigEndian.Uint32(p[16:]),
		Serial:    binary.BigEndian.Uint32(p[20:]),
		Status:    binary.BigEndian.Uint32(p[24:]),
	}
}
