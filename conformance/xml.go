package conformance

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"

	"github.com/polyvisor/polyvisor"
)

func xmlCases() []Case {
	xml := []polyvisor.Feature{polyvisor.FeatureXML}
	return []Case{
		{
			Name: "xml/round-trip", Features: xml,
			Rule:  "XML describes a domain such that DefineXML makes the same domain of it again, with everything that its Config had.",
			Seeds: []string{"virDomainGetXMLDesc", "virDomainDefineXML"},
			Run:   xmlRoundTrip,
		},
		{
			Name: "xml/create", Features: []polyvisor.Feature{polyvisor.FeatureXML, polyvisor.FeatureTransient},
			Rule:  "CreateXML starts a transient domain from the XML of another one; XML of a running domain describes the run.",
			Seeds: []string{"virDomainCreateLinux", "virDomainGetXMLDesc"},
			Run: func(c *C) {
				d := c.create("described", func(cfg *polyvisor.Config) { cfg.Title = "a running one" })
				text, err := d.XML(c.ctx)
				c.ok(err, "XML of a running domain")
				before := c.configOf(d)
				c.ok(d.Destroy(c.ctx), "destroy")
				e, err := c.conn.CreateXML(c.ctx, text)
				c.ok(err, "create from XML")
				c.state(e, polyvisor.Running, "create from XML")
				c.check(e.UUID() == d.UUID() && sameConfig(before, c.configOf(e)), "the domain made of the XML is %+v, want %+v", c.configOf(e), before)
				_, err = c.conn.CreateXML(c.ctx, text)
				c.fails(err, "create the same again", polyvisor.CodeExists)
			},
		},
		{
			Name: "xml/refused", Features: xml,
			Rule:  "Text that is no domain XML is ErrInvalidConfig and defines nothing.",
			Seeds: []string{"virDomainDefineXML"},
			Run: func(c *C) {
				for _, text := range []string{"", "<domain", "<network/>", "name: web", "<domain type='kvm'/>", "<domain><name>" + Prefix + "x</name><memory unit='parsec'>1</memory></domain>"} {
					_, err := c.conn.DefineXML(c.ctx, text)
					c.fails(err, "define "+text, polyvisor.CodeInvalidConfig)
				}
				c.check(len(c.names(c.conn, polyvisor.DomainFilter{})) == 0, "XML that was refused left a domain")
			},
		},
		{
			Name: "xml/device", Features: []polyvisor.Feature{polyvisor.FeatureXML, polyvisor.FeatureDevices, polyvisor.FeatureDisks},
			Rule:  "Devices are attached, changed and detached by their XML as by their values.",
			Seeds: []string{"virDomainAttachDevice", "virDomainDetachDevice"},
			Run:   xmlDevice,
		},
		{
			Name: "xml/early", Features: xml,
			Rule:  "A connection opened with Early runs the domains that the XML files of a directory define, and no others: it refuses to define, create and restore with ErrPermission. A directory that is missing is ErrNotFound.",
			Seeds: []string{"AVirtualizationService_create", "early"},
			Run:   xmlEarly,
		},
	}
}

// richConfig uses what is declared.
func (c *C) richConfig(name string) *polyvisor.Config {
	cfg := c.Config(name, func(cfg *polyvisor.Config) {
		cfg.UUID, cfg.Title = uuid.New(), "angle <brackets> & \"quotes\", ümläute"
	})
	when := func(f polyvisor.Feature, set func()) {
		if c.has(f) {
			set()
		}
	}
	when(polyvisor.FeatureLabels, func() { cfg.Labels = map[string]string{"app/role": "a <b> & c", "empty": ""} })
	when(polyvisor.FeatureMaxMemory, func() { cfg.MaxMemory = cfg.WithDefaults().Memory + 4*polyvisor.MiB })
	when(polyvisor.FeatureBalloon, func() { cfg.Balloon = true })
	when(polyvisor.FeatureMaxVCPUs, func() { cfg.VCPUs, cfg.MaxVCPUs = 2, 4 })
	when(polyvisor.FeatureTopology, func() {
		n := cfg.WithDefaults().MaxVCPUs
		cfg.Topology = polyvisor.Topology{Sockets: 1, Cores: n, Threads: 1}
	})
	when(polyvisor.FeatureVCPUPin, func() { cfg.VCPU = []polyvisor.VCPUConfig{{Affinity: polyvisor.CPUs(0)}} })
	when(polyvisor.FeatureLifecyclePolicy, func() { cfg.OnReboot, cfg.OnCrash = polyvisor.ActionDestroy, polyvisor.ActionRestart })
	when(polyvisor.FeatureInstanceID, func() { cfg.InstanceID = polyvisor.InstanceID{1, 2, 3, 63: 255} })
	for i, k := range deviceKinds {
		when(k.need, func() { addDevice(cfg, withDefaults(k.device(c, i))) })
	}
	return cfg
}

