package conformance

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/polyvisor/polyvisor"
)

func lookupCases() []Case {
	return []Case{
		{
			Name: "lookup/keys",
			Rule: "A domain is found by its name, by its UUID, also written as text, and while it is active by its ID; what is found is the same domain.",
			Seeds: []string{"virDomainLookupByName", "virDomainLookupByUUID", "virDomainLookupByUUIDString", "virDomainLookupByID",
				"virDomainGetName", "virDomainGetUUID", "virDomainGetUUIDString", "virDomainGetID", "virDomain", "virDomainPtr"},
			Run: lookupKeys,
		},
		{
			Name:  "lookup/not-found",
			Rule:  "What does not exist is ErrNotFound; an empty name, a zero UUID and an ID below 1 are ErrInvalidConfig; an inactive domain has no ID.",
			Seeds: []string{"virDomainLookupByName", "virDomainLookupByUUID", "virDomainLookupByID", "VM_ERR_INVALID_ID"},
			Run:   lookupNotFound,
		},
		{
			Name:  "lookup/similar-names",
			Rule:  "Names are compared byte by byte: domains whose names differ in case, in a suffix or in their form of Unicode are different, and a name that looks like a UUID or a number is a name.",
			Seeds: []string{"virDomainLookupByName"},
			Run:   lookupSimilar,
		},
		{
			Name:  "list/filters",
			Rule:  "The list holds every domain once, sorted by name; the filter chooses active or inactive ones, neither or both meaning all; the counts agree with the lists.",
			Seeds: []string{"virConnectListDomains", "virConnectNumOfDomains", "virConnectListDefinedDomains", "virConnectNumOfDefinedDomains"},
			Run:   listFilters,
		},
		{
			Name:  "list/while-busy",
			Rule:  "Nothing waits for another domain: lists come while others wait for a domain and while one is suspended; and while one does not answer at all, lists, counts, lookups, the statistics of all and whatever is asked of other domains or done to them come, the state of that one too, and it can be destroyed.",
			Seeds: []string{"virConnectListDomains", "virConnectNumOfDomains"},
			Run:   listWhileBusy,
		},
		{
			Name:  "id/rising",
			Rule:  "Every start gives the domain a new ID, positive and greater than those before; an ID is not used again, and a stopped domain is not found by the one that it had.",
			Seeds: []string{"virDomainGetID", "virDomainLookupByID"},
			Run:   idRising,
		},
	}
}

func lookupKeys(c *C) {
	d := c.started("found")
	id, err := d.ID(c.ctx)
	c.ok(err, "ID")
	text, err := uuid.Parse(d.UUID().String())
	c.ok(err, "parse the UUID's text")
	for _, f := range []struct {
		by   string
		look func() (*polyvisor.Domain, error)
	}{
		{"name", func() (*polyvisor.Domain, error) { return c.conn.Domain(c.ctx, d.Name()) }},
		{"UUID", func() (*polyvisor.Domain, error) { return c.conn.DomainByUUID(c.ctx, d.UUID()) }},
		{"UUID text", func() (*polyvisor.Domain, error) { return c.conn.DomainByUUID(c.ctx, text) }},
		{"ID", func() (*polyvisor.Domain, error) { return c.conn.DomainByID(c.ctx, id) }},
	} {
		got, err := f.look()
		if err != nil {
			c.Errorf("lookup by %s: %v", f.by, err)
			continue
		}
		gotID, err := got.ID(c.ctx)
		c.check(err == nil && got.Name() == d.Name() && got.UUID() == d.UUID() && gotID == id,
			"lookup by %s gives %q %s %d (%v), want %q %s %d", f.by, got.Name(), got.UUID(), gotID, err, d.Name(), d.UUID(), id)
	}
}

