package conformance

import (
	"context"
	"time"

	"github.com/polyvisor/polyvisor"
)

func lifecycleCases() []Case {
	return []Case{
		{
			Name: "life/persistent",
			Rule: "A defined domain is inactive; Start runs it, beyond the end of the context that it was started with. Start of an active domain fails with ErrInvalidState and leaves the run alone. Destroy stops it at once, and it can be started again; Undefine removes it, and nothing finds it then.",
			Seeds: []string{"virDomainDefineXML", "virDomainCreate", "virDomainDestroy", "virDomainUndefine", "create_vm", "destroy_vm", "get_vm_state",
				"AVirtualMachineRawConfig_create", "AVirtualMachineRawConfig_destroy", "AVirtualMachineRawConfig_setName",
				"AVirtualMachine_start", "AVirtualMachine_stop", "AVirtualMachine_destroy", "AVirtualMachine", "VM_SUCCESS", "VM_ERR_INVALID_STATE", "VIR_DOMAIN_RUNNING", "VIR_DOMAIN_SHUTOFF"},
			Run: lifePersistent,
		},
		{
			Name:     "life/transient",
			Features: []polyvisor.Feature{polyvisor.FeatureTransient},
			Rule:     "A created domain runs without a definition and is gone when it stops; its name and UUID are free again. It cannot be undefined or started.",
			Seeds:    []string{"virDomainCreateLinux", "VIR_DOMAIN_NONE", "virDomainCreateFlags", "AVirtualMachine_createRaw"},
			Run:      lifeTransient,
		},
		{
			Name:     "life/transient-to-persistent",
			Features: []polyvisor.Feature{polyvisor.FeatureTransient},
			Rule:     "Define with the name and UUID of a running transient domain makes it persistent without disturbing the run: it stays when it stops.",
			Seeds:    []string{"virDomainDefineXML"},
			Run: func(c *C) {
				d := c.create("turning")
				id := c.info(d).ID
				_, err := c.conn.Define(c.ctx, c.configOf(d))
				c.ok(err, "define the running transient domain")
				c.persistent(d, true, "Define")
				c.check(c.info(d).ID == id, "Define changed the ID of the run")
				c.ok(d.Destroy(c.ctx), "destroy")
				c.state(d, polyvisor.Shutoff, "destroy")
				c.ok(d.Start(c.ctx), "start again")
			},
		},
		{
			Name:  "life/persistent-to-transient",
			Rule:  "Undefine does not stop a running domain: it becomes transient, runs on with its ID, and is gone when it stops. A second Undefine fails with ErrInvalidState.",
			Seeds: []string{"virDomainUndefine"},
			Run: func(c *C) {
				d := c.started("turning")
				id := c.info(d).ID
				c.ok(d.Undefine(c.ctx), "undefine")
				c.state(d, polyvisor.Running, "undefine")
				c.persistent(d, false, "undefine")
				c.check(c.info(d).ID == id, "Undefine changed the ID of the run")
				c.fails(d.Undefine(c.ctx), "undefine of a transient domain", polyvisor.CodeInvalidState)
				c.ok(d.Destroy(c.ctx), "destroy")
				c.gone(d, "destroy")
			},
		},
		{
			Name:  "life/redefine",
			Rule:  "Define with the name and UUID of a domain replaces its definition. A running guest does not notice: Config, Info and what the guest sees are those of the run until it is started again.",
			Seeds: []string{"virDomainDefineXML"},
			Run:   lifeRedefine,
		},
		{
			Name:     "life/suspend-resume",
			Features: []polyvisor.Feature{polyvisor.FeatureSuspend},
			Rule:     "Suspend returns when no guest code is executed any more: the domain is paused and silent and uses no CPU time. Resume continues it where it was.",
			Seeds:    []string{"virDomainSuspend", "virDomainResume", "VIR_DOMAIN_PAUSED"},
			Run:      lifeSuspend,
		},
		{
			Name:     "life/start-paused",
			Features: []polyvisor.Feature{polyvisor.FeatureSuspend},
			Rule:     "A domain started with StartPaused is paused, and its guest has not executed anything until Resume.",
			Seeds:    []string{"virDomainCreate", "virDomainResume"},
			Run:      lifeStartPaused,
		},
		{
			Name:     "life/shutdown",
			Features: []polyvisor.Feature{polyvisor.FeatureShutdown, polyvisor.FeatureConsole},
			Talks:    true,
			Rule:     "Shutdown asks the guest, which powers itself off: the domain is shut off and the reason of its stop is shutdown.",
			Seeds:    []string{"virDomainShutdown", "AVIRTUAL_MACHINE_SHUTDOWN", "AVirtualMachine_waitForStop"},
			Run: func(c *C) {
				d := c.started("asked")
				c.talk(d)
				c.ok(d.Shutdown(c.ctx), "shutdown")
				c.stopped(d, polyvisor.StopShutdown)
				c.state(d, polyvisor.Shutoff, "shutdown")
				c.persistent(d, true, "shutdown")
			},
		},
		{
			Name:     "life/reboot",
			Features: []polyvisor.Feature{polyvisor.FeatureReboot, polyvisor.FeatureConsole},
			Talks:    true,
			Rule:     "Reboot asks the guest to stop and starts it afresh; the domain stays active all the time and keeps its ID and its console.",
			Seeds:    []string{"virDomainReboot", "VIR_DOMAIN_RESTART"},
			Run: func(c *C) {
				d := c.started("again")
				t := c.talk(d)
				id := c.info(d).ID
				c.ok(d.Reboot(c.ctx), "reboot")
				t.await(c.h.Guest.Prompt)
				c.check(c.info(d).ID == id, "the ID was %d and is %d", id, c.info(d).ID)
				c.state(d, polyvisor.Running, "reboot")
			},
		},
		{
			Name:     "life/crash",
			Features: []polyvisor.Feature{polyvisor.FeatureConsole},
			Talks:    true,
			Rule:     "A guest that crashes leaves its domain crashed, with that reason; the domain can be started again, and Destroy only makes it shut off.",
			Seeds:    []string{"VIR_DOMAIN_CRASHED", "AVIRTUAL_MACHINE_CRASH", "VIR_DOMAIN_DESTROY"},
			Run:      lifeCrash,
		},
		{
			Name:  "life/destroy",
			Rule:  "Destroy returns when the domain is inactive, and its stop reason is killed. Destroy of an inactive domain fails with ErrInvalidState.",
			Seeds: []string{"virDomainDestroy", "AVirtualMachine_stop", "AVIRTUAL_MACHINE_KILLED", "destroy_vm"},
			Run: func(c *C) {
				d := c.started("killed")
				c.ok(d.Destroy(c.ctx), "destroy")
				c.state(d, polyvisor.Shutoff, "destroy")
				c.stopped(d, polyvisor.StopKilled)
				last := c.info(d).LastStop
				c.check(last != nil && last.Reason == polyvisor.StopKilled, "Info.LastStop is %v, want killed", last)
				c.check(last == nil || !last.Time.After(time.Now().Add(time.Hour)), "the stop was at %v", last)
				c.fails(d.Destroy(c.ctx), "destroy of an inactive domain", polyvisor.CodeInvalidState)
				c.ok(d.Start(c.ctx), "start again")
				c.check(c.info(d).LastStop == nil, "Info.LastStop of an active domain is %v, want none", c.info(d).LastStop)
			},
		},
		{
			Name:  "life/remove",
			Rule:  "Remove destroys an active domain and removes its definition; afterwards it is gone.",
			Seeds: []string{"destroy_vm", "AVirtualMachine_destroy"},
			Run: func(c *C) {
				d, e := c.started("running"), c.define("defined")
				c.ok(d.Remove(c.ctx), "remove a running domain")
				c.gone(d, "remove")
				c.ok(e.Remove(c.ctx), "remove an inactive domain")
				c.gone(e, "remove")
				c.fails(d.Remove(c.ctx), "remove what is gone", polyvisor.CodeNotFound)
			},
		},
		{
			Name:     "life/set-state",
			Features: []polyvisor.Feature{polyvisor.FeatureSuspend},
			Rule:     "SetState takes a domain from any state to running, paused and shut off by the operations of the transition table, and does nothing if it is there already; other states cannot be asked for. The states have the numbers of the reference API.",
			Seeds:    []string{"set_vm_state", "get_vm_state", "vm_state", "VM_STATE_RUNNING", "VIR_DOMAIN_NOSTATE", "virDomainState"},
			Run:      lifeSetState,
		},
		{
			Name:  "life/inactive",
			Rule:  "What needs a guest, and Wait where there was no run, fails with ErrInvalidState on an inactive domain at once and does not change it.",
			Seeds: []string{"virDomainDestroy", "virDomainSuspend", "virDomainResume", "virDomainShutdown", "virDomainReboot", "virDomainSave", "virDomainCoreDump", "virDomainGetID", "AVirtualMachine_waitForStop", "VM_ERR_INVALID_STATE"},
			Run:   lifeInactive,
		},
		{
			Name:     "life/start-fails",
			Features: []polyvisor.Feature{polyvisor.FeatureLinuxBoot},
			Rule:     "A start that fails leaves the domain inactive and startable again, and tells what is missing; the reason of the last stop is start-failed. A create that fails leaves nothing.",
			Seeds:    []string{"AVirtualMachine_start", "AVIRTUAL_MACHINE_START_FAILED", "virDomainKernel"},
			Run:      lifeStartFails,
		},
	}
}

