package conformance

import "github.com/polyvisor/polyvisor"

func memoryCases() []Case {
	memory := []polyvisor.Feature{polyvisor.FeatureMemory}
	return []Case{
		{
			Name: "memory/inactive", Features: memory,
			Rule:  "SetMemory changes the definition of an inactive domain and is what the next run has; more than the maximum, sizes that are not whole pages and sizes out of the declared bounds are ErrInvalidConfig.",
			Seeds: []string{"virDomainSetMemory", "allocate_vm_memory", "AVirtualMachineRawConfig_setMemoryMib"},
			Run:   memoryInactive,
		},
		{
			Name: "memory/none", Features: memory,
			Rule:  "SetMemory with 0 takes an inactive domain's memory away; it cannot start, with ErrNoResource, until it is given some. An active domain cannot lose all of it.",
			Seeds: []string{"deallocate_vm_memory", "allocate_vm_memory", "VM_ERR_NO_RESOURCE"},
			Run: func(c *C) {
				d := c.define("empty")
				size := c.info(d).Memory
				c.ok(d.SetMemory(c.ctx, 0), "take the memory away")
				c.check(c.info(d).Memory == 0, "Info tells %s", c.info(d).Memory)
				err := d.Start(c.ctx)
				c.fails(err, "start without memory", polyvisor.CodeNoResource)
				c.check(polyvisor.VMErrorOf(err) == polyvisor.VMErrNoResource, "the VM Handler API's number is %d, want VM_ERR_NO_RESOURCE", polyvisor.VMErrorOf(err))
				c.state(d, polyvisor.Shutoff, "a start without memory")
				c.ok(d.SetMemory(c.ctx, size), "give memory")
				c.ok(d.Start(c.ctx), "start with memory")
				c.check(c.info(d).Memory == size, "the run has %s, want %s", c.info(d).Memory, size)
				want := polyvisor.CodeInvalidConfig
				if !c.has(polyvisor.FeatureBalloon) {
					want = polyvisor.CodeUnsupported
				}
				c.fails(d.SetMemory(c.ctx, 0), "take all memory of an active domain", want)
				c.state(d, polyvisor.Running, "an attempt to take its memory")
			},
		},
		{
			Name: "memory/maximum", Features: memory,
			Rule:  "SetMaxMemory changes the maximum of an inactive domain and lowers its memory if that is more; an active domain refuses it with ErrInvalidState.",
			Seeds: []string{"virDomainSetMaxMemory", "virDomainGetMaxMemory"},
			Run: func(c *C) {
				d := c.define("bounded")
				size := c.info(d).Memory
				c.ok(d.SetMaxMemory(c.ctx, size+32*polyvisor.MiB), "raise the maximum")
				i := c.info(d)
				c.check(i.MaxMemory == size+32*polyvisor.MiB && i.Memory == size, "memory %s of %s, want %s of %s", i.Memory, i.MaxMemory, size, size+32*polyvisor.MiB)
				if c.has(polyvisor.FeatureMaxMemory) {
					c.ok(d.SetMemory(c.ctx, size+16*polyvisor.MiB), "more memory")
					c.ok(d.SetMaxMemory(c.ctx, size), "lower the maximum")
					i = c.info(d)
					c.check(i.MaxMemory == size && i.Memory == size, "memory %s of %s, want %s of %s", i.Memory, i.MaxMemory, size, size)
				} else {
					c.ok(d.SetMaxMemory(c.ctx, size), "lower the maximum")
				}
				c.ok(d.Start(c.ctx), "start")
				c.fails(d.SetMaxMemory(c.ctx, size+32*polyvisor.MiB), "the maximum of an active domain", polyvisor.CodeInvalidState)
			},
		},
		{
			Name: "memory/balloon", Features: []polyvisor.Feature{polyvisor.FeatureMemory, polyvisor.FeatureBalloon},
			Rule:  "SetMemory of an active domain with a balloon makes its guest shrink and grow again up to its maximum, which Info follows; the change is gone with the run.",
			Seeds: []string{"virDomainSetMemory", "AVirtualMachineRawConfig_setBalloon", "virDomainInfo.memory"},
			Run:   memoryBalloon,
		},
		{
			Name: "memory/without-balloon", Features: []polyvisor.Feature{polyvisor.FeatureMemory, polyvisor.FeatureBalloon},
			Rule: "SetMemory of an active domain whose Config has no balloon is ErrUnsupported.",
			Run: func(c *C) {
				d := c.started("rigid", func(cfg *polyvisor.Config) { cfg.Balloon = false })
				size := c.info(d).Memory
				c.fails(d.SetMemory(c.ctx, size-8*polyvisor.MiB), "set the memory of a domain without balloon", polyvisor.CodeUnsupported)
				c.check(c.info(d).Memory == size, "the memory is %s, was %s", c.info(d).Memory, size)
			},
		},
		{
			Name: "memory/maximum-config", Features: []polyvisor.Feature{polyvisor.FeatureMaxMemory},
			Rule:  "A domain may have less memory than its maximum; Config and Info tell both, also of a run.",
			Seeds: []string{"virDomainInfo.maxMem"},
			Run: func(c *C) {
				d := c.define("room", func(cfg *polyvisor.Config) {
					cfg.Memory = cfg.WithDefaults().Memory
					cfg.MaxMemory = cfg.Memory + 64*polyvisor.MiB
				})
				cfg := c.configOf(d)
				for range 2 {
					i := c.info(d)
					c.check(i.Memory == cfg.Memory && i.MaxMemory == cfg.Memory+64*polyvisor.MiB, "Info tells %s of %s, want %s of %s", i.Memory, i.MaxMemory, cfg.Memory, cfg.MaxMemory)
					if !i.State.Active() {
						c.ok(d.Start(c.ctx), "start")
					}
				}
			},
		},
		{
			Name: "memory/backing", Features: []polyvisor.Feature{polyvisor.FeatureMemoryBacking},
			Rule:  "A range of guest memory may have a file of its own; the domain runs, and ranges that overlap or are not whole pages are refused.",
			Seeds: []string{"AVirtualMachineRawConfig_addCustomMemoryBackingFile"},
			Run: func(c *C) {
				file := polyvisor.Path(c.image("memory"))
				edit := func(list ...polyvisor.MemoryBacking) func(*polyvisor.Config) {
					return func(cfg *polyvisor.Config) { cfg.MemoryBacking = list }
				}
				first := polyvisor.MemoryBacking{File: file, Start: 16 * polyvisor.MiB, End: 17 * polyvisor.MiB}
				d := c.started("backed", edit(first))
				got := c.configOf(d).MemoryBacking
				c.check(len(got) == 1 && got[0] == first, "the ranges are %+v, want %+v", got, first)
				for _, wrong := range []polyvisor.MemoryBacking{
					{File: file, Start: 16*polyvisor.MiB + 4096, End: 18 * polyvisor.MiB}, {File: file, Start: 100, End: 8192}, {Start: 32 * polyvisor.MiB, End: 33 * polyvisor.MiB},
				} {
					_, err := c.conn.Define(c.ctx, c.Config("wrong", edit(first, wrong)))
					c.fails(err, "define with a wrong range", polyvisor.CodeInvalidConfig)
				}
			},
		},
	}
}

