package polyvisor

import "slices"

// Feature names one ability that a driver may have. A driver declares its
// features at Open; what it does not declare is refused with an
// *UnsupportedError before any side effect.
type Feature string

// The features.
const (
	// FeatureSuspend: Domain.Suspend and Domain.Resume (Suspender).
	FeatureSuspend Feature = "suspend"
	// FeatureShutdown: Domain.Shutdown (Shutdowner).
	FeatureShutdown Feature = "shutdown"
	// FeatureReboot: Domain.Reboot (Rebooter).
	FeatureReboot Feature = "reboot"
	// FeatureConsole: Domain.Console (ConsoleOpener).
	FeatureConsole Feature = "console"
	// FeatureTransient: Conn.Create, domains that are gone when they stop.
	FeatureTransient Feature = "transient"
	// FeatureLinuxBoot: Config.Boot with a kernel.
	FeatureLinuxBoot Feature = "linux-boot"
	// FeatureBuiltinGuest: a Config without anything to boot runs the
	// driver's own small guest.
	FeatureBuiltinGuest Feature = "builtin-guest"
	// FeatureOpenFiles: open files instead of paths in a Config.
	FeatureOpenFiles Feature = "open-files"
	// FeatureConsoleLog: Config.Console.Log.
	FeatureConsoleLog Feature = "console-log"
	// FeatureLifecyclePolicy: Config.OnPoweroff, OnReboot and OnCrash other
	// than the defaults.
	FeatureLifecyclePolicy Feature = "lifecycle-policy"
	// FeaturePreserve and FeatureRenameRestart: ActionPreserve and
	// ActionRenameRestart.
	FeaturePreserve      Feature = "preserve"
	FeatureRenameRestart Feature = "rename-restart"

	// FeatureSave: Domain.Save and Conn.Restore (Saver, Restorer).
	FeatureSave Feature = "save"
	// FeatureCoreDump: Domain.CoreDump (CoreDumper).
	FeatureCoreDump Feature = "core-dump"
	// FeatureMemory: Domain.SetMemory and SetMaxMemory on an inactive domain
	// (MemorySetter); on an active one SetMemory needs FeatureBalloon too.
	FeatureMemory Feature = "memory"
	// FeatureVCPUs: Domain.SetVCPUs on an inactive domain (VCPUSetter); on an
	// active one it needs FeatureMaxVCPUs too.
	FeatureVCPUs Feature = "vcpus"
	// FeatureVCPUInfo: Domain.VCPUs (VCPULister).
	FeatureVCPUInfo Feature = "vcpu-info"
	// FeatureVCPUPin: Domain.PinVCPU (VCPUPinner) and affinities in a Config.
	FeatureVCPUPin Feature = "vcpu-pin"
	// FeatureVCPUConfig: Domain.ConfigureVCPU (VCPUConfigurer) and weights in a
	// Config.
	FeatureVCPUConfig Feature = "vcpu-config"
	// FeatureDevices: Domain.AttachDevice, DetachDevice and UpdateDevice
	// (DeviceAttacher), of the kinds whose own feature is declared.
	FeatureDevices Feature = "devices"
	// FeatureXML: the ...XML methods (XMLCodec or XMLDefiner).
	FeatureXML Feature = "xml"
	// FeatureLabels: Domain.SetLabels (Labeler) and Config.Labels.
	FeatureLabels Feature = "labels"
	// FeatureAutostart: Domain.SetAutostart (Autostarter) and Config.Autostart.
	FeatureAutostart Feature = "autostart"
	// FeatureRename: Domain.Rename (Renamer).
	FeatureRename Feature = "rename"
	// FeatureStats: Domain.Stats and Conn.Stats (StatsReader).
	FeatureStats Feature = "stats"
	// FeatureEvents: Conn.Subscribe (EventSource).
	FeatureEvents Feature = "events"

	// Of a Config.

	FeatureConsoleFiles Feature = "console-files"
	// FeatureVirtioConsole: Config.Console.Virtio, and the ConsoleResizer of
	// such a console.
	FeatureVirtioConsole  Feature = "virtio-console"
	FeatureHypervisorLog  Feature = "hypervisor-log"
	FeatureInstanceID     Feature = "instance-id"
	FeatureFirmware       Feature = "firmware"
	FeatureMaxMemory      Feature = "max-memory"
	FeatureMemoryBacking  Feature = "memory-backing"
	FeatureBalloon        Feature = "balloon"
	FeatureMaxVCPUs       Feature = "max-vcpus"
	FeatureTopology       Feature = "topology"
	FeatureDisks          Feature = "disks"
	FeatureNICs           Feature = "nics"
	FeaturePortForwards   Feature = "port-forwards"
	FeatureHostLoopback   Feature = "host-loopback"
	FeatureShares         Feature = "shares"
	FeatureRNG            Feature = "rng"
	FeatureVsock          Feature = "vsock"
	FeatureProtected      Feature = "protected"
	FeatureHypervisorAuth Feature = "hypervisor-auth"

	// Of a domain with a device.

	// FeatureVsockStreams: Domain.DialVsock and ListenVsock (Vsocker), of a domain
	// with Config.Vsock.
	FeatureVsockStreams Feature = "vsock-streams"
	// FeatureExec: Domain.Exec, ExecOutput, StartExec and WaitReady (Execer), of a domain
	// with Config.Vsock whose guest runs the agent.
	FeatureExec Feature = "exec"

	// Of what is told about a guest.

	// FeatureGuestStates: State and Info tell Blocked while the guest waits for a
	// resource, and ShuttingDown from when it obeys Shutdown until it is off. Without
	// it such a domain is told as Running, as most hypervisors do.
	FeatureGuestStates Feature = "guest-states"
)

