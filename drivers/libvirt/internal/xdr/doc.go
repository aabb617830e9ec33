// Package xdr writes and reads the External Data Representation (RFC 4506) as
// libvirt's protocol uses it. It knows no procedure and does no I/O.
//
// A Writer appends; a Reader takes values from a message that is whole in
// memory and was written by a peer nobody vouches for: each length is checked
// against the limit the caller gives and against what is left of the message
// before anything is allocated, and the first mistake sticks, so that a caller
// decodes a whole structure and asks once for Err.
package xdr

import (
	"errors"
	"fmt"
)

// StringMax is the limit of libvirt's protocol on the bytes of a string
// (VIR_NET_MESSAGE_STRING_MAX in src/rpc/virnetprotocol.x).
const StringMax = 4 << 20

// ErrMalformed is what each error of a Reader wraps: the message is not what
// its procedure says.
var ErrMalformed = errors.New("malformed XDR")

// ErrTooLong is what the errors of a Writer wrap: a value does not fit the
// protocol.
var ErrTooLong = errors.New("too long for the protocol")

func malformed(offset int, format string, args ...any) error {
	return fmt.Errorf("%w at byte %d: %s", ErrMalformed, offset, fmt.Sprintf(format, args...))
}

// padding is how many zero bytes follow n bytes of opaque data (RFC 4506
// section 3: everything is a multiple of four bytes).
func padding(n int) int { return -n & 3 }
