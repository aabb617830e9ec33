package kvm

import "github.com/polyvisor/polyvisor"

// features is what the driver can do.
var features = []polyvisor.Feature{
	polyvisor.FeatureSuspend, polyvisor.FeatureShutdown, polyvisor.FeatureReboot, polyvisor.FeatureConsole,
	polyvisor.FeatureTransient, polyvisor.FeatureLinuxBoot, polyvisor.FeatureBuiltinGuest, polyvisor.FeatureOpenFiles,
	polyvisor.FeatureConsoleLog, polyvisor.FeatureLifecyclePolicy, polyvisor.FeatureCoreDump, polyvisor.FeatureMemory,
	polyvisor.FeatureMaxMemory, polyvisor.FeatureVCPUs, polyvisor.FeatureVCPUInfo, polyvisor.FeatureVCPUPin,
	polyvisor.FeatureLabels, polyvisor.FeatureAutostart, polyvisor.FeatureRename, polyvisor.FeatureStats,
	polyvisor.FeatureEvents, polyvisor.FeatureXML, polyvisor.FeaturePreserve, polyvisor.FeatureRenameRestart,
	polyvisor.FeatureRNG, polyvisor.FeatureDisks, polyvisor.FeatureNICs, polyvisor.FeaturePortForwards, polyvisor.FeatureHostLoopback,
	polyvisor.FeatureVirtioConsole, polyvisor.FeatureFirmware,
	polyvisor.FeatureVsock, polyvisor.FeatureVsockStreams, polyvisor.FeatureExec,
}

const (
	noDevice  = "the engine has no such device"
	noHotplug = "the engine does not announce new processors to a running guest (no ACPI processor hot-plug)"
)

// reasons says why it cannot do the rest, as facts about this version.
var reasons = map[polyvisor.Feature]string{
	polyvisor.FeatureGuestStates:    "KVM does not tell that a guest waits while its processors are halted, nor the guest that it obeys the power button",
	polyvisor.FeatureSave:           "the engine cannot write the state of its devices and of the interrupt controllers to a file",
	polyvisor.FeatureVCPUConfig:     "a weight needs a cgroup for each vCPU's thread, and the driver makes no cgroups",
	polyvisor.FeatureDevices:        "the engine does not announce devices to a running guest (no PCI hot-plug)",
	polyvisor.FeatureConsoleFiles:   "the console goes to a log file and to whoever opens it, not to files of the caller",
	polyvisor.FeatureHypervisorLog:  "the VM process writes to vmm.log in the domain's state directory and nowhere else",
	polyvisor.FeatureInstanceID:     "an instance ID identifies a protected guest, and the engine runs none",
	polyvisor.FeatureMemoryBacking:  "guest memory is anonymous memory of the VM process",
	polyvisor.FeatureBalloon:        noDevice,
	polyvisor.FeatureMaxVCPUs:       noHotplug,
	polyvisor.FeatureTopology:       "a guest sees one socket with a core for each vCPU",
	polyvisor.FeatureShares:         noDevice,
	polyvisor.FeatureProtected:      "the engine uses neither AMD SEV nor Intel TDX",
	polyvisor.FeatureHypervisorAuth: "it authenticates a protected guest, and the engine runs none",
}
