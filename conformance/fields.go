package conformance

import (
	"fmt"
	"hash/crc32"
	"os"
	"reflect"
	"strings"

	"github.com/google/uuid"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/conformance/testkernel"
)

// fieldCases are about what a Config says, field by field.
func fieldCases() []Case {
	linux := []polyvisor.Feature{polyvisor.FeatureLinuxBoot}
	return []Case{
		{
			Name: "config/every-field",
			Rule: "Every field of a Config is kept, as far as the driver declares what it is about: Config tells all of it, of a definition, of the run that is started from it, and of a domain that was created.",
			Seeds: []string{"vm_config", "AVirtualMachineRawConfig", "virDomainKernel", "virDomainKernelPtr", "virDomainKernel.kernel", "virDomainKernel.ramdisk",
				"virDomainKernel.root", "virDomainKernel.extra", "AVirtualMachineRawConfig_setKernel", "AVirtualMachineRawConfig_setInitRd"},
			Run: everyField,
		},
		{
			Name:     "config/command-line",
			Features: []polyvisor.Feature{polyvisor.FeatureConsole},
			Talks:    true,
			Rule:     "The guest is given the command line of Boot.CommandLine, and at the next start the one of a new definition.",
			Seeds:    []string{"virDomainKernel.root", "virDomainKernel.extra"},
			Run:      commandLine,
		},
		{
			Name: "config/kernel", Features: append([]polyvisor.Feature{polyvisor.FeatureConsole}, linux...),
			Rule: "The kernel of Boot.Kernel runs, with the initial RAM disk and the command line that Boot says.",
			Seeds: []string{"virDomainKernel.kernel", "virDomainKernel.ramdisk", "virDomainKernel.root", "virDomainKernel.extra", "AVirtualMachineRawConfig_setKernel",
				"AVirtualMachineRawConfig_setInitRd"},
			Run: bootedKernel,
		},
		{
			Name: "config/affinity", Features: []polyvisor.Feature{polyvisor.FeatureVCPUPin, polyvisor.FeatureVCPUInfo},
			Rule:  "The virtual CPU that Config.VCPU names may run on the host CPUs that it says and the others on all, in the definition and in the run.",
			Seeds: []string{"virDomainGetVcpus", "vcpu_config"},
			Run: func(c *C) {
				d := c.define("bound", func(cfg *polyvisor.Config) {
					cfg.VCPUs, cfg.MaxVCPUs, cfg.Topology = 1, 0, polyvisor.Topology{}
					if c.caps.MaxVCPUs != 1 {
						cfg.VCPUs = 2
					}
					cfg.VCPU = []polyvisor.VCPUConfig{{Number: cfg.VCPUs - 1, Affinity: polyvisor.CPUs(0)}}
				})
				look := func(when string) {
					list, err := d.VCPUs(c.ctx)
					c.ok(err, "vCPUs")
					for i, v := range list {
						c.check((v.Affinity == polyvisor.CPUs(0)) == (i == len(list)-1), "vCPU %d of %d %s may run on %q, want 0 for the last one alone", i, len(list), when, v.Affinity)
					}
				}
				look("in the definition")
				c.ok(d.Start(c.ctx), "start")
				look("in the run")
			},
		},
		{
			Name:  "files/missing",
			Rule:  "A file that the Config names and that is not there keeps the domain from starting, with ErrNotFound: the initial RAM disk, the firmware, the console's input, a file behind memory, the image of a disk. Create then leaves nothing.",
			Seeds: []string{"AVirtualMachine_start", "AVirtualMachineRawConfig_setInitRd", "virDomainKernel.ramdisk"},
			Run:   filesMissing,
		},
		{
			Name: "files/open", Features: []polyvisor.Feature{polyvisor.FeatureTransient, polyvisor.FeatureOpenFiles},
			Rule: "An open file is used as the file of a path is: the kernel and its initial RAM disk, the firmware, the console's input and output, the log, and what is behind memory.",
			Seeds: []string{"AVirtualMachine_createRaw", "consoleOutFd", "consoleInFd", "logFd", "AVirtualMachineRawConfig_setKernel", "AVirtualMachineRawConfig_setInitRd",
				"AVirtualMachineRawConfig_addCustomMemoryBackingFile"},
			Run: filesOpen,
		},
	}
}