func xmlRoundTrip(c *C) {
	d, err := c.conn.Define(c.ctx, c.richConfig("written"))
	c.ok(err, "define")
	want := c.configOf(d)
	text, err := d.XML(c.ctx)
	c.ok(err, "XML")
	c.check(strings.HasPrefix(strings.TrimSpace(text), "<domain"), "the XML begins with %q", text[:min(20, len(text))])
	c.ok(d.Undefine(c.ctx), "undefine")
	e, err := c.conn.DefineXML(c.ctx, text)
	c.ok(err, "define the XML again")
	got := c.configOf(e)
	c.check(sameConfig(got, want), "the domain made of the XML is\n%+v, want\n%+v; the XML is\n%s", got, want, text)
	again, err := e.XML(c.ctx)
	c.ok(err, "XML")
	c.check(again == text, "the XML of the domain made of it is another one:\n%s\nwas\n%s", again, text)
	c.ok(e.Start(c.ctx), "start")
}

func xmlDevice(c *C) {
	d := c.define("by-xml")
	before := c.configOf(d)
	image := c.image("disk")
	text := func(extra string) string {
		return "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='" + image + "'/><target dev='vdx' bus='virtio'/>" + extra + "</disk>"
	}
	disk := &polyvisor.Disk{Target: "vdx"}
	c.fails(d.DetachDeviceXML(c.ctx, text("")), "detach what is not there", polyvisor.CodeNotFound)
	c.ok(d.AttachDeviceXML(c.ctx, text("")), "attach")
	got, _ := findDevice(c.configOf(d), disk).(*polyvisor.Disk)
	c.check(got != nil && got.Source.Path == image && got.Mode.Writable(), "the disk is %+v", got)
	c.fails(d.AttachDeviceXML(c.ctx, text("")), "attach again", polyvisor.CodeExists)
	c.ok(d.UpdateDeviceXML(c.ctx, text("<readonly/>")), "update")
	got, _ = findDevice(c.configOf(d), disk).(*polyvisor.Disk)
	c.check(got != nil && got.Mode == polyvisor.DeviceReadOnly, "after update the disk is %+v", got)
	c.ok(d.DetachDeviceXML(c.ctx, text("")), "detach")
	c.check(sameConfig(before, c.configOf(d)), "after detach the definition is %+v, was %+v", c.configOf(d), before)
	for _, wrong := range []string{"", "<disk", "<spaceship/>"} {
		c.fails(d.AttachDeviceXML(c.ctx, wrong), "attach "+wrong, polyvisor.CodeInvalidConfig)
	}
}

func xmlEarly(c *C) {
	d := c.define("early")
	text, err := d.XML(c.ctx)
	c.ok(err, "XML")
	c.ok(d.Undefine(c.ctx), "undefine")
	dir := c.path("early")
	c.ok(os.Mkdir(dir, 0o700), "mkdir")
	c.ok(os.WriteFile(filepath.Join(dir, "one.xml"), []byte(text), 0o600), "write the file")
	early := c.Open(polyvisor.Early(dir))
	same, err := early.Domain(c.ctx, d.Name())
	c.ok(err, "lookup of an early domain")
	c.ok(same.Start(c.ctx), "start an early domain")
	c.state(same, polyvisor.Running, "the start of an early domain")
	_, err = early.Define(c.ctx, c.Config("another"))
	c.fails(err, "define on an early connection", polyvisor.CodePermission)
	_, err = early.DefineXML(c.ctx, text)
	c.fails(err, "define XML on an early connection", polyvisor.CodePermission)
	if c.has(polyvisor.FeatureTransient) {
		_, err = early.Create(c.ctx, c.Config("another"))
		c.fails(err, "create on an early connection", polyvisor.CodePermission)
	}
	if c.has(polyvisor.FeatureSave) {
		_, err = early.Restore(c.ctx, c.path("saved"))
		c.fails(err, "restore on an early connection", polyvisor.CodePermission)
	}
	_, err = c.h.Open(c.ctx, polyvisor.Early(c.path("no-such-directory")))
	c.fails(err, "open with a directory that is not there", polyvisor.CodeNotFound)
}
