package conformance

import (
	"reflect"
	"strings"

	"github.com/polyvisor/polyvisor"
)

func configCases() []Case {
	return []Case{
		{
			Name:  "config/stored",
			Rule:  "Config gives what was defined with its defaults filled in, also to another connection. It is a copy: the definition does not follow what the caller does to it or to the Config given to Define.",
			Seeds: []string{"virDomainDefineXML", "vm_config", "AVirtualMachineRawConfig"},
			Run:   configStored,
		},
		{
			Name:  "config/defaults",
			Rule:  "Without memory and vCPUs a domain has 256 MiB and one, maxima equal to those, and a random UUID; it is destroyed at power-off and after a crash and restarted at a reboot.",
			Seeds: []string{"AVirtualMachineRawConfig_setMemoryMib", "virDomainGetMaxMemory", "VIR_DOMAIN_DESTROY", "VIR_DOMAIN_RESTART"},
			Run:   configDefaults,
		},
		{
			Name:  "config/refused",
			Rule:  "A Config that is wrong is refused with ErrInvalidConfig, which lists all of its problems, and nothing is defined or started.",
			Seeds: []string{"AVirtualMachineRawConfig_setName", "create_vm", "VM_ERR_INVALID_ID"},
			Run:   configRefused,
		},
		{
			Name:  "config/names",
			Rule:  "Every name of 1 to 255 bytes of UTF-8 without slash and control characters is kept and found, whatever it would mean to a file system or a shell.",
			Seeds: []string{"AVirtualMachineRawConfig_setName", "virDomainGetName"},
			Run:   configNames,
		},
		{
			Name:     "config/guest-sees-it",
			Features: []polyvisor.Feature{polyvisor.FeatureConsole},
			Talks:    true,
			Rule:     "The guest has the memory and the processors that the Config says.",
			Seeds:    []string{"allocate_vm_memory", "assign_vcpu", "AVirtualMachineRawConfig_setMemoryMib", "vm_config.memory_size", "vm_config.vcpu_count"},
			Run:      configTruth,
		},
		{
			Name: "config/info",
			Rule: "Info tells memory, maximum, vCPUs, state and persistence of a domain as its Config has them, no CPU time for a domain that does not run, and CPU time that never falls while it does.",
			Seeds: []string{"virDomainGetInfo", "virDomainInfo", "virDomainInfoPtr", "virDomainInfo.state", "virDomainInfo.maxMem", "virDomainInfo.memory", "virDomainInfo.nrVirtCpu",
				"virDomainInfo.cpuTime", "virDomainGetMaxMemory"},
			Run: configInfo,
		},
		{
			Name:     "config/instance-id",
			Features: []polyvisor.Feature{polyvisor.FeatureInstanceID},
			Rule:     "An instance ID of 64 bytes is kept; one of another size cannot be made.",
			Seeds:    []string{"AVirtualMachineRawConfig_setInstanceId"},
			Run: func(c *C) {
				raw := make([]byte, 64)
				for i := range raw {
					raw[i] = byte(3 * i)
				}
				id, err := polyvisor.NewInstanceID(raw)
				c.ok(err, "instance ID")
				d := c.define("known", func(cfg *polyvisor.Config) { cfg.InstanceID = id })
				c.check(c.configOf(d).InstanceID == id, "the instance ID is %x, want %x", c.configOf(d).InstanceID, id)
				_, err = polyvisor.NewInstanceID(raw[1:])
				c.check(polyvisor.CodeOf(err) == polyvisor.CodeInvalidConfig, "an instance ID of 63 bytes: %v", err)
			},
		},
		{
			Name:     "config/protected",
			Features: []polyvisor.Feature{polyvisor.FeatureProtected},
			Rule:     "A protected domain runs and its Config says that it is protected, and how it is authenticated where the driver has a way of its own.",
			Seeds:    []string{"AVirtualMachineRawConfig_setProtectedVm", "AVirtualMachineRawConfig_setHypervisorSpecificAuthMethod"},
			Run: func(c *C) {
				d := c.started("protected", func(cfg *polyvisor.Config) {
					cfg.Protected, cfg.HypervisorAuth = true, c.has(polyvisor.FeatureHypervisorAuth)
				})
				cfg := c.configOf(d)
				c.check(cfg.Protected && cfg.HypervisorAuth == c.has(polyvisor.FeatureHypervisorAuth), "protected %t, own authentication %t", cfg.Protected, cfg.HypervisorAuth)
			},
		},
		{
			Name:     "config/vsock",
			Features: []polyvisor.Feature{polyvisor.FeatureVsock},
			Rule:     "The socket address of a guest is the one asked for.",
			Run: func(c *C) {
				d := c.started("socket", func(cfg *polyvisor.Config) { cfg.Vsock = &polyvisor.VsockConfig{CID: 4711} })
				v := c.configOf(d).Vsock
				c.check(v != nil && v.CID == 4711, "vsock is %+v, want CID 4711", v)
			},
		},
	}
}

