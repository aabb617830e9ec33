package conformance_test

import (
	"fmt"

	"github.com/polyvisor/polyvisor"
)

// operationOf is the operation that a feature stands for.
var operationOf = map[polyvisor.Feature]string{
	polyvisor.FeatureSuspend: "suspend", polyvisor.FeatureShutdown: "shutdown", polyvisor.FeatureReboot: "reboot", polyvisor.FeatureConsole: "console",
	polyvisor.FeatureVsockStreams: "listen vsock", polyvisor.FeatureExec: "exec",
	polyvisor.FeatureTransient: "create", polyvisor.FeatureSave: "save", polyvisor.FeatureCoreDump: "core dump",
	polyvisor.FeatureMemory: "set memory", polyvisor.FeatureVCPUs: "set vcpus", polyvisor.FeatureVCPUInfo: "vcpus", polyvisor.FeatureVCPUPin: "pin vcpu",
	polyvisor.FeatureVCPUConfig: "configure vcpu", polyvisor.FeatureDevices: "attach", polyvisor.FeatureXML: "xml", polyvisor.FeatureLabels: "set labels",
	polyvisor.FeatureAutostart: "set autostart", polyvisor.FeatureRename: "rename", polyvisor.FeatureStats: "stats", polyvisor.FeatureEvents: "subscribe",
}

// settingOf tells whether a Config uses a feature.
var settingOf = map[polyvisor.Feature]func(*polyvisor.Config) bool{
	polyvisor.FeatureLinuxBoot:       func(c *polyvisor.Config) bool { return !c.Boot.Kernel.IsZero() },
	polyvisor.FeatureBuiltinGuest:    func(c *polyvisor.Config) bool { return c.Boot.Kernel.IsZero() && c.Boot.Firmware.IsZero() },
	polyvisor.FeatureOpenFiles:       func(c *polyvisor.Config) bool { return c.Log.Open != nil },
	polyvisor.FeatureConsoleLog:      func(c *polyvisor.Config) bool { return c.Console.Log != "" },
	polyvisor.FeatureLifecyclePolicy: func(c *polyvisor.Config) bool { return c.OnReboot == polyvisor.ActionDestroy },
	polyvisor.FeaturePreserve:        func(c *polyvisor.Config) bool { return c.OnCrash == polyvisor.ActionPreserve },
	polyvisor.FeatureRenameRestart:   func(c *polyvisor.Config) bool { return c.OnCrash == polyvisor.ActionRenameRestart },
	polyvisor.FeatureConsoleFiles:    func(c *polyvisor.Config) bool { return !c.Console.Out.IsZero() },
	polyvisor.FeatureVirtioConsole:   func(c *polyvisor.Config) bool { return c.Console.Virtio },
	polyvisor.FeatureHypervisorLog:   func(c *polyvisor.Config) bool { return c.Log.Path != "" },
	polyvisor.FeatureInstanceID:      func(c *polyvisor.Config) bool { return !c.InstanceID.IsZero() },
	polyvisor.FeatureFirmware:        func(c *polyvisor.Config) bool { return !c.Boot.Firmware.IsZero() },
	polyvisor.FeatureMaxMemory:       func(c *polyvisor.Config) bool { return c.MaxMemory > c.Memory },
	polyvisor.FeatureMemoryBacking:   func(c *polyvisor.Config) bool { return len(c.MemoryBacking) > 0 },
	polyvisor.FeatureBalloon:         func(c *polyvisor.Config) bool { return c.Balloon },
	polyvisor.FeatureMaxVCPUs:        func(c *polyvisor.Config) bool { return c.MaxVCPUs > c.VCPUs },
	polyvisor.FeatureTopology:        func(c *polyvisor.Config) bool { return !c.Topology.IsZero() },
	polyvisor.FeatureDisks:           func(c *polyvisor.Config) bool { return len(c.Disks) > 0 },
	polyvisor.FeatureNICs:            func(c *polyvisor.Config) bool { return len(c.NICs) > 0 },
	polyvisor.FeaturePortForwards:    func(c *polyvisor.Config) bool { return len(c.NICs) > 0 && len(c.NICs[len(c.NICs)-1].Forwards) > 0 },
	polyvisor.FeatureHostLoopback:    func(c *polyvisor.Config) bool { return len(c.NICs) > 0 && c.NICs[len(c.NICs)-1].HostLoopback },
	polyvisor.FeatureShares:          func(c *polyvisor.Config) bool { return len(c.Shares) > 0 },
	polyvisor.FeatureRNG:             func(c *polyvisor.Config) bool { return c.RNG != nil },
	polyvisor.FeatureVsock:           func(c *polyvisor.Config) bool { return c.Vsock != nil },
	polyvisor.FeatureProtected:       func(c *polyvisor.Config) bool { return c.Protected },
	polyvisor.FeatureHypervisorAuth:  func(c *polyvisor.Config) bool { return c.HypervisorAuth },
}

// declaredFaults declare a feature and refuse it.
func declaredFaults() []fault {
	var list []fault
	for _, f := range polyvisor.Features() {
		if f == polyvisor.FeatureGuestStates {
			continue // can be told wrongly only, see guestStateFaults
		}
		op, set := operationOf[f], settingOf[f]
		list = append(list, fault{
			name: "declares " + string(f) + " and refuses it", of: "declared/" + string(f), says: fmt.Sprintf("feature %s is declared, but its use fails", f),
			// With the built-in guest refused there would be nothing else to run.
			kernel: f == polyvisor.FeatureBuiltinGuest,
			op: func(c *call, next func() error) error {
				if op != "" && c.op == op || set != nil && (c.op == "define" || c.op == "create") && set(c.config) {
					return fmt.Errorf("%w: not here", polyvisor.ErrUnsupported)
				}
				return next()
			},
		})
	}
	return list
}
