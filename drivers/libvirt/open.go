package libvirt

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/digitalocean/go-libvirt"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/auth"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/classed"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/dial"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/rpc"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/uri"
)

// schemes are the hypervisors of libvirt. "libvirt" is the scheme under which the
// root package finds the driver of every URI with a transport or a host.
var schemes = []string{"libvirt", "qemu", "test", "xen", "lxc", "ch", "bhyve", "vbox", "vz", "openvz", "esx", "gsx", "vpx", "hyperv", "vmwareplayer", "vmwarews", "vmwarefusion"}

// Schemes are the schemes of the URIs that the driver is registered for. "libvirt" stands for
// those with a transport or a host and any other scheme.
func Schemes() []string { return slices.Clone(schemes) }

// params are the parameters of URIs: libvirt's own, those of this side and those that
// the daemon's drivers know.
var params = []string{
	"socket", "mode", "command", "keyfile", "known_hosts", "known_hosts_verify", "no_verify", "no_tty", "no_sanity", "pkipath", "name",
	"sshauth", "netcat", "proxy", "tls_priority", "auth", "authfile", "auto_answer", "vcenter", "transport", "debug",
}

func init() {
	for _, scheme := range schemes {
		polyvisor.Register(scheme, polyvisor.Registration{Open: openURI, Params: params})
	}
}

// openURI is Open for the registry.
func openURI(ctx context.Context, u *polyvisor.URI, o polyvisor.OpenOptions) (polyvisor.Driver, error) {
	options := Options{URI: u.String(), ReadOnly: o.ReadOnly, Logger: o.Logger}
	if u.Scheme == "libvirt" && u.Transport == "" && u.Host == "" {
		// No hypervisor: what libvirt's own programs open if they are given no URI.
		if u.Path != "" && u.Path != "/" || len(u.Query) > 0 {
			return nil, classed.As(polyvisor.ErrInvalidConfig, errors.New("libvirt:/// stands for the default of libvirt's programs, LIBVIRT_DEFAULT_URI or uri_default in libvirt.conf; for another host name the hypervisor, such as qemu:///system"))
		}
		options.URI = ""
	}
	return newDriver(ctx, options)
}

// Open connects to the daemon that the options name. polyvisor.Open with the URI does
// the same with the defaults. The caller closes the Conn.
func Open(ctx context.Context, o Options, opts ...polyvisor.Option) (*polyvisor.Conn, error) {
	d, err := newDriver(ctx, o)
	if err != nil {
		return nil, &polyvisor.Error{Op: "open", Driver: "libvirt", Code: polyvisor.CodeOf(err), Err: err}
	}
	if o.ReadOnly {
		opts = append(opts, polyvisor.ReadOnly())
	}
	u, err := polyvisor.ParseURI(o.URI)
	if err != nil {
		u = nil // an alias, or none
	}
	return polyvisor.NewConn(d, u, opts...), nil
}

// driver is one connection to a daemon.
type driver struct {
	log    *slog.Logger
	opts   Options
	target *uri.Target
	host   *host
	caps   polyvisor.Capabilities

	records records
	hub     *hub
	link    *link

	handleMu sync.Mutex // guards the following
	handle   *libvirt.Libvirt
	handleOf *session
}

func newDriver(ctx context.Context, o Options) (_ *driver, err error) {
	o = o.complete()
	target, err := uri.Resolve(o.URI, uri.HostEnv())
	if err != nil {
		return nil, opening(ctx, err)
	}
	d := &driver{log: o.Logger.With("libvirt", target.String()), opts: o, target: target}
	d.hub = newHub(d)
	s, err := d.connect(ctx)
	if err != nil {
		d.hub.close()
		return nil, opening(ctx, err)
	}
	if err := d.begin(ctx, s); err != nil {
		s.close()
		d.hub.close()
		return nil, opening(ctx, err)
	}
	d.link = &link{
		dial: d.connect,
		back: func(ctx context.Context, s *session) error {
			if !d.hub.listens {
				return nil
			}
			return d.hub.listen(ctx, s)
		},
		gone: d.records.doubt,
		log:  d.log,
		came: d.hub.resync,
	}
	d.link.start(s)
	return d, nil
}

