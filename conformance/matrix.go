package conformance

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/polyvisor/polyvisor"
)

// Cell is one entry of the matrix of every method in every state on every kind
// of connection. The state of methods of the connection is "connection".
type Cell struct {
	Method string `json:"method"`
	State  string `json:"state"`
	Mode   string `json:"mode"`
	// Got is what the method returned: "ok" or the words of an error code. Want
	// is what it must return; empty if nothing is laid down.
	Got  string `json:"got"`
	Want string `json:"want"`
}

// The kinds of connection.
const (
	modeRW     = "read-write"
	modeRO     = "read-only"
	modeClosed = "closed"
)

// Matrix gives the whole matrix of a hypervisor, so that it can be printed and
// compared with another one's. States that the hypervisor's domains cannot be
// brought to are left out. The error tells why the matrix could not be made;
// cells that are not as they must be are none.
func Matrix(ctx context.Context, h Harness) ([]Cell, error) {
	done, err := h.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	var cells []Cell
	for _, matrixCase := range matrixColumns() {
		cs := matrixCase(func(_ *C, cell Cell) { cells = append(cells, cell) })
		if r := h.run(ctx, cs); r.Status == Failed {
			return cells, fmt.Errorf("%s: %s", r.Name, r.Reason)
		}
	}
	return cells, nil
}

func matrixCases() []Case {
	var cases []Case
	for _, matrixCase := range matrixColumns() {
		cases = append(cases, matrixCase(func(c *C, cell Cell) {
			of := ""
			if cell.State != connColumn {
				of = " of a domain that is " + cell.State
			}
			if cell.Want != "" {
				c.check(cell.Got == cell.Want, "%s%s on a connection that is %s: %s; want %s", cell.Method, of, cell.Mode, cell.Got, cell.Want)
			}
		}))
	}
	return cases
}

// matrixColumns give the case of each column, which tells its cells.
func matrixColumns() []func(tell func(*C, Cell)) Case {
	var list []func(func(*C, Cell)) Case
	for _, st := range matrixStates {
		list = append(list, st.matrixCase)
	}
	return append(list, connCase)
}

// matrixState is a state in which domains are given to every method.
type matrixState struct {
	name   string
	state  polyvisor.State
	active bool
	gone   bool
	need   []polyvisor.Feature
	talks  bool
	words  []string // of Guest, that bring it there; none if nothing does
	seeds  []string
	make   func(c *C, name string) *polyvisor.Domain
}

var matrixStates = []matrixState{
	{name: "shutoff", state: polyvisor.Shutoff, make: func(c *C, name string) *polyvisor.Domain { return c.define(name, matrixConfig(c)) }},
	{name: "running", state: polyvisor.Running, active: true, make: func(c *C, name string) *polyvisor.Domain { return c.started(name, matrixConfig(c)) }},
	{name: "paused", state: polyvisor.Paused, active: true, need: []polyvisor.Feature{polyvisor.FeatureSuspend},
		make: func(c *C, name string) *polyvisor.Domain {
			d := c.define(name, matrixConfig(c))
			c.ok(d.Start(c.ctx, polyvisor.StartPaused()), "start paused")
			return d
		}},
	{name: "crashed", state: polyvisor.Crashed, need: []polyvisor.Feature{polyvisor.FeatureConsole}, talks: true,
		make: func(c *C, name string) *polyvisor.Domain {
			d := c.started(name, matrixConfig(c))
			t := c.talk(d)
			t.send(c.h.Guest.Crash)
			c.stopped(d, polyvisor.StopCrash)
			t.close()
			return d
		}},
	{name: "blocked", state: polyvisor.Blocked, active: true, need: []polyvisor.Feature{polyvisor.FeatureGuestStates, polyvisor.FeatureConsole}, talks: true,
		words: []string{"Block"}, seeds: []string{"VIR_DOMAIN_BLOCKED"},
		make: func(c *C, name string) *polyvisor.Domain {
			d := c.started(name, matrixConfig(c))
			c.said(d, c.h.Guest.Block)
			c.comes(d, polyvisor.Blocked)
			return d
		}},
	{name: "in shutdown", state: polyvisor.ShuttingDown, active: true, need: []polyvisor.Feature{polyvisor.FeatureGuestStates, polyvisor.FeatureConsole, polyvisor.FeatureShutdown}, talks: true,
		words: []string{"Linger"},
		make: func(c *C, name string) *polyvisor.Domain {
			d := c.started(name, matrixConfig(c))
			c.said(d, c.h.Guest.Linger)
			c.ok(d.Shutdown(c.ctx), "shutdown")
			c.comes(d, polyvisor.ShuttingDown)
			return d
		}},
	{name: "crashed-preserved", state: polyvisor.Crashed, active: true, talks: true,
		need: []polyvisor.Feature{polyvisor.FeatureConsole, polyvisor.FeatureLifecyclePolicy, polyvisor.FeaturePreserve}, seeds: []string{"VIR_DOMAIN_PRESERVE"},
		make: func(c *C, name string) *polyvisor.Domain {
			d := c.started(name, matrixConfig(c), func(cfg *polyvisor.Config) { cfg.OnCrash = polyvisor.ActionPreserve })
			t := c.talk(d)
			t.send(c.h.Guest.Crash)
			c.comes(d, polyvisor.Crashed)
			t.close()
			return d
		}},
	{name: "transient", state: polyvisor.Running, active: true, need: []polyvisor.Feature{polyvisor.FeatureTransient},
		make: func(c *C, name string) *polyvisor.Domain { return c.create(name, matrixConfig(c)) }},
	{name: "gone", gone: true, make: func(c *C, name string) *polyvisor.Domain {
		d := c.define(name, matrixConfig(c))
		c.ok(d.Undefine(c.ctx), "undefine")
		return d
	}},
}