func lifePersistent(c *C) {
	d := c.define("one")
	c.state(d, polyvisor.Shutoff, "define")
	c.persistent(d, true, "define")
	for range 2 {
		ctx, cancel := context.WithCancel(c.ctx)
		err := d.Start(ctx)
		cancel()
		c.ok(err, "start")
		c.check(polyvisor.VMErrorOf(err) == polyvisor.VMSuccess, "the VM Handler API's number of a success is %d, want VM_SUCCESS", polyvisor.VMErrorOf(err))
		c.state(d, polyvisor.Running, "start")
		c.persistent(d, true, "start")
		id := c.info(d).ID
		err = d.Start(c.ctx)
		c.fails(err, "start of an active domain", polyvisor.CodeInvalidState)
		c.check(polyvisor.VMErrorOf(err) == polyvisor.VMErrInvalidState, "the VM Handler API's number is %d, want VM_ERR_INVALID_STATE", polyvisor.VMErrorOf(err))
		c.check(c.info(d).ID == id, "the run was replaced")
		c.ok(d.Destroy(c.ctx), "destroy")
		c.state(d, polyvisor.Shutoff, "destroy")
	}
	c.ok(d.Undefine(c.ctx), "undefine")
	c.gone(d, "undefine")
	e := c.define("one")
	c.check(e.UUID() != d.UUID(), "a domain defined anew without a UUID got the UUID of the one that was removed")
}

