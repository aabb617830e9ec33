package conformance

import "github.com/polyvisor/polyvisor"

// guestStateCases are about the states that a guest brings about by itself.
func guestStateCases() []Case {
	return []Case{{
		Name: "life/guest-states", Features: []polyvisor.Feature{polyvisor.FeatureGuestStates, polyvisor.FeatureConsole, polyvisor.FeatureShutdown}, Talks: true, Words: []string{"Block", "Linger"},
		Rule:  "A domain whose guest waits for a resource is blocked, and one whose guest takes its time to obey a shutdown is in shutdown. Both are active, keep their ID, count as active in lists, and can be destroyed.",
		Seeds: []string{"VIR_DOMAIN_BLOCKED", "VIR_DOMAIN_SHUTDOWN"},
		Run: func(c *C) {
			for _, t := range []struct {
				state polyvisor.State
				word  string
				then  func(d *polyvisor.Domain) error
			}{
				{polyvisor.Blocked, c.h.Guest.Block, func(*polyvisor.Domain) error { return nil }},
				{polyvisor.ShuttingDown, c.h.Guest.Linger, func(d *polyvisor.Domain) error { return d.Shutdown(c.ctx) }},
			} {
				if t.word == "" {
					continue
				}
				d := c.started("brings-about")
				id := c.info(d).ID
				c.said(d, t.word)
				c.ok(t.then(d), "what brings about the state %s", t.state)
				c.comes(d, t.state)
				i := c.info(d)
				c.check(i.State == t.state && i.ID == id, "Info of a domain that is %s is %+v, with the ID %d before", t.state, i, id)
				c.check(len(c.names(c.conn, polyvisor.DomainFilter{Active: true})) == 1, "a domain that is %s is not listed as active", t.state)
				c.ok(d.Destroy(c.ctx), "destroy")
				c.state(d, polyvisor.Shutoff, "the destruction of a domain that was "+t.state.String())
				c.ok(d.Remove(c.ctx), "remove")
			}
		},
	}}
}

// declaredGuestStates is of a feature that nobody can use: it is told or not.
func declaredGuestStates() Case {
	return Case{
		Name: "declared/" + string(polyvisor.FeatureGuestStates),
		Rule: "If feature guest-states is declared, a guest that waits for a resource is told as blocked; if it is not, a domain whose guest has started is told as running, even if the guest waits.",
		Run: func(c *C) {
			d := c.started("subject")
			c.state(d, polyvisor.Running, "the start")
			if !c.has(polyvisor.FeatureConsole) || c.h.Guest.Block == "" {
				return // no way to make the guest wait
			}
			c.said(d, c.h.Guest.Block)
			if c.has(polyvisor.FeatureGuestStates) {
				c.comes(d, polyvisor.Blocked)
				return
			}
			s, err := d.State(c.ctx)
			c.ok(err, "State")
			c.check(s == polyvisor.Running && c.info(d).State == s, "feature guest-states is not declared, but a guest that waits is told as %s by State and as %s by Info", s, c.info(d).State)
		},
	}
}