func lookupNotFound(c *C) {
	d := c.define("there")
	_, err := c.conn.Domain(c.ctx, Prefix+"not-there")
	c.fails(err, "lookup of a name that is not there", polyvisor.CodeNotFound)
	c.check(polyvisor.VMErrorOf(err) == polyvisor.VMErrInvalidID, "the VM Handler API's number of %v is %d, want VM_ERR_INVALID_ID", err, polyvisor.VMErrorOf(err))
	_, err = c.conn.DomainByUUID(c.ctx, uuid.New())
	c.fails(err, "lookup of a UUID that is not there", polyvisor.CodeNotFound)
	_, err = c.conn.DomainByID(c.ctx, 1<<30)
	c.fails(err, "lookup of an ID that is not there", polyvisor.CodeNotFound)
	_, err = c.conn.Domain(c.ctx, "")
	c.fails(err, "lookup of an empty name", polyvisor.CodeInvalidConfig)
	_, err = c.conn.DomainByUUID(c.ctx, uuid.Nil)
	c.fails(err, "lookup of a zero UUID", polyvisor.CodeInvalidConfig)
	_, err = c.conn.DomainByID(c.ctx, 0)
	c.fails(err, "lookup of ID 0", polyvisor.CodeInvalidConfig)
	_, err = d.ID(c.ctx)
	c.fails(err, "ID of an inactive domain", polyvisor.CodeInvalidState)
}

func lookupSimilar(c *C) {
	// The last two look the same: e with an acute accent, composed and not.
	names := []string{"a", "A", "a.", "a-1", "5", uuid.NewString(), "\u00e9", "e\u0301"}
	ids := map[string]uuid.UUID{}
	for _, n := range names {
		ids[n] = c.define(n).UUID()
	}
	for _, n := range names {
		d, err := c.conn.Domain(c.ctx, Prefix+n)
		c.ok(err, "lookup of %q", n)
		c.check(d.UUID() == ids[n] && d.Name() == Prefix+n, "lookup of %q gives %q", Prefix+n, d.Name())
	}
}

func listFilters(c *C) {
	before, beforeInactive, err := c.conn.CountDomains(c.ctx)
	c.ok(err, "count")
	c.define("c")
	c.started("b")
	c.define("a")
	want := func(f polyvisor.DomainFilter, names string) {
		got := c.names(c.conn, f)
		c.check(slices.Equal(got, strings.Fields(names)), "filter %+v lists %q, want %q", f, got, names)
	}
	want(polyvisor.DomainFilter{}, "a b c")
	want(polyvisor.DomainFilter{Active: true, Inactive: true}, "a b c")
	want(polyvisor.DomainFilter{Active: true}, "b")
	want(polyvisor.DomainFilter{Inactive: true}, "a c")
	active, inactive, err := c.conn.CountDomains(c.ctx)
	c.ok(err, "count")
	c.check(active == before+1 && inactive == beforeInactive+2, "%d active and %d inactive are counted, want %d and %d", active, inactive, before+1, beforeInactive+2)
}

func listWhileBusy(c *C) {
	d := c.started("busy")
	c.define("other")
	ch := background(func() error { _, err := d.Wait(c.ctx); return err })
	if c.has(polyvisor.FeatureSuspend) {
		c.ok(d.Suspend(c.ctx), "suspend")
	}
	done := background(func() error {
		list, err := c.conn.Domains(c.soon(c.h.Timeout/2), polyvisor.DomainFilter{})
		if err == nil && len(list) < 2 {
			c.Errorf("the list has %d domains, want both", len(list))
		}
		return err
	})
	c.ok(c.result(done, "a list while one domain is busy"), "list while one domain is busy")
	c.ok(d.Destroy(c.ctx), "destroy")
	c.ok(c.result(ch, "Wait"), "wait")
	if c.h.Hang != nil {
		whileOneHangs(c)
	}
}

