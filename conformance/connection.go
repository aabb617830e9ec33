package conformance

import (
	"slices"
	"strings"

	"github.com/polyvisor/polyvisor"
)

func connectionCases() []Case {
	return []Case{
		{
			Name: "connection/identity",
			Rule: "A connection tells its type, URI, versions, host and capabilities. The host has at least one CPU, memory for the least guest, a model, a frequency that processors have if it is known, and a topology with room for its active CPUs; it is the same whenever it is asked for, and the one that the harness knows. Features are declared once, and only such as this library knows.",
			Seeds: []string{"virInitialize", "virConnectOpen", "virConnectGetType", "virConnectGetVersion", "virGetVersion", "LIBVIR_VERSION_NUMBER",
				"virNodeGetInfo", "VIR_NODEINFO_MAXCPUS", "virNodeInfo", "virNodeInfo.model", "virNodeInfo.memory", "virNodeInfo.cpus", "virNodeInfo.mhz", "virNodeInfo.nodes",
				"virNodeInfo.sockets", "virNodeInfo.cores", "virNodeInfo.threads", "virNodeInfoPtr", "virConnect", "virConnectPtr", "virDomainGetOSType", "AVirtualizationService_create", "AVirtualizationService"},
			Run: connectionIdentity,
		},
		{
			Name:  "connection/closed",
			Rule:  "Close may be called more than once. Every later call fails with ErrClosed, and domains run on without the connection, unless they live in the program that opened it.",
			Seeds: []string{"virConnectClose", "AVirtualizationService_destroy", "virDomainFree"},
			Run:   connectionClosed,
		},
		{
			Name:  "connection/close-ends-calls",
			Rule:  "Close ends the calls that are under way, with ErrClosed.",
			Seeds: []string{"virConnectClose"},
			Run: func(c *C) {
				d := c.started("waited-for")
				other := c.Open()
				same, err := other.Domain(c.ctx, d.Name())
				c.ok(err, "lookup")
				ch := background(func() error { _, err := same.Wait(c.ctx); return err })
				c.ok(other.Close(), "close")
				c.fails(c.result(ch, "Wait on a connection that was closed"), "Wait on a connection that was closed", polyvisor.CodeClosed)
				c.state(d, polyvisor.Running, "the closing of another connection")
			},
		},
		{
			Name:  "connection/shared",
			Rule:  "Connections to one hypervisor see the same domains at once: what one defines, starts and removes the others find defined, running and gone.",
			Seeds: []string{"virConnectOpen"},
			Run:   connectionShared,
		},
		{
			Name:  "connection/read-only",
			Rule:  "On a read-only connection everything can be read, and whatever would change a domain fails with ErrReadOnly and changes nothing.",
			Seeds: []string{"virConnectOpenReadOnly"},
			Run:   connectionReadOnly,
		},
	}
}

func connectionIdentity(c *C) {
	c.check(c.conn.Type() != "", "the type is empty")
	_, err := polyvisor.ParseURI(c.conn.URI())
	c.check(err == nil, "the URI %q does not parse: %v", c.conn.URI(), err)
	v, err := c.conn.Version(c.ctx)
	c.ok(err, "version")
	c.check(v.Library == polyvisor.LibraryVersion && v.Hypervisor != "", "version %+v", v)
	library, _ := v.Numbers() // a hypervisor's text need not have one
	c.check(library > 0, "the versions %+v have no number for the library", v)
	n := c.node()
	host, err := c.conn.Hostname(c.ctx)
	c.ok(err, "hostname")
	c.check(host != "" && host == n.Hostname, "the hostname is %q, and %q in Node", host, n.Hostname)
	c.check(c.caps.Arch != "" && c.caps.OSType != "", "capabilities without architecture or OS type: %+v", c.caps)
	c.check(c.caps.MaxMemory == 0 || c.caps.MinMemory <= c.caps.MaxMemory, "memory from %d to %d", c.caps.MinMemory, c.caps.MaxMemory)
	for i, f := range c.caps.Features {
		c.check(slices.Contains(polyvisor.Features(), f), "unknown feature %q", f)
		c.check(!slices.Contains(c.caps.Features[:i], f), "feature %q is declared twice", f)
		c.check(c.caps.Reasons[f] == "", "feature %q is declared, and there is a reason why it is missing", f)
	}
	d := c.define("os-type")
	c.check(d.OSType() == c.caps.OSType, "the domain's OS type is %q, the connection's %q", d.OSType(), c.caps.OSType)
	c.check(d.Conn() == c.conn, "the domain is not on its connection")
}

