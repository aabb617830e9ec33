package rpc

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/digitalocean/go-libvirt"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/xdr"
)

var (
	// ErrLost is wrapped by the errors of calls and streams whose connection
	// ended other than by Close; the cause is wrapped beside it. What the
	// server did with a call in flight is not known.
	ErrLost = errors.New("connection to libvirt lost")

	// ErrClosed is the error of calls and streams after Close, and of those
	// that Close cut off.
	ErrClosed = errors.New("connection to libvirt is closed")

	// ErrProtocol is wrapped by errors about frames or payloads that the
	// protocol does not allow.
	ErrProtocol = errors.New("libvirt protocol violated by the server")

	// ErrKeepAlive is the cause when the server answered no keepalive.
	ErrKeepAlive = errors.New("no answer to keepalive")

	// ErrTooLarge is wrapped by the error of a call whose arguments do not
	// fit a frame. Nothing was sent.
	ErrTooLarge = errors.New("request too large for libvirt's protocol")

	// ErrStreamOverflow is the error of a stream whose reader was too slow
	// for the bound of its queue.
	ErrStreamOverflow = errors.New("stream dropped: it was not read while data came in")

	// ErrStreamClosed is the error of using a stream after Close or Finish.
	ErrStreamClosed = errors.New("stream is closed")
)

// Error is an error that the server replied with (virNetMessageError in
// src/rpc/virnetprotocol.x).
type Error struct {
	Code    libvirt.ErrorNumber
	Domain  int32 // which part of libvirt reports it (virErrorDomain)
	Level   libvirt.ErrorLevel
	Message string

	Str1, Str2, Str3 string // details, often the parts of Message
	Int1, Int2       int32
}

// Error is libvirt's own message, or the number if there is none.
func (e *Error) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("libvirt error %d (domain %d)", e.Code, e.Domain)
	}
	return e.Message
}

// decodeError reads a virNetMessageError. It gives an *Error, or an error that
// wraps ErrProtocol.
func decodeError(r *xdr.Reader) error {
	e := new(Error)
	text := func() string {
		if r.Bool() {
			return r.String()
		}
		return ""
	}
	e.Code = libvirt.ErrorNumber(r.Int32())
	e.Domain = r.Int32()
	e.Message = text()
	e.Level = libvirt.ErrorLevel(r.Int32())
	if r.Bool() { // the domain: name, uuid, id; unused
		r.Opaque(xdr.StringMax)
		r.Fixed(make([]byte, 16))
		r.Int32()
	}
	e.Str1, e.Str2, e.Str3 = text(), text(), text()
	e.Int1, e.Int2 = r.Int32(), r.Int32()
	if r.Bool() { // the network: name, uuid; unused
		r.Opaque(xdr.StringMax)
		r.Fixed(make([]byte, 16))
	}
	if err := r.Err(); err != nil {
		return fmt.Errorf("%w: error reply: %w", ErrProtocol, err)
	}
	// An old server does not know a procedure and says so in words; libvirt's
	// own client makes the same number of it.
	if e.Code == libvirt.ErrRPC && strings.HasPrefix(e.Message, "unknown procedure") {
		e.Code = libvirt.ErrNoSupport
	}
	return e
}

// EncodeError writes e as a server does.
func EncodeError(w *xdr.Writer, e *Error) {
	text := func(s string) {
		w.Bool(s != "")
		if s != "" {
			w.String(s)
		}
	}
	w.Int32(int32(e.Code))
	w.Int32(e.Domain)
	text(e.Message)
	w.Int32(int32(e.Level))
	w.Bool(false)
	text(e.Str1)
	text(e.Str2)
	text(e.Str3)
	w.Int32(e.Int1)
	w.Int32(e.Int2)
	w.Bool(false)
}

// lost is the error of everything on a connection that ended for this cause.
func lost(cause error) error {
	if errors.Is(cause, ErrClosed) {
		return cause
	}
	if errors.Is(cause, io.EOF) {
		cause = fmt.Errorf("the server closed it: %w", cause)
	}
	return fmt.Errorf("%w: %w", ErrLost, cause)
}
