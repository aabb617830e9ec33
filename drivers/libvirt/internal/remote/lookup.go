package remote

import (
	"context"

	"github.com/digitalocean/go-libvirt"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/xdr"
)

// LookupByID is REMOTE_PROC_DOMAIN_LOOKUP_BY_ID.
func (c Conn) LookupByID(ctx context.Context, id int32) (libvirt.Domain, error) {
	return c.domainOf(ctx, 22, func(w *xdr.Writer) { w.Int32(id) })
}

// LookupByName is REMOTE_PROC_DOMAIN_LOOKUP_BY_NAME.
func (c Conn) LookupByName(ctx context.Context, name string) (libvirt.Domain, error) {
	return c.domainOf(ctx, 23, func(w *xdr.Writer) { w.String(name) })
}

// LookupByUUID is REMOTE_PROC_DOMAIN_LOOKUP_BY_UUID.
func (c Conn) LookupByUUID(ctx context.Context, id libvirt.UUID) (libvirt.Domain, error) {
	return c.domainOf(ctx, 24, func(w *xdr.Writer) { w.Fixed(id[:]) })
}

// List is REMOTE_PROC_CONNECT_LIST_ALL_DOMAINS.
func (c Conn) List(ctx context.Context, flags libvirt.ConnectListAllDomainsFlags) (list []libvirt.Domain, err error) {
	err = c.call(ctx, 273, func(w *xdr.Writer) {
		w.Int32(1)
		w.Uint32(uint32(flags))
	}, func(r *xdr.Reader) {
		list = make([]libvirt.Domain, r.Count(maxDomains, leastDomain))
		for i := range list {
			readDomain(r, &list[i])
		}
		r.Uint32() // how many there are
	})
	return list, err
}

// State is REMOTE_PROC_DOMAIN_GET_STATE.
func (c Conn) State(ctx context.Context, d *libvirt.Domain) (state libvirt.DomainState, reason int32, err error) {
	err = c.call(ctx, 212, func(w *xdr.Writer) {
		writeDomain(w, d)
		w.Uint32(0)
	}, func(r *xdr.Reader) {
		state = libvirt.DomainState(r.Int32())
		reason = r.Int32()
	})
	return state, reason, err
}

// Info is REMOTE_PROC_DOMAIN_GET_INFO. Memory is in KiB, time in ns.
func (c Conn) Info(ctx context.Context, d *libvirt.Domain) (i libvirt.DomainGetInfoRet, err error) {
	err = c.call(ctx, 16, func(w *xdr.Writer) { writeDomain(w, d) }, func(r *xdr.Reader) {
		i.State = uint8(r.Uint32())
		i.MaxMem = r.Uint64()
		i.Memory = r.Uint64()
		i.NrVirtCPU = uint16(r.Uint32())
		i.CPUTime = r.Uint64()
	})
	return i, err
}

// IsPersistent is REMOTE_PROC_DOMAIN_IS_PERSISTENT.
func (c Conn) IsPersistent(ctx context.Context, d *libvirt.Domain) (bool, error) {
	n, err := c.intOf(ctx, 151, func(w *xdr.Writer) { writeDomain(w, d) })
	return n != 0, err
}

// XML is REMOTE_PROC_DOMAIN_GET_XML_DESC.
func (c Conn) XML(ctx context.Context, d *libvirt.Domain, flags libvirt.DomainXMLFlags) (string, error) {
	return c.stringOf(ctx, 14, func(w *xdr.Writer) {
		writeDomain(w, d)
		w.Uint32(uint32(flags))
	})
}
