package conformance

import (
	"bytes"

	"github.com/polyvisor/polyvisor"
)

func vcpuCases() []Case {
	return []Case{
		{
			Name: "vcpu/count", Features: []polyvisor.Feature{polyvisor.FeatureVCPUs},
			Rule:  "SetVCPUs changes the definition of an inactive domain, its maximum with it if that is less, and is what the guest of the next run has; numbers below 1 and above what the host allows are ErrInvalidConfig.",
			Seeds: []string{"virDomainSetVcpus", "assign_vcpu", "virDomainInfo.nrVirtCpu"},
			Run:   vcpuCount,
		},
		{
			Name: "vcpu/hot-plug", Features: []polyvisor.Feature{polyvisor.FeatureVCPUs, polyvisor.FeatureMaxVCPUs},
			Rule:  "SetVCPUs of an active domain changes the number of its virtual CPUs up to the maximum that it was started with; the change is gone with the run.",
			Seeds: []string{"virDomainSetVcpus"},
			Run:   vcpuHotPlug,
		},
		{
			Name: "vcpu/info", Features: []polyvisor.Feature{polyvisor.FeatureVCPUInfo},
			Rule: "VCPUs tells one entry for each virtual CPU in the order of their numbers, up to the maximum: its state, its time, its host CPU, -1 if it is offline, and where it may run. All of an inactive domain are offline; of a guest that computes one is told as running, on a host CPU, and its time grows; none of a suspended guest is running: those that are not offline are blocked.",
			Seeds: []string{"virDomainGetVcpus", "virVcpuInfo", "virVcpuInfoPtr", "virVcpuInfo.number", "virVcpuInfo.state", "virVcpuInfo.cpuTime", "virVcpuInfo.cpu",
				"virVcpuState", "VIR_VCPU_OFFLINE", "VIR_VCPU_RUNNING", "VIR_VCPU_BLOCKED"},
			Run: vcpuInfo,
		},
		{
			Name: "vcpu/pin", Features: []polyvisor.Feature{polyvisor.FeatureVCPUPin, polyvisor.FeatureVCPUInfo},
			Rule:  "PinVCPU binds a virtual CPU to host CPUs, in the definition of an inactive domain, and in the run of an active one, with which it is gone; an empty set, CPUs that the host has not, and virtual CPUs that the domain has not are ErrInvalidConfig. The maps have libvirt's layout.",
			Seeds: []string{"virDomainPinVcpu", "VIR_USE_CPU", "VIR_UNUSE_CPU", "VIR_CPU_MAPLEN", "VIR_CPU_USABLE", "VIR_COPY_CPUMAP", "VIR_GET_CPUMAP"},
			Run:   vcpuPin,
		},
		{
			Name: "vcpu/configure", Features: []polyvisor.Feature{polyvisor.FeatureVCPUConfig},
			Rule:  "ConfigureVCPU replaces the settings of one virtual CPU, its weight and, if vcpu-pin is declared, where it may run, in the definition of an inactive domain, and in the run of an active one, with which they are gone; wrong numbers, weights and host CPUs are ErrInvalidConfig.",
			Seeds: []string{"configure_vcpu", "vcpu_config"},
			Run:   vcpuConfigure,
		},
		{
			Name: "vcpu/topology", Features: []polyvisor.Feature{polyvisor.FeatureTopology},
			Rule: "A topology is kept with the domain, which runs with it; one whose product is not the number of virtual CPUs is ErrInvalidConfig.",
			Run: func(c *C) {
				with := func(sockets, cores, threads int) func(*polyvisor.Config) {
					return func(cfg *polyvisor.Config) {
						cfg.VCPUs, cfg.MaxVCPUs = 2, 0
						cfg.Topology = polyvisor.Topology{Sockets: sockets, Cores: cores, Threads: threads}
					}
				}
				d := c.started("arranged", with(1, 2, 1))
				c.check(c.configOf(d).Topology == polyvisor.Topology{Sockets: 1, Cores: 2, Threads: 1}, "the topology is %+v", c.configOf(d).Topology)
				_, err := c.conn.Define(c.ctx, c.Config("wrong", with(2, 2, 1)))
				c.fails(err, "a topology of 4 for 2 vCPUs", polyvisor.CodeInvalidConfig)
			},
		},
	}
}

func vcpuCount(c *C) {
	d := c.define("counted", func(cfg *polyvisor.Config) { cfg.VCPUs, cfg.MaxVCPUs = 1, 0 })
	c.ok(d.SetVCPUs(c.ctx, 2), "set 2 vCPUs")
	cfg := c.configOf(d)
	c.check(c.info(d).VCPUs == 2 && cfg.VCPUs == 2 && cfg.MaxVCPUs == 2, "Info tells %d vCPUs, Config %d of %d; want 2 of 2", c.info(d).VCPUs, cfg.VCPUs, cfg.MaxVCPUs)
	c.fails(d.SetVCPUs(c.ctx, 0), "set 0 vCPUs", polyvisor.CodeInvalidConfig)
	if c.caps.MaxVCPUs > 0 {
		c.fails(d.SetVCPUs(c.ctx, c.caps.MaxVCPUs+1), "set more vCPUs than the host allows", polyvisor.CodeInvalidConfig)
	}
	c.ok(d.Start(c.ctx), "start")
	c.check(c.info(d).VCPUs == 2, "the run has %d vCPUs, want 2", c.info(d).VCPUs)
	if c.h.Guest != nil && c.has(polyvisor.FeatureConsole) {
		n := c.talk(d).cpus()
		c.check(n == 2, "the guest sees %d processors, want 2", n)
	}
}

