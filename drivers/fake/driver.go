package fake

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/polyvisor/polyvisor"
)

// driver is one open connection.
type driver struct {
	h      *Hypervisor
	faults plan        // of this connection's calls
	down   atomic.Bool // during an outage

	// Under h.mu.
	closed   bool
	back     *time.Timer // ends the outage
	outages  int
	consoles map[*console]struct{}
}

func (c *driver) Type() string { return "fake" }

// Capabilities declares every feature.
func (c *driver) Capabilities() polyvisor.Capabilities {
	c.h.mu.Lock()
	defer c.h.unlock()
	return polyvisor.Capabilities{
		Arch: "amd64", OSType: "hvm", Features: polyvisor.Features(),
		MaxVCPUs: maxVCPUs, MinMemory: minMemory, MaxMemory: min(maxMemory, uint64(c.h.node.Memory)),
	}
}

func (c *driver) Version(ctx context.Context) (v polyvisor.Version, err error) {
	err = c.do(ctx, opVersion, nil, "", func(*verdict) error {
		v.Hypervisor = "fake " + polyvisor.LibraryVersion
		return nil
	})
	return v, err
}

func (c *driver) Node(ctx context.Context) (n polyvisor.Node, err error) {
	err = c.do(ctx, opNode, nil, "", func(*verdict) error {
		c.h.mu.Lock()
		defer c.h.unlock()
		n = c.h.node
		return nil
	})
	return n, err
}

// Close releases the connection. Domains go on running.
func (c *driver) Close() error {
	c.h.mu.Lock()
	defer c.h.unlock()
	c.closed = true
	if c.back != nil {
		c.back.Stop()
	}
	for con := range c.consoles {
		con.failLocked(errConsoleClosed)
	}
	delete(c.h.conns, c)
	return nil
}

// Define stores the domain, or replaces the definition of the one that has both
// its name and its UUID. A transient domain becomes persistent by it.
func (c *driver) Define(ctx context.Context, config *polyvisor.Config) (inst polyvisor.Instance, err error) {
	err = c.do(ctx, opDefine, nil, config.Name, func(v *verdict) error {
		if err := v.halfway(); err != nil {
			return err
		}
		c.h.mu.Lock()
		defer c.h.unlock()
		d, err := c.h.defineLocked(config)
		if err == nil {
			inst = &instance{c, d}
		}
		return err
	})
	return orNil(inst, err)
}

// defineLocked stores a definition.
func (h *Hypervisor) defineLocked(config *polyvisor.Config) (*domain, error) {
	if err := h.checkLocked(config); err != nil {
		return nil, err
	}
	d, err := h.takenLocked(config.Name, config.UUID)
	if err != nil {
		return nil, err
	}
	if d == nil {
		d = &domain{h: h, id: config.UUID, name: config.Name}
		h.addLocked(d)
	}
	d.def = config
	h.tellLocked(d, polyvisor.Event{Type: polyvisor.EventDefined})
	return d, nil
}

// checkLocked checks what only the host knows.
func (h *Hypervisor) checkLocked(config *polyvisor.Config) error {
	for _, v := range config.VCPU {
		if err := h.checkAffinityLocked(v.Affinity); err != nil {
			return err
		}
	}
	return nil
}

// Create starts a transient domain.
func (c *driver) Create(ctx context.Context, config *polyvisor.Config, o polyvisor.StartOptions) (inst polyvisor.Instance, err error) {
	err = c.do(ctx, opCreate, nil, config.Name, func(v *verdict) error {
		f, err := openFiles(config)
		if err != nil {
			return err
		}
		for _, file := range config.Files() {
			nameOpenFile(file.File)
		}
		c.h.mu.Lock()
		defer c.h.unlock()
		d, err := c.h.createLocked(config, o, f, nil, v.halfway())
		if err != nil {
			f.close()
			return err
		}
		inst = &instance{c, d}
		return nil
	})
	return orNil(inst, err)
}

func (h *Hypervisor) createLocked(config *polyvisor.Config, o polyvisor.StartOptions, f *files, from *savedRun, half error) (*domain, error) {
	if err := h.checkLocked(config); err != nil {
		return nil, err
	}
	switch d, err := h.takenLocked(config.Name, config.UUID); {
	case err != nil:
		return nil, err
	case d != nil:
		return nil, fmt.Errorf("%w: domain %q", polyvisor.ErrExists, config.Name)
	case half != nil:
		return nil, half
	}
	d := &domain{h: h, id: config.UUID, name: config.Name}
	h.addLocked(d)
	if err := d.runLocked(config, o, f, from); err != nil {
		h.forgetLocked(d)
		return nil, err
	}
	return d, nil
}

// Lookup finds a domain.
func (c *driver) Lookup(ctx context.Context, key polyvisor.Key) (inst polyvisor.Instance, err error) {
	err = c.do(ctx, opLookup, nil, key.Name, func(*verdict) error {
		c.h.mu.Lock()
		defer c.h.unlock()
		var d *domain
		what := ""
		switch {
		case key.Name != "":
			d, what = c.h.byName[key.Name], fmt.Sprintf("no domain is named %q", key.Name)
		case key.UUID != uuid.Nil:
			d, what = c.h.byUUID[key.UUID], fmt.Sprintf("no domain has UUID %s", key.UUID)
		default:
			d, what = c.h.byID[key.ID], fmt.Sprintf("no active domain has ID %d", key.ID)
		}
		if d == nil {
			return fmt.Errorf("%w: %s", polyvisor.ErrNotFound, what)
		}
		inst = &instance{c, d}
		return nil
	})
	return orNil(inst, err)
}

// List gives all domains.
func (c *driver) List(ctx context.Context) (list []polyvisor.Instance, err error) {
	err = c.do(ctx, opList, nil, "", func(*verdict) error {
		c.h.mu.Lock()
		defer c.h.unlock()
		all := make([]instance, 0, len(c.h.byUUID))
		list = make([]polyvisor.Instance, 0, len(c.h.byUUID))
		for _, d := range c.h.byUUID {
			all = append(all, instance{c, d})
			list = append(list, &all[len(all)-1])
		}
		return nil
	})
	return list, err
}

// orNil keeps a domain back whose making was reported as failed.
func orNil(inst polyvisor.Instance, err error) (polyvisor.Instance, error) {
	if err != nil {
		return nil, err
	}
	return inst, nil
}
