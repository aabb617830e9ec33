package remote

import (
	"context"

	"github.com/digitalocean/go-libvirt"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/rpc"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/xdr"
)

// Define is REMOTE_PROC_DOMAIN_DEFINE_XML.
func (c Conn) Define(ctx context.Context, xml string) (libvirt.Domain, error) {
	return c.domainOf(ctx, 11, func(w *xdr.Writer) { w.String(xml) })
}

// CreateXML is REMOTE_PROC_DOMAIN_CREATE_XML.
func (c Conn) CreateXML(ctx context.Context, xml string, flags libvirt.DomainCreateFlags) (libvirt.Domain, error) {
	return c.domainOf(ctx, 10, func(w *xdr.Writer) {
		w.String(xml)
		w.Uint32(uint32(flags))
	})
}

// Start is REMOTE_PROC_DOMAIN_CREATE_WITH_FLAGS.
func (c Conn) Start(ctx context.Context, d *libvirt.Domain, flags libvirt.DomainCreateFlags) (libvirt.Domain, error) {
	return c.domainOf(ctx, 196, func(w *xdr.Writer) {
		writeDomain(w, d)
		w.Uint32(uint32(flags))
	})
}

// Create is REMOTE_PROC_DOMAIN_CREATE, for daemons and hypervisors without flags.
func (c Conn) Create(ctx context.Context, d *libvirt.Domain) error { return c.onDomain(ctx, 9, d) }

// Destroy is REMOTE_PROC_DOMAIN_DESTROY.
func (c Conn) Destroy(ctx context.Context, d *libvirt.Domain) error { return c.onDomain(ctx, 12, d) }

// Undefine is REMOTE_PROC_DOMAIN_UNDEFINE_FLAGS.
func (c Conn) Undefine(ctx context.Context, d *libvirt.Domain, flags libvirt.DomainUndefineFlagsValues) error {
	return c.withFlags(ctx, 231, d, uint32(flags))
}

// UndefinePlain is REMOTE_PROC_DOMAIN_UNDEFINE.
func (c Conn) UndefinePlain(ctx context.Context, d *libvirt.Domain) error {
	return c.onDomain(ctx, 35, d)
}

// Suspend is REMOTE_PROC_DOMAIN_SUSPEND.
func (c Conn) Suspend(ctx context.Context, d *libvirt.Domain) error { return c.onDomain(ctx, 34, d) }

// Resume is REMOTE_PROC_DOMAIN_RESUME.
func (c Conn) Resume(ctx context.Context, d *libvirt.Domain) error { return c.onDomain(ctx, 28, d) }

// Wakeup is REMOTE_PROC_DOMAIN_PM_WAKEUP.
func (c Conn) Wakeup(ctx context.Context, d *libvirt.Domain) error {
	return c.withFlags(ctx, 267, d, 0)
}

// Shutdown is REMOTE_PROC_DOMAIN_SHUTDOWN.
func (c Conn) Shutdown(ctx context.Context, d *libvirt.Domain) error { return c.onDomain(ctx, 33, d) }

// Reboot is REMOTE_PROC_DOMAIN_REBOOT.
func (c Conn) Reboot(ctx context.Context, d *libvirt.Domain) error {
	return c.withFlags(ctx, 27, d, 0)
}

// Save is REMOTE_PROC_DOMAIN_SAVE.
func (c Conn) Save(ctx context.Context, d *libvirt.Domain, to string) error {
	return c.call(ctx, 55, func(w *xdr.Writer) {
		writeDomain(w, d)
		w.String(to)
	}, nil)
}

// Restore is REMOTE_PROC_DOMAIN_RESTORE_FLAGS.
func (c Conn) Restore(ctx context.Context, from string, flags libvirt.DomainSaveRestoreFlags) error {
	return c.call(ctx, 233, func(w *xdr.Writer) {
		w.String(from)
		optString(w, "") // other XML
		w.Uint32(uint32(flags))
	}, nil)
}

// RestorePlain is REMOTE_PROC_DOMAIN_RESTORE.
func (c Conn) RestorePlain(ctx context.Context, from string) error {
	return c.call(ctx, 54, func(w *xdr.Writer) { w.String(from) }, nil)
}

// SavedXML is REMOTE_PROC_DOMAIN_SAVE_IMAGE_GET_XML_DESC: the domain in a file.
func (c Conn) SavedXML(ctx context.Context, file string) (string, error) {
	return c.stringOf(ctx, 235, func(w *xdr.Writer) {
		w.String(file)
		w.Uint32(0)
	})
}

// CoreDump is REMOTE_PROC_DOMAIN_CORE_DUMP.
func (c Conn) CoreDump(ctx context.Context, d *libvirt.Domain, to string, flags libvirt.DomainCoreDumpFlags) error {
	return c.textCall(ctx, 53, d, to, uint32(flags))
}

// AbortJob is REMOTE_PROC_DOMAIN_ABORT_JOB.
func (c Conn) AbortJob(ctx context.Context, d *libvirt.Domain) error { return c.onDomain(ctx, 164, d) }

// OpenConsole is REMOTE_PROC_DOMAIN_OPEN_CONSOLE of the first console: the stream
// carries what is typed and printed.
func (c Conn) OpenConsole(ctx context.Context, d *libvirt.Domain, flags libvirt.DomainConsoleFlags) (*rpc.Stream, error) {
	return c.Client.CallStream(ctx, Program, 201, func(w *xdr.Writer) {
		writeDomain(w, d)
		optString(w, "")
		w.Uint32(uint32(flags))
	}, nil)
}
