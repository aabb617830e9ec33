// Package remote has one function for each procedure of libvirt's remote program
// (src/remote/remote_protocol.x) that the driver calls: the procedure's number, how
// its arguments are written and how its result is read. Types, flags and numbers are
// those of github.com/digitalocean/go-libvirt. It decides nothing: errors are those
// of package rpc.
package remote

import (
	"context"

	"github.com/digitalocean/go-libvirt"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/rpc"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/xdr"
)

// Program is the number of the remote program.
const Program = 0x20008086

// Limits of the protocol on the lengths of arrays.
const (
	maxDomains     = 16384
	maxVCPUs       = 16384
	maxCPUMaps     = 8388608
	maxStats       = 16384
	maxStatsParams = 4096
)

// Conn makes the calls of the remote program on a connection. The methods are safe
// for concurrent use.
type Conn struct{ Client *rpc.Client }

// call is a call of the remote program.
func (c Conn) call(ctx context.Context, proc uint32, args func(*xdr.Writer), ret func(*xdr.Reader)) error {
	return c.Client.Call(ctx, Program, proc, args, ret)
}

// writeDomain writes a remote_nonnull_domain.
func writeDomain(w *xdr.Writer, d *libvirt.Domain) {
	w.String(d.Name)
	w.Fixed(d.UUID[:])
	w.Int32(d.ID)
}

// readDomain reads one.
func readDomain(r *xdr.Reader, d *libvirt.Domain) {
	d.Name = r.String()
	r.Fixed(d.UUID[:])
	d.ID = r.Int32()
}

// leastDomain is the fewest bytes that a domain takes.
const leastDomain = 4 + libvirt.UUIDBuflen + 4

// optString writes a string that is absent if it is empty.
func optString(w *xdr.Writer, s string) {
	w.Bool(s != "")
	if s != "" {
		w.String(s)
	}
}

// onDomain is a call whose only argument is a domain.
func (c Conn) onDomain(ctx context.Context, proc uint32, d *libvirt.Domain) error {
	return c.call(ctx, proc, func(w *xdr.Writer) { writeDomain(w, d) }, nil)
}

// withFlags is a call with a domain and flags, and without a result.
func (c Conn) withFlags(ctx context.Context, proc uint32, d *libvirt.Domain, flags uint32) error {
	return c.call(ctx, proc, func(w *xdr.Writer) {
		writeDomain(w, d)
		w.Uint32(flags)
	}, nil)
}

// textCall is a call with a domain, a text and flags, and without a result.
func (c Conn) textCall(ctx context.Context, proc uint32, d *libvirt.Domain, text string, flags uint32) error {
	return c.call(ctx, proc, func(w *xdr.Writer) {
		writeDomain(w, d)
		w.String(text)
		w.Uint32(flags)
	}, nil)
}

// domainOf is a call that gives a domain.
func (c Conn) domainOf(ctx context.Context, proc uint32, args func(*xdr.Writer)) (d libvirt.Domain, err error) {
	err = c.call(ctx, proc, args, func(r *xdr.Reader) { readDomain(r, &d) })
	return d, err
}

// stringOf is a call that gives a string.
func (c Conn) stringOf(ctx context.Context, proc uint32, args func(*xdr.Writer)) (s string, err error) {
	err = c.call(ctx, proc, args, func(r *xdr.Reader) { s = r.String() })
	return s, err
}

// intOf is a call that gives a number.
func (c Conn) intOf(ctx context.Context, proc uint32, args func(*xdr.Writer)) (n int32, err error) {
	err = c.call(ctx, proc, args, func(r *xdr.Reader) { n = r.Int32() })
	return n, err
}
