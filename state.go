package polyvisor

import (
	"fmt"
	"slices"
	"strings"
)

// State is the state of a domain, with the numbers of libvirt's
// virDomainState. The zero value is NoState.
type State uint8

// The states of a domain.
const (
	// NoState means that the hypervisor does not know the state.
	NoState State = 0
	// Running means that the domain may execute.
	Running State = 1
	// Blocked means that the domain is active and waits for a resource.
	Blocked State = 2
	// Paused means that the domain is active and its vCPUs are stopped.
	Paused State = 3
	// ShuttingDown means that the guest is stopping.
	ShuttingDown State = 4
	// Shutoff means that the domain is defined and inactive.
	Shutoff State = 5
	// Crashed means that the domain's last run ended in a crash: of the
	// guest, or of the process that ran it. Under ActionPreserve what crashed is
	// kept until Destroy; otherwise the domain is inactive, and Destroy only
	// makes it Shutoff.
	Crashed State = 6
)

var stateNames = [...]string{
	NoState: "no state", Running: "running", Blocked: "blocked", Paused: "paused",
	ShuttingDown: "in shutdown", Shutoff: "shutoff", Crashed: "crashed",
}

// States returns every state in the order of their numbers.
func States() []State {
	return []State{NoState, Running, Blocked, Paused, ShuttingDown, Shutoff, Crashed}
}

// String gives libvirt's word for the state.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// MarshalText encodes the state as its word.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText decodes what MarshalText wrote.
func (s *State) UnmarshalText(b []byte) error {
	for i, name := range stateNames {
		if name == string(b) {
			*s = State(i)
			return nil
		}
	}
	return fmt.Errorf("unknown domain state %q", b)
}

// Active reports whether a domain in this state holds a running or paused
// guest and has an ID.
func (s State) Active() bool {
	switch s {
	case Running, Blocked, Paused, ShuttingDown:
		return true
	}
	return false
}

// Op names an operation on a domain that the transition table rules.
type Op string

// The operations of the transition table.
const (
	OpStart    Op = "start"
	OpSuspend  Op = "suspend"
	OpResume   Op = "resume"
	OpShutdown Op = "shutdown"
	OpReboot   Op = "reboot"
	OpDestroy  Op = "destroy"
	OpUndefine Op = "undefine"
	OpConsole  Op = "console"
	OpSave     Op = "save"
	OpCoreDump Op = "core dump"
	OpRename   Op = "rename"

	OpDialVsock   Op = "dial vsock"
	OpListenVsock Op = "listen vsock"

	OpWaitReady Op = "wait ready"
	OpExec      Op = "exec"

	OpSetMaxMemory Op = "set max memory"
)

// Transition says from which states an operation is legal and in which state a
// domain is once the operation has had its full effect.
type Transition struct {
	From []State
	// To is the state that the operation leads to. For Shutdown, which only
	// asks the guest, it is the state after the guest has complied. NoState
	// stands for "unchanged".
	To State
}

var (
	active   = []State{Running, Blocked, Paused, ShuttingDown}
	inactive = []State{Shutoff, Crashed}
)

// Transitions is the one table of legal operations: the root package consults
// it before every driver call, the documentation and the conformance cases are
// made from it. It must not be changed.
var Transitions = map[Op]Transition{
	OpStart:    {From: inactive, To: Running},
	OpSuspend:  {From: []State{Running, Blocked}, To: Paused},
	OpResume:   {From: []State{Paused}, To: Running},
	OpShutdown: {From: []State{Running, Blocked}, To: Shutoff},
	OpReboot:   {From: []State{Running, Blocked}, To: Running},
	OpDestroy:  {From: slices.Concat(active, []State{Crashed}), To: Shutoff},
	OpUndefine: {From: States()},
	OpConsole:  {From: slices.Concat(active, []State{Crashed})},
	OpSave:     {From: []State{Running, Blocked, Paused}, To: Shutoff},
	OpCoreDump: {From: []State{Running, Blocked, Paused, Crashed}},
	OpRename:   {From: inactive},

	OpDialVsock:   {From: active},
	OpListenVsock: {From: active},

	OpWaitReady: {From: active},
	OpExec:      {From: active},

	OpSetMaxMemory: {From: inactive},
}

// Allowed reports whether op is legal for a domain in state s.
func (s State) Allowed(op Op) bool {
	t, ok := Transitions[op]
	return ok && slices.Contains(t.From, s)
}

func checkState(op Op, s State) error {
	if s.Allowed(op) {
		return nil
	}
	return &StateError{Op: op, State: s, Want: Transitions[op].From}
}

// StateError says that an operation is not legal in the domain's state. It
// matches ErrInvalidState.
type StateError struct {
	Op    Op
	State State
	Want  []State
}

func (e *StateError) Error() string {
	is := e.State.String()
	if e.State == NoState {
		is = "in an unknown state"
	}
	msg := fmt.Sprintf("domain is %s, %s needs it %s", is, e.Op, joinStates(e.Want))
	switch {
	case e.State == NoState || e.Op == OpDestroy: // nothing to advise
	case e.Op == OpStart && e.State == Paused:
		msg += "; resume it"
	case e.Op == OpResume && !e.State.Active():
		msg += "; start it"
	case !e.State.Active() && slices.ContainsFunc(e.Want, State.Active):
		msg += "; start it first"
	case e.State == Paused && slices.Contains(e.Want, Running):
		msg += "; resume it first"
	case e.State.Active() && len(e.Want) > 0 && !slices.ContainsFunc(e.Want, State.Active):
		msg += "; shut it down or destroy it first"
	}
	return msg
}

// joinStates gives "a, b or c".
func joinStates(states []State) string {
	words := make([]string, len(states))
	for i, s := range states {
		words[i] = s.String()
	}
	if last := len(words) - 1; last > 0 {
		return strings.Join(words[:last], ", ") + " or " + words[last]
	}
	return strings.Join(words, "")
}

// Is makes errors.Is(err, ErrInvalidState) true.
func (e *StateError) Is(target error) bool { return target == ErrInvalidState }
