// Package processdriver is a complete small driver in a module of its own, as an
// author elsewhere would write it. Its machines are processes of this host: it
// starts them, limits their memory, stops and continues them and tells how they
// ended. What a process cannot do it does not declare.
//
// URIs are process:///NAME; all connections of a program to one name share its
// domains, which end with the program at the latest.
package processdriver

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"sync"

	"github.com/google/uuid"

	"github.com/polyvisor/polyvisor"
)

func init() {
	polyvisor.Register("process", polyvisor.Registration{
		Open: func(_ context.Context, u *polyvisor.URI, _ polyvisor.OpenOptions) (polyvisor.Driver, error) {
			if u.Path == "" || u.Path == "/" {
				return nil, fmt.Errorf("%w: connection URI: want process:///NAME", polyvisor.ErrInvalidConfig)
			}
			h, _ := hosts.LoadOrStore(u.Path, &host{domains: make(map[uuid.UUID]*domain)})
			return driver{h.(*host)}, nil
		},
	})
}

// hosts are the hypervisors by name.
var hosts sync.Map

// host is what the connections to one name share.
type host struct {
	mu      sync.Mutex // protects the following, and all domains
	domains map[uuid.UUID]*domain
	lastID  int
}

// driver is one connection.
type driver struct{ *host }

func (d driver) Type() string { return "process" }

func (d driver) Capabilities() polyvisor.Capabilities {
	return polyvisor.Capabilities{
		Arch: runtime.GOARCH, OSType: "process",
		Features: []polyvisor.Feature{
			polyvisor.FeatureBuiltinGuest, polyvisor.FeatureTransient, polyvisor.FeatureSuspend, polyvisor.FeatureShutdown,
		},
		Reasons: map[polyvisor.Feature]string{
			polyvisor.FeatureReboot: "a process cannot be started afresh and stay the same",
		},
		MaxVCPUs: 1, MinMemory: 32 * polyvisor.MiB,
	}
}

func (d driver) Version(context.Context) (polyvisor.Version, error) {
	return polyvisor.Version{Hypervisor: runtime.GOOS}, nil
}

func (d driver) Node(context.Context) (polyvisor.Node, error) {
	name, err := os.Hostname()
	n := polyvisor.Node{
		Hostname: name, Model: runtime.GOARCH, CPUs: runtime.NumCPU(),
		NUMANodes: 1, Sockets: 1, Cores: runtime.NumCPU(), Threads: 1,
	}
	if err == nil {
		n.Memory, err = hostMemory()
	}
	return n, err
}

// Close releases nothing: the domains belong to the host.
func (d driver) Close() error { return nil }

// findLocked gives the domain that has both name and UUID, nil if neither is
// taken.
func (h *host) findLocked(c *polyvisor.Config) (*domain, error) {
	for _, o := range h.domains {
		switch same := o.id == c.UUID; {
		case same && o.name == c.Name:
			return o, nil
		case same:
			return nil, fmt.Errorf("%w: UUID %s belongs to domain %q", polyvisor.ErrExists, c.UUID, o.name)
		case o.name == c.Name:
			return nil, fmt.Errorf("%w: domain %q has UUID %s", polyvisor.ErrExists, o.name, o.id)
		}
	}
	return nil, nil
}

func (d driver) Define(_ context.Context, c *polyvisor.Config) (polyvisor.Instance, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	dom, err := d.findLocked(c)
	if err != nil {
		return nil, err
	}
	if dom == nil {
		dom = &domain{host: d.host, name: c.Name, id: c.UUID}
		d.domains[c.UUID] = dom
	}
	dom.def = c
	return dom, nil
}

func (d driver) Create(ctx context.Context, c *polyvisor.Config, o polyvisor.StartOptions) (polyvisor.Instance, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch other, err := d.findLocked(c); {
	case err != nil:
		return nil, err
	case other != nil:
		return nil, fmt.Errorf("%w: domain %q", polyvisor.ErrExists, c.Name)
	}
	dom := &domain{host: d.host, name: c.Name, id: c.UUID}
	if err := dom.startLocked(ctx, c, o); err != nil {
		return nil, err
	}
	d.domains[c.UUID] = dom
	return dom, nil
}

func (d driver) Lookup(_ context.Context, key polyvisor.Key) (polyvisor.Instance, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, o := range d.domains {
		if key.Name == o.name || key.UUID == o.id || o.run != nil && key.ID == o.run.id {
			return o, nil
		}
	}
	return nil, fmt.Errorf("%w: no such domain", polyvisor.ErrNotFound)
}

func (d driver) List(context.Context) ([]polyvisor.Instance, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := make([]polyvisor.Instance, 0, len(d.domains))
	for _, o := range d.domains {
		list = append(list, o)
	}
	return list, nil
}
