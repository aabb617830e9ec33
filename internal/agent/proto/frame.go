package proto

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	// Version is the version of the protocol that this package speaks.
	Version = 1
	// Port is the vsock port of the guest on which the agent listens.
	Port = 1023

	// Window is how many bytes of a stream may be under way or unread.
	Window = 256 << 10
	// MaxData bounds the bytes of one frame of a stream, which with its header
	// fills a packet of vsock.
	MaxData = 64<<10 - headerSize
	// MaxRequest bounds a request, MaxAnswer all other messages.
	MaxRequest = 1 << 20
	MaxAnswer  = 16 << 10

	headerSize = 8
)

// Type is what a frame is.
type Type uint8

// The frames. Those about a stream come from either side.
const (
	// TypeRequest is the first frame of a connection, from the host: a Request.
	TypeRequest Type = 1
	// TypeAnswer says that the agent does or has done it: an Answer.
	TypeAnswer Type = 2
	// TypeFailure says that it does not: a Failure.
	TypeFailure Type = 3
	// TypeData is bytes of a stream.
	TypeData Type = 4
	// TypeEnd is the end of a stream.
	TypeEnd Type = 5
	// TypeCredit allows as many more bytes of a stream: a number of 4 bytes.
	TypeCredit Type = 6
	// TypeStop says that no more of a stream is wanted.
	TypeStop Type = 7
	// TypeSignal sends a signal to the command: a number of 4 bytes.
	TypeSignal Type = 8
	// TypeResize gives the terminal a size: columns and rows, 2 bytes each.
	TypeResize Type = 9
	// TypeExit is the end of the command: an Exit.
	TypeExit Type = 10
)

// The streams of a connection.
const (
	Stdin  = 0
	Stdout = 1
	Stderr = 2

	streams = 3
)

// limit is the most bytes that a frame of the type may have.
func (t Type) limit() int {
	switch t {
	case TypeRequest:
		return MaxRequest
	case TypeAnswer, TypeFailure, TypeExit:
		return MaxAnswer
	case TypeData:
		return MaxData
	case TypeCredit, TypeSignal, TypeResize:
		return 4
	}
	return 0
}

// ErrProtocol is what all breaches of the protocol match.
var ErrProtocol = errors.New("the other side does not keep to the agent's protocol")

func breach(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, args...))
}

// header is the beginning of a frame: the type, the stream, two zero bytes and the
// number of bytes that follow, little-endian.
type header struct {
	typ    Type
	stream uint8
	size   int
}

func (h header) put(b []byte) {
	b[0], b[1], b[2], b[3] = byte(h.typ), h.stream, 0, 0
	binary.LittleEndian.PutUint32(b[4:], uint32(h.size))
}

// readHeader reads and checks one; io.EOF if nothing follows.
func readHeader(r io.Reader, b []byte) (header, error) {
	if _, err := io.ReadFull(r, b[:headerSize]); err != nil {
		return header{}, err
	}
	h := header{Type(b[0]), b[1], 0}
	size := binary.LittleEndian.Uint32(b[4:])
	switch {
	case h.typ < TypeRequest || h.typ > TypeExit:
		return h, breach("a frame of type %d", h.typ)
	case h.stream >= streams:
		return h, breach("a frame of stream %d", h.stream)
	case b[2] != 0 || b[3] != 0:
		return h, breach("a frame whose third and fourth bytes are not zero")
	case uint64(size) > uint64(h.typ.limit()):
		return h, breach("a frame of type %d with %d bytes, at most %d are allowed", h.typ, size, h.typ.limit())
	case h.typ.limit() == 4 && size != 4:
		return h, breach("a frame of type %d with %d bytes, want 4", h.typ, size)
	}
	h.size = int(size)
	return h, nil
}