func vcpuHotPlug(c *C) {
	d := c.started("growing", func(cfg *polyvisor.Config) { cfg.VCPUs, cfg.MaxVCPUs = 1, 3 })
	var t *talk
	if c.h.Guest != nil && c.has(polyvisor.FeatureConsole) {
		t = c.talk(d)
	}
	for _, n := range []int{3, 2} {
		c.ok(d.SetVCPUs(c.ctx, n), "set %d vCPUs of a running domain", n)
		c.check(c.info(d).VCPUs == n, "Info tells %d vCPUs, want %d", c.info(d).VCPUs, n)
		if t != nil {
			c.eventually("the guest has changed its processors", func() bool { return t.cpus() == n })
		}
	}
	c.fails(d.SetVCPUs(c.ctx, 4), "more vCPUs than the maximum of the run", polyvisor.CodeInvalidConfig)
	c.ok(d.Destroy(c.ctx), "destroy")
	c.check(c.info(d).VCPUs == 1, "the definition has %d vCPUs after the run, want 1", c.info(d).VCPUs)
}

func vcpuInfo(c *C) {
	maximum := 2
	if c.has(polyvisor.FeatureMaxVCPUs) {
		maximum = 3
	}
	d := c.define("told", func(cfg *polyvisor.Config) { cfg.VCPUs, cfg.MaxVCPUs = 2, maximum })
	look := func(online int) {
		list, err := d.VCPUs(c.ctx)
		c.ok(err, "vCPUs")
		c.check(len(list) == maximum, "%d vCPUs are told, want %d", len(list), maximum)
		for i, v := range list {
			c.check(v.Number == i, "entry %d is vCPU %d", i, v.Number)
			off := i >= online
			c.check((v.State == polyvisor.VCPUOffline) == off, "vCPU %d is %s", i, v.State)
			c.check(!off || v.CPU == -1 && v.CPUTime == 0, "vCPU %d is offline on CPU %d with CPU time %s", i, v.CPU, v.CPUTime)
			c.check(v.CPU >= -1 && v.CPUTime >= 0, "vCPU %d is on CPU %d with CPU time %s", i, v.CPU, v.CPUTime)
		}
	}
	look(0)
	c.ok(d.Start(c.ctx), "start")
	look(2)
	if c.h.Guest != nil && c.h.Guest.Busy != "" && c.has(polyvisor.FeatureConsole) {
		vcpuWorks(c, d)
	}
	if c.has(polyvisor.FeatureSuspend) {
		c.ok(d.Suspend(c.ctx), "suspend")
		list, err := d.VCPUs(c.ctx)
		c.ok(err, "vCPUs of a suspended domain")
		for i, v := range list {
			c.check(i >= 2 || v.State == polyvisor.VCPUBlocked, "vCPU %d of a suspended domain is told as %s, want blocked", i, v.State)
		}
	}
	c.ok(d.Destroy(c.ctx), "destroy")
	look(0)
}

// vcpuWorks lets the guest compute and looks at the virtual CPU that does it.
// The others may sleep.
func vcpuWorks(c *C, d *polyvisor.Domain) {
	list := func() []polyvisor.VCPU {
		l, err := d.VCPUs(c.ctx)
		c.ok(err, "vCPUs of a busy guest")
		return l
	}
	some := func(is func(i int, v polyvisor.VCPU) bool) func() bool {
		return func() bool {
			for i, v := range list() {
				if is(i, v) {
					return true
				}
			}
			return false
		}
	}
	c.talk(d).send(c.h.Guest.Busy)
	first := list()
	c.eventually("the time of a busy guest's vCPU has grown", some(func(i int, v polyvisor.VCPU) bool {
		return i < len(first) && v.CPUTime > first[i].CPUTime
	}))
	c.eventually("a busy guest's vCPU is told as running", some(func(_ int, v polyvisor.VCPU) bool { return v.State == polyvisor.VCPURunning }))
	c.eventually("a busy guest's vCPU is told to be on a host CPU", some(func(_ int, v polyvisor.VCPU) bool {
		return v.State == polyvisor.VCPURunning && v.CPU >= 0
	}))
}

