package conformance

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/polyvisor/polyvisor"
)

func loadCases() []Case {
	return []Case{
		{
			Name:  "load/many-domains",
			Rule:  "Many domains are defined, started, destroyed and undefined at once, on two connections, without disturbing each other.",
			Seeds: []string{"thread safety"},
			Run:   loadMany,
		},
		{
			Name:  "load/one-domain",
			Rule:  "Callers who work on the same domain at once, on two connections, get either what they asked for or the error of the state that others have brought about; in the end the domain is in one of the states of the table and obeys.",
			Seeds: []string{"thread safety", "virDomainCreate", "virDomainDestroy"},
			Run:   loadOne,
		},
		{
			Name:  "load/start-race",
			Rule:  "Of many who start one domain at the same time exactly one starts it; the others are told that it runs.",
			Seeds: []string{"thread safety", "virDomainCreate"},
			Run:   loadStart,
		},
		{
			Name:  "load/destroy-while-starting",
			Rule:  "Destroy is obeyed while a start is under way: afterwards the domain is inactive, and the start has ended in success or with ErrInvalidState.",
			Seeds: []string{"virDomainDestroy"},
			Run:   loadDestroy,
		},
	}
}

func loadMany(c *C) {
	conns := []*polyvisor.Conn{c.conn, c.Open()}
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			for range 2 {
				d, err := conns[i%2].Define(c.ctx, c.Config(fmt.Sprint("many-", i)))
				do := func(what string, f func() error) {
					if err == nil {
						if err = f(); err != nil {
							c.Errorf("%s of domain %d: %v", what, i, err)
						}
					}
				}
				if err != nil {
					c.Errorf("define of domain %d: %v", i, err)
				}
				do("start", func() error { return d.Start(c.ctx) })
				do("state", func() error {
					s, err := d.State(c.ctx)
					if err == nil && !s.Active() {
						err = fmt.Errorf("it is %s", s)
					}
					return err
				})
				do("destroy", func() error { return d.Destroy(c.ctx) })
				do("undefine", func() error { return d.Undefine(c.ctx) })
			}
		})
	}
	wg.Wait()
	left := c.names(c.conn, polyvisor.DomainFilter{})
	c.check(len(left) == 0, "%q are left", left)
}

// raced are the codes of operations that others have made impossible.
var raced = []polyvisor.Code{polyvisor.CodeInvalidState, polyvisor.CodeNotFound, polyvisor.CodeExists, polyvisor.CodeBusy}

func loadOne(c *C) {
	cfg := c.Config("shared").WithDefaults() // with a UUID
	conns := []*polyvisor.Conn{c.conn, c.Open()}
	_, err := c.conn.Define(c.ctx, cfg)
	c.ok(err, "define")
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			d, err := conns[i%2].DomainByUUID(c.ctx, cfg.UUID)
			if err != nil {
				c.Errorf("lookup: %v", err)
				return
			}
			rnd := rand.New(rand.NewPCG(7, uint64(i)))
			for range 12 {
				switch rnd.IntN(5) {
				case 0, 1:
					err = d.Start(c.ctx)
				case 2:
					err = d.Destroy(c.ctx)
				case 3:
					_, err = d.Info(c.ctx)
				case 4:
					if !c.has(polyvisor.FeatureSuspend) {
						continue
					}
					if err = d.Suspend(c.ctx); err == nil {
						err = d.Resume(c.ctx)
					}
				}
				if err != nil && !slices.Contains(raced, polyvisor.CodeOf(err)) {
					c.Errorf("an operation among others: %v", err)
				}
			}
		})
	}
	wg.Wait()
	d, err := c.conn.DomainByUUID(c.ctx, cfg.UUID)
	c.ok(err, "lookup")
	s, err := d.State(c.ctx)
	c.ok(err, "state")
	c.check(slices.Contains([]polyvisor.State{polyvisor.Running, polyvisor.Blocked, polyvisor.Paused, polyvisor.Shutoff}, s), "the domain is %s", s)
	bring(c, d, polyvisor.Shutoff)
	c.ok(d.Start(c.ctx), "start")
	c.state(d, polyvisor.Running, "all that")
}

func loadStart(c *C) {
	d := c.define("wanted")
	same, err := c.Open().Domain(c.ctx, d.Name())
	c.ok(err, "lookup on another connection")
	var wg sync.WaitGroup
	won := make(chan struct{}, 8)
	for i := range 8 {
		wg.Go(func() {
			err := []*polyvisor.Domain{d, same}[i%2].Start(c.ctx)
			if err == nil {
				won <- struct{}{}
			} else {
				c.fails(err, "start of a domain that someone else was quicker to start", polyvisor.CodeInvalidState)
			}
		})
	}
	wg.Wait()
	c.check(len(won) == 1, "%d of 8 started the domain", len(won))
	c.state(d, polyvisor.Running, "a race to start it")
}

func loadDestroy(c *C) {
	d := c.define("doomed")
	for range 5 {
		ch := background(func() error { return d.Start(c.ctx) })
		var err error
		c.eventually("destroy finds something to destroy", func() bool {
			err = d.Destroy(c.ctx)
			if err != nil {
				c.fails(err, "destroy during a start", polyvisor.CodeInvalidState)
			}
			return err == nil
		})
		if err := c.result(ch, "a start that was destroyed"); err != nil {
			c.fails(err, "a start that was destroyed", polyvisor.CodeInvalidState)
		}
		c.state(d, polyvisor.Shutoff, "destroy during a start")
	}
}