// whileOneHangs does everything at once, since some drivers need a moment each
// time to find out that a domain does not answer.
func whileOneHangs(c *C) {
	hung, runs := c.started("hung"), c.started("runs")
	id, err := runs.ID(c.ctx)
	c.ok(err, "ID")
	release, err := c.h.Hang(c.ctx, hung.Name())
	if errors.Is(err, polyvisor.ErrUnsupported) {
		return
	}
	c.ok(err, "make a domain hang")
	c.cleanup("letting a domain answer again", release)
	if c.has(polyvisor.FeatureSuspend) {
		c.fails(hung.Suspend(c.soon(min(time.Second, c.h.Timeout/10))), "suspend of a domain that hangs", polyvisor.CodeCanceled)
	}
	all, limit := polyvisor.DomainFilter{}, c.soon(c.h.Timeout/2)
	lists := func(f polyvisor.DomainFilter, want ...*polyvisor.Domain) func() error {
		return func() error {
			list, err := c.conn.Domains(limit, f)
			for _, d := range want {
				c.check(err != nil || slices.ContainsFunc(list, func(o *polyvisor.Domain) bool { return o.UUID() == d.UUID() }), "while a domain hangs the list %+v is without %s", f, d.Name())
			}
			return err
		}
	}
	calls := []struct {
		what string
		need []polyvisor.Feature
		call func() error
	}{
		{"list", nil, lists(all, hung, runs)},
		{"list of active domains", nil, lists(polyvisor.DomainFilter{Active: true}, hung, runs)},
		{"list of inactive domains", nil, lists(polyvisor.DomainFilter{Inactive: true})},
		{"count", nil, func() error { _, _, err := c.conn.CountDomains(limit); return err }},
		{"lookup by name", nil, func() error { _, err := c.conn.Domain(limit, runs.Name()); return err }},
		{"lookup by UUID", nil, func() error { _, err := c.conn.DomainByUUID(limit, runs.UUID()); return err }},
		{"lookup by ID", nil, func() error { _, err := c.conn.DomainByID(limit, id); return err }},
		{"lookup of the one that hangs", nil, func() error { _, err := c.conn.Domain(limit, hung.Name()); return err }},
		{"state of the one that hangs", nil, func() error {
			s, err := hung.State(limit)
			c.check(err != nil || s.Active(), "a domain that hangs is %s, want active", s)
			return err
		}},
		{"info of another one", nil, func() error { _, err := runs.Info(limit); return err }},
		{"statistics of another one", []polyvisor.Feature{polyvisor.FeatureStats}, func() error { _, err := runs.Stats(limit); return err }},
		{"statistics of all", []polyvisor.Feature{polyvisor.FeatureStats}, func() error {
			list, err := c.conn.Stats(limit, all)
			c.check(err != nil || slices.ContainsFunc(list, func(s polyvisor.Stats) bool { return s.UUID == runs.UUID() }), "while a domain hangs the statistics of all are without %s", runs.Name())
			return err
		}},
		{"life of another one", nil, func() error {
			d, err := c.conn.Define(limit, c.Config("lives"))
			if err == nil {
				err = errors.Join(d.Start(limit), d.Destroy(limit), d.Undefine(limit))
			}
			return err
		}},
	}
	var running []<-chan error
	for _, o := range calls {
		ch := make(<-chan error)
		if c.has(o.need...) {
			ch = background(o.call)
		}
		running = append(running, ch)
	}
	for i, o := range calls {
		if c.has(o.need...) {
			if err := c.result(running[i], o.what+" while a domain hangs"); err != nil {
				c.Errorf("%s while a domain hangs: %v", o.what, err)
			}
		}
	}
	c.ok(hung.Destroy(c.ctx), "destroy a domain that hangs")
	c.state(hung, polyvisor.Shutoff, "the destruction of a domain that hung")
}

func idRising(c *C) {
	d, e := c.define("one"), c.define("two")
	last := 0
	for range 3 {
		for _, dom := range []*polyvisor.Domain{d, e} {
			c.ok(dom.Start(c.ctx), "start")
			id, err := dom.ID(c.ctx)
			c.ok(err, "ID")
			c.check(id > last, "ID %d comes after %d", id, last)
			last = id
			c.ok(dom.Destroy(c.ctx), "destroy")
			_, err = c.conn.DomainByID(c.ctx, id)
			c.fails(err, "lookup by the ID of a run that is over", polyvisor.CodeNotFound)
			c.check(c.info(dom).ID == -1, "Info of an inactive domain tells the ID %d, want -1", c.info(dom).ID)
		}
	}
}