func vcpuPin(c *C) {
	n, err := c.conn.Node(c.ctx)
	c.ok(err, "node info")
	d := c.define("bound")
	affinity := func() polyvisor.CPUSet {
		list, err := d.VCPUs(c.ctx)
		c.ok(err, "vCPUs")
		if len(list) == 0 {
			c.Fatalf("no vCPUs are told")
		}
		return list[0].Affinity
	}
	// The maps of the reference API, made and read as its macros do.
	var one polyvisor.CPUSet
	one.Use(0)
	one.Use(1)
	one.Unuse(1)
	maplen := polyvisor.CPUMapLen(n.MaxCPUs())
	m := one.Map(maplen)
	c.check(bytes.Equal(m, append([]byte{1}, make([]byte, maplen-1)...)), "the map of CPU 0 is %x", m)
	set, err := polyvisor.CPUSetFromMap(m)
	c.ok(err, "read a CPU map")
	c.ok(d.PinVCPU(c.ctx, 0, set), "pin")
	maps := affinity().Map(maplen)
	got, err := polyvisor.CPUSetFromMaps(maps, maplen, 0)
	c.ok(err, "read the map of vCPU 0")
	c.check(got == set && polyvisor.CPUUsable(maps, maplen, 0, 0) && !polyvisor.CPUUsable(maps, maplen, 0, 1), "vCPU 0 may run on %q, want %q", got, set)
	for _, wrong := range []struct {
		what string
		vcpu int
		cpus polyvisor.CPUSet
	}{
		{"to nothing", 0, polyvisor.CPUSet{}}, {"to CPUs that the host has not", 0, polyvisor.CPUs(polyvisor.MaxCPU)},
		{"a vCPU that the domain has not", 1000, set}, {"a negative vCPU", -1, set},
	} {
		c.fails(d.PinVCPU(c.ctx, wrong.vcpu, wrong.cpus), "pin "+wrong.what, polyvisor.CodeInvalidConfig)
	}
	c.ok(d.Start(c.ctx), "start")
	c.check(affinity() == set, "the run's vCPU 0 may run on %q, want %q", affinity(), set)
	if n.CPUs > 1 {
		c.ok(d.PinVCPU(c.ctx, 0, polyvisor.CPUs(1)), "pin in the run")
		c.check(affinity() == polyvisor.CPUs(1), "after a pin in the run vCPU 0 may run on %q, want 1", affinity())
	}
	c.ok(d.Destroy(c.ctx), "destroy")
	c.check(affinity() == set, "after the run vCPU 0 may run on %q, want %q", affinity(), set)
}

func vcpuConfigure(c *C) {
	n, err := c.conn.Node(c.ctx)
	c.ok(err, "node info")
	d := c.define("weighted")
	settings := func() polyvisor.VCPUConfig {
		for _, v := range c.configOf(d).VCPU {
			if v.Number == 0 {
				return v
			}
		}
		return polyvisor.VCPUConfig{}
	}
	is := func(want polyvisor.VCPUConfig, when string) {
		got := settings()
		c.check(got.Weight == want.Weight, "the weight %s is %d, want %d", when, got.Weight, want.Weight)
		c.check(got.Affinity == want.Affinity, "%s vCPU 0 may run on %q, want %q", when, got.Affinity, want.Affinity)
		if !c.has(polyvisor.FeatureVCPUInfo) {
			return
		}
		list, err := d.VCPUs(c.ctx)
		c.ok(err, "vCPUs")
		c.check(len(list) > 0 && list[0].Affinity == want.Affinity, "%s the vCPUs are %+v, want the affinity %q of the first", when, list, want.Affinity)
	}
	kept, run := polyvisor.VCPUConfig{Weight: 500}, polyvisor.VCPUConfig{Weight: 50}
	pins := c.has(polyvisor.FeatureVCPUPin)
	if pins {
		kept.Affinity, run.Affinity = polyvisor.CPUs(0), polyvisor.CPUs(min(1, n.CPUs-1))
	}
	c.ok(d.ConfigureVCPU(c.ctx, kept), "configure")
	is(kept, "in the definition")
	c.fails(d.ConfigureVCPU(c.ctx, polyvisor.VCPUConfig{Weight: 10001}), "a weight that is too great", polyvisor.CodeInvalidConfig)
	if pins {
		c.fails(d.ConfigureVCPU(c.ctx, polyvisor.VCPUConfig{Affinity: polyvisor.CPUs(polyvisor.MaxCPU)}), "CPUs that the host has not", polyvisor.CodeInvalidConfig)
	}
	c.fails(d.ConfigureVCPU(c.ctx, polyvisor.VCPUConfig{Number: 1000}), "a vCPU that the domain has not", polyvisor.CodeInvalidConfig)
	is(kept, "after settings that were refused")
	c.ok(d.Start(c.ctx), "start")
	is(kept, "at the start of the run")
	c.ok(d.ConfigureVCPU(c.ctx, run), "configure the run")
	is(run, "in the run")
	c.ok(d.Destroy(c.ctx), "destroy")
	is(kept, "after the run")
	c.ok(d.ConfigureVCPU(c.ctx, polyvisor.VCPUConfig{Weight: 70}), "configure without an affinity")
	is(polyvisor.VCPUConfig{Weight: 70}, "after settings without an affinity")
}