func lifeTransient(c *C) {
	d := c.create("brief")
	c.state(d, polyvisor.Running, "create")
	c.persistent(d, false, "create")
	c.fails(d.Undefine(c.ctx), "undefine of a transient domain", polyvisor.CodeInvalidState)
	c.fails(d.Start(c.ctx), "start of a running domain", polyvisor.CodeInvalidState)
	c.ok(d.Destroy(c.ctx), "destroy")
	c.gone(d, "destroy")
	c.fails(d.Start(c.ctx), "start of a transient domain that is gone", polyvisor.CodeNotFound)
	same := c.Config("brief", func(cfg *polyvisor.Config) { cfg.UUID = d.UUID() })
	_, err := c.conn.Create(c.ctx, same)
	c.ok(err, "create with the name and UUID that are free again")
}

func lifeRedefine(c *C) {
	d := c.started("changing")
	before := c.info(d)
	_, err := c.conn.Define(c.ctx, c.Config("changing", func(cfg *polyvisor.Config) {
		cfg.UUID, cfg.Title, cfg.Memory = d.UUID(), "the new one", cfg.Memory+64*polyvisor.MiB
		cfg.MaxMemory = 0
	}))
	c.ok(err, "redefine a running domain")
	now := c.info(d)
	c.check(now.ID == before.ID && now.Memory == before.Memory, "after a redefinition the run has ID %d and %s, before it had ID %d and %s", now.ID, now.Memory, before.ID, before.Memory)
	c.check(c.configOf(d).Title != "the new one", "Config of a running domain tells the new definition")
	c.ok(d.Destroy(c.ctx), "destroy")
	c.check(c.configOf(d).Title == "the new one", "after the run Config does not tell the new definition")
	c.ok(d.Start(c.ctx), "start again")
	c.check(c.info(d).Memory == before.Memory+64*polyvisor.MiB, "the next run has %s, want what was redefined", c.info(d).Memory)
	if c.h.Guest != nil && c.has(polyvisor.FeatureConsole) {
		got := c.talk(d).memory()
		c.check(near(got, before.Memory+64*polyvisor.MiB), "the guest sees %s after the redefinition to %s", got, before.Memory+64*polyvisor.MiB)
	}
}

