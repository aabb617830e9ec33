package polyvisor

import (
	"context"
	"maps"
)

// Labels gives the domain's labels, a copy.
func (d *Domain) Labels(ctx context.Context) (map[string]string, error) {
	c, err := d.Config(ctx)
	if err != nil {
		return nil, err
	}
	return c.Labels, nil
}

// SetLabels replaces all labels, at once also for an active domain. Keys are 1
// to 63 letters, digits, '.', '-', '_' or '/', values at most 4096 bytes.
func (d *Domain) SetLabels(ctx context.Context, labels map[string]string) error {
	labels = maps.Clone(labels)
	return change(ctx, d, "set labels", FeatureLabels, func(ctx context.Context, i Labeler, _ State) error {
		var p problems
		p.labels(labels)
		if err := p.err(); err != nil {
			return err
		}
		return i.SetLabels(ctx, labels)
	})
}

// Autostart tells whether the domain is to be started with the host.
func (d *Domain) Autostart(ctx context.Context) (bool, error) {
	c, err := d.Config(ctx)
	if err != nil {
		return false, err
	}
	return c.Autostart, nil
}

// SetAutostart says whether the domain is to be started with the host.
// ErrInvalidState for a transient domain.
func (d *Domain) SetAutostart(ctx context.Context, on bool) error {
	return change(ctx, d, "set autostart", FeatureAutostart, func(ctx context.Context, i Autostarter, _ State) error {
		return i.SetAutostart(ctx, on)
	})
}

// Rename gives an inactive domain another name; its UUID stays. This reference
// and those looked up later have the new name, other references keep the old
// one as what Name tells. ErrExists if the name is taken.
func (d *Domain) Rename(ctx context.Context, name string) error {
	return d.operate(ctx, OpRename, FeatureRename, func(ctx context.Context, _ *slot) error {
		i, ok := As[Renamer](d.inst)
		if !ok {
			return d.conn.missing(FeatureRename)
		}
		if err := CheckName(name); err != nil {
			return badArg("name: %w", err)
		}
		if err := i.Rename(ctx, name); err != nil {
			return err
		}
		d.name.Store(&name)
		return nil
	})
}

// SetState takes the domain to a state by the operations of the Transitions
// table (set_vm_state): Running by Start or Resume, Paused by Suspend or by
// Start with StartPaused, Shutoff by Destroy, and ShuttingDown by Shutdown, when
// the guest has been asked. A domain that is in the state already stays as it
// is. NoState, Blocked and Crashed cannot be asked for.
func (d *Domain) SetState(ctx context.Context, want State) error {
	const op = "set state"
	if err := d.conn.call(ctx, op, d.Name(), func(context.Context) error {
		switch want {
		case Running, Paused, ShuttingDown, Shutoff:
			return d.conn.writable()
		}
		return badArg("a domain cannot be made %s; want running, paused, in shutdown or shutoff", want)
	}); err != nil {
		return err
	}
	have, err := d.State(ctx)
	if err != nil || have == want || have == Blocked && want == Running {
		return err
	}
	switch {
	case want == Shutoff:
		return d.Destroy(ctx)
	case want == ShuttingDown:
		return d.Shutdown(ctx)
	case !have.Active() && want == Running:
		return d.Start(ctx)
	case !have.Active():
		return d.Start(ctx, StartPaused())
	case want == Running:
		return d.Resume(ctx)
	}
	return d.Suspend(ctx)
}
