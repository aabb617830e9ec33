package kvm

import "github.com/polyvisor/polyvisor"

// features is what the driver can do.
var features = []polyvisor.Feature{
	polyvisor.FeatureSuspend, polyvisor.FeatureShutdown, polyvisor.FeatureReboot, polyvisor.FeatureConsole,
	polyvisor.FeatureTransient, polyvisor.FeatureLinuxBoot, polyvisor.FeatureBuiltinGuest, polyvisor.FeatureOpenFiles,
	polyvisor.FeatureConsoleLog, polyvisor.FeatureLifecyclePolicy,
}

// reasons says why it cannot do the rest.
var reasons = map[polyvisor.Feature]string{}