// kernel gives the file of a kernel that can be booted.
func (c *C) kernel() polyvisor.File {
	if k := c.h.Config.Boot.Kernel; !k.IsZero() {
		return k
	}
	image := c.h.Kernel
	if len(image) == 0 {
		image = testkernel.ELF()
	}
	return polyvisor.Path(c.file("kernel", image))
}

// fullConfig sets every field that a domain can run with and that the driver
// declares, none of them to what it would be otherwise.
func (c *C) fullConfig(name string) *polyvisor.Config {
	cfg := c.Config(name)
	cfg.UUID, cfg.Title = uuid.New(), "what it is for"
	cfg.Memory = cfg.WithDefaults().Memory + 32*polyvisor.MiB
	cfg.MaxMemory, cfg.VCPUs, cfg.MaxVCPUs, cfg.Topology, cfg.VCPU = 0, 1, 0, polyvisor.Topology{}, nil
	if c.caps.MaxVCPUs != 1 {
		cfg.VCPUs = 2
	}
	if c.h.Config.Boot.Firmware.IsZero() {
		cfg.Boot.CommandLine = strings.TrimSpace("kept=yes " + cfg.Boot.CommandLine)
	}
	when := func(f polyvisor.Feature, set func()) {
		if c.has(f) {
			set()
		}
	}
	when(polyvisor.FeatureInstanceID, func() { cfg.InstanceID = polyvisor.InstanceID{1, 2, 3, 63: 255} })
	when(polyvisor.FeatureLabels, func() { cfg.Labels = map[string]string{"app/role": "kept", "empty": ""} })
	when(polyvisor.FeatureAutostart, func() { cfg.Autostart = true })
	when(polyvisor.FeatureMaxMemory, func() { cfg.MaxMemory = cfg.Memory + 16*polyvisor.MiB })
	when(polyvisor.FeatureMemoryBacking, func() {
		cfg.MemoryBacking = []polyvisor.MemoryBacking{{File: polyvisor.Path(c.image("memory")), Start: 16 * polyvisor.MiB, End: 17 * polyvisor.MiB}}
	})
	when(polyvisor.FeatureBalloon, func() { cfg.Balloon = true })
	when(polyvisor.FeatureMaxVCPUs, func() { cfg.MaxVCPUs = 4 })
	when(polyvisor.FeatureTopology, func() {
		cfg.Topology = polyvisor.Topology{Sockets: 1, Cores: cfg.WithDefaults().MaxVCPUs / 2, Threads: 2}
	})
	settings := polyvisor.VCPUConfig{Number: cfg.VCPUs - 1}
	when(polyvisor.FeatureVCPUPin, func() { settings.Affinity = polyvisor.CPUs(0) })
	when(polyvisor.FeatureVCPUConfig, func() { settings.Weight = 200 })
	if settings != (polyvisor.VCPUConfig{Number: cfg.VCPUs - 1}) {
		cfg.VCPU = []polyvisor.VCPUConfig{settings}
	}
	when(polyvisor.FeatureConsoleLog, func() { cfg.Console.Log = c.path("console.log") })
	when(polyvisor.FeatureConsoleFiles, func() {
		cfg.Console.In, cfg.Console.Out = polyvisor.Path(c.file("in", nil)), polyvisor.Path(c.path("out"))
	})
	when(polyvisor.FeatureVirtioConsole, func() { cfg.Console.Virtio = true })
	when(polyvisor.FeatureHypervisorLog, func() { cfg.Log = polyvisor.Path(c.path("hypervisor.log")) })
	for _, k := range deviceKinds {
		when(k.need, func() {
			dev := k.device(c, 1)
			k.change(dev)
			switch dev := dev.(type) {
			case *polyvisor.RNG:
				dev.Source = "/dev/urandom"
			case *polyvisor.Disk:
				dev.Cache, dev.Queues = polyvisor.CacheWritethrough, 1
			case *polyvisor.NIC:
				dev.Queues = 1
			}
			addDevice(cfg, dev)
		})
	}
	when(polyvisor.FeaturePortForwards, func() {
		for i := range cfg.NICs {
			cfg.NICs[i].Forwards = []polyvisor.PortForward{c.forward()}
		}
	})
	when(polyvisor.FeatureHostLoopback, func() {
		for i := range cfg.NICs {
			cfg.NICs[i].HostLoopback = true
		}
	})
	when(polyvisor.FeatureVsock, func() { cfg.Vsock = &polyvisor.VsockConfig{CID: 4712} })
	when(polyvisor.FeatureProtected, func() { cfg.Protected = true })
	when(polyvisor.FeatureHypervisorAuth, func() { cfg.HypervisorAuth = true })
	when(polyvisor.FeatureLifecyclePolicy, func() {
		cfg.OnPoweroff, cfg.OnReboot, cfg.OnCrash = polyvisor.ActionRestart, polyvisor.ActionDestroy, polyvisor.ActionRestart
	})
	return cfg
}