func connectionClosed(c *C) {
	other := c.Open()
	d := c.define("left")
	same, err := other.DomainByUUID(c.ctx, d.UUID())
	c.ok(err, "lookup on another connection")
	c.ok(other.Close(), "close")
	c.ok(other.Close(), "close again")
	_, err = other.Domains(c.ctx, polyvisor.DomainFilter{})
	c.fails(err, "list on a closed connection", polyvisor.CodeClosed)
	_, err = same.State(c.ctx)
	c.fails(err, "state on a closed connection", polyvisor.CodeClosed)
	c.fails(same.Start(c.ctx), "start on a closed connection", polyvisor.CodeClosed)
	c.check(same.Name() == d.Name() && same.UUID() == d.UUID(), "the handle has lost its name or UUID")
	c.state(d, polyvisor.Shutoff, "the closing of another connection")
}

func connectionShared(c *C) {
	d := c.define("shared")
	other := c.Open()
	same, err := other.Domain(c.ctx, d.Name())
	c.ok(err, "lookup on a second connection")
	c.check(same.UUID() == d.UUID(), "the second connection finds UUID %s, want %s", same.UUID(), d.UUID())
	c.ok(same.Start(c.ctx), "start on the second connection")
	c.state(d, polyvisor.Running, "a start on another connection")
	a, b := c.info(d), polyvisor.Info{}
	b, err = same.Info(c.ctx)
	c.ok(err, "info on the second connection")
	c.check(a.ID == b.ID && a.ID > 0, "the ID is %d here and %d there", a.ID, b.ID)
	c.ok(d.Destroy(c.ctx), "destroy on the first connection")
	c.state(same, polyvisor.Shutoff, "a destroy on another connection")
	c.ok(same.Undefine(c.ctx), "undefine on the second connection")
	c.gone(d, "undefine on another connection")
}

func connectionReadOnly(c *C) {
	d := c.started("seen")
	ro := c.Open(polyvisor.ReadOnly())
	c.check(ro.IsReadOnly() && !c.conn.IsReadOnly(), "IsReadOnly tells the wrong thing")
	same, err := ro.Domain(c.ctx, d.Name())
	c.ok(err, "lookup")
	c.state(same, polyvisor.Running, "opening a read-only connection")
	_, err = same.Config(c.ctx)
	c.ok(err, "config")
	_, err = ro.Node(c.ctx)
	c.ok(err, "node info")
	c.check(slices.Contains(c.names(ro, polyvisor.DomainFilter{Active: true}), "seen"), "the domain is not listed")
	_, err = ro.Define(c.ctx, c.Config("new"))
	c.fails(err, "define", polyvisor.CodeReadOnly)
	c.fails(same.Destroy(c.ctx), "destroy", polyvisor.CodeReadOnly)
	c.fails(same.Undefine(c.ctx), "undefine", polyvisor.CodeReadOnly)
	c.fails(same.Remove(c.ctx), "remove", polyvisor.CodeReadOnly)
	c.fails(same.SetState(c.ctx, polyvisor.Shutoff), "set state", polyvisor.CodeReadOnly)
	c.state(d, polyvisor.Running, "attempts on a read-only connection")
	c.persistent(d, true, "attempts on a read-only connection")
	c.check(strings.Join(c.names(c.conn, polyvisor.DomainFilter{}), " ") == "seen", "attempts on a read-only connection made a domain")
}
