package conformance

import (
	"strings"

	"github.com/polyvisor/polyvisor"
)

// trace is what a guest has done, by which one tells that it goes on from there
// and has not begun afresh. Without a guest to talk to it is empty.
type trace struct {
	c      *C
	banner string // what it printed first
	sum    string // of its memory
}

// What the guest prints before it is saved and after it is restored.
const (
	traceBefore = "before-the-save"
	traceAfter  = "after-the-restore"
)

// trace has the guest fill memory and print something. The console stays open.
func (c *C) trace(d *polyvisor.Domain) *trace {
	tr := &trace{c: c}
	g := c.h.Guest
	if g == nil || !c.has(polyvisor.FeatureConsole) {
		return tr
	}
	t := c.console(d, polyvisor.ConsoleOptions{})
	for line := range strings.Lines(t.await(g.Prompt)) {
		if tr.banner = strings.TrimSpace(line); tr.banner != "" {
			break
		}
	}
	if g.Fill != "" && g.Sum != "" {
		fresh := t.ask(g.Sum + " 4")
		t.ask(g.Fill + " 4 20111")
		tr.sum = t.ask(g.Sum + " 4")
		c.check(tr.sum != fresh, "the guest answers %q to %q before and after it has filled that memory", tr.sum, g.Sum+" 4")
	}
	t.ask(g.Echo + " " + traceBefore)
	return tr
}

// goesOn checks that the restored guest is where it was: that it has not booted
// again and that its memory holds what it held.
func (tr *trace) goesOn(d *polyvisor.Domain) {
	c, g := tr.c, tr.c.h.Guest
	if g == nil || !c.has(polyvisor.FeatureConsole) {
		return
	}
	t := c.console(d, polyvisor.ConsoleOptions{})
	defer t.close()
	t.send(g.Echo + " " + traceAfter)
	t.await("\n" + traceAfter)
	t.await(g.Prompt)
	said := t.all()
	if at := strings.LastIndex(said, "\n"+traceBefore); at >= 0 {
		said = said[at:] // before that it is what the guest printed when it booted
	}
	c.check(tr.banner == "" || !strings.Contains(said, tr.banner), "the restored guest booted again and did not go on where it was; it printed %q", tail(said))
	if tr.sum != "" {
		sum := t.ask(g.Sum + " 4")
		c.check(sum == tr.sum, "the sum of the restored guest's memory is %q, was %q", sum, tr.sum)
	}
}
