package conformance

import (
	"errors"
	"fmt"
	"os"

	"github.com/polyvisor/polyvisor"
)

// declaredCases are one for each feature.
func declaredCases() []Case {
	var cases []Case
	for _, f := range polyvisor.Features() {
		if f == polyvisor.FeatureGuestStates {
			cases = append(cases, declaredGuestStates())
			continue
		}
		cases = append(cases, Case{
			Name:  "declared/" + string(f),
			Rule:  fmt.Sprintf("If feature %s is declared, using it is not refused as unsupported; if it is not, using it fails with an *UnsupportedError, which matches ErrUnsupported, and changes nothing.", f),
			Seeds: declaredSeeds[f],
			Run:   func(c *C) { declared(c, f) },
		})
	}
	return cases
}

var declaredSeeds = map[polyvisor.Feature][]string{
	polyvisor.FeatureLinuxBoot: {"virDomainKernel", "virDomainKernelPtr", "virDomainKernel.kernel", "virDomainKernel.ramdisk", "virDomainKernel.root", "virDomainKernel.extra",
		"AVirtualMachineRawConfig_setKernel", "AVirtualMachineRawConfig_setInitRd"},
	polyvisor.FeatureHypervisorAuth: {"AVirtualMachineRawConfig_setHypervisorSpecificAuthMethod"},
	polyvisor.FeatureMemoryBacking:  {"AVirtualMachineRawConfig_addCustomMemoryBackingFile"},
	polyvisor.FeatureProtected:      {"AVirtualMachineRawConfig_setProtectedVm"},
	polyvisor.FeatureBalloon:        {"AVirtualMachineRawConfig_setBalloon"},
}

func declared(c *C, f polyvisor.Feature) {
	use, ok := operations[f]
	if !ok {
		edit, ok := settings[f]
		if !ok {
			c.Fatalf("the suite does not know how to use feature %s", f)
		}
		use = func(c *C, _ *polyvisor.Domain) error { return useSetting(c, edit) }
	}
	d := c.started("subject")
	before := c.configOf(d)
	err := use(c, d)
	var u *polyvisor.UnsupportedError
	typed := errors.As(err, &u)
	if c.has(f) {
		// Something else that it needs may be missing.
		c.check(!errors.Is(err, polyvisor.ErrUnsupported) || typed && u.Feature != f && !c.has(u.Feature),
			"feature %s is declared, but its use fails with: %v", f, err)
		return
	}
	if f == polyvisor.FeatureMaxVCPUs && c.caps.MaxVCPUs == 1 {
		// A second virtual CPU is refused as too many before all else.
		c.fails(err, "the use of a feature that is not declared", polyvisor.CodeUnsupported, polyvisor.CodeInvalidConfig)
	} else {
		c.fails(err, "the use of a feature that is not declared", polyvisor.CodeUnsupported)
		c.check(err == nil || typed && !c.has(u.Feature), "the error names no feature that is missing: %v", err)
	}
	c.state(d, polyvisor.Running, "the use of a feature that is not declared")
	c.check(sameConfig(before, c.configOf(d)), "the use of a feature that is not declared changed the domain to %+v, was %+v", c.configOf(d), before)
	_, err = c.conn.Domain(c.ctx, Prefix+"using")
	c.fails(err, "lookup of a domain that needs what is not declared", polyvisor.CodeNotFound)
	c.check(!exists(c.path("written")), "a file was written")
}

// useSetting defines and starts a domain with a setting.
func useSetting(c *C, edit func(*C, *polyvisor.Config)) error {
	d, err := c.conn.Define(c.ctx, c.Config("using", func(cfg *polyvisor.Config) { edit(c, cfg) }))
	if err == nil {
		err = d.Start(c.ctx)
	}
	return err
}

