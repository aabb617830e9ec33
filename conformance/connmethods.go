package conformance

import (
	"context"
	"slices"

	"github.com/google/uuid"

	"github.com/polyvisor/polyvisor"
)

// connColumn is the column of the matrix with the methods of connections, which
// have no state of a domain.
const connColumn = "connection"

// connMethod is a method of Conn, or a use of one, as a line of the matrix.
type connMethod struct {
	name string
	need []polyvisor.Feature
	// changes is set if a read-only connection refuses it.
	changes bool
	// wrong is set if its arguments are wrong on every connection.
	wrong bool
	call  func(ctx context.Context, w *connWorld, conn *polyvisor.Conn) error
}

// connWorld is what the methods are called with.
type connWorld struct {
	c     *C
	d     *polyvisor.Domain // a running one
	id    int
	xml   string // describes a domain that is not there
	saved string // holds one that is not there
}

func (m connMethod) want(c *C, mode string) string {
	switch {
	case mode == modeClosed:
		return polyvisor.CodeClosed.String()
	case !c.has(m.need...):
		return polyvisor.CodeUnsupported.String()
	case m.wrong:
		return polyvisor.CodeInvalidConfig.String()
	case mode == modeRO && m.changes:
		return polyvisor.CodeReadOnly.String()
	}
	return "ok"
}

// made wraps a method that gives a domain, which it removes.
func made(f func(ctx context.Context, w *connWorld, conn *polyvisor.Conn) (*polyvisor.Domain, error)) func(context.Context, *connWorld, *polyvisor.Conn) error {
	return func(ctx context.Context, w *connWorld, conn *polyvisor.Conn) error {
		d, err := f(ctx, w, conn)
		if err == nil {
			w.c.ok(d.Remove(ctx), "remove what was made")
		}
		return err
	}
}

// asks wraps a method that takes nothing and gives a value.
func asks[T any](f func(*polyvisor.Conn, context.Context) (T, error)) func(context.Context, *connWorld, *polyvisor.Conn) error {
	return func(ctx context.Context, _ *connWorld, conn *polyvisor.Conn) error {
		_, err := f(conn, ctx)
		return err
	}
}

// finds wraps a lookup, which must find the running domain.
func finds(f func(ctx context.Context, w *connWorld, conn *polyvisor.Conn) (*polyvisor.Domain, error)) func(context.Context, *connWorld, *polyvisor.Conn) error {
	return func(ctx context.Context, w *connWorld, conn *polyvisor.Conn) error {
		d, err := f(ctx, w, conn)
		if err == nil {
			w.c.check(d.UUID() == w.d.UUID(), "the lookup found %s", d.Name())
		}
		return err
	}
}

