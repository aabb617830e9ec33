package fake

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/polyvisor/polyvisor"
)

// instance refers to a domain on a connection.
type instance struct {
	c *driver
	d *domain
}

func (i *instance) Name() string {
	i.c.h.mu.Lock()
	defer i.c.h.unlock()
	return i.d.name
}

func (i *instance) UUID() uuid.UUID { return i.d.id }

// domainLocked gives the domain, or ErrNotFound if it is gone. One that came
// again under its UUID, as by Restore, is the same.
func (i *instance) domainLocked() (*domain, error) {
	if !i.d.gone {
		return i.d, nil
	}
	if d := i.c.h.byUUID[i.d.id]; d != nil {
		return d, nil
	}
	return nil, fmt.Errorf("%w: domain %q is gone", polyvisor.ErrNotFound, i.d.name)
}

// do runs a call on the domain, under the hypervisor's lock.
func (i *instance) do(ctx context.Context, op operation, f func(*domain) error) error {
	return i.c.do(ctx, op, i.d, "", func(v *verdict) error {
		if err := v.halfway(); err != nil {
			return err
		}
		i.c.h.mu.Lock()
		defer i.c.h.unlock()
		d, err := i.domainLocked()
		if err != nil {
			return err
		}
		return f(d)
	})
}

func (i *instance) State(ctx context.Context) (s polyvisor.State, err error) {
	err = i.do(ctx, opState, func(d *domain) error {
		s = d.stateLocked()
		return nil
	})
	return s, err
}

func (i *instance) Info(ctx context.Context) (info polyvisor.Info, err error) {
	err = i.do(ctx, opInfo, func(d *domain) error {
		info = d.infoLocked()
		return nil
	})
	return info, err
}

func (i *instance) Config(ctx context.Context) (c *polyvisor.Config, err error) {
	err = i.do(ctx, opConfig, func(d *domain) error {
		c = d.configLocked()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return c.Clone(), nil // what c points to is never changed
}

func (i *instance) Start(ctx context.Context, o polyvisor.StartOptions) error {
	return i.c.do(ctx, opStart, i.d, "", func(v *verdict) error {
		i.c.h.mu.Lock()
		d, err := i.domainLocked()
		i.c.h.unlock()
		if err != nil {
			return err
		}
		return d.start(v.halfway(), o)
	})
}

func (i *instance) Destroy(ctx context.Context) error {
	return i.do(ctx, opDestroy, func(d *domain) error {
		if err := d.demandLocked(polyvisor.OpDestroy); err != nil {
			return err
		}
		d.destroyLocked()
		return nil
	})
}

func (i *instance) Undefine(ctx context.Context) error {
	return i.do(ctx, opUndefine, func(d *domain) error {
		if d.def == nil {
			return fmt.Errorf("%w: the domain is transient and has no definition", polyvisor.ErrInvalidState)
		}
		d.undefineLocked()
		return nil
	})
}

func (i *instance) Suspend(ctx context.Context) error {
	return i.do(ctx, opSuspend, func(d *domain) error {
		if err := d.demandLocked(polyvisor.OpSuspend); err != nil {
			return err
		}
		d.run.setStateLocked(polyvisor.Paused)
		d.h.tellLocked(d, polyvisor.Event{Type: polyvisor.EventSuspended})
		return nil
	})
}

func (i *instance) Resume(ctx context.Context) error {
	return i.do(ctx, opResume, func(d *domain) error {
		if err := d.demandLocked(polyvisor.OpResume); err != nil {
			return err
		}
		r := d.run
		r.setStateLocked(r.awakeLocked())
		d.h.tellLocked(d, polyvisor.Event{Type: polyvisor.EventResumed})
		r.wakeLocked()
		return nil
	})
}

func (i *instance) Shutdown(ctx context.Context) error {
	return i.do(ctx, opShutdown, func(d *domain) error {
		if err := d.demandLocked(polyvisor.OpShutdown); err != nil {
			return err
		}
		d.run.guestLocked().pressLocked(buttonOff)
		return nil
	})
}

func (i *instance) Reboot(ctx context.Context) error {
	return i.do(ctx, opReboot, func(d *domain) error {
		if err := d.demandLocked(polyvisor.OpReboot); err != nil {
			return err
		}
		d.run.guestLocked().pressLocked(buttonReboot)
		return nil
	})
}

// Wait returns when the domain is inactive.
func (i *instance) Wait(ctx context.Context) (stop polyvisor.Stop, err error) {
	err = i.c.do(ctx, opWait, i.d, "", func(*verdict) error {
		h := i.c.h
		h.mu.Lock()
		d := i.d
		if again := h.byUUID[d.id]; d.gone && again != nil {
			d = again
		}
		if d.run == nil {
			stop = d.last
			ran, gone := d.ran, d.gone
			h.unlock()
			switch {
			case ran:
				return nil
			case gone:
				return fmt.Errorf("%w: domain %q is gone", polyvisor.ErrNotFound, i.d.name)
			}
			return fmt.Errorf("%w: the domain has never run", polyvisor.ErrInvalidState)
		}
		if d.waiters == nil {
			d.waiters = &waiters{done: make(chan struct{})}
		}
		w := d.waiters
		h.unlock()
		select {
		case <-w.done:
			stop = w.stop
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	return stop, err
}

// Every ability there is.
var (
	_ polyvisor.Instance       = (*instance)(nil)
	_ polyvisor.Suspender      = (*instance)(nil)
	_ polyvisor.Shutdowner     = (*instance)(nil)
	_ polyvisor.Rebooter       = (*instance)(nil)
	_ polyvisor.ConsoleOpener  = (*instance)(nil)
	_ polyvisor.Vsocker        = (*instance)(nil)
	_ polyvisor.Execer         = (*instance)(nil)
	_ polyvisor.Saver          = (*instance)(nil)
	_ polyvisor.CoreDumper     = (*instance)(nil)
	_ polyvisor.MemorySetter   = (*instance)(nil)
	_ polyvisor.VCPUSetter     = (*instance)(nil)
	_ polyvisor.VCPULister     = (*instance)(nil)
	_ polyvisor.VCPUPinner     = (*instance)(nil)
	_ polyvisor.VCPUConfigurer = (*instance)(nil)
	_ polyvisor.DeviceAttacher = (*instance)(nil)
	_ polyvisor.Labeler        = (*instance)(nil)
	_ polyvisor.Autostarter    = (*instance)(nil)
	_ polyvisor.Renamer        = (*instance)(nil)
	_ polyvisor.StatsReader    = (*instance)(nil)

	_ polyvisor.Driver          = (*driver)(nil)
	_ polyvisor.Restorer        = (*driver)(nil)
	_ polyvisor.XMLCodec        = (*driver)(nil)
	_ polyvisor.BulkStatsReader = (*driver)(nil)
	_ polyvisor.EventSource     = (*driver)(nil)
)
