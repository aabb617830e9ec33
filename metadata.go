package polyvisor

import (
	"context"
	"errors"
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

// SetLabels replaces all labels, at once also for an active domain; the map
// stays the caller's. Keys are 1 to 63 letters, digits, '.', '-', '_' or '/',
// values at most 4096 bytes, and there are at most 64.
func (d *Domain) SetLabels(ctx context.Context, labels map[string]string) error {
	labels = maps.Clone(labels)
	var p problems
	p.labels(labels)
	return change(ctx, d, "set labels", FeatureLabels, p.err(), func(ctx context.Context, i Labeler, _ bool) error {
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
	return change(ctx, d, "set autostart", FeatureAutostart, nil, func(ctx context.Context, i Autostarter, _ bool) error {
		return i.SetAutostart(ctx, on)
	})
}

// Rename gives an inactive domain another name; its UUID stays. This reference
// and those looked up later have the new name, other references keep the old
// one as what Name tells. ErrExists if the name is taken.
func (d *Domain) Rename(ctx context.Context, name string) error {
	args := CheckName(name)
	if args != nil {
		args = badArg("name: %w", args)
	}
	return change(ctx, d, OpRename, FeatureRename, args, func(ctx context.Context, i Renamer, _ bool) error {
		err := i.Rename(ctx, name)
		if err == nil {
			d.name.Store(&name)
		}
		return err
	})
}

// SetState takes the domain to a state by the operations of the Transitions
// table (set_vm_state): Running by Start or Resume, Paused by Suspend or by
// Start with StartPaused, Shutoff by Destroy, and ShuttingDown by Shutdown, when
// the guest has been asked. A domain that is in the state already stays as it
// is, also if it came there while this call was under way. NoState, Blocked and
// Crashed cannot be asked for. Errors are those of the operation.
func (d *Domain) SetState(ctx context.Context, want State) error {
	err := d.read(ctx, "set state", func(context.Context) error {
		switch want {
		case Running, Paused, ShuttingDown, Shutoff:
			return d.conn.writable()
		}
		return badArg("a domain cannot be made %s; want running, paused, in shutdown or shutoff", want)
	})
	if err != nil {
		return err
	}
	have, err := d.State(ctx)
	if err != nil || is(have, want) {
		return err
	}
	err = d.step(ctx, have, want)
	if !errors.Is(err, ErrInvalidState) {
		return err
	}
	if have, again := d.State(ctx); again == nil && is(have, want) {
		return nil
	}
	return err
}

// is tells whether a domain has the state that was asked for.
func is(have, want State) bool { return have == want || have == Blocked && want == Running }

// step takes the operation that leads to the state.
func (d *Domain) step(ctx context.Context, have, want State) error {
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