// unrunConfigs set what a suite cannot run everywhere: a bridge, another format
// of images, firmware.
func (c *C) unrunConfigs() []*polyvisor.Config {
	var list []*polyvisor.Config
	cfg := c.Config("kept-too")
	if c.has(polyvisor.FeatureLinuxBoot) {
		cfg.Boot = polyvisor.Boot{Kernel: polyvisor.Path(c.path("no-kernel")), Initrd: polyvisor.Path(c.path("no-initrd")), CommandLine: "root=/dev/vda quiet"}
	}
	if c.has(polyvisor.FeatureDisks) {
		addDevice(cfg, &polyvisor.Disk{Source: polyvisor.Path(c.path("no-image")), Format: polyvisor.FormatQCOW2, Cache: polyvisor.CacheUnsafe, Queues: 2})
	}
	if c.has(polyvisor.FeatureNICs) {
		addDevice(cfg, &polyvisor.NIC{MAC: polyvisor.MAC{0x52, 0x54, 0, 0xc0, 0xff, 9}, Network: polyvisor.NetworkBridge, Source: "br-kept", Queues: 2})
	}
	list = append(list, cfg)
	if c.has(polyvisor.FeatureFirmware) {
		list = append(list, c.Config("kept-firmware", func(cfg *polyvisor.Config) {
			cfg.Boot = polyvisor.Boot{Firmware: polyvisor.Path(c.path("no-firmware"))}
		}))
	}
	return list
}

// keeps checks that Config of a domain tells what was given.
func (c *C) keeps(d *polyvisor.Domain, given *polyvisor.Config, what string) {
	have := c.configOf(d)
	if fields := differing("", reflect.ValueOf(have), reflect.ValueOf(given)); len(fields) > 0 {
		c.Errorf("Config of %s does not keep %s: it is %+v, want %+v", what, strings.Join(fields, ", "), have, given)
	}
}

// differing names the fields in which two values differ. No elements and an
// empty list of them are the same.
func differing(name string, a, b reflect.Value) []string {
	switch {
	case a.Kind() == reflect.Pointer && !a.IsNil() && !b.IsNil():
		return differing(name, a.Elem(), b.Elem())
	case a.Kind() == reflect.Struct && a.Type().PkgPath() == reflect.TypeFor[polyvisor.Config]().PkgPath() && a.Type() != reflect.TypeFor[polyvisor.CPUSet]():
		var list []string
		for i := range a.NumField() {
			list = append(list, differing(strings.TrimPrefix(name+"."+a.Type().Field(i).Name, "."), a.Field(i), b.Field(i))...)
		}
		return list
	case a.Kind() == reflect.Slice && a.Len() == b.Len():
		var list []string
		for i := range a.Len() {
			list = append(list, differing(fmt.Sprintf("%s[%d]", name, i), a.Index(i), b.Index(i))...)
		}
		return list
	case a.Kind() == reflect.Map && a.Len() == 0 && b.Len() == 0, reflect.DeepEqual(a.Interface(), b.Interface()):
		return nil
	}
	return []string{name}
}

