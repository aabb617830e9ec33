// Package rpc is the client side of libvirt's RPC protocol on one connection:
// calls, streams, events and keepalive (libvirt docs/kbase/internals/rpc.rst,
// src/rpc/virnetprotocol.x). It knows frames, not procedures: what is in a
// payload is for the functions that a caller gives.
//
// The protocol is ours rather than that of github.com/digitalocean/go-libvirt,
// whose call path cannot be made right from outside: a frame shorter than its
// header panics, a length word is allocated before its bytes have come, one
// slow reader of a stream stops every call, calls take no context, and there is
// no keepalive. That module is used for its numbers and types, and gets a
// connection of its own over this one: Bridge.
//
// The server is not trusted. A frame with an impossible header ends the
// connection with an error that says what was wrong; memory grows with the
// bytes that have arrived, at most MaxMessage a frame; and every caller returns
// when its context ends, whatever the server does.
//
// # Goroutines
//
// A Client has one goroutine that reads, one that writes what a caller could
// not write without waiting, and with keepalive on one that keeps time. Close
// ends them and waits for them. A caller encodes its own request and decodes
// its own reply; where it can it also writes, and reads, the socket itself,
// because waking another goroutine costs more than the rest of a call.
package rpc
