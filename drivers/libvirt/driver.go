package libvirt

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/google/uuid"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/domainxml"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/classed"
)

// Capabilities tells what was asked from the host when the connection was opened.
func (d *driver) Capabilities() polyvisor.Capabilities { return d.caps }

// Type is "libvirt".
func (d *driver) Type() string { return "libvirt" }

// Version tells the hypervisor's version and that of the daemon.
func (d *driver) Version(ctx context.Context) (polyvisor.Version, error) {
	s, err := d.link.session()
	if err != nil {
		return polyvisor.Version{}, err
	}
	hv, err := s.Version(ctx)
	if err != nil {
		return polyvisor.Version{}, s.failed(err)
	}
	lib, err := s.LibVersion(ctx)
	if err != nil {
		return polyvisor.Version{}, s.failed(err)
	}
	return polyvisor.Version{
		Library:    polyvisor.LibraryVersion,
		Hypervisor: fmt.Sprintf("%s %s, libvirt %s", d.host.hypervisor, versionText(hv), versionText(lib)),
	}, nil
}

func versionText(v uint64) string {
	return fmt.Sprintf("%d.%d.%d", v/1_000_000, v/1000%1000, v%1000)
}

// Node describes the host.
func (d *driver) Node(ctx context.Context) (polyvisor.Node, error) {
	s, err := d.link.session()
	if err != nil {
		return polyvisor.Node{}, err
	}
	info, err := s.NodeInfo(ctx)
	if err != nil {
		return polyvisor.Node{}, s.failed(err)
	}
	name, err := s.Hostname(ctx)
	if err != nil {
		return polyvisor.Node{}, s.failed(err)
	}
	return polyvisor.Node{
		Hostname: name, Model: charsText(info.Model[:]), Memory: polyvisor.Bytes(info.Memory) * polyvisor.KiB,
		CPUs: int(info.Cpus), MHz: int(max(info.Mhz, 0)), NUMANodes: int(info.Nodes), Sockets: int(info.Sockets), Cores: int(info.Cores), Threads: int(info.Threads),
	}, nil
}

// charsText reads a text that ends with a zero.
func charsText(chars []int8) string {
	var b []byte
	for _, c := range chars {
		if c == 0 {
			break
		}
		b = append(b, byte(c))
	}
	return string(b)
}

// Define stores a domain.
func (d *driver) Define(ctx context.Context, c *polyvisor.Config) (polyvisor.Instance, error) {
	autostart := c.Autostart
	xml, err := d.format(c)
	if err != nil {
		return nil, err
	}
	return d.define(ctx, xml, identity{c.Name, libvirt.UUID(c.UUID)}, &autostart)
}

// Create starts a transient domain.
func (d *driver) Create(ctx context.Context, c *polyvisor.Config, o polyvisor.StartOptions) (polyvisor.Instance, error) {
	if c.Autostart {
		return nil, fmt.Errorf("%w: autostart: a transient domain cannot be started with the host; define it", polyvisor.ErrInvalidConfig)
	}
	xml, err := d.format(c)
	if err != nil {
		return nil, err
	}
	i, err := d.create(ctx, xml, identity{c.Name, libvirt.UUID(c.UUID)}, o)
	if err != nil {
		return nil, d.diagnose(c, err)
	}
	return i, nil
}

// format writes a Config as XML for this host. Autostart is a setting of the
// daemon, which is not in the XML.
func (d *driver) format(c *polyvisor.Config) (string, error) {
	c.Autostart = false
	return domainxml.Format(c, domainxml.Options{
		Type: d.host.domainType, Arch: d.caps.Arch, Machine: d.host.machine, Emulator: d.host.emulator, Panic: d.host.panicDevice,
		Aliases: true, SharedMemory: d.host.sharedMemory(), Random: true,
	})
}

// identity is what a domain is found by.
type identity struct {
	name string
	uuid libvirt.UUID
}

// identityOf reads name and UUID of domain XML, as far as they are there.
func identityOf(xml string) identity {
	c, _, err := domainxml.ParseLoose(xml)
	if err != nil {
		return identity{}
	}
	return identity{c.Name, libvirt.UUID(c.UUID)}
}

// define stores a domain and, if autostart is not nil, how it is started with the
// host.
func (d *driver) define(ctx context.Context, xml string, id identity, autostart *bool) (polyvisor.Instance, error) {
	s, err := d.link.session()
	if err != nil {
		return nil, err
	}
	var dom libvirt.Domain
	err = s.settle(ctx, nil, func(ctx context.Context) (err error) {
		if dom, err = s.Define(ctx, xml); err != nil || autostart == nil || !d.caps.Has(polyvisor.FeatureAutostart) {
			return err
		}
		was, err := s.Autostart(ctx, &dom)
		if err == nil && was != *autostart {
			err = s.SetAutostart(ctx, &dom, *autostart)
		}
		return err
	})
	if err != nil {
		return nil, s.taken(ctx, id, err)
	}
	return d.instance(dom), nil
}