func everyField(c *C) {
	full := c.fullConfig("kept").WithDefaults()
	d, err := c.conn.Define(c.ctx, full)
	c.ok(err, "define")
	c.keeps(d, full, "a definition")
	c.ok(d.Start(c.ctx), "start")
	c.keeps(d, full, "a run")
	c.ok(d.Remove(c.ctx), "remove")
	for _, given := range c.unrunConfigs() {
		given = given.WithDefaults()
		d, err := c.conn.Define(c.ctx, given)
		c.ok(err, "define %s", given.Name)
		c.keeps(d, given, "a definition")
	}
	if !c.has(polyvisor.FeatureTransient) {
		return
	}
	for _, given := range c.creatable() {
		d, err := c.conn.Create(c.ctx, given)
		c.ok(err, "create %s", given.Name)
		c.keeps(d, given, "a domain that was created")
		c.ok(d.Destroy(c.ctx), "destroy")
	}
}

// creatable gives what transient domains are made of.
func (c *C) creatable() []*polyvisor.Config {
	full := c.fullConfig("kept").WithDefaults()
	full.Autostart = false // only definitions start with the host
	list := []*polyvisor.Config{full}
	if len(c.h.Kernel) > 0 && c.has(polyvisor.FeatureLinuxBoot) {
		list = append(list, c.Config("kept-kernel", func(cfg *polyvisor.Config) {
			cfg.Boot = polyvisor.Boot{Kernel: c.kernel(), Initrd: polyvisor.Path(c.file("initrd", []byte("kept\n"))), CommandLine: "kept=yes"}
		}).WithDefaults())
	}
	return list
}

func commandLine(c *C) {
	if c.h.Guest.Auto == "" {
		return // book-keeping is left to config/every-field
	}
	with := func(word string) func(*polyvisor.Config) {
		return func(cfg *polyvisor.Config) {
			cfg.Boot.CommandLine = strings.TrimSpace(cfg.Boot.CommandLine + " " + c.h.Guest.Auto + c.h.Guest.Echo + " " + word)
		}
	}
	told := func(d *polyvisor.Domain, word string) {
		t := c.console(d, polyvisor.ConsoleOptions{})
		said := t.await(c.h.Guest.Prompt)
		c.check(strings.Contains(said, "\n"+word), "the guest was told on its command line to print %q and printed %q", word, tail(said))
	}
	d := c.started("told", with("first-words"))
	told(d, "first-words")
	_, err := c.conn.Define(c.ctx, c.Config("told", with("other-words"), func(cfg *polyvisor.Config) { cfg.UUID = d.UUID() }))
	c.ok(err, "redefine")
	c.ok(d.Destroy(c.ctx), "destroy")
	c.ok(d.Start(c.ctx), "start again")
	told(d, "other-words")
	c.ok(d.Remove(c.ctx), "remove")
	if c.has(polyvisor.FeatureTransient) {
		told(c.create("told-once", with("transient-words")), "transient-words")
	}
}

func bootedKernel(c *C) {
	initrd := []byte("this would be an initial RAM disk\n")
	boot := polyvisor.Boot{Kernel: c.kernel(), Initrd: polyvisor.Path(c.file("initrd", initrd)), CommandLine: "auto=echo by-the-command-line"}
	if len(c.h.Kernel) == 0 {
		return // book-keeping is left to config/every-field
	}
	edit := func(cfg *polyvisor.Config) { cfg.Boot = boot }
	d := c.started("booted", edit)
	c.bootedWith(d, initrd)
	c.ok(d.Remove(c.ctx), "remove")
	if c.has(polyvisor.FeatureTransient) {
		c.bootedWith(c.create("booted-once", edit), initrd)
	}
}

// bootedWith waits for what the harness's kernel says.
func (c *C) bootedWith(d *polyvisor.Domain, initrd []byte) {
	t := c.console(d, polyvisor.ConsoleOptions{})
	t.awaits("the CRC-32 of its initial RAM disk", fmt.Sprintf("%08x", crc32.ChecksumIEEE(initrd)))
	t.awaits("its command line", "by-the-command-line")
}