// operations use the features that are methods.
var operations = map[polyvisor.Feature]func(c *C, d *polyvisor.Domain) error{
	polyvisor.FeatureSuspend:  func(c *C, d *polyvisor.Domain) error { return d.Suspend(c.ctx) },
	polyvisor.FeatureShutdown: func(c *C, d *polyvisor.Domain) error { return d.Shutdown(c.ctx) },
	polyvisor.FeatureReboot:   func(c *C, d *polyvisor.Domain) error { return d.Reboot(c.ctx) },
	polyvisor.FeatureConsole: func(c *C, d *polyvisor.Domain) error {
		rwc, err := d.Console(c.ctx, polyvisor.ConsoleOptions{})
		if err == nil {
			err = rwc.Close()
		}
		return err
	},
	polyvisor.FeatureVsockStreams: func(c *C, d *polyvisor.Domain) error {
		if !c.has(polyvisor.FeatureVsock) {
			_, err := d.ListenVsock(c.ctx, vsockPort)
			return err
		}
		// The domain itself needs nothing that is missing, so it may stay.
		d, err := c.conn.Define(c.ctx, c.Config("listens", withVsock))
		if err == nil {
			err = d.Start(c.ctx)
		}
		if err != nil {
			return err
		}
		l, err := d.ListenVsock(c.ctx, vsockPort)
		if err == nil {
			err = l.Close()
		}
		return err
	},
	polyvisor.FeatureExec: func(c *C, d *polyvisor.Domain) error {
		// The subject has no socket device, which is what it lacks then.
		return d.Exec(c.ctx, polyvisor.Cmd{Args: []string{"true"}})
	},
	polyvisor.FeatureTransient: func(c *C, _ *polyvisor.Domain) error {
		_, err := c.conn.Create(c.ctx, c.Config("using"))
		return err
	},
	polyvisor.FeatureOpenFiles: func(c *C, _ *polyvisor.Domain) error {
		f, err := os.OpenFile(c.file("log", nil), os.O_WRONLY|os.O_APPEND, 0)
		c.ok(err, "open a file")
		_, err = c.conn.Create(c.ctx, c.Config("using", func(cfg *polyvisor.Config) { cfg.Log = polyvisor.OpenFile(f) }))
		return err
	},
	polyvisor.FeatureSave:     func(c *C, d *polyvisor.Domain) error { return d.Save(c.ctx, c.path("written")) },
	polyvisor.FeatureCoreDump: func(c *C, d *polyvisor.Domain) error { return d.CoreDump(c.ctx, c.path("written")) },
	polyvisor.FeatureMemory:   func(c *C, d *polyvisor.Domain) error { return c.define("idle").SetMemory(c.ctx, c.info(d).Memory) },
	polyvisor.FeatureVCPUs:    func(c *C, _ *polyvisor.Domain) error { return c.define("idle").SetVCPUs(c.ctx, 1) },
	polyvisor.FeatureVCPUInfo: func(c *C, d *polyvisor.Domain) error { _, err := d.VCPUs(c.ctx); return err },
	polyvisor.FeatureVCPUPin:  func(c *C, d *polyvisor.Domain) error { return d.PinVCPU(c.ctx, 0, polyvisor.CPUs(0)) },
	polyvisor.FeatureVCPUConfig: func(c *C, d *polyvisor.Domain) error {
		return d.ConfigureVCPU(c.ctx, polyvisor.VCPUConfig{Weight: 200})
	},
	polyvisor.FeatureDevices: func(c *C, d *polyvisor.Domain) error {
		for _, k := range deviceKinds {
			if c.has(k.need) {
				return d.AttachDevice(c.ctx, k.device(c, 3))
			}
		}
		return d.AttachDevice(c.ctx, &polyvisor.RNG{})
	},
	polyvisor.FeatureXML:       func(c *C, d *polyvisor.Domain) error { _, err := d.XML(c.ctx); return err },
	polyvisor.FeatureLabels:    func(c *C, d *polyvisor.Domain) error { return d.SetLabels(c.ctx, map[string]string{"a": "b"}) },
	polyvisor.FeatureAutostart: func(c *C, d *polyvisor.Domain) error { return d.SetAutostart(c.ctx, true) },
	polyvisor.FeatureRename:    func(c *C, _ *polyvisor.Domain) error { return c.define("idle").Rename(c.ctx, Prefix+"renamed") },
	polyvisor.FeatureStats:     func(c *C, d *polyvisor.Domain) error { _, err := d.Stats(c.ctx); return err },
	polyvisor.FeatureEvents: func(c *C, _ *polyvisor.Domain) error {
		sub, err := c.conn.Subscribe(c.ctx, polyvisor.SubscribeOptions{})
		if err == nil {
			err = sub.Close()
		}
		return err
	},
}

