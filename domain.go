package polyvisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/google/uuid"
)

// Domain is a reference to one virtual machine on a connection. Any number of
// references may exist; a domain lives and ends independently of them, so there
// is nothing to free. It is safe for concurrent use.
//
// Operations that change the state run one at a time for a domain of a
// connection; a further one waits for its turn as long as its context allows.
// Destroy, State and Wait do not wait: Destroy aborts a Start that hangs.
type Domain struct {
	conn *Conn
	inst Instance
	// Constant, and asked for once: a handle outlives its connection.
	name atomic.Pointer[string] // changed by Rename alone
	id   uuid.UUID
}

func (c *Conn) domain(inst Instance) *Domain {
	d := &Domain{conn: c, inst: inst, id: inst.UUID()}
	name := inst.Name()
	d.name.Store(&name)
	return d
}

// Name is the domain's name.
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

// operate is the one path of every operation that the transition table rules:
// open? declared? writable? then the domain's turn, its state, the table, the driver.
func (d *Domain) operate(ctx context.Context, op Op, need Feature, f func(ctx context.Context, s *slot) error) error {
	return d.conn.call(ctx, string(op), d.Name(), func(ctx context.Context) error {
		if err := d.admit(need); err != nil {
			return err
		}
		s, err := d.conn.acquire(ctx, d.UUID())
		if err != nil {
			return err
		}
		defer d.conn.release(s)
		state, err := d.inst.State(ctx)
		if err != nil {
			return err
		}
		if err := checkState(op, state); err != nil {
			return err
		}
		return f(ctx, s)
	})
}

func (d *Domain) admit(need Feature) error {
	if err := d.conn.need(need); err != nil {
		return err
	}
	return d.conn.writable()
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
		if !i.State.Active() {
			return fmt.Errorf("%w: domain is %s and only active domains have an ID", ErrInvalidState, i.State)
		}
		id = i.ID
		return nil
	})
	return id, err
}

// Config gives the domain's definition with all defaults filled in. An active
// domain tells the one it runs with.
func (d *Domain) Config(ctx context.Context) (*Config, error) {
	var c *Config
	err := d.read(ctx, "config", func(ctx context.Context) (err error) {
		c, err = d.inst.Config(ctx)
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
	return d.operate(ctx, OpStart, o.need(), func(ctx context.Context, s *slot) error {
		if err := d.hasMemory(ctx); err != nil {
			return err
		}
		return d.conn.abortable(ctx, s, func(ctx context.Context) error { return d.inst.Start(ctx, o) })
	})
}

// hasMemory refuses to start a domain whose memory was taken away.
func (d *Domain) hasMemory(ctx context.Context) error {
	if !d.conn.caps.Has(FeatureMemory) {
		return nil
	}
	i, err := d.inst.Info(ctx)
	if err == nil && i.Memory == 0 {
		err = fmt.Errorf("%w: the domain has no memory; give it some with SetMemory", ErrNoResource)
	}
	return err
}

// Suspend stops the vCPUs (virDomainSuspend). It returns when none executes
// guest code any more; memory and devices stay as they are.
func (d *Domain) Suspend(ctx context.Context) error {
	return d.operate(ctx, OpSuspend, FeatureSuspend, func(ctx context.Context, _ *slot) error {
		i, ok := As[Suspender](d.inst)
		if !ok {
			return d.conn.missing(FeatureSuspend)
		}
		return i.Suspend(ctx)
	})
}

// Resume continues a suspended domain (virDomainResume).
func (d *Domain) Resume(ctx context.Context) error {
	return d.operate(ctx, OpResume, FeatureSuspend, func(ctx context.Context, _ *slot) error {
		i, ok := As[Suspender](d.inst)
		if !ok {
			return d.conn.missing(FeatureSuspend)
		}
		return i.Resume(ctx)
	})
}

// Shutdown asks the guest to power itself off, as a power button does
// (virDomainShutdown). It returns when the guest has been asked; the guest may
// take its time or ignore it: use Wait to see it stop and Destroy to insist.
func (d *Domain) Shutdown(ctx context.Context) error {
	return d.operate(ctx, OpShutdown, FeatureShutdown, func(ctx context.Context, _ *slot) error {
		i, ok := As[Shutdowner](d.inst)
		if !ok {
			return d.conn.missing(FeatureShutdown)
		}
		return i.Shutdown(ctx)
	})
}

// Reboot asks the guest to stop and starts it afresh when it has
// (virDomainReboot). It returns when the guest has been asked, and the guest
// may ignore it. The domain stays active throughout, unless its
// Config.OnReboot says otherwise.
func (d *Domain) Reboot(ctx context.Context) error {
	return d.operate(ctx, OpReboot, FeatureReboot, func(ctx context.Context, _ *slot) error {
		i, ok := As[Rebooter](d.inst)
		if !ok {
			return d.conn.missing(FeatureReboot)
		}
		return i.Reboot(ctx)
	})
}

// Destroy stops the domain at once, like pulling the plug (virDomainDestroy,
// AVirtualMachine_stop). It does not wait for other operations: a Start under
// way on this connection is aborted. The guest is not told; what it has not
// written to its disks is lost.
func (d *Domain) Destroy(ctx context.Context) error {
	return d.conn.call(ctx, string(OpDestroy), d.Name(), func(ctx context.Context) error {
		if err := d.conn.writable(); err != nil {
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
	return d.operate(ctx, OpUndefine, "", func(ctx context.Context, _ *slot) error {
		return d.inst.Undefine(ctx)
	})
}

// Remove destroys the domain if it is active and removes its definition if it
// has one: afterwards it is gone (destroy_vm, AVirtualMachine_destroy).
func (d *Domain) Remove(ctx context.Context) error {
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

// Console opens the domain's first serial port. What the guest printed before
// is read first, as far as it is kept. One owner at a time: ErrBusy if the
// console is in use and Force is not set. Read gives io.EOF when the domain
// stops, and an error that matches ErrBusy when the console was taken over. The
// caller closes it; closing the Conn closes it too.
func (d *Domain) Console(ctx context.Context, o ConsoleOptions) (io.ReadWriteCloser, error) {
	var con *console
	err := d.operate(ctx, OpConsole, FeatureConsole, func(ctx context.Context, _ *slot) error {
		i, ok := As[ConsoleOpener](d.inst)
		if !ok {
			return d.conn.missing(FeatureConsole)
		}
		rwc, err := i.OpenConsole(ctx, o)
		if err != nil {
			return err
		}
		con = &console{ReadWriteCloser: rwc, conn: d.conn}
		if !d.conn.track(con) {
			_ = rwc.Close()
			return ErrClosed
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return con, nil
}
