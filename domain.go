package polyvisor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/google/uuid"
)

// Domain is a reference to one virtual machine on a connection. Any number of
// references may exist; a domain lives and ends independently of them, so there
// is nothing to free. It is safe for concurrent use.
//
// Operations that change it run one at a time for a domain of a connection; a
// further one waits for its turn as long as its context allows. Destroy, and
// what only asks, do not wait: Destroy aborts a Start that hangs.
type Domain struct {
	conn *Conn
	inst Instance
	// Asked for once: a handle outlives its connection. Rename changes the name.
	name  atomic.Pointer[string]
	found string // what it points to at first
	id    uuid.UUID
}

func (c *Conn) domain(inst Instance) *Domain {
	d := &Domain{conn: c, inst: inst, id: inst.UUID()}
	d.found = inst.Name()
	d.name.Store(&d.found)
	return d
}

// Name is the domain's name: the one it was found by, or has by Rename through
// this reference.
func (d *Domain) Name() string { return *d.name.Load() }

// UUID is the domain's UUID.
func (d *Domain) UUID() uuid.UUID { return d.id }

// Conn is the connection that the domain was found on.
func (d *Domain) Conn() *Conn { return d.conn }

// OSType is how the guest sees the hypervisor (virDomainGetOSType).
func (d *Domain) OSType() string { return d.conn.caps.OSType }

// read runs a call that changes nothing.
func (d *Domain) read(ctx context.Context, op string, f func(ctx context.Context) error) error {
	return d.conn.call(ctx, op, d.Name(), f)
}

// change is the one path of every operation that changes a domain: open?
// declared? offered? are the arguments right? is it allowed on this connection?
// Then the domain's turn, its state, the transition table where that rules the
// operation, and the driver. f is told whether the domain is active.
func change[T any](ctx context.Context, d *Domain, op Op, need Feature, args error, f func(ctx context.Context, i T, active bool) error) error {
	return d.conn.call(ctx, string(op), d.Name(), func(ctx context.Context) error {
		return perform(ctx, d, op, need, args, f)
	})
}

// perform is change inside a call.
func perform[T any](ctx context.Context, d *Domain, op Op, need Feature, args error, f func(ctx context.Context, i T, active bool) error) error {
	i, err := offered[T](d.conn, d.inst, need)
	if err != nil {
		return err
	}
	if args != nil {
		return args
	}
	if err := d.permitted(op); err != nil {
		return err
	}
	s, err := d.conn.acquire(ctx, d.id)
	if err != nil {
		return err
	}
	defer d.conn.release(s)
	active, err := d.legal(ctx, op)
	if err != nil {
		return err
	}
	return f(ctx, i, active)
}

// permitted checks whether the connection allows the operation.
func (d *Domain) permitted(op Op) error {
	if err := d.conn.writable(); err != nil {
		return err
	}
	return d.conn.early.permits(op, d.id)
}

// legal asks for the domain's state, checks it against the table and tells
// whether the domain is active.
func (d *Domain) legal(ctx context.Context, op Op) (active bool, err error) {
	state, err := d.inst.State(ctx)
	if err != nil {
		return false, err
	}
	from, ruled := Transitions[op]
	if ruled {
		if err := checkState(op, state); err != nil {
			return false, err
		}
	}
	active, err = isActive(ctx, d.inst, state)
	if err != nil || !ruled || state != Crashed {
		return active, err
	}
	// What is legal in state Crashed may still need what crashed to be kept, or
	// to be gone.
	switch {
	case active && !slices.Contains(from.From, Running):
		return active, fmt.Errorf("%w: what crashed is preserved; destroy the domain first", ErrInvalidState)
	case !active && !slices.Contains(from.From, Shutoff) && op != OpDestroy:
		return active, fmt.Errorf("%w: the domain has crashed and nothing of it is kept; on_crash %q would keep it", ErrInvalidState, ActionPreserve)
	}
	return active, nil
}

// isActive tells whether a domain in the given state is active. Of a crashed
// one its ID tells: it has one if it is preserved.
func isActive(ctx context.Context, inst Instance, s State) (bool, error) {
	if s != Crashed {
		return s.Active(), nil
	}
	i, err := inst.Info(ctx)
	return i.ID > 0, err
}

// State asks the hypervisor for the state. ErrNotFound if the domain is gone.
func (d *Domain) State(ctx context.Context) (State, error) {
	var s State
	err := d.read(ctx, "state", func(ctx context.Context) (err error) {
		s, err = d.inst.State(ctx)
		return err
	})
	return s, err
}

// Info gives state, memory, vCPUs and CPU time (virDomainGetInfo).
func (d *Domain) Info(ctx context.Context) (Info, error) {
	var i Info
	err := d.read(ctx, "info", func(ctx context.Context) (err error) {
		i, err = d.inst.Info(ctx)
		return err
	})
	return i, err
}

// ID is the number of an active domain (virDomainGetID); ErrInvalidState if
// the domain is not active.
func (d *Domain) ID(ctx context.Context) (int, error) {
	var id int
	err := d.read(ctx, "id", func(ctx context.Context) error {
		i, err := d.inst.Info(ctx)
		if err != nil {
			return err
		}
		if i.ID < 1 {
			return fmt.Errorf("%w: domain is %s and only active domains have an ID", ErrInvalidState, i.State)
		}
		id = i.ID
		return nil
	})
	return id, err
}