// sameConfig compares Configs; no elements and an empty list of them are the
// same.
func sameConfig(a, b *polyvisor.Config) bool {
	a, b = a.Clone(), b.Clone()
	for _, c := range []*polyvisor.Config{a, b} {
		v := reflect.ValueOf(c).Elem()
		for i := range v.NumField() {
			if f := v.Field(i); (f.Kind() == reflect.Slice || f.Kind() == reflect.Map) && f.Len() == 0 {
				f.SetZero()
			}
		}
	}
	return reflect.DeepEqual(a, b)
}

func configStored(c *C) {
	given := c.Config("kept", func(cfg *polyvisor.Config) { cfg.Title = "what it is for" })
	given.UUID = given.WithDefaults().UUID
	want := given.WithDefaults()
	d, err := c.conn.Define(c.ctx, given)
	c.ok(err, "define")
	given.Title = "changed by the caller"
	got := c.configOf(d)
	c.check(sameConfig(got, want), "Config gives %+v, want %+v", got, want)
	got.Title = "changed by a reader"
	other, err := c.Open().Domain(c.ctx, d.Name())
	c.ok(err, "lookup on another connection")
	c.check(sameConfig(c.configOf(other), want), "on another connection Config gives %+v, want %+v", c.configOf(other), want)
	c.check(c.configOf(d).Title == want.Title, "the definition follows a caller's copy")
}

func configDefaults(c *C) {
	d := c.define("plain", func(cfg *polyvisor.Config) {
		*cfg = polyvisor.Config{Name: cfg.Name, Boot: cfg.Boot, Disks: cfg.Disks}
	})
	cfg := c.configOf(d)
	c.check(cfg.Memory == polyvisor.DefaultMemory && cfg.MaxMemory == cfg.Memory, "memory %s of %s, want 256MiB of 256MiB", cfg.Memory, cfg.MaxMemory)
	c.check(cfg.VCPUs == 1 && cfg.MaxVCPUs == 1, "%d vCPUs of %d, want 1 of 1", cfg.VCPUs, cfg.MaxVCPUs)
	c.check(cfg.UUID == d.UUID() && cfg.UUID != polyvisor.Config{}.UUID, "UUID %s in the Config, %s of the domain", cfg.UUID, d.UUID())
	c.check(cfg.OnPoweroff == polyvisor.ActionDestroy && cfg.OnReboot == polyvisor.ActionRestart && cfg.OnCrash == polyvisor.ActionDestroy,
		"actions %s, %s, %s; want destroy, restart, destroy", cfg.OnPoweroff, cfg.OnReboot, cfg.OnCrash)
}