func filesOpen(c *C) {
	opened := func(path string) polyvisor.File { return polyvisor.OpenFile(openFile(c, path, os.O_RDWR)) }
	if len(c.h.Kernel) > 0 && c.has(polyvisor.FeatureLinuxBoot, polyvisor.FeatureConsole) {
		initrd := []byte("this would be an initial RAM disk, too\n")
		c.bootedWith(c.create("booted", func(cfg *polyvisor.Config) {
			cfg.Boot = polyvisor.Boot{Kernel: opened(c.kernel().Path), Initrd: opened(c.file("initrd", initrd)), CommandLine: "auto=echo by-the-command-line"}
		}), initrd)
	}
	if c.has(polyvisor.FeatureFirmware) {
		_, err := c.conn.Create(c.ctx, c.Config("empty", func(cfg *polyvisor.Config) {
			cfg.Boot = polyvisor.Boot{Firmware: opened(c.file("firmware", nil))}
		}))
		c.fails(err, "create with firmware of no byte", polyvisor.CodeInvalidConfig)
	}
	out, log := c.file("out", nil), c.file("log", nil)
	d := c.create("piped", func(cfg *polyvisor.Config) {
		if c.has(polyvisor.FeatureConsoleFiles) {
			cfg.Console.Out, cfg.Console.In = opened(out), opened(c.file("in", c.h.said(" from a file")))
		}
		if c.has(polyvisor.FeatureHypervisorLog) {
			cfg.Log = opened(log)
		}
		if c.has(polyvisor.FeatureMemoryBacking) {
			cfg.MemoryBacking = []polyvisor.MemoryBacking{{File: opened(c.image("memory")), Start: 16 * polyvisor.MiB, End: 17 * polyvisor.MiB}}
		}
	})
	if c.has(polyvisor.FeatureConsoleFiles) && c.h.Guest != nil {
		c.eventually("the guest's answer is in the open file", func() bool { return strings.Contains(read(c, out), "\nfrom a file") })
	}
	c.ok(d.Destroy(c.ctx), "destroy")
	c.check(!c.has(polyvisor.FeatureHypervisorLog) || read(c, log) != "", "the open log has nothing that the hypervisor says")
}

// said is what has to be typed to make the guest say something.
func (h *Harness) said(text string) []byte {
	if h.Guest == nil {
		return nil
	}
	return []byte(h.Guest.Echo + text + "\n")
}

func filesMissing(c *C) {
	gone := func(name string) polyvisor.File { return polyvisor.Path(c.path("no-such-" + name)) }
	for _, t := range []struct {
		what string
		need polyvisor.Feature
		edit func(*polyvisor.Config)
	}{
		{"initrd", polyvisor.FeatureLinuxBoot, func(cfg *polyvisor.Config) {
			cfg.Boot = polyvisor.Boot{Kernel: c.kernel(), Initrd: gone("initrd")}
		}},
		{"firmware", polyvisor.FeatureFirmware, func(cfg *polyvisor.Config) { cfg.Boot = polyvisor.Boot{Firmware: gone("firmware")} }},
		{"console-input", polyvisor.FeatureConsoleFiles, func(cfg *polyvisor.Config) { cfg.Console.In = gone("input") }},
		{"memory-backing", polyvisor.FeatureMemoryBacking, func(cfg *polyvisor.Config) {
			cfg.MemoryBacking = []polyvisor.MemoryBacking{{File: gone("memory"), Start: 16 * polyvisor.MiB, End: 17 * polyvisor.MiB}}
		}},
		{"disk", polyvisor.FeatureDisks, func(cfg *polyvisor.Config) { addDevice(cfg, &polyvisor.Disk{Target: "vdm", Source: gone("image")}) }},
	} {
		if !c.has(t.need) {
			continue
		}
		d := c.define("without-"+t.what, t.edit)
		c.fails(d.Start(c.ctx), "start without the file of its "+t.what, polyvisor.CodeNotFound)
		c.state(d, polyvisor.Shutoff, "a start without the file of its "+t.what)
		c.ok(d.Remove(c.ctx), "remove")
		if c.has(polyvisor.FeatureTransient) {
			_, err := c.conn.Create(c.ctx, c.Config("without-"+t.what, t.edit))
			c.fails(err, "create without the file of its "+t.what, polyvisor.CodeNotFound)
			c.gone(d, "a create without the file of its "+t.what)
		}
	}
}