func memoryInactive(c *C) {
	d := c.define("sized")
	size := c.info(d).Memory
	want := size - 4*polyvisor.MiB
	if c.caps.MinMemory > uint64(want) {
		// Room below by raising it first.
		c.ok(d.SetMaxMemory(c.ctx, size+64*polyvisor.MiB), "raise the maximum")
		want = size + 32*polyvisor.MiB
		if !c.has(polyvisor.FeatureMaxMemory) {
			want = size + 64*polyvisor.MiB
		}
	}
	c.ok(d.SetMemory(c.ctx, want), "set memory")
	c.check(c.info(d).Memory == want && c.configOf(d).Memory == want, "memory is %s by Info and %s by Config, want %s", c.info(d).Memory, c.configOf(d).Memory, want)
	maximum := c.info(d).MaxMemory
	for _, wrong := range []polyvisor.Bytes{maximum + 4*polyvisor.KiB, want + 1, 1} {
		c.fails(d.SetMemory(c.ctx, wrong), "set memory to "+wrong.String(), polyvisor.CodeInvalidConfig)
	}
	c.check(c.info(d).Memory == want, "a size that was refused left %s", c.info(d).Memory)
	c.ok(d.Start(c.ctx), "start")
	c.check(c.info(d).Memory == want, "the run has %s, want %s", c.info(d).Memory, want)
	if c.h.Guest != nil && c.has(polyvisor.FeatureConsole) {
		got := c.talk(d).memory()
		c.check(near(got, want), "the guest sees %s, want %s", got, want)
	}
}

func memoryBalloon(c *C) {
	d := c.started("elastic", func(cfg *polyvisor.Config) {
		cfg.Balloon = true
		cfg.Memory = polyvisor.Bytes(c.caps.MinMemory) + 128*polyvisor.MiB
		cfg.MaxMemory = 0
	})
	full := c.info(d).Memory
	var t *talk
	if c.h.Guest != nil && c.has(polyvisor.FeatureConsole) {
		t = c.talk(d)
	}
	for _, want := range []polyvisor.Bytes{full - 64*polyvisor.MiB, full} {
		c.ok(d.SetMemory(c.ctx, want), "set memory to %s", want)
		c.eventually("the guest has "+want.String(), func() bool { return c.info(d).Memory == want })
		if t != nil {
			got := t.memory()
			c.check(near(got, want), "the guest sees %s, want %s", got, want)
		}
	}
	c.fails(d.SetMemory(c.ctx, full+4*polyvisor.KiB), "more than the maximum", polyvisor.CodeInvalidConfig)
	c.ok(d.SetMemory(c.ctx, full-64*polyvisor.MiB), "shrink")
	c.ok(d.Destroy(c.ctx), "destroy")
	c.check(c.info(d).Memory == full, "the definition has %s after the run, want %s", c.info(d).Memory, full)
}