// connMethods are all methods of Conn that can fail, but for Close.
var connMethods = []connMethod{
	{name: "Version", call: asks((*polyvisor.Conn).Version)},
	{name: "Node", call: asks((*polyvisor.Conn).Node)},
	{name: "Hostname", call: asks((*polyvisor.Conn).Hostname)},
	{name: "Domains", call: func(ctx context.Context, _ *connWorld, conn *polyvisor.Conn) error {
		_, err := conn.Domains(ctx, polyvisor.DomainFilter{})
		return err
	}},
	{name: "CountDomains", call: func(ctx context.Context, _ *connWorld, conn *polyvisor.Conn) error {
		_, _, err := conn.CountDomains(ctx)
		return err
	}},
	{name: "Conn.Stats", need: features(polyvisor.FeatureStats), call: func(ctx context.Context, w *connWorld, conn *polyvisor.Conn) error {
		all, err := conn.Stats(ctx, polyvisor.DomainFilter{})
		w.c.check(err != nil || len(all) > 0, "there are no statistics of what runs")
		return err
	}},
	{name: "Subscribe", need: features(polyvisor.FeatureEvents), call: func(ctx context.Context, _ *connWorld, conn *polyvisor.Conn) error {
		s, err := conn.Subscribe(ctx, polyvisor.SubscribeOptions{})
		if err == nil {
			err = s.Close()
		}
		return err
	}},
	{name: "Domain", call: finds(func(ctx context.Context, w *connWorld, conn *polyvisor.Conn) (*polyvisor.Domain, error) {
		return conn.Domain(ctx, w.d.Name())
	})},
	{name: "DomainByUUID", call: finds(func(ctx context.Context, w *connWorld, conn *polyvisor.Conn) (*polyvisor.Domain, error) {
		return conn.DomainByUUID(ctx, w.d.UUID())
	})},
	{name: "DomainByID", call: finds(func(ctx context.Context, w *connWorld, conn *polyvisor.Conn) (*polyvisor.Domain, error) {
		return conn.DomainByID(ctx, w.id)
	})},
	{name: "Domain no name", wrong: true, call: finds(func(ctx context.Context, _ *connWorld, conn *polyvisor.Conn) (*polyvisor.Domain, error) {
		return conn.Domain(ctx, "")
	})},
	{name: "DomainByUUID zero", wrong: true, call: finds(func(ctx context.Context, _ *connWorld, conn *polyvisor.Conn) (*polyvisor.Domain, error) {
		return conn.DomainByUUID(ctx, uuid.Nil)
	})},
	{name: "DomainByID 0", wrong: true, call: finds(func(ctx context.Context, _ *connWorld, conn *polyvisor.Conn) (*polyvisor.Domain, error) {
		return conn.DomainByID(ctx, 0)
	})},
	{name: "Define", changes: true, call: made(func(ctx context.Context, w *connWorld, conn *polyvisor.Conn) (*polyvisor.Domain, error) {
		return conn.Define(ctx, w.c.Config("made"))
	})},
	{name: "Define nil", changes: true, wrong: true, call: made(func(ctx context.Context, _ *connWorld, conn *polyvisor.Conn) (*polyvisor.Domain, error) {
		return conn.Define(ctx, nil)
	})},
	{name: "DefineXML", need: features(polyvisor.FeatureXML), changes: true,
		call: made(func(ctx context.Context, w *connWorld, conn *polyvisor.Conn) (*polyvisor.Domain, error) {
			return conn.DefineXML(ctx, w.xml)
		})},
	{name: "Create", need: features(polyvisor.FeatureTransient), changes: true,
		call: made(func(ctx context.Context, w *connWorld, conn *polyvisor.Conn) (*polyvisor.Domain, error) {
			return conn.Create(ctx, w.c.Config("made"))
		})},
	{name: "Create nil", need: features(polyvisor.FeatureTransient), changes: true, wrong: true,
		call: made(func(ctx context.Context, _ *connWorld, conn *polyvisor.Conn) (*polyvisor.Domain, error) {
			return conn.Create(ctx, nil)
		})},
	{name: "CreateXML", need: features(polyvisor.FeatureXML, polyvisor.FeatureTransient), changes: true,
		call: made(func(ctx context.Context, w *connWorld, conn *polyvisor.Conn) (*polyvisor.Domain, error) {
			return conn.CreateXML(ctx, w.xml)
		})},
	{name: "Restore", need: features(polyvisor.FeatureSave), changes: true,
		call: made(func(ctx context.Context, w *connWorld, conn *polyvisor.Conn) (*polyvisor.Domain, error) {
			return conn.Restore(ctx, w.saved)
		})},
	{name: "Restore no file", need: features(polyvisor.FeatureSave), changes: true, wrong: true,
		call: made(func(ctx context.Context, _ *connWorld, conn *polyvisor.Conn) (*polyvisor.Domain, error) {
			return conn.Restore(ctx, "")
		})},
}

func connCase(tell func(*C, Cell)) Case {
	return Case{
		Name:  "matrix/connection",
		Rule:  "Every method of a connection, on one that can change domains, on a read-only and on a closed one, works or fails with the code of what forbids it: first the closed connection, then the missing feature, then wrong arguments, then the read-only connection. What is refused makes nothing and ends nothing.",
		Seeds: []string{"virConnectOpenReadOnly", "virConnectClose"},
		Run:   func(c *C) { runConnMethods(c, tell) },
	}
}

func runConnMethods(c *C, tell func(*C, Cell)) {
	w := &connWorld{c: c, d: c.started("there"), saved: c.path("saved")}
	w.id = c.info(w.d).ID
	if c.has(polyvisor.FeatureXML) {
		d := c.define("made")
		var err error
		w.xml, err = d.XML(c.ctx)
		c.ok(err, "XML")
		c.ok(d.Undefine(c.ctx), "undefine")
	}
	if c.has(polyvisor.FeatureSave) {
		d := c.started("made")
		c.ok(d.Save(c.ctx, w.saved), "save")
		c.ok(d.Undefine(c.ctx), "undefine")
	}
	conns := []struct {
		mode string
		conn *polyvisor.Conn
	}{{modeClosed, c.Open()}, {modeRO, c.Open(polyvisor.ReadOnly())}, {modeRW, c.conn}}
	c.ok(conns[0].conn.Close(), "close")
	for _, m := range connMethods {
		for _, on := range conns {
			got := word(m.call(c.ctx, w, on.conn))
			tell(c, Cell{Method: m.name, State: connColumn, Mode: on.mode, Got: got, Want: m.want(c, on.mode)})
			left := c.names(c.conn, polyvisor.DomainFilter{Active: true, Inactive: true})
			c.check(slices.Equal(left, []string{"there"}), "after %s on a connection that is %s there are the domains %q", m.name, on.mode, left)
			c.state(w.d, polyvisor.Running, m.name+" on a connection that is "+on.mode)
		}
	}
}
