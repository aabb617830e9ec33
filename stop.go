package polyvisor

import (
	"fmt"
	"time"
)

// StopReason says why a domain stopped, with the numbers of Android's
// AVirtualMachineStopReason.
type StopReason int32

// The stop reasons.
const (
	// StopUnrecognised is a reason that this library does not know.
	StopUnrecognised StopReason = 0
	// StopServiceDied: the process that ran the virtual machine died.
	StopServiceDied StopReason = 1
	// StopInfrastructureError: waiting for the virtual machine failed.
	StopInfrastructureError StopReason = 2
	// StopKilled: the virtual machine was destroyed on request.
	StopKilled StopReason = 3
	// StopUnknown: it stopped and nobody can tell why.
	StopUnknown StopReason = 4
	// StopShutdown: the guest powered itself off.
	StopShutdown StopReason = 5
	// StopStartFailed: the virtual machine could not be started.
	StopStartFailed StopReason = 6
	// StopReboot: the guest asked for a reboot, possibly after a kernel panic,
	// and the domain's policy is to stop then.
	StopReboot StopReason = 7
	// StopCrash: the guest, or the hypervisor below it, crashed.
	StopCrash StopReason = 8
	// StopFirmwareKeyMismatch: the firmware of a protected virtual machine
	// refused its public key.
	StopFirmwareKeyMismatch StopReason = 9
	// StopFirmwareImageChanged: the firmware of a protected virtual machine
	// found that the instance image changed.
	StopFirmwareImageChanged StopReason = 10
	// StopHangup: the virtual machine was killed because it hung.
	StopHangup StopReason = 11
)

var stopNames = [...]string{
	StopUnrecognised: "unrecognised", StopServiceDied: "service-died", StopInfrastructureError: "infrastructure-error",
	StopKilled: "killed", StopUnknown: "unknown", StopShutdown: "shutdown", StopStartFailed: "start-failed",
	StopReboot: "reboot", StopCrash: "crash", StopFirmwareKeyMismatch: "firmware-key-mismatch",
	StopFirmwareImageChanged: "firmware-image-changed", StopHangup: "hangup",
}

// StopReasons returns every reason in the order of their numbers.
func StopReasons() []StopReason {
	all := make([]StopReason, len(stopNames))
	for i := range all {
		all[i] = StopReason(i)
	}
	return all
}

// String gives the reason as a lower-case word.
func (r StopReason) String() string {
	if r >= 0 && int(r) < len(stopNames) {
		return stopNames[r]
	}
	return fmt.Sprintf("stop reason %d", int32(r))
}

// MarshalText encodes the reason as its word.
func (r StopReason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText decodes what MarshalText wrote; a word that is not known
// becomes StopUnrecognised.
func (r *StopReason) UnmarshalText(b []byte) error {
	*r = StopUnrecognised
	for i, name := range stopNames {
		if name == string(b) {
			*r = StopReason(i)
		}
	}
	return nil
}

// State is the state in which a persistent domain is left by a stop for this
// reason.
func (r StopReason) State() State {
	switch r {
	case StopCrash, StopServiceDied, StopHangup:
		return Crashed
	}
	return Shutoff
}

// Stop describes the end of a domain's run.
type Stop struct {
	Reason StopReason `json:"reason"`
	// Detail says more in words: the sub-error and the code bytes of a KVM
	// internal error, the signal that ended a process. It may be empty.
	Detail string `json:"detail,omitempty"`
	// Time is when the run ended; zero if the driver does not know.
	Time time.Time `json:"time,omitzero"`
}

// String gives the reason and the detail.
func (s Stop) String() string {
	if s.Detail == "" {
		return s.Reason.String()
	}
	return s.Reason.String() + ": " + s.Detail
}
