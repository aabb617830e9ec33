package conformance

import (
	"context"

	"github.com/polyvisor/polyvisor"
)

// define defines a domain or ends the case.
func (c *C) define(name string, edits ...func(*polyvisor.Config)) *polyvisor.Domain {
	d, err := c.conn.Define(c.ctx, c.Config(name, edits...))
	c.ok(err, "define %s", name)
	return d
}

// started defines and starts a domain.
func (c *C) started(name string, edits ...func(*polyvisor.Config)) *polyvisor.Domain {
	d := c.define(name, edits...)
	c.ok(d.Start(c.ctx), "start %s", name)
	return d
}

// create creates a transient domain.
func (c *C) create(name string, edits ...func(*polyvisor.Config)) *polyvisor.Domain {
	d, err := c.conn.Create(c.ctx, c.Config(name, edits...))
	c.ok(err, "create %s", name)
	return d
}

// state checks the state that State and Info tell.
func (c *C) state(d *polyvisor.Domain, want polyvisor.State, after string) {
	s, err := d.State(c.ctx)
	c.ok(err, "state after %s", after)
	i, err := d.Info(c.ctx)
	c.ok(err, "info after %s", after)
	// A guest that waits for a resource runs too.
	if s == polyvisor.Blocked {
		s = polyvisor.Running
	}
	if i.State == polyvisor.Blocked {
		i.State = polyvisor.Running
	}
	c.check(s == want && i.State == want, "after %s the domain is %s, and %s by its Info; want %s", after, s, i.State, want)
	c.check(i.ID > 0 == (want.Active() || want == polyvisor.Crashed && i.ID > 0), "after %s the ID of a domain that is %s is %d", after, s, i.ID)
}

// gone checks that nothing finds the domain any more.
func (c *C) gone(d *polyvisor.Domain, after string) {
	_, err := c.conn.Domain(c.ctx, d.Name())
	c.fails(err, "lookup by name after "+after, polyvisor.CodeNotFound)
	_, err = c.conn.DomainByUUID(c.ctx, d.UUID())
	c.fails(err, "lookup by UUID after "+after, polyvisor.CodeNotFound)
	_, err = d.State(c.ctx)
	c.fails(err, "state after "+after, polyvisor.CodeNotFound)
	list, err := c.conn.Domains(c.ctx, polyvisor.DomainFilter{})
	c.ok(err, "list after %s", after)
	for _, o := range list {
		c.check(o.UUID() != d.UUID(), "after %s the list still has the domain", after)
	}
}

func (c *C) info(d *polyvisor.Domain) polyvisor.Info {
	i, err := d.Info(c.ctx)
	c.ok(err, "info of %s", d.Name())
	return i
}

func (c *C) configOf(d *polyvisor.Domain) *polyvisor.Config {
	cfg, err := d.Config(c.ctx)
	c.ok(err, "config of %s", d.Name())
	return cfg
}

// stopped waits for the end of the domain's run, which must have the reason.
func (c *C) stopped(d *polyvisor.Domain, want polyvisor.StopReason) polyvisor.Stop {
	s, err := d.Wait(c.ctx)
	c.ok(err, "wait for the stop of %s", d.Name())
	c.check(s.Reason == want, "the domain stopped with reason %s, want %s", s, want)
	return s
}

// persistent tells whether the domain has a definition.
func (c *C) persistent(d *polyvisor.Domain, want bool, after string) {
	c.check(c.info(d).Persistent == want, "after %s Info.Persistent is not %t", after, want)
}

// names lists the suite's domains that a filter selects.
func (c *C) names(conn *polyvisor.Conn, f polyvisor.DomainFilter) []string {
	list, err := conn.Domains(c.ctx, f)
	c.ok(err, "list domains")
	var names []string
	for _, d := range list {
		if len(d.Name()) > len(Prefix) && d.Name()[:len(Prefix)] == Prefix {
			names = append(names, d.Name()[len(Prefix):])
		}
	}
	return names
}

// background runs f beside the case and gives a channel with its error.
func background(f func() error) <-chan error {
	ch := make(chan error, 1)
	go func() { ch <- f() }()
	return ch
}

// result waits for a background error within the time of the case.
func (c *C) result(ch <-chan error, what string) error {
	select {
	case err := <-ch:
		return err
	case <-c.ctx.Done():
		c.Fatalf("%s does not return", what)
		return context.Cause(c.ctx)
	}
}