func configRefused(c *C) {
	long := strings.Repeat("n", 256)
	for _, t := range []struct {
		what  string
		wrong func(*polyvisor.Config)
	}{
		{"an empty name", func(cfg *polyvisor.Config) { cfg.Name = "" }},
		{"a name that is too long", func(cfg *polyvisor.Config) { cfg.Name = Prefix + long }},
		{"a name with a slash", func(cfg *polyvisor.Config) { cfg.Name = Prefix + "a/b" }},
		{"a name that is not UTF-8", func(cfg *polyvisor.Config) { cfg.Name = Prefix + "\xff" }},
		{"a name with a line break", func(cfg *polyvisor.Config) { cfg.Name = Prefix + "a\nb" }},
		{"memory that is not whole pages", func(cfg *polyvisor.Config) { cfg.Memory += 1 }},
		{"more memory than its maximum", func(cfg *polyvisor.Config) { cfg.MaxMemory = cfg.Memory - 4*polyvisor.KiB }},
		{"a negative number of vCPUs", func(cfg *polyvisor.Config) { cfg.VCPUs = -1 }},
		{"an action that is none", func(cfg *polyvisor.Config) { cfg.OnCrash = "celebrate" }},
		{"less memory than the least", func(cfg *polyvisor.Config) {
			cfg.Memory = polyvisor.Bytes(c.caps.MinMemory) - 4*polyvisor.KiB
			if c.caps.MinMemory <= 4*polyvisor.KiB {
				cfg.Memory = 1 // no bound to go below
			}
		}},
	} {
		_, err := c.conn.Define(c.ctx, c.Config("wrong", t.wrong))
		c.fails(err, "define with "+t.what, polyvisor.CodeInvalidConfig)
	}
	if c.caps.MaxVCPUs > 0 {
		_, err := c.conn.Define(c.ctx, c.Config("wrong", func(cfg *polyvisor.Config) { cfg.VCPUs = c.caps.MaxVCPUs + 1 }))
		c.fails(err, "define with more vCPUs than the host allows", polyvisor.CodeInvalidConfig)
	}
	_, err := c.conn.Define(c.ctx, c.Config("wrong", func(cfg *polyvisor.Config) { cfg.VCPUs, cfg.OnReboot = -1, "dance" }))
	c.check(err != nil && strings.Contains(err.Error(), "vcpus") && strings.Contains(err.Error(), "on_reboot"), "an error about two problems names not both: %v", err)
	_, err = c.conn.Define(c.ctx, nil)
	c.fails(err, "define without a Config", polyvisor.CodeInvalidConfig)
	c.check(len(c.names(c.conn, polyvisor.DomainFilter{})) == 0, "a Config that was refused left a domain")
}

func configNames(c *C) {
	for _, n := range []string{
		" spaced out ", "..", "-rf *", "$(true)", "a\\b", "ü名前🖥", "%2f", "'\"", "con", strings.Repeat("n", 255-len(Prefix)), ".lock", "<&>",
	} {
		d := c.define(n)
		same, err := c.conn.Domain(c.ctx, Prefix+n)
		c.ok(err, "lookup of %q", n)
		c.check(same.UUID() == d.UUID() && same.Name() == Prefix+n, "name %q came back as %q", Prefix+n, same.Name())
		c.ok(d.Undefine(c.ctx), "undefine %q", n)
	}
}

func configTruth(c *C) {
	vcpus := 2
	if c.caps.MaxVCPUs > 0 {
		vcpus = min(vcpus, c.caps.MaxVCPUs)
	}
	d := c.started("seen", func(cfg *polyvisor.Config) {
		cfg.VCPUs, cfg.MaxVCPUs, cfg.Topology, cfg.VCPU = vcpus, 0, polyvisor.Topology{}, nil
		cfg.Memory, cfg.MaxMemory = cfg.WithDefaults().Memory+32*polyvisor.MiB, 0
	})
	cfg := c.configOf(d)
	t := c.talk(d)
	got := t.memory()
	c.check(near(got, cfg.Memory), "the guest sees %s of memory, its Config says %s", got, cfg.Memory)
	n := t.cpus()
	c.check(n == vcpus, "the guest sees %d processors, its Config says %d", n, vcpus)
}

func configInfo(c *C) {
	d := c.define("figures")
	cfg, i := c.configOf(d), c.info(d)
	c.check(i.Memory == cfg.Memory && i.MaxMemory == cfg.MaxMemory && i.VCPUs == cfg.VCPUs, "Info %+v does not agree with memory %s of %s and %d vCPUs", i, cfg.Memory, cfg.MaxMemory, cfg.VCPUs)
	c.check(i.CPUTime == 0 && i.LastStop == nil && i.ID == -1, "Info of a domain that has never run is %+v", i)
	c.ok(d.Start(c.ctx), "start")
	i = c.info(d)
	c.check(i.Memory == cfg.Memory && i.MaxMemory == cfg.MaxMemory && i.VCPUs == cfg.VCPUs && i.Persistent, "Info of the run %+v does not agree with memory %s of %s and %d vCPUs", i, cfg.Memory, cfg.MaxMemory, cfg.VCPUs)
	if c.h.Guest == nil || c.h.Guest.Busy == "" || !c.has(polyvisor.FeatureConsole) {
		c.check(c.info(d).CPUTime >= i.CPUTime, "CPU time fell")
		return
	}
	c.talk(d).send(c.h.Guest.Busy)
	last := i.CPUTime
	c.eventually("a busy guest has used CPU time", func() bool {
		now := c.info(d).CPUTime
		c.check(now >= last, "CPU time fell from %s to %s", last, now)
		last = now
		return now > i.CPUTime
	})
}