// create starts a transient domain. libvirt would start a defined domain of the
// same name and UUID with the new configuration, and keep its definition.
func (d *driver) create(ctx context.Context, xml string, id identity, o polyvisor.StartOptions) (polyvisor.Instance, error) {
	s, err := d.link.session()
	if err != nil {
		return nil, err
	}
	if err := s.free(ctx, id); err != nil {
		return nil, err
	}
	var dom libvirt.Domain
	err = s.settle(ctx, nil, func(ctx context.Context) (err error) {
		dom, err = s.CreateXML(ctx, xml, startFlags(o))
		return err
	})
	if err != nil {
		return nil, s.taken(ctx, id, err)
	}
	i := d.instance(dom)
	i.record().begun()
	return i, nil
}

func startFlags(o polyvisor.StartOptions) libvirt.DomainCreateFlags {
	if o.Paused {
		return libvirt.DomainStartPaused
	}
	return 0
}

// free gives ErrExists if there is a domain of the name or the UUID.
func (s *session) free(ctx context.Context, id identity) error {
	if id.name != "" {
		if _, err := s.LookupByName(ctx, id.name); number(err) != libvirt.ErrNoDomain {
			return s.occupied(fmt.Sprintf("the name %q", id.name), err)
		}
	}
	if id.uuid != (libvirt.UUID{}) {
		if _, err := s.LookupByUUID(ctx, id.uuid); number(err) != libvirt.ErrNoDomain {
			return s.occupied(fmt.Sprintf("the UUID %s", uuid.UUID(id.uuid)), err)
		}
	}
	return nil
}

func (s *session) occupied(what string, err error) error {
	if err != nil {
		return s.failed(err)
	}
	return fmt.Errorf("%w: a domain has %s", polyvisor.ErrExists, what)
}

// taken classes the error of a definition or a creation. libvirt has one number for
// a name that is taken and for much else.
func (s *session) taken(ctx context.Context, id identity, err error) error {
	switch number(err) {
	case libvirt.ErrOperationFailed, libvirt.ErrOperationInvalid:
		if errors.Is(s.free(ctx, id), polyvisor.ErrExists) {
			return classed.As(polyvisor.ErrExists, err)
		}
	}
	if f := from(err); f == fromXML || f == fromDomain {
		return classed.As(polyvisor.ErrInvalidConfig, err)
	}
	return s.failed(err)
}

// Lookup finds one domain.
func (d *driver) Lookup(ctx context.Context, key polyvisor.Key) (polyvisor.Instance, error) {
	s, err := d.link.session()
	if err != nil {
		return nil, err
	}
	var dom libvirt.Domain
	switch {
	case key.Name != "":
		dom, err = s.LookupByName(ctx, key.Name)
	case key.ID != 0:
		dom, err = s.LookupByID(ctx, int32(key.ID))
	default:
		dom, err = s.LookupByUUID(ctx, libvirt.UUID(key.UUID))
	}
	if err != nil {
		return nil, s.failed(err)
	}
	return d.instance(dom), nil
}

// List gives all domains.
func (d *driver) List(ctx context.Context) ([]polyvisor.Instance, error) {
	s, err := d.link.session()
	if err != nil {
		return nil, err
	}
	doms, err := s.List(ctx, 0)
	if err != nil {
		return nil, s.failed(err)
	}
	list := make([]polyvisor.Instance, len(doms))
	for i, dom := range doms {
		list[i] = d.instance(dom)
	}
	return list, nil
}

// Close ends the connection. Domains go on running.
func (d *driver) Close() error {
	d.link.close()
	d.hub.close()
	d.closeHandle()
	return nil
}

// settlePatience is how long a call whose context has ended is waited for, so that
// its caller is told what came of it.
const settlePatience = 2 * time.Second

// writePatience is the same for what moves the memory of a guest to a file or back, which cannot be ended at every moment and
// of which something would be left.
const writePatience = 15 * time.Second

// abortAgain is how long after an abort the next is tried: one that comes before the
// job has begun is refused, and the job then goes on.
const abortAgain = 50 * time.Millisecond

// settle makes calls that change something. When ctx ends meanwhile, abort, if there
// is one, is called until they end, and they are waited for, a short while: if they
// have succeeded all the same there is no error. Calls that have not even ended then
// are abandoned; their context, which ends with that, tells them from others.
func (s *session) settle(ctx context.Context, abort, calls func(ctx context.Context) error) error {
	return s.settleWithin(ctx, settlePatience, abort, calls)
}

func (s *session) settleWithin(ctx context.Context, patience time.Duration, abort, calls func(ctx context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	over := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(over)
		timer := time.AfterFunc(patience, cancel)
		defer timer.Stop()
		for abort != nil && inner.Err() == nil {
			_ = abort(inner)
			select {
			case <-inner.Done():
			case <-time.After(abortAgain):
			}
		}
		<-inner.Done()
	})
	err := calls(inner)
	if stop() {
		return err
	}
	abandoned := inner.Err() != nil
	cancel()
	<-over
	if err != nil && (abandoned || abort != nil) {
		return ctx.Err()
	}
	return err
}