// near allows a guest to see a little less than it was given.
func near(got, want polyvisor.Bytes) bool {
	return got <= want && got >= want-min(want, 16*polyvisor.MiB)
}

func lifeSuspend(c *C) {
	d := c.started("still")
	var t *talk
	if c.h.Guest != nil && c.has(polyvisor.FeatureConsole) {
		t = c.talk(d)
	}
	c.ok(d.Suspend(c.ctx), "suspend")
	c.state(d, polyvisor.Paused, "suspend")
	c.fails(d.Suspend(c.ctx), "suspend of a paused domain", polyvisor.CodeInvalidState)
	used := c.info(d).CPUTime
	if t != nil {
		before := t.all() // first: the guest may answer before send returns
		t.send(c.h.Guest.Echo + " awake")
		time.Sleep(100 * time.Millisecond)
		c.check(t.all() == before, "a suspended guest printed %q", t.all()[len(before):])
	}
	if now := c.info(d).CPUTime; now-used > 50*time.Millisecond {
		c.Errorf("a suspended domain used %s of CPU time", now-used)
	}
	c.ok(d.Resume(c.ctx), "resume")
	c.state(d, polyvisor.Running, "resume")
	c.fails(d.Resume(c.ctx), "resume of a running domain", polyvisor.CodeInvalidState)
	if t != nil {
		t.await("\nawake")
	}
}

func lifeStartPaused(c *C) {
	d := c.define("held")
	c.ok(d.Start(c.ctx, polyvisor.StartPaused()), "start paused")
	c.state(d, polyvisor.Paused, "a paused start")
	if c.h.Guest == nil || !c.has(polyvisor.FeatureConsole) {
		c.ok(d.Resume(c.ctx), "resume")
		c.state(d, polyvisor.Running, "resume")
		return
	}
	t := c.console(d, polyvisor.ConsoleOptions{})
	time.Sleep(100 * time.Millisecond)
	c.check(t.all() == "", "a guest that was started paused printed %q", t.all())
	c.ok(d.Resume(c.ctx), "resume")
	t.await(c.h.Guest.Prompt)
}

func lifeCrash(c *C) {
	d := c.started("crashing")
	c.talk(d).send(c.h.Guest.Crash)
	c.stopped(d, polyvisor.StopCrash)
	c.state(d, polyvisor.Crashed, "a crash")
	c.check(c.info(d).ID == -1, "a crashed domain has ID %d", c.info(d).ID)
	c.ok(d.Start(c.ctx), "start of a crashed domain")
	c.state(d, polyvisor.Running, "the start of a crashed domain")
	c.talk(d).send(c.h.Guest.Crash)
	c.stopped(d, polyvisor.StopCrash)
	c.ok(d.Destroy(c.ctx), "destroy of a crashed domain")
	c.state(d, polyvisor.Shutoff, "destroy of a crashed domain")
}