// begin asks what the host can do, and listens to its events.
func (d *driver) begin(ctx context.Context, s *session) (err error) {
	if d.host, err = askHost(ctx, s, d.opts.DomainType); err != nil {
		return err
	}
	missing, err := d.missing(ctx, s)
	if err != nil {
		return err
	}
	switch err := d.hub.listen(ctx, s); {
	case err == nil:
		d.hub.listens = true
	case number(err) == 0:
		return s.failed(err)
	default:
		d.log.Debug("the hypervisor tells no events", "error", err)
	}
	if why := d.lacksVsock(); why != "" {
		missing[polyvisor.FeatureVsock] = why
	}
	d.caps = d.host.capabilities(missing, d.hub.listens)
	return nil
}

// connect makes a session for calls and events.
func (d *driver) connect(ctx context.Context) (*session, error) {
	return connect(ctx, d.target, d.opts, rpc.Options{
		Event: d.hub.receive, KeepAlive: d.opts.KeepAlive, KeepAliveCount: d.opts.KeepAliveCount,
	})
}

// openingClasses say what the errors of the way to a daemon are.
var openingClasses = []struct{ cause, class error }{
	{uri.ErrInvalid, polyvisor.ErrInvalidConfig},
	{dial.ErrConfig, polyvisor.ErrInvalidConfig},
	{dial.ErrPermission, polyvisor.ErrPermission},
	{dial.ErrUnreachable, polyvisor.ErrConnLost},
	{auth.ErrDenied, polyvisor.ErrPermission},
	{auth.ErrUnsupported, polyvisor.ErrUnsupported},
	{auth.ErrConfig, polyvisor.ErrPermission},
	{rpc.ErrLost, polyvisor.ErrConnLost},
	{rpc.ErrClosed, polyvisor.ErrConnLost},
	{rpc.ErrProtocol, polyvisor.ErrConnLost},
}

// opening classes an error of Open.
func opening(ctx context.Context, err error) error {
	if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
		return errors.Join(ended, err)
	}
	if polyvisor.CodeOf(err) != polyvisor.CodeUnknown {
		return err
	}
	for _, c := range openingClasses {
		if errors.Is(err, c.cause) {
			return classed.As(c.class, err)
		}
	}
	return classify(err)
}

// Unwrap gives a handle of github.com/digitalocean/go-libvirt, a *libvirt.Libvirt,
// for what this package has no method for. It works over the same connection, and
// ends with it; after a connection was lost Unwrap gives another one. It is nil
// while there is no connection.
func (d *driver) Unwrap() any {
	s, err := d.link.session()
	if err != nil {
		return nil
	}
	d.handleMu.Lock()
	defer d.handleMu.Unlock()
	if d.handle != nil && d.handleOf == s {
		return d.handle
	}
	h := libvirt.NewWithDialer(bridgeDialer{s.Client})
	if err := h.Connect(); err != nil {
		d.log.Warn("connecting a handle of go-libvirt", "error", err)
		return nil
	}
	d.dropHandleLocked()
	d.handle, d.handleOf = h, s
	return h
}

// handlePatience bounds the end of a handle.
const handlePatience = time.Second

// closeHandle ends the handle. Its connection is gone already.
func (d *driver) closeHandle() {
	d.handleMu.Lock()
	defer d.handleMu.Unlock()
	d.dropHandleLocked()
}

func (d *driver) dropHandleLocked() {
	if d.handle == nil {
		return
	}
	select {
	case <-d.handle.Disconnected():
	case <-time.After(handlePatience):
	}
	d.handle = nil
}
