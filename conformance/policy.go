package conformance

import (
	"fmt"
	"strings"

	"github.com/polyvisor/polyvisor"
)

// policyCases are what the guest does times what the Config says about it.
func policyCases() []Case {
	var cases []Case
	for _, e := range guestEnds {
		for i, a := range actions {
			if e.reason == polyvisor.StopCrash && a.action == polyvisor.ActionDestroy {
				continue // is life/crash
			}
			number := polyvisor.LibvirtRestart(i + 1) // of the reference API
			features := []polyvisor.Feature{polyvisor.FeatureConsole}
			if a.action != e.usual {
				features = append(features, polyvisor.FeatureLifecyclePolicy)
			}
			if a.need != "" {
				features = append(features, a.need)
			}
			cases = append(cases, Case{
				Name: "policy/" + e.name + "-" + string(a.action), Features: features, Talks: true,
				Rule:  fmt.Sprintf("When the guest ends its run by %s and the policy is %s, %s.", e.name, a.action, a.rule(e)),
				Seeds: a.seeds,
				Run: func(c *C) {
					d := c.started("policy", func(cfg *polyvisor.Config) { e.set(cfg, number.Action()) })
					c.check(a.action.Libvirt() == number && number.Action() == a.action, "the action %s has the number %d, want %d", a.action, a.action.Libvirt(), number)
					a.check(c, e, d, c.talk(d))
				},
			})
		}
	}
	return cases
}

// guestEnd is a way in which a guest ends its run.
type guestEnd struct {
	name   string
	usual  polyvisor.Action
	reason polyvisor.StopReason
	// preserved is the state in which it is kept.
	preserved polyvisor.State
	set       func(*polyvisor.Config, polyvisor.Action)
	word      func(*Guest) string
}

var guestEnds = []guestEnd{
	{"poweroff", polyvisor.ActionDestroy, polyvisor.StopShutdown, polyvisor.Paused,
		func(c *polyvisor.Config, a polyvisor.Action) { c.OnPoweroff = a }, func(g *Guest) string { return g.PowerOff }},
	{"reboot", polyvisor.ActionRestart, polyvisor.StopReboot, polyvisor.Paused,
		func(c *polyvisor.Config, a polyvisor.Action) { c.OnReboot = a }, func(g *Guest) string { return g.Reboot }},
	{"crash", polyvisor.ActionDestroy, polyvisor.StopCrash, polyvisor.Crashed,
		func(c *polyvisor.Config, a polyvisor.Action) { c.OnCrash = a }, func(g *Guest) string { return g.Crash }},
}

// actions are the actions and what must be seen of them.
var actions = []struct {
	action polyvisor.Action
	need   polyvisor.Feature
	seeds  []string
	rule   func(guestEnd) string
	check  func(*C, guestEnd, *polyvisor.Domain, *talk)
}{
	{polyvisor.ActionDestroy, "", []string{"VIR_DOMAIN_DESTROY", "virDomainRestart"},
		func(e guestEnd) string { return fmt.Sprintf("the domain is inactive, with stop reason %s", e.reason) }, policyDestroy},
	{polyvisor.ActionRestart, "", []string{"VIR_DOMAIN_RESTART", "virDomainRestart"},
		func(guestEnd) string {
			return "the guest is started afresh and the domain stays active, with its ID and console"
		}, policyRestart},
	{polyvisor.ActionPreserve, polyvisor.FeaturePreserve, []string{"VIR_DOMAIN_PRESERVE", "virDomainRestart"},
		func(e guestEnd) string {
			return fmt.Sprintf("the domain stays active in state %s, cannot be resumed or started, and ends with Destroy", e.preserved)
		}, policyPreserve},
	{polyvisor.ActionRenameRestart, polyvisor.FeatureRenameRestart, []string{"VIR_DOMAIN_RENAME_RESTART", "virDomainRestart"},
		func(guestEnd) string {
			return "the domain is kept under its name and UUID, and the guest runs afresh in a transient domain with a number added to the name and a UUID of its own"
		}, policyRename},
}

func policyDestroy(c *C, e guestEnd, d *polyvisor.Domain, t *talk) {
	t.send(e.word(c.h.Guest))
	c.stopped(d, e.reason)
	c.state(d, e.reason.State(), e.name)
}

func policyRestart(c *C, e guestEnd, d *polyvisor.Domain, t *talk) {
	id := c.info(d).ID
	t.send(e.word(c.h.Guest))
	t.await(c.h.Guest.Prompt)
	c.state(d, polyvisor.Running, "the restart after "+e.name)
	c.check(c.info(d).ID == id, "the ID was %d and is %d", id, c.info(d).ID)
	got := t.ask(c.h.Guest.Echo + " afresh")
	c.check(strings.TrimSpace(got) == "afresh", "after the restart the guest prints %q", got)
}

// kept waits until the domain is preserved.
func kept(c *C, e guestEnd, d *polyvisor.Domain) {
	c.eventually("the domain is preserved", func() bool {
		s, err := d.State(c.ctx)
		c.ok(err, "state")
		return s == e.preserved
	})
	c.check(c.info(d).ID > 0, "a preserved domain has ID %d", c.info(d).ID)
	c.fails(d.Start(c.ctx), "start of a preserved domain", polyvisor.CodeInvalidState)
	if c.has(polyvisor.FeatureSuspend) {
		c.fails(d.Resume(c.ctx), "resume of a preserved domain", polyvisor.CodeInvalidState)
	}
}

func policyPreserve(c *C, e guestEnd, d *polyvisor.Domain, t *talk) {
	t.send(e.word(c.h.Guest))
	kept(c, e, d)
	c.ok(d.Destroy(c.ctx), "destroy of a preserved domain")
	c.state(d, polyvisor.Shutoff, "destroy of a preserved domain")
	c.ok(d.Start(c.ctx), "start after that")
}

func policyRename(c *C, e guestEnd, d *polyvisor.Domain, t *talk) {
	t.send(e.word(c.h.Guest))
	kept(c, e, d)
	var fresh *polyvisor.Domain
	c.eventually("the guest runs under a new name", func() bool {
		list, err := c.conn.Domains(c.ctx, polyvisor.DomainFilter{Active: true})
		c.ok(err, "list")
		for _, o := range list {
			if strings.HasPrefix(o.Name(), d.Name()) && o.UUID() != d.UUID() {
				fresh = o
			}
		}
		return fresh != nil
	})
	c.check(fresh.Name() == d.Name()+"-1", "the new domain is named %q, want %q", fresh.Name(), d.Name()+"-1")
	c.state(fresh, polyvisor.Running, "a rename-restart")
	c.persistent(fresh, false, "a rename-restart")
	c.talk(fresh)
	c.ok(d.Destroy(c.ctx), "destroy what was kept")
	c.state(fresh, polyvisor.Running, "the destruction of what was kept")
	c.ok(fresh.Destroy(c.ctx), "destroy the new domain")
	c.gone(fresh, "destroy")
}