func lifeSetState(c *C) {
	for n, word := range []string{"no state", "running", "blocked", "paused", "in shutdown", "shutoff", "crashed"} {
		c.check(polyvisor.State(n).String() == word, "state %d is %s, want %s", n, polyvisor.State(n), word)
	}
	d := c.define("walking")
	steps := []polyvisor.State{polyvisor.Shutoff, polyvisor.Paused, polyvisor.Paused, polyvisor.Running, polyvisor.Running, polyvisor.Paused, polyvisor.Shutoff,
		polyvisor.Running, polyvisor.Shutoff}
	for _, s := range steps {
		c.ok(d.SetState(c.ctx, s), "set state %s", s)
		c.state(d, s, "set state "+s.String())
	}
	for _, s := range []polyvisor.State{polyvisor.NoState, polyvisor.Blocked, polyvisor.Crashed, 99} {
		c.fails(d.SetState(c.ctx, s), "set state "+s.String(), polyvisor.CodeInvalidConfig)
	}
	c.fails(d.SetState(c.ctx, polyvisor.ShuttingDown), "set state in shutdown of an inactive domain", invalidOr(c, polyvisor.FeatureShutdown))
	c.state(d, polyvisor.Shutoff, "states that cannot be set")
}

// invalidOr is the code of an operation that is not legal in the state, if the
// driver has its feature.
func invalidOr(c *C, f polyvisor.Feature) polyvisor.Code {
	if c.has(f) {
		return polyvisor.CodeInvalidState
	}
	return polyvisor.CodeUnsupported
}

func lifeInactive(c *C) {
	d := c.define("asleep")
	for _, o := range []struct {
		what string
		need polyvisor.Feature
		call func() error
	}{
		{"destroy", "", func() error { return d.Destroy(c.ctx) }},
		{"id", "", func() error { _, err := d.ID(c.ctx); return err }},
		{"wait", "", func() error { _, err := d.Wait(c.ctx); return err }},
		{"suspend", polyvisor.FeatureSuspend, func() error { return d.Suspend(c.ctx) }},
		{"resume", polyvisor.FeatureSuspend, func() error { return d.Resume(c.ctx) }},
		{"shutdown", polyvisor.FeatureShutdown, func() error { return d.Shutdown(c.ctx) }},
		{"reboot", polyvisor.FeatureReboot, func() error { return d.Reboot(c.ctx) }},
		{"console", polyvisor.FeatureConsole, func() error { _, err := d.Console(c.ctx, polyvisor.ConsoleOptions{}); return err }},
		{"save", polyvisor.FeatureSave, func() error { return d.Save(c.ctx, c.path("never")) }},
		{"core dump", polyvisor.FeatureCoreDump, func() error { return d.CoreDump(c.ctx, c.path("never")) }},
	} {
		if o.need == "" || c.has(o.need) {
			c.fails(o.call(), o.what+" of an inactive domain", polyvisor.CodeInvalidState)
		}
	}
	c.state(d, polyvisor.Shutoff, "operations that were refused")
	c.check(!exists(c.path("never")), "an operation that was refused left a file")
}

func lifeStartFails(c *C) {
	missing := c.path("no-such-kernel")
	edit := func(cfg *polyvisor.Config) { cfg.Boot = polyvisor.Boot{Kernel: polyvisor.Path(missing)} }
	d := c.define("kernelless", edit)
	for range 2 {
		c.fails(d.Start(c.ctx), "start without its kernel", polyvisor.CodeNotFound)
		c.state(d, polyvisor.Shutoff, "a start that failed")
	}
	last := c.info(d).LastStop
	c.check(last != nil && last.Reason == polyvisor.StopStartFailed, "after a start that failed Info.LastStop is %v, want start-failed", last)
	if !c.has(polyvisor.FeatureTransient) {
		return
	}
	cfg := c.Config("never", edit)
	_, err := c.conn.Create(c.ctx, cfg)
	c.fails(err, "create without its kernel", polyvisor.CodeNotFound)
	_, err = c.conn.Domain(c.ctx, cfg.Name)
	c.fails(err, "lookup after a create that failed", polyvisor.CodeNotFound)
}
