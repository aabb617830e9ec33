package conformance

import (
	"errors"
	"strings"
	"time"

	"github.com/polyvisor/polyvisor"
)

func waitCases() []Case {
	return []Case{
		{
			Name:  "wait/many",
			Rule:  "Any number of callers wait for one domain, on any connection, and all are told the same end.",
			Seeds: []string{"AVirtualMachine_waitForStop"},
			Run:   waitMany,
		},
		{
			Name:  "wait/afterwards",
			Rule:  "Wait of an inactive domain returns at once with the end of its last run, also on a connection opened after it; a new run is waited for anew.",
			Seeds: []string{"AVirtualMachine_waitForStop"},
			Run: func(c *C) {
				d := c.started("over")
				c.ok(d.Destroy(c.ctx), "destroy")
				first := c.stopped(d, polyvisor.StopKilled)
				same, err := c.Open().Domain(c.ctx, d.Name())
				c.ok(err, "lookup on another connection")
				again := c.stopped(same, polyvisor.StopKilled)
				c.check(again.Time.Equal(first.Time), "the stop was at %s, and on another connection at %s", first.Time, again.Time)
				c.ok(d.Start(c.ctx), "start")
				_, err = d.Wait(c.soon(50 * time.Millisecond))
				c.fails(err, "wait for a domain that runs again", polyvisor.CodeCanceled)
			},
		},
		{
			Name:     "wait/transient",
			Features: []polyvisor.Feature{polyvisor.FeatureTransient},
			Rule:     "Who holds a transient domain is told its end, before and after it is gone.",
			Seeds:    []string{"AVirtualMachine_waitForStop"},
			Run: func(c *C) {
				d := c.create("brief")
				ch := background(func() error {
					s, err := d.Wait(c.ctx)
					c.check(err != nil || s.Reason == polyvisor.StopKilled, "the stop reason is %s, want killed", s)
					return err
				})
				c.ok(d.Destroy(c.ctx), "destroy")
				c.ok(c.result(ch, "Wait of a transient domain"), "wait")
				c.gone(d, "destroy")
				c.stopped(d, polyvisor.StopKilled)
			},
		},
		{
			Name:  "wait/timeout",
			Rule:  "The end of its context ends Wait with the context's error and has no effect on the domain.",
			Seeds: []string{"AVirtualMachine_waitForStop"},
			Run: func(c *C) {
				d := c.started("lasting")
				_, err := d.Wait(c.soon(30 * time.Millisecond))
				c.fails(err, "wait with a timeout", polyvisor.CodeCanceled)
				c.state(d, polyvisor.Running, "a Wait that timed out")
			},
		},
		{
			Name:     "wait/reasons",
			Features: []polyvisor.Feature{polyvisor.FeatureConsole, polyvisor.FeatureLifecyclePolicy},
			Talks:    true,
			Rule:     "The reason of a stop tells apart who brought it about: the guest's power-off, its reboot, its crash, Destroy, and whatever the harness can bring about besides. The reasons have the numbers of the reference API.",
			Seeds:    stopReasonSeeds(),
			Run:      waitReasons,
		},
	}
}

// stopReasonSeeds are the stop reasons of the reference API.
func stopReasonSeeds() []string {
	return []string{"AVirtualMachineStopReason", "AVIRTUAL_MACHINE_VIRTUALIZATION_SERVICE_DIED", "AVIRTUAL_MACHINE_INFRASTRUCTURE_ERROR", "AVIRTUAL_MACHINE_KILLED", "AVIRTUAL_MACHINE_UNKNOWN",
		"AVIRTUAL_MACHINE_SHUTDOWN", "AVIRTUAL_MACHINE_REBOOT", "AVIRTUAL_MACHINE_CRASH", "AVIRTUAL_MACHINE_PVM_FIRMWARE_PUBLIC_KEY_MISMATCH",
		"AVIRTUAL_MACHINE_PVM_FIRMWARE_INSTANCE_IMAGE_CHANGED", "AVIRTUAL_MACHINE_HANGUP", "AVIRTUAL_MACHINE_UNRECOGNISED"}
}

func waitMany(c *C) {
	d := c.started("watched")
	same, err := c.Open().Domain(c.ctx, d.Name())
	c.ok(err, "lookup on another connection")
	const n = 16
	stops, errs := make([]polyvisor.Stop, n), make([]<-chan error, n)
	for i := range n {
		errs[i] = background(func() (err error) {
			stops[i], err = []*polyvisor.Domain{d, same}[i%2].Wait(c.ctx)
			return err
		})
	}
	time.Sleep(10 * time.Millisecond) // for most to wait before it happens
	c.ok(d.Destroy(c.ctx), "destroy")
	for i, ch := range errs {
		c.ok(c.result(ch, "one of many who wait"), "wait")
		c.check(stops[i].Reason == polyvisor.StopKilled && stops[i].Time.Equal(stops[0].Time), "one is told %s at %s, another %s at %s", stops[i], stops[i].Time, stops[0], stops[0].Time)
	}
}

func waitReasons(c *C) {
	// The reasons have the numbers of the reference API, in this order from 0.
	const words = "unrecognised service-died infrastructure-error killed unknown shutdown start-failed reboot crash firmware-key-mismatch firmware-image-changed hangup"
	for n, word := range strings.Fields(words) {
		c.check(polyvisor.StopReason(n).String() == word, "stop reason %d is %s, want %s", n, polyvisor.StopReason(n), word)
	}
	for _, t := range []struct {
		word  string
		want  polyvisor.StopReason
		after polyvisor.State
	}{
		{c.h.Guest.PowerOff, polyvisor.StopShutdown, polyvisor.Shutoff},
		{c.h.Guest.Reboot, polyvisor.StopReboot, polyvisor.Shutoff},
		{c.h.Guest.Crash, polyvisor.StopCrash, polyvisor.Crashed},
	} {
		d := c.reasoned(t.want)
		c.talk(d).send(t.word)
		c.ended(d, t.want, t.after)
	}
	if c.h.End == nil {
		return
	}
	for _, want := range polyvisor.StopReasons() {
		if want == polyvisor.StopStartFailed {
			continue // no run ends for that; life/start-fails has it
		}
		d := c.reasoned(want)
		err := c.h.End(c.ctx, d.Name(), want)
		if errors.Is(err, polyvisor.ErrUnsupported) {
			c.ok(d.Remove(c.ctx), "remove")
			continue
		}
		c.ok(err, "end a run by %s", want)
		c.ended(d, want, want.State())
	}
}

// reasoned starts a domain that is to stop.
func (c *C) reasoned(r polyvisor.StopReason) *polyvisor.Domain {
	return c.started(r.String(), func(cfg *polyvisor.Config) {
		cfg.OnReboot = polyvisor.ActionDestroy
		if r == polyvisor.StopFirmwareKeyMismatch || r == polyvisor.StopFirmwareImageChanged {
			cfg.Protected = c.has(polyvisor.FeatureProtected)
		}
	})
}

// ended checks the end of a persistent domain's run, and removes the domain.
func (c *C) ended(d *polyvisor.Domain, want polyvisor.StopReason, after polyvisor.State) {
	c.stopped(d, want)
	c.state(d, after, "a stop by "+want.String())
	last := c.info(d).LastStop
	c.check(last != nil && last.Reason == want, "Info.LastStop is %v, want %s", last, want)
	if _, err := c.conn.DomainByUUID(c.ctx, d.UUID()); errors.Is(err, polyvisor.ErrNotFound) {
		c.Errorf("a persistent domain is gone after a stop by %s", want)
		return
	}
	c.ok(d.Remove(c.ctx), "remove")
}
