package remote

import (
	"context"

	"github.com/digitalocean/go-libvirt"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/xdr"
)

// Attach is REMOTE_PROC_DOMAIN_ATTACH_DEVICE_FLAGS.
func (c Conn) Attach(ctx context.Context, d *libvirt.Domain, xml string, flags libvirt.DomainDeviceModifyFlags) error {
	return c.textCall(ctx, 160, d, xml, uint32(flags))
}

// Detach is REMOTE_PROC_DOMAIN_DETACH_DEVICE_FLAGS.
func (c Conn) Detach(ctx context.Context, d *libvirt.Domain, xml string, flags libvirt.DomainDeviceModifyFlags) error {
	return c.textCall(ctx, 161, d, xml, uint32(flags))
}

// Update is REMOTE_PROC_DOMAIN_UPDATE_DEVICE_FLAGS.
func (c Conn) Update(ctx context.Context, d *libvirt.Domain, xml string, flags libvirt.DomainDeviceModifyFlags) error {
	return c.textCall(ctx, 174, d, xml, uint32(flags))
}

// SetMetadata is REMOTE_PROC_DOMAIN_SET_METADATA of an element with the namespace
// uri and the prefix key; an empty element removes it.
func (c Conn) SetMetadata(ctx context.Context, d *libvirt.Domain, element, key, uri string, flags libvirt.DomainModificationImpact) error {
	return c.call(ctx, 264, func(w *xdr.Writer) {
		writeDomain(w, d)
		w.Int32(int32(libvirt.DomainMetadataElement))
		optString(w, element)
		optString(w, key)
		optString(w, uri)
		w.Uint32(uint32(flags))
	}, nil)
}

// Autostart is REMOTE_PROC_DOMAIN_GET_AUTOSTART.
func (c Conn) Autostart(ctx context.Context, d *libvirt.Domain) (bool, error) {
	n, err := c.intOf(ctx, 15, func(w *xdr.Writer) { writeDomain(w, d) })
	return n != 0, err
}

// SetAutostart is REMOTE_PROC_DOMAIN_SET_AUTOSTART.
func (c Conn) SetAutostart(ctx context.Context, d *libvirt.Domain, on bool) error {
	return c.call(ctx, 29, func(w *xdr.Writer) {
		writeDomain(w, d)
		w.Bool(on)
	}, nil)
}

// Rename is REMOTE_PROC_DOMAIN_RENAME.
func (c Conn) Rename(ctx context.Context, d *libvirt.Domain, name string) error {
	_, err := c.intOf(ctx, 358, func(w *xdr.Writer) {
		writeDomain(w, d)
		optString(w, name)
		w.Uint32(0)
	})
	return err
}
