package conformance

import (
	"slices"
	"strings"

	"github.com/polyvisor/polyvisor"
)

func statsCases() []Case {
	stats := []polyvisor.Feature{polyvisor.FeatureStats}
	return []Case{
		{
			Name: "stats/domain", Features: stats,
			Rule: "Stats tells name, UUID and time, Info and one entry for each disk and NIC of the Config, in its order; counters do not fall during a run, and those of a disk or NIC grow by what the guest does with it, and by nothing else.",
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
			for _, name := range []string{"vdt", "vdu"} {
				addDevice(cfg, &polyvisor.Disk{Target: name, Source: polyvisor.Path(c.image(name))})
			}
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
	if c.h.Guest != nil && c.has(polyvisor.FeatureConsole) {
		t := c.talk(d)
		statsDisks(c, d, t)
		statsNICs(c, d, t)
	}
}

// statsDisks lets the guest read and write on one of two disks, if it has the
// words for it.
func statsDisks(c *C, d *polyvisor.Domain, t *talk) {
	g := c.h.Guest
	if !c.has(polyvisor.FeatureDisks) || g.Read == "" || g.Write == "" || g.Flush == "" {
		return
	}
	counters := func() map[string]polyvisor.DiskStats {
		s, err := d.Stats(c.ctx)
		c.ok(err, "statistics")
		m := map[string]polyvisor.DiskStats{}
		for _, disk := range s.Disks {
			m[disk.Target] = disk
		}
		return m
	}
	before := counters()
	for _, command := range []string{
		g.Write + " vdt 5 counted", g.Write + " vdt 6 too", g.Flush + " vdt", g.Read + " vdt 5", g.Read + " vdt 6", g.Read + " vdt 7",
	} {
		t.ask(command)
	}
	const sector = 512
	want := before["vdt"]
	want.WriteRequests, want.WriteBytes = want.WriteRequests+2, want.WriteBytes+2*sector
	want.ReadRequests, want.ReadBytes = want.ReadRequests+3, want.ReadBytes+3*sector
	want.FlushRequests++
	after := counters()
	if requests := after["vdt"].Latency.Count() - before["vdt"].Latency.Count(); after["vdt"].Latency.Count() > 0 {
		c.check(requests == 6, "6 requests are counted as %d by how long they took", requests)
		want.Latency = after["vdt"].Latency
	}
	c.check(after["vdt"] == want, "after 2 writes, a flush and 3 reads of a sector each the counters are %+v, want %+v", after["vdt"], want)
	c.check(after["vdu"] == before["vdu"], "the counters of the disk that the guest leaves alone went from %+v to %+v", before["vdu"], after["vdu"])
	image := read(c, c.path("vdt"))
	c.check(strings.HasPrefix(image[5*sector:], "counted\x00") && strings.HasPrefix(image[6*sector:], "too\x00"), "what the guest wrote is not in the image of the disk")
}

// statsNICs lets the guest send frames that come back, if it has the word.
func statsNICs(c *C, d *polyvisor.Domain, t *talk) {
	if !c.has(polyvisor.FeatureNICs) || c.h.Guest.Send == "" {
		return
	}
	const frames, least, most = 5, 60, 1518 // of Ethernet, without and with all that may belong to a frame
	before, err := d.Stats(c.ctx)
	c.ok(err, "statistics")
	t.ask(c.h.Guest.Send + " 5")
	c.eventually("all frames have come back", func() bool {
		after, err := d.Stats(c.ctx)
		c.ok(err, "statistics")
		return !slices.ContainsFunc(after.NICs, func(n polyvisor.NICStats) bool { return n.RXPackets+n.RXDropped < frames })
	})
	after, err := d.Stats(c.ctx)
	c.ok(err, "statistics")
	c.check(len(after.NICs) == len(before.NICs), "%d NICs are counted, were %d", len(after.NICs), len(before.NICs))
	for i := range min(len(after.NICs), len(before.NICs)) {
		a, b := after.NICs[i], before.NICs[i]
		rx, tx := a.RXBytes-b.RXBytes, a.TXBytes-b.TXBytes
		c.check(a.RXPackets-b.RXPackets == frames && a.TXPackets-b.TXPackets == frames && a.RXDropped == b.RXDropped && a.TXDropped == b.TXDropped,
			"after %d frames that came back the counters of NIC %d are %+v, were %+v", frames, i, a, b)
		c.check(rx >= frames*least && rx <= frames*most && tx >= frames*least && tx <= frames*most,
			"%d frames are told as %d bytes received and %d sent by NIC %d", frames, rx, tx, i)
	}
}
