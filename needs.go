package polyvisor

import "slices"

// needs lists what a driver must be able to do to run the configuration, whose
// defaults are filled in.
func (c *Config) needs() []Feature {
	var need []Feature
	when := func(f Feature, cond bool) {
		if cond {
			need = append(need, f)
		}
	}
	when(FeatureFirmware, !c.Boot.Firmware.IsZero())
	when(FeatureLinuxBoot, !c.Boot.Kernel.IsZero())
	when(FeatureBuiltinGuest, c.Boot.Firmware.IsZero() && c.Boot.Kernel.IsZero())
	when(FeatureOpenFiles, len(c.openFiles()) > 0)
	when(FeatureConsoleLog, c.Console.Log != "")
	when(FeatureConsoleFiles, !c.Console.In.IsZero() || !c.Console.Out.IsZero())
	when(FeatureVirtioConsole, c.Console.Virtio)
	when(FeatureHypervisorLog, !c.Log.IsZero())
	when(FeatureInstanceID, !c.InstanceID.IsZero())
	when(FeatureLabels, len(c.Labels) > 0)
	when(FeatureAutostart, c.Autostart)
	when(FeatureMaxMemory, c.MaxMemory != c.Memory)
	when(FeatureMemoryBacking, len(c.MemoryBacking) > 0)
	when(FeatureBalloon, c.Balloon)
	when(FeatureMaxVCPUs, c.MaxVCPUs != c.VCPUs)
	when(FeatureTopology, !c.Topology.IsZero())
	pin, weight := false, false
	for _, v := range c.VCPU {
		pin = pin || !v.Affinity.IsZero()
		weight = weight || v.Weight != 0
	}
	when(FeatureVCPUPin, pin)
	when(FeatureVCPUConfig, weight)
	when(FeatureDisks, len(c.Disks) > 0)
	when(FeatureNICs, len(c.NICs) > 0)
	when(FeaturePortForwards, slices.ContainsFunc(c.NICs, func(n NIC) bool { return len(n.Forwards) > 0 }))
	when(FeatureHostLoopback, slices.ContainsFunc(c.NICs, func(n NIC) bool { return n.HostLoopback }))
	when(FeatureShares, len(c.Shares) > 0)
	when(FeatureRNG, c.RNG != nil)
	when(FeatureVsock, c.Vsock != nil)
	when(FeatureProtected, c.Protected)
	when(FeatureHypervisorAuth, c.HypervisorAuth)
	actions := []Action{c.OnPoweroff, c.OnReboot, c.OnCrash}
	preserve, rename := false, false
	for _, a := range actions {
		preserve = preserve || a == ActionPreserve
		rename = rename || a == ActionRenameRestart
	}
	when(FeatureLifecyclePolicy, c.OnPoweroff != ActionDestroy || c.OnReboot != ActionRestart || c.OnCrash != ActionDestroy)
	when(FeaturePreserve, preserve)
	when(FeatureRenameRestart, rename)
	return need
}

// deviceNeeds is what a driver must be able to do to have the device.
func deviceNeeds(d Device) []Feature {
	switch d := d.(type) {
	case *Disk:
		if d.Source.Open != nil {
			return []Feature{FeatureDisks, FeatureOpenFiles}
		}
		return []Feature{FeatureDisks}
	case *NIC:
		list := []Feature{FeatureNICs}
		if len(d.Forwards) > 0 {
			list = append(list, FeaturePortForwards)
		}
		if d.HostLoopback {
			list = append(list, FeatureHostLoopback)
		}
		return list
	case *Share:
		return []Feature{FeatureShares}
	default:
		return []Feature{FeatureRNG}
	}
}
