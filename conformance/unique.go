package conformance

import (
	"sync"
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/polyvisor/polyvisor"
)

func uniqueCases() []Case {
	return []Case{
		{
			Name:  "unique/name",
			Rule:  "A name that another domain has is ErrExists at Define, whether that domain runs or not, and the other one is not changed.",
			Seeds: []string{"virDomainDefineXML", "create_vm"},
			Run: func(c *C) {
				d, e := c.define("taken"), c.started("taken-and-running")
				for _, o := range []*polyvisor.Domain{d, e} {
					before := c.configOf(o)
					cfg := c.Config("x", func(cfg *polyvisor.Config) { cfg.Name, cfg.Title = o.Name(), "another" })
					cfg.UUID = uuid.New()
					_, err := c.conn.Define(c.ctx, cfg)
					c.fails(err, "define with the name of another domain", polyvisor.CodeExists)
					c.check(sameConfig(c.configOf(o), before), "the domain that has the name was changed")
				}
			},
		},
		{
			Name:  "unique/uuid",
			Rule:  "A UUID that another domain has is ErrExists at Define, whether that domain runs or not, and the other one is not changed.",
			Seeds: []string{"virDomainDefineXML"},
			Run: func(c *C) {
				d, e := c.define("owner"), c.started("running-owner")
				for _, o := range []*polyvisor.Domain{d, e} {
					_, err := c.conn.Define(c.ctx, c.Config("thief", func(cfg *polyvisor.Config) { cfg.UUID = o.UUID() }))
					c.fails(err, "define with the UUID of another domain", polyvisor.CodeExists)
					same, err := c.conn.DomainByUUID(c.ctx, o.UUID())
					c.ok(err, "lookup by the UUID")
					c.check(same.Name() == o.Name(), "the UUID now belongs to %q", same.Name())
				}
			},
		},
		{
			Name:     "unique/create",
			Features: []polyvisor.Feature{polyvisor.FeatureTransient},
			Rule:     "Create with a name or UUID that a domain has, defined or transient, is ErrExists and starts nothing, also after handles to the domain were looked up.",
			Seeds:    []string{"virDomainCreateLinux"},
			Run:      uniqueCreate,
		},
		{
			Name:  "unique/race",
			Rule:  "Of many who define one name with different UUIDs at the same time, on several connections, exactly one succeeds.",
			Seeds: []string{"virDomainDefineXML", "thread safety"},
			Run:   uniqueRace,
		},
	}
}

func uniqueCreate(c *C) {
	defined, transient := c.define("defined"), c.create("transient")
	for _, o := range []*polyvisor.Domain{defined, transient} {
		for range 2 {
			_, err := c.conn.Create(c.ctx, c.Config("x", func(cfg *polyvisor.Config) { cfg.Name = o.Name() }))
			c.fails(err, "create with the name of "+o.Name(), polyvisor.CodeExists)
			_, err = c.conn.Create(c.ctx, c.Config("x", func(cfg *polyvisor.Config) { cfg.UUID = o.UUID() }))
			c.fails(err, "create with the UUID of "+o.Name(), polyvisor.CodeExists)
			_, err = c.conn.Domain(c.ctx, o.Name())
			c.ok(err, "lookup of %s", o.Name())
		}
	}
	c.state(defined, polyvisor.Shutoff, "creates that were refused")
	c.state(transient, polyvisor.Running, "creates that were refused")
	_, err := c.conn.Define(c.ctx, c.Config("x", func(cfg *polyvisor.Config) { cfg.Name = transient.Name() }))
	c.fails(err, "define with the name of a transient domain and another UUID", polyvisor.CodeExists)
	_, err = c.conn.Domain(c.ctx, Prefix+"x")
	c.fails(err, "lookup of a domain whose create was refused", polyvisor.CodeNotFound)
}

func uniqueRace(c *C) {
	conns := []*polyvisor.Conn{c.conn, c.Open()}
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			_, err := conns[i%2].Define(c.ctx, c.Config("wanted"))
			if err == nil {
				won.Add(1)
			} else {
				c.fails(err, "define of a name that someone else was quicker to define", polyvisor.CodeExists)
			}
		})
	}
	wg.Wait()
	c.check(won.Load() == 1, "%d of 8 defined the same name", won.Load())
	c.check(len(c.names(c.conn, polyvisor.DomainFilter{})) == 1, "the domains are %q, want one", c.names(c.conn, polyvisor.DomainFilter{}))
}
