package vmm

import "fmt"

// StopReason says how a machine ended.
type StopReason string

// Stop reasons. StopStartFailed is for the owner of a machine that New or Start refused.
const (
	StopShutdown    StopReason = "shutdown"     // the guest powered off (ACPI S5)
	StopReboot      StopReason = "reboot"       // the guest, or Machine.Reset, asked for a reset
	StopCrash       StopReason = "crash"        // the guest cannot go on: triple fault, KVM error
	StopKilled      StopReason = "killed"       // Machine.Kill or Machine.Close
	StopStartFailed StopReason = "start_failed" // it never ran
)

// Stop is the end of a machine.
type Stop struct {
	Reason StopReason `json:"reason"`
	// Detail says by what: the register written, or all that is known about a crash.
	Detail string `json:"detail,omitempty"`
}

func (s Stop) String() string {
	if s.Detail == "" {
		return string(s.Reason)
	}
	return string(s.Reason) + ": " + s.Detail
}

// State is where a machine is in its life.
type State string

// States of a machine.
const (
	StateCreated State = "created"
	StateRunning State = "running"
	StatePaused  State = "paused"
	StateStopped State = "stopped"
)

// StateError is an operation that does not fit the machine's state.
type StateError struct {
	Op    string
	State State
	Want  []State
}

func (e *StateError) Error() string {
	return fmt.Sprintf("%s: the machine is %s, it must be one of %v", e.Op, e.State, e.Want)
}
