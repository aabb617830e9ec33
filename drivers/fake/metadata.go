package fake

import (
	"context"
	"fmt"
	"maps"

	"github.com/polyvisor/polyvisor"
)

// SetLabels replaces the labels.
func (i *instance) SetLabels(ctx context.Context, labels map[string]string) error {
	return i.do(ctx, opSetLabels, func(d *domain) error {
		d.editAllLocked(func(c *polyvisor.Config) { c.Labels = maps.Clone(labels) })
		d.h.tellLocked(d, polyvisor.Event{Type: polyvisor.EventLabels})
		return nil
	})
}

// SetAutostart says whether the domain starts with the host; see
// Hypervisor.RestartHost.
func (i *instance) SetAutostart(ctx context.Context, on bool) error {
	return i.do(ctx, opSetAutostart, func(d *domain) error {
		if d.def == nil {
			return fmt.Errorf("%w: a transient domain has no definition to start with the host", polyvisor.ErrInvalidState)
		}
		d.editAllLocked(func(c *polyvisor.Config) { c.Autostart = on })
		d.h.tellLocked(d, polyvisor.Event{Type: polyvisor.EventLabels})
		return nil
	})
}

// Rename renames an inactive domain.
func (i *instance) Rename(ctx context.Context, name string) error {
	return i.do(ctx, opRename, func(d *domain) error {
		if err := d.demandLocked(polyvisor.OpRename); err != nil {
			return err
		}
		if other := d.h.byName[name]; other != nil && other != d {
			return fmt.Errorf("%w: a domain named %q", polyvisor.ErrExists, name)
		}
		delete(d.h.byName, d.name)
		d.name = name
		d.h.byName[name] = d
		edit(&d.def, func(c *polyvisor.Config) { c.Name = name })
		d.h.tellLocked(d, polyvisor.Event{Type: polyvisor.EventRenamed})
		return nil
	})
}