// Config gives a copy of the domain's definition with all defaults filled in.
// An active domain tells the one it runs with.
func (d *Domain) Config(ctx context.Context) (*Config, error) {
	var c *Config
	err := d.read(ctx, "config", func(ctx context.Context) error {
		config, err := d.inst.Config(ctx)
		if err == nil {
			c = config.Clone()
		}
		return err
	})
	return c, err
}

// Start runs an inactive domain (virDomainCreate, AVirtualMachine_start). It
// returns when the guest is free to execute. ctx bounds the start, never the
// run: if it ends before, the start is undone. ErrNoResource if the domain has
// no memory (SetMemory with 0).
func (d *Domain) Start(ctx context.Context, opts ...StartOption) error {
	o := startOptions(opts)
	return change(ctx, d, OpStart, o.need(), nil, func(ctx context.Context, i Instance, _ bool) error {
		i, err := d.conn.describedEarly(ctx, d.id, i)
		if err != nil {
			return err
		}
		if err := d.hasMemory(ctx, i); err != nil {
			return err
		}
		return d.conn.abortable(ctx, d.id, func(ctx context.Context) error {
			if err := i.Start(ctx, o); err != nil {
				return err
			}
			return d.conn.startedAsDescribed(ctx, d.id, i)
		})
	})
}

// hasMemory refuses to start a domain whose memory was taken away.
func (d *Domain) hasMemory(ctx context.Context, inst Instance) error {
	if !d.conn.caps.Has(FeatureMemory) {
		return nil
	}
	i, err := inst.Info(ctx)
	if err == nil && i.Memory == 0 {
		err = fmt.Errorf("%w: the domain has no memory; give it some with SetMemory", ErrNoResource)
	}
	return err
}

// Suspend stops the vCPUs (virDomainSuspend). It returns when none executes
// guest code any more; memory and devices stay as they are.
func (d *Domain) Suspend(ctx context.Context) error {
	return change(ctx, d, OpSuspend, FeatureSuspend, nil, func(ctx context.Context, i Suspender, _ bool) error {
		return i.Suspend(ctx)
	})
}

// Resume continues a suspended domain (virDomainResume).
func (d *Domain) Resume(ctx context.Context) error {
	return change(ctx, d, OpResume, FeatureSuspend, nil, func(ctx context.Context, i Suspender, _ bool) error {
		return i.Resume(ctx)
	})
}

// Shutdown asks the guest to power itself off, as a power button does
// (virDomainShutdown). It returns when the guest has been asked; the guest may
// take its time or ignore it: use Wait to see it stop and Destroy to insist.
func (d *Domain) Shutdown(ctx context.Context) error {
	return change(ctx, d, OpShutdown, FeatureShutdown, nil, func(ctx context.Context, i Shutdowner, _ bool) error {
		return i.Shutdown(ctx)
	})
}

// Reboot asks the guest to stop and starts it afresh when it has
// (virDomainReboot). It returns when the guest has been asked, and the guest
// may ignore it. The domain stays active throughout, unless its
// Config.OnReboot says otherwise.
func (d *Domain) Reboot(ctx context.Context) error {
	return change(ctx, d, OpReboot, FeatureReboot, nil, func(ctx context.Context, i Rebooter, _ bool) error {
		return i.Reboot(ctx)
	})
}

// Destroy stops the domain at once, like pulling the plug (virDomainDestroy,
// AVirtualMachine_stop). It does not wait for other operations: a Start under
// way on this connection is aborted. The guest is not told; what it has not
// written to its disks is lost.
func (d *Domain) Destroy(ctx context.Context) error {
	return d.conn.call(ctx, string(OpDestroy), d.Name(), func(ctx context.Context) error {
		if err := d.permitted(OpDestroy); err != nil {
			return err
		}
		aborted, err := d.conn.abortStart(ctx, d.UUID())
		if err != nil {
			return err
		}
		state, err := d.inst.State(ctx)
		if aborted && (errors.Is(err, ErrNotFound) || err == nil && !state.Active()) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := checkState(OpDestroy, state); err != nil {
			return err
		}
		return d.inst.Destroy(ctx)
	})
}

// Undefine removes the domain's definition (virDomainUndefine). It does not
// stop a running domain: that becomes transient and is gone when it stops.
// ErrInvalidState if the domain is transient already.
func (d *Domain) Undefine(ctx context.Context) error {
	return change(ctx, d, OpUndefine, "", nil, func(ctx context.Context, i Instance, _ bool) error {
		return i.Undefine(ctx)
	})
}

// Remove destroys the domain if it is active and removes its definition if it
// has one: afterwards it is gone (destroy_vm, AVirtualMachine_destroy).
func (d *Domain) Remove(ctx context.Context) error {
	// Before anything is destroyed.
	if err := d.read(ctx, "remove", func(context.Context) error { return d.permitted(OpUndefine) }); err != nil {
		return err
	}
	if err := d.Destroy(ctx); err != nil && !errors.Is(err, ErrInvalidState) {
		return err
	}
	err := d.Undefine(ctx)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// Wait returns when the domain is inactive, with the end of its last run
// (AVirtualMachine_waitForStop). Any number of callers may wait, also after the
// end. ErrInvalidState if the domain has never run. Bound the time with ctx.
func (d *Domain) Wait(ctx context.Context) (Stop, error) {
	var s Stop
	err := d.read(ctx, "wait", func(ctx context.Context) (err error) {
		s, err = d.inst.Wait(ctx)
		return err
	})
	return s, err
}
