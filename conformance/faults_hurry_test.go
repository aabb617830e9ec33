package conformance_test

import (
	"context"
	"errors"
	"time"

	"github.com/polyvisor/polyvisor"
)

// hurried makes an operation wrong whose context ends soon.
func hurried(op string, f func(c *call) error) func(*call, func() error) error {
	return on(op, func(c *call, next func() error) error {
		if t, ok := c.ctx.Deadline(); !ok || time.Until(t) > 100*time.Millisecond {
			return next()
		}
		return f(c)
	})
}

// halfway makes an operation in a hurry do something else, or too much, and then
// fail as if nothing had been done.
func halfway(op string, f func(ctx context.Context, c *call) error) func(*call, func() error) error {
	return hurried(op, func(c *call) error {
		if err := f(context.Background(), c); err != nil {
			return err
		}
		return context.DeadlineExceeded
	})
}

// hurryFaults are about operations whose context ends.
func hurryFaults() []fault {
	return []fault{
		{name: "a define in a hurry leaves the domain", of: "cancel/define", says: "left: shutoff, the new one; want no domain",
			op: halfway("define", func(ctx context.Context, c *call) error {
				_, err := c.d.Driver.Define(ctx, c.config)
				return err
			})},
		{name: "a redefinition in a hurry loses the old one", of: "cancel/redefine", says: "left: no domain; want shutoff, ",
			op: halfway("define", func(ctx context.Context, c *call) error {
				if old := c.d.byUUID(c.config.UUID); old != nil {
					return old.Undefine(ctx)
				}
				return nil
			})},
		{name: "an undefine in a hurry tells that it has failed", of: "cancel/undefine", says: "left: no domain; want shutoff, ",
			op: halfway("undefine", func(ctx context.Context, c *call) error { return c.inst.Undefine(ctx) })},
		{name: "a restore in a hurry stops halfway", of: "cancel/restore", says: "left: paused, ; want no domain",
			op: halfway("restore", func(ctx context.Context, c *call) error {
				_, err := c.d.Driver.(polyvisor.Restorer).Restore(ctx, c.path, polyvisor.StartOptions{Paused: true})
				return err
			})},
		{name: "a rename in a hurry is half known", of: "cancel/rename", says: "left: hurried of [renamed]; want hurried of [hurried]",
			op: halfway("rename", func(ctx context.Context, c *call) error {
				return c.inst.(polyvisor.Renamer).Rename(ctx, "pvtest-renamed")
			})},
		{name: "labels in a hurry are some of the old ones", of: "cancel/labels", says: "left: a1; want a1b2",
			op: halfway("set labels", func(ctx context.Context, c *call) error {
				return c.inst.(polyvisor.Labeler).SetLabels(ctx, map[string]string{"a": "1"})
			})},
		{name: "memory in a hurry is half of what was asked for", of: "cancel/memory", says: "want +0B by Info, +0B by Config",
			op: halfway("set memory", func(ctx context.Context, c *call) error {
				return c.inst.(polyvisor.MemorySetter).SetMemory(ctx, *c.memory-8*polyvisor.MiB)
			})},
		{name: "vCPUs in a hurry tell that they have failed", of: "cancel/vcpus", says: "left: 2 by Info, 2 by Config; want 1 by Info",
			op: halfway("set vcpus", func(ctx context.Context, c *call) error {
				return c.inst.(polyvisor.VCPUSetter).SetVCPUs(ctx, 2)
			})},
		{name: "an attachment in a hurry tells that it has failed", of: "cancel/attach", says: "left: with it; want without it",
			op: halfway("attach", func(ctx context.Context, c *call) error {
				return c.inst.(polyvisor.DeviceAttacher).AttachDevice(ctx, *c.device)
			})},
		{name: "a detachment in a hurry does nothing and tells success", of: "cancel/detach", says: "gave <nil> and left: with it; want without it",
			op: hurried("detach", func(*call) error { return nil })},
		{name: "a shutdown in a hurry leaves the guest stopped", of: "cancel/shutdown", says: "left: paused",
			op: halfway("shutdown", func(ctx context.Context, c *call) error { return c.inst.(polyvisor.Suspender).Suspend(ctx) })},
		{name: "a reboot in a hurry ends the run", of: "cancel/reboot", says: "left: shutoff, with an ID: false; want running",
			op: halfway("reboot", func(ctx context.Context, c *call) error { return c.inst.Destroy(ctx) })},
		{name: "a console in a hurry is held by nobody", of: "cancel/console", says: "and left: fake: console",
			op: halfway("console", func(ctx context.Context, c *call) error {
				rwc, err := c.inst.(polyvisor.ConsoleOpener).OpenConsole(ctx, polyvisor.ConsoleOptions{})
				if errors.Is(err, polyvisor.ErrBusy) {
					return nil
				}
				if err == nil {
					c.d.h.atEnd(func() { _ = rwc.Close() })
				}
				return err
			})},
	}
}

// refuses refuses an operation on domains in a state.
func refuses(op string, s polyvisor.State, with error) func(*call, func() error) error {
	return on(op, func(c *call, next func() error) error {
		if have, err := c.inst.State(c.ctx); err == nil && have == s {
			return with
		}
		return next()
	})
}

// columnFaults are wrong in one column of the matrix.
func columnFaults() []fault {
	return []fault{
		{name: "no events for those who only read", of: "matrix/connection", says: "Subscribe on a connection that is read-only: permission denied; want ok",
			op: on("subscribe", func(c *call, next func() error) error {
				if c.d.readOnly {
					return polyvisor.ErrPermission
				}
				return next()
			})},
		{name: "what is blocked cannot be suspended", of: "matrix/blocked", says: "Suspend of a domain that is blocked",
			op: refuses("suspend", polyvisor.Blocked, polyvisor.ErrInvalidState)},
		{name: "the console of what shuts down is busy", of: "matrix/in-shutdown", says: "Console of a domain that is in shutdown",
			op: refuses("console", polyvisor.ShuttingDown, polyvisor.ErrBusy)},
		{name: "what is preserved cannot be dumped", of: "matrix/crashed-preserved", says: "CoreDump of a domain that is crashed-preserved",
			op: refuses("core dump", polyvisor.Crashed, polyvisor.ErrNoResource)},
	}
}