// matrixConfig gives domains the balloon that SetMemory of an active one needs.
func matrixConfig(c *C) func(*polyvisor.Config) {
	return func(cfg *polyvisor.Config) { cfg.Balloon = c.has(polyvisor.FeatureBalloon) }
}

// preserved tells whether what has crashed is kept.
func (st matrixState) preserved() bool { return st.state == polyvisor.Crashed && st.active }

// said types a line on the console of a domain that has booted, waits for the
// beginning of the answer, and lets go of the console.
func (c *C) said(d *polyvisor.Domain, line string) {
	t := c.talk(d)
	t.send(line)
	t.await("\n") // the line itself; what follows is the answer
	t.await("\n")
	t.close()
}

// comes waits until a domain is in a state that its guest brings about.
func (c *C) comes(d *polyvisor.Domain, want polyvisor.State) {
	c.eventually("the domain is "+want.String(), func() bool {
		s, err := d.State(c.ctx)
		c.ok(err, "state")
		return s == want
	})
}

func (st matrixState) matrixCase(tell func(*C, Cell)) Case {
	return Case{
		Name: "matrix/" + strings.ReplaceAll(st.name, " ", "-"), Features: st.need, Talks: st.talks, Words: st.words,
		Rule:  fmt.Sprintf("Every method of a domain that is %s, on a connection that can change it, on a read-only and on a closed one, does what the transition table allows and fails with the code of what forbids it otherwise: first the closed connection, then the missing feature, then the read-only connection, then the state. What is refused changes nothing.", st.name),
		Seeds: append([]string{"virDomainState", "VM_ERR_INVALID_STATE", "virConnectOpenReadOnly", "VIR_DOMAIN_SHUTDOWN"}, st.seeds...),
		Run:   func(c *C) { st.run(c, tell) },
	}
}

func (st matrixState) run(c *C, tell func(*C, Cell)) {
	d := st.make(c, "subject")
	on := func(conn *polyvisor.Conn) *polyvisor.Domain {
		if st.gone {
			return nil // has to be looked up while it exists
		}
		same, err := conn.DomainByUUID(c.ctx, d.UUID())
		c.ok(err, "lookup")
		return same
	}
	ro, closed := c.Open(polyvisor.ReadOnly()), c.Open()
	roDom, closedDom := on(ro), on(closed)
	if st.gone {
		e := c.define("subject", matrixConfig(c))
		var err error
		roDom, err = ro.DomainByUUID(c.ctx, e.UUID())
		c.ok(err, "lookup")
		closedDom, err = closed.DomainByUUID(c.ctx, e.UUID())
		c.ok(err, "lookup")
		c.ok(e.Undefine(c.ctx), "undefine")
	}
	c.ok(closed.Close(), "close")
	for _, m := range methods {
		cell := func(mode string, dom *polyvisor.Domain) {
			got := word(m.call(c, c.ctx, dom))
			want := m.want(c, st, mode)
			tell(c, Cell{Method: m.name, State: st.name, Mode: mode, Got: got, Want: want})
			if mode != modeRW || !m.changes || got != "ok" {
				c.same(d, st, m.name+" on a connection that is "+mode)
			}
		}
		cell(modeClosed, closedDom)
		cell(modeRO, roDom)
		cell(modeRW, d)
		if want := m.want(c, st, modeRW); m.changes && (want == "ok" || want == "" && !st.gone) {
			if to := polyvisor.Transitions[m.op].To; to != polyvisor.NoState && !m.asks {
				if _, err := d.State(c.ctx); err == nil {
					c.state(d, to, m.name)
				}
			}
			c.ok(c.h.clean(c.ctx), "remove the subject")
			d = st.make(c, "subject")
			roDom = on(ro)
		}
	}
}

// same checks that the subject is as it was.
func (c *C) same(d *polyvisor.Domain, st matrixState, after string) {
	if st.gone {
		return
	}
	s, err := d.State(c.ctx)
	if s == polyvisor.Blocked && st.state == polyvisor.Running {
		s = polyvisor.Running
	}
	c.check(err == nil && s == st.state, "after %s the domain is %s (%v), want %s", after, s, err, st.state)
}

func word(err error) string {
	if err == nil {
		return "ok"
	}
	return polyvisor.CodeOf(err).String()
}

// Describe prints cells as a table: a line for each method and kind of
// connection, a column for each state.
func Describe(cells []Cell) string {
	var states, rows []string
	byRow := map[string]map[string]string{}
	for _, cell := range cells {
		row := fmt.Sprintf("%-22s %-10s", cell.Method, cell.Mode)
		if byRow[row] == nil {
			byRow[row] = map[string]string{}
			rows = append(rows, row)
		}
		if !slices.Contains(states, cell.State) {
			states = append(states, cell.State)
		}
		byRow[row][cell.State] = cell.Got
	}
	var b strings.Builder
	line := func(head string, words []string) {
		text := head
		for _, w := range words {
			text += fmt.Sprintf(" %-22s", w)
		}
		b.WriteString(strings.TrimRight(text, " ") + "\n")
	}
	line(fmt.Sprintf("%-22s %-10s", "method", "connection"), states)
	for _, row := range rows {
		var words []string
		for _, s := range states {
			words = append(words, byRow[row][s])
		}
		line(row, words)
	}
	return b.String()
}
