package conformance

import (
	"github.com/polyvisor/polyvisor"
)

func statsCases() []Case {
	stats := []polyvisor.Feature{polyvisor.FeatureStats}
	return []Case{
		{
			Name: "stats/domain", Features: stats,
			Rule: "Stats tells name, UUID and time, Info and one entry for each disk and NIC of the Config, in its order; counters do not fall during a run.",
			Run:  statsDomain,
		},
		{
			Name: "stats/bulk", Features: stats,
			Rule: "The statistics of many domains come in the order of the list, as the filter chooses, each as the domain itself tells it.",
			Run: func(c *C) {
				for _, n := range []string{"c", "a"} {
					c.started(n)
				}
				d := c.define("b")
				all, err := c.conn.Stats(c.ctx, polyvisor.DomainFilter{})
				c.ok(err, "bulk statistics")
				names := ""
				for _, s := range all {
					names += s.Name[min(len(Prefix), len(s.Name)):]
					c.check((s.UUID == d.UUID()) == (s.Name == d.Name()), "%s has UUID %s", s.Name, s.UUID)
					c.check(s.Info.State.Active() == (s.Name != d.Name()), "%s is %s", s.Name, s.Info.State)
				}
				c.check(names == "abc", "statistics of %q, want abc", names)
				all, err = c.conn.Stats(c.ctx, polyvisor.DomainFilter{Inactive: true})
				c.ok(err, "bulk statistics of inactive domains")
				c.check(len(all) == 1 && all[0].Name == d.Name(), "statistics of the inactive domains are %+v", all)
			},
		},
	}
}

func statsDomain(c *C) {
	d := c.started("counted", func(cfg *polyvisor.Config) {
		if c.has(polyvisor.FeatureDisks) {
			addDevice(cfg, &polyvisor.Disk{Target: "vdt", Source: polyvisor.Path(c.image("disk"))})
		}
		if c.has(polyvisor.FeatureNICs) {
			addDevice(cfg, &polyvisor.NIC{})
		}
	})
	cfg := c.configOf(d)
	a, err := d.Stats(c.ctx)
	c.ok(err, "statistics")
	c.check(a.Name == d.Name() && a.UUID == d.UUID() && !a.Time.IsZero(), "statistics of %q %s at %s", a.Name, a.UUID, a.Time)
	c.check(a.Info.State.Active() && a.Info.Memory == c.info(d).Memory && a.Info.ID == c.info(d).ID, "Info in the statistics is %+v", a.Info)
	c.check(len(a.Disks) == len(cfg.Disks) && len(a.NICs) == len(cfg.NICs), "%d disks and %d NICs are counted, want %d and %d", len(a.Disks), len(a.NICs), len(cfg.Disks), len(cfg.NICs))
	for i := range min(len(a.Disks), len(cfg.Disks)) {
		c.check(a.Disks[i].Target == cfg.Disks[i].Target, "disk %d is %s, want %s", i, a.Disks[i].Target, cfg.Disks[i].Target)
	}
	for i := range min(len(a.NICs), len(cfg.NICs)) {
		c.check(a.NICs[i].MAC == cfg.NICs[i].MAC, "NIC %d is %s, want %s", i, a.NICs[i].MAC, cfg.NICs[i].MAC)
	}
	b, err := d.Stats(c.ctx)
	c.ok(err, "statistics")
	c.check(!b.Time.Before(a.Time) && b.Info.CPUTime >= a.Info.CPUTime, "time %s and CPU time %s come after %s and %s", b.Time, b.Info.CPUTime, a.Time, a.Info.CPUTime)
	for i := range min(len(a.Disks), len(b.Disks)) {
		c.check(b.Disks[i].ReadBytes >= a.Disks[i].ReadBytes && b.Disks[i].WriteBytes >= a.Disks[i].WriteBytes, "counters of disk %d fell", i)
	}
}