// settings use the features that are fields of a Config.
var settings = map[polyvisor.Feature]func(c *C, cfg *polyvisor.Config){
	polyvisor.FeatureLinuxBoot: func(c *C, cfg *polyvisor.Config) {
		cfg.Boot = polyvisor.Boot{Kernel: polyvisor.Path(c.path("no-such-kernel")), Initrd: polyvisor.Path(c.path("no-such-initrd")), CommandLine: "root=/dev/vda quiet"}
	},
	polyvisor.FeatureBuiltinGuest:    func(_ *C, cfg *polyvisor.Config) { cfg.Boot = polyvisor.Boot{} },
	polyvisor.FeatureConsoleLog:      func(c *C, cfg *polyvisor.Config) { cfg.Console.Log = c.path("written") },
	polyvisor.FeatureLifecyclePolicy: func(_ *C, cfg *polyvisor.Config) { cfg.OnReboot = polyvisor.ActionDestroy },
	polyvisor.FeaturePreserve:        func(_ *C, cfg *polyvisor.Config) { cfg.OnCrash = polyvisor.ActionPreserve },
	polyvisor.FeatureRenameRestart:   func(_ *C, cfg *polyvisor.Config) { cfg.OnCrash = polyvisor.ActionRenameRestart },
	polyvisor.FeatureConsoleFiles:    func(c *C, cfg *polyvisor.Config) { cfg.Console.Out = polyvisor.Path(c.path("written")) },
	polyvisor.FeatureVirtioConsole:   func(_ *C, cfg *polyvisor.Config) { cfg.Console.Virtio = true },
	polyvisor.FeatureHypervisorLog:   func(c *C, cfg *polyvisor.Config) { cfg.Log = polyvisor.Path(c.path("written")) },
	polyvisor.FeatureInstanceID:      func(_ *C, cfg *polyvisor.Config) { cfg.InstanceID = polyvisor.InstanceID{1} },
	polyvisor.FeatureFirmware: func(c *C, cfg *polyvisor.Config) {
		cfg.Boot = polyvisor.Boot{Firmware: polyvisor.Path(c.path("no-such-firmware"))}
	},
	polyvisor.FeatureMaxMemory: func(_ *C, cfg *polyvisor.Config) { cfg.MaxMemory = cfg.WithDefaults().Memory + 4*polyvisor.MiB },
	polyvisor.FeatureMemoryBacking: func(c *C, cfg *polyvisor.Config) {
		cfg.MemoryBacking = []polyvisor.MemoryBacking{{File: polyvisor.Path(c.image("memory")), Start: polyvisor.MiB, End: 2 * polyvisor.MiB}}
	},
	polyvisor.FeatureBalloon:  func(_ *C, cfg *polyvisor.Config) { cfg.Balloon = true },
	polyvisor.FeatureMaxVCPUs: func(_ *C, cfg *polyvisor.Config) { cfg.VCPUs, cfg.MaxVCPUs = 1, 2 },
	polyvisor.FeatureTopology: func(_ *C, cfg *polyvisor.Config) {
		cfg.VCPUs, cfg.MaxVCPUs, cfg.Topology = 1, 1, polyvisor.Topology{Sockets: 1, Cores: 1, Threads: 1}
	},
	polyvisor.FeatureDisks: func(c *C, cfg *polyvisor.Config) { addDevice(cfg, deviceKinds[0].device(c, 3)) },
	polyvisor.FeatureNICs:  func(c *C, cfg *polyvisor.Config) { addDevice(cfg, deviceKinds[1].device(c, 3)) },
	polyvisor.FeaturePortForwards: func(c *C, cfg *polyvisor.Config) {
		nic := deviceKinds[1].device(c, 3).(*polyvisor.NIC)
		nic.Forwards = []polyvisor.PortForward{c.forward()}
		addDevice(cfg, nic)
	},
	polyvisor.FeatureHostLoopback: func(c *C, cfg *polyvisor.Config) {
		nic := deviceKinds[1].device(c, 3).(*polyvisor.NIC)
		nic.HostLoopback = true
		addDevice(cfg, nic)
	},
	polyvisor.FeatureShares:    func(c *C, cfg *polyvisor.Config) { addDevice(cfg, deviceKinds[2].device(c, 3)) },
	polyvisor.FeatureRNG:       func(c *C, cfg *polyvisor.Config) { addDevice(cfg, deviceKinds[3].device(c, 3)) },
	polyvisor.FeatureVsock:     func(_ *C, cfg *polyvisor.Config) { cfg.Vsock = &polyvisor.VsockConfig{} },
	polyvisor.FeatureProtected: func(_ *C, cfg *polyvisor.Config) { cfg.Protected = true },
	polyvisor.FeatureHypervisorAuth: func(_ *C, cfg *polyvisor.Config) {
		cfg.Protected, cfg.HypervisorAuth = true, true
	},
}
