package conformance

import (
	"os"
	"runtime"
	"time"

	"github.com/polyvisor/polyvisor"
)

func leakCases() []Case {
	return []Case{
		{
			Name:  "leak/connection",
			Rule:  "A connection that was used and closed leaves no goroutine and no descriptor in the program, also if consoles, subscriptions and waits were left open.",
			Seeds: []string{"virConnectClose", "virDomainFree", "AVirtualizationService_destroy"},
			Run:   leakConnection,
		},
		{
			Name: "leak/domains",
			Rule: "Domains that have come and gone leave no goroutine and no descriptor behind while the connection stays open.",
			Run:  leakDomains,
		},
	}
}

// held counts the goroutines and the open descriptors of the program; the
// latter are 0 where they cannot be counted.
func held() (goroutines, descriptors int) {
	if list, err := os.ReadDir("/proc/self/fd"); err == nil {
		descriptors = len(list)
	}
	return runtime.NumGoroutine(), descriptors
}

// settled checks that no more is held than before, once what is about to end
// has ended.
func settled(c *C, goroutines, descriptors int, after string) {
	deadline := time.Now().Add(min(5*time.Second, c.h.Timeout/4))
	for {
		g, d := held()
		if g <= goroutines && d <= descriptors {
			return
		}
		if time.Now().After(deadline) {
			c.Errorf("after %s there are %d goroutines and %d descriptors, before there were %d and %d\n%s", after, g, d, goroutines, descriptors, stacks(true))
			return
		}
		runtime.GC()
		time.Sleep(5 * time.Millisecond)
	}
}

func leakConnection(c *C) {
	d := c.started("watched")
	use := func() {
		conn, err := c.h.Open(c.ctx)
		c.ok(err, "open")
		same, err := conn.Domain(c.ctx, d.Name())
		c.ok(err, "lookup")
		if c.has(polyvisor.FeatureConsole) {
			_, err = same.Console(c.ctx, polyvisor.ConsoleOptions{Force: true})
			c.ok(err, "console")
		}
		if c.has(polyvisor.FeatureEvents) {
			_, err = conn.Subscribe(c.ctx, polyvisor.SubscribeOptions{})
			c.ok(err, "subscribe")
		}
		ch := background(func() error { _, err := same.Wait(c.ctx); return err })
		_, err = conn.Domains(c.ctx, polyvisor.DomainFilter{Active: true})
		c.ok(err, "list")
		c.ok(conn.Close(), "close")
		c.fails(c.result(ch, "Wait"), "Wait on a connection that was closed", polyvisor.CodeClosed)
	}
	use() // what is made once for the whole program
	time.Sleep(20 * time.Millisecond)
	g, f := held()
	for range 3 {
		use()
	}
	settled(c, g, f, "opening and closing connections")
}

func leakDomains(c *C) {
	use := func() {
		d := c.started("brief")
		if c.has(polyvisor.FeatureConsole) {
			rwc, err := d.Console(c.ctx, polyvisor.ConsoleOptions{})
			c.ok(err, "console")
			c.ok(rwc.Close(), "close the console")
		}
		ch := background(func() error { _, err := d.Wait(c.ctx); return err })
		_, err := d.Wait(c.soon(time.Millisecond))
		c.fails(err, "wait with a timeout", polyvisor.CodeCanceled)
		c.ok(d.Destroy(c.ctx), "destroy")
		c.ok(c.result(ch, "Wait"), "wait")
		c.ok(d.Undefine(c.ctx), "undefine")
		if c.has(polyvisor.FeatureTransient) {
			c.ok(c.create("transient").Destroy(c.ctx), "destroy")
		}
	}
	use()
	time.Sleep(20 * time.Millisecond)
	g, f := held()
	for range 3 {
		use()
	}
	settled(c, g, f, "domains that have come and gone")
}