// Features returns every feature that this version of the package knows.
func Features() []Feature {
	return []Feature{
		FeatureSuspend, FeatureShutdown, FeatureReboot, FeatureConsole, FeatureTransient,
		FeatureLinuxBoot, FeatureBuiltinGuest, FeatureOpenFiles, FeatureConsoleLog, FeatureLifecyclePolicy,
		FeaturePreserve, FeatureRenameRestart, FeatureSave, FeatureCoreDump, FeatureMemory, FeatureVCPUs,
		FeatureVCPUInfo, FeatureVCPUPin, FeatureVCPUConfig, FeatureDevices, FeatureXML, FeatureLabels,
		FeatureAutostart, FeatureRename, FeatureStats, FeatureEvents, FeatureConsoleFiles, FeatureVirtioConsole, FeatureHypervisorLog,
		FeatureInstanceID, FeatureFirmware, FeatureMaxMemory, FeatureMemoryBacking, FeatureBalloon, FeatureMaxVCPUs,
		FeatureTopology, FeatureDisks, FeatureNICs, FeaturePortForwards, FeatureHostLoopback, FeatureShares, FeatureRNG, FeatureVsock,
		FeatureProtected, FeatureHypervisorAuth, FeatureVsockStreams, FeatureExec, FeatureGuestStates,
	}
}

// Capabilities is what a driver can do on the host it is connected to.
type Capabilities struct {
	// Arch is the architecture of guests, in Go's words ("amd64").
	Arch string `json:"arch"`
	// OSType is how guests see the hypervisor: "hvm", or the driver's own word.
	OSType string `json:"os_type"`
	// Features lists what is supported.
	Features []Feature `json:"features"`
	// Reasons says why a feature is missing, as far as the driver can tell.
	Reasons map[Feature]string `json:"reasons,omitempty"`
	// MaxVCPUs is the most vCPUs a domain may have; 0 if not known.
	MaxVCPUs int `json:"max_vcpus"`
	// MinMemory and MaxMemory bound a domain's memory, in bytes; 0 if not known.
	MinMemory uint64 `json:"min_memory"`
	MaxMemory uint64 `json:"max_memory"`
}

// Has reports whether f is declared.
func (c Capabilities) Has(f Feature) bool { return slices.Contains(c.Features, f) }

func (c Capabilities) clone() Capabilities {
	c.Features = slices.Clone(c.Features)
	reasons := make(map[Feature]string, len(c.Reasons))
	for f, r := range c.Reasons {
		reasons[f] = r
	}
	c.Reasons = reasons
	return c
}

// As finds an ability of a Driver or an Instance: it asserts v itself to T,
// then what v wraps, as told by an `Unwrap() W` method for W in {Driver,
// Instance, any}. So a wrapper that knows nothing of an ability keeps it. This
// is the only place where optional interfaces are looked for.
func As[T any](v any) (T, bool) {
	for v != nil {
		if t, ok := v.(T); ok {
			return t, true
		}
		switch w := v.(type) {
		case interface{ Unwrap() Driver }:
			v = w.Unwrap()
		case interface{ Unwrap() Instance }:
			v = w.Unwrap()
		case interface{ Unwrap() any }:
			v = w.Unwrap()
		default:
			v = nil
		}
	}
	var zero T
	return zero, false
}
