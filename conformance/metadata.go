package conformance

import (
	"maps"
	"slices"

	"github.com/polyvisor/polyvisor"
)

func metadataCases() []Case {
	return []Case{
		{
			Name: "labels/kept", Features: []polyvisor.Feature{polyvisor.FeatureLabels},
			Rule: "SetLabels replaces all labels of a domain, active or not, in the definition and in the run; they choose domains in a list. Keys and values that are wrong are ErrInvalidConfig and change nothing.",
			Run:  labelsKept,
		},
		{
			Name: "autostart/kept", Features: []polyvisor.Feature{polyvisor.FeatureAutostart},
			Rule: "Autostart is off at first, is switched on and off for an active and an inactive domain, and survives the run; a transient domain refuses it with ErrInvalidState.",
			Run:  autostartKept,
		},
		{
			Name: "rename/inactive", Features: []polyvisor.Feature{polyvisor.FeatureRename},
			Rule: "Rename gives an inactive domain another name; UUID and definition stay and the old name is free. A name that is taken is ErrExists, a wrong one ErrInvalidConfig, an active domain ErrInvalidState.",
			Run:  renameInactive,
		},
	}
}

func labelsKept(c *C) {
	d := c.define("labelled", func(cfg *polyvisor.Config) { cfg.Labels = map[string]string{"tier": "web"} })
	has := func(want map[string]string, after string) {
		got, err := d.Labels(c.ctx)
		c.ok(err, "labels")
		c.check(maps.Equal(got, want), "after %s the labels are %v, want %v", after, got, want)
	}
	has(map[string]string{"tier": "web"}, "define")
	c.define("plain")
	chosen := c.names(c.conn, polyvisor.DomainFilter{Labels: map[string]string{"tier": "web"}})
	c.check(slices.Equal(chosen, []string{"labelled"}), "the label chooses %q", chosen)
	given := map[string]string{"a": "1", "b/c": "ü"}
	want := maps.Clone(given)
	c.ok(d.SetLabels(c.ctx, given), "set labels")
	given["a"] = "changed by the caller"
	has(want, "set labels")
	c.ok(d.Start(c.ctx), "start")
	has(want, "start")
	want = map[string]string{"phase": "running"}
	c.ok(d.SetLabels(c.ctx, want), "set labels of a running domain")
	has(want, "set labels of a running domain")
	c.ok(d.Destroy(c.ctx), "destroy")
	has(want, "the run")
	for _, wrong := range []map[string]string{{"": "x"}, {"white space": "x"}, {"k": "line\nbreak"}, {"k": "\xff"}} {
		c.fails(d.SetLabels(c.ctx, wrong), "set wrong labels", polyvisor.CodeInvalidConfig)
	}
	has(want, "labels that were refused")
	c.ok(d.SetLabels(c.ctx, nil), "remove all labels")
	has(nil, "removing them")
}

func autostartKept(c *C) {
	d := c.define("eager")
	is := func(want bool, after string) {
		on, err := d.Autostart(c.ctx)
		c.ok(err, "autostart")
		c.check(on == want, "after %s autostart is %t", after, on)
	}
	is(false, "define")
	c.ok(d.SetAutostart(c.ctx, true), "switch it on")
	is(true, "switching it on")
	c.ok(d.Start(c.ctx), "start")
	is(true, "start")
	c.ok(d.SetAutostart(c.ctx, false), "switch it off in the run")
	is(false, "switching it off in the run")
	c.ok(d.SetAutostart(c.ctx, true), "switch it on in the run")
	c.ok(d.Destroy(c.ctx), "destroy")
	is(true, "the run")
	if c.has(polyvisor.FeatureTransient) {
		c.fails(c.create("brief").SetAutostart(c.ctx, true), "autostart of a transient domain", polyvisor.CodeInvalidState)
	}
}

func renameInactive(c *C) {
	d, other := c.define("old"), c.define("other")
	before := c.configOf(d)
	c.ok(d.Rename(c.ctx, Prefix+"new"), "rename")
	c.check(d.Name() == Prefix+"new", "the handle's name is %q", d.Name())
	same, err := c.conn.Domain(c.ctx, Prefix+"new")
	c.ok(err, "lookup by the new name")
	c.check(same.UUID() == d.UUID(), "the new name has UUID %s, want %s", same.UUID(), d.UUID())
	before.Name = d.Name()
	c.check(sameConfig(c.configOf(same), before), "the definition is %+v, want %+v", c.configOf(same), before)
	_, err = c.conn.Domain(c.ctx, Prefix+"old")
	c.fails(err, "lookup by the old name", polyvisor.CodeNotFound)
	c.define("old")
	c.fails(d.Rename(c.ctx, other.Name()), "rename to a name that is taken", polyvisor.CodeExists)
	c.fails(d.Rename(c.ctx, "a/b"), "rename to a wrong name", polyvisor.CodeInvalidConfig)
	c.check(d.Name() == Prefix+"new", "a rename that was refused left the name %q", d.Name())
	c.ok(d.Start(c.ctx), "start")
	c.fails(d.Rename(c.ctx, Prefix+"newer"), "rename of an active domain", polyvisor.CodeInvalidState)
}
