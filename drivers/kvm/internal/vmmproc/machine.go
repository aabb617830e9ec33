package vmmproc

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"time"
)

// Reason says why a run of a machine ended.
type Reason string

// The reasons. A Machine gives the first five; the server makes the others.
const (
	ReasonShutdown Reason = "shutdown" // the guest powered off
	ReasonReboot   Reason = "reboot"   // the guest asked for a reset, also after a panic
	ReasonCrash    Reason = "crash"    // triple fault, KVM internal error, fault of the VMM
	ReasonKilled   Reason = "killed"   // Kill was called
	// ReasonReset is the end of a machine by its Reset; the server then builds it
	// anew, whatever the policies say.
	ReasonReset Reason = "reset"

	ReasonStartFailed Reason = "start-failed" // the machine could not be built or started
	ReasonDied        Reason = "died"         // the VM process was killed; written by the store
)

// Exit is how a machine ended.
type Exit struct {
	Reason Reason
	Detail string // for people: the sub-error of KVM, the code bytes...
}

// Info is a snapshot of a machine. Sizes in bytes, CPUTime in nanoseconds.
type Info struct {
	State     string            `json:"state"` // "running" or "paused"
	VCPUs     int               `json:"vcpus"`
	Memory    uint64            `json:"memory"`
	MaxMemory uint64            `json:"max_memory"`
	CPUTime   time.Duration     `json:"cpu_time_ns"`
	Exits     map[string]uint64 `json:"exits,omitempty"` // exits of the vCPUs by kind
	// CPUTime, Exits and what devices count are summed up over the reboots of a run;
	// the following are of the machine that there is.
	VCPUTime []time.Duration   `json:"vcpu_time_ns,omitempty"` // of each vCPU
	Accesses map[string]uint64 `json:"accesses,omitempty"`     // of the guest, by device

	Disks []Disk `json:"disks,omitempty"`
	NICs  []NIC  `json:"nics,omitempty"`
}

// States of a machine.
const (
	StateRunning = "running"
	StatePaused  = "paused"
	// Of a guest that has ended and is kept (ActionPreserve).
	StateEnded   = "ended"
	StateCrashed = "crashed"
)

// ErrMachineEnded is what a Machine's Input returns once the machine has ended.
// The server then waits for the next machine, if there will be one.
var ErrMachineEnded = errors.New("the machine has ended")

// Machine is a virtual machine as this package needs it. The server calls Start
// or StartPaused once, before any other method; then all methods may be called at any time from
// any goroutine, but only one of Suspend, Resume and Reset at a time; Close once,
// after the others have returned or while Input waits.
//
// An error that has a code for the client implements Coded, or wraps one of the
// [Error] values of this package.
type Machine interface {
	// Start lets the guest run.
	Start() error
	// StartPaused is Start of a suspended machine: Resume lets the guest run.
	StartPaused() error
	// Suspend stops all vCPUs and devices and returns when they have stopped. If ctx ends
	// before, the guest runs on and the error is ctx's.
	Suspend(ctx context.Context) error
	// Resume undoes Suspend.
	Resume(ctx context.Context) error
	// PowerButton presses the ACPI power button. It does not wait for the guest.
	PowerButton() error
	// Reset ends the machine with ReasonReset or ReasonReboot, without asking the
	// guest. The server then builds it anew.
	Reset() error
	// Kill makes the machine end with ReasonKilled unless it ended before. It
	// may wait for the end.
	Kill()
	// Wait returns how the machine ended, to any number of callers, at any time.
	// An error is ctx's; what goes wrong in the machine is an Exit.
	Wait(ctx context.Context) (Exit, error)
	// Info must not block on the guest.
	Info() Info
	// Input gives the bytes to the console of the guest. It blocks until at
	// least one byte is taken, ctx ends or the machine has ended
	// (ErrMachineEnded), and says how many were taken.
	Input(ctx context.Context, p []byte) (int, error)
	// ResizeConsole tells the guest the size of the console's terminal, in
	// characters, 0 for not known. It does not wait for the guest.
	ResizeConsole(cols, rows uint16) error
	// Close frees everything. A machine that has not ended is killed first. No
	// write to the console follows.
	Close() error
}

// Env is what a Factory builds a machine with. All of it belongs to the server.
type Env struct {
	// Files are the open descriptors that came with the spec, by name. They are
	// used again when the guest reboots: read them with ReadAt, do not close
	// them. They may be nil.
	Files map[string]*os.File
	// Console takes what the guest prints. Write never blocks on a reader, does
	// not keep p and is never an error.
	Console io.Writer
	// DeviceError tells that what is behind a device failed; the device has told the
	// guest. It does not wait for anybody, and is for any goroutine.
	DeviceError func(device, detail string)
	// Listen gives the listening unix stream socket of a name in the run's directory,
	// non-blocking. It is made once and serves all the run's machines; do not close it.
	Listen func(name string) (*os.File, error)
	// Connect connects to the unix stream socket of a name there, which somebody else
	// has made, without blocking. The descriptor is the caller's, and non-blocking.
	Connect func(name string) (fd int, err error)
	// Rebuild is 0 for the first machine of a domain's run and counts its
	// reboots.
	Rebuild int
}

// Factory builds a machine from a spec, which is opaque to this package. It is
// called in the VM process, again after each reboot of the guest, and undoes what
// it did if it fails. Paths in the spec must be absolute. It should return when
// ctx ends.
type Factory func(ctx context.Context, spec json.RawMessage, env Env) (Machine, error)

// Action is what to do when a machine ends in a certain way.
type Action string

// The actions. An empty Action is the default: ActionRestart for a reboot,
// ActionDestroy otherwise.
const (
	ActionDestroy Action = "destroy" // end the domain
	ActionRestart Action = "restart" // build the machine anew and start it
	// ActionPreserve keeps the machine that has ended, with its memory, until it
	// is destroyed.
	ActionPreserve Action = "preserve"
	// ActionRenameRestart is ActionPreserve, and starts the guest afresh as
	// another domain, transient, named by a number behind the name.
	ActionRenameRestart Action = "rename-restart"
)

// Config is the part of a domain's configuration that the server carries out
// itself.
type Config struct {
	// StartPaused leaves the first machine suspended before its first
	// instruction.
	StartPaused bool `json:"start_paused,omitempty"`

	// Pins bind virtual CPUs, by their numbers, to host CPUs, given as maps; see
	// Scheduler.
	Pins map[int][]byte `json:"pins,omitempty"`

	// Renewals is how many guests ActionRenameRestart has kept before this one.
	Renewals int `json:"renewals,omitempty"`

	OnPoweroff Action `json:"on_poweroff,omitempty"`
	OnReboot   Action `json:"on_reboot,omitempty"`
	OnCrash    Action `json:"on_crash,omitempty"`
	// ConsoleLog is an absolute path to which what the guest prints is appended;
	// empty for none. When it is ConsoleLogMax bytes long (0: 16 MiB) it is
	// renamed to have ".1" at its end, replacing the one before.
	ConsoleLog    string `json:"console_log,omitempty"`
	ConsoleLogMax int64  `json:"console_log_max,omitempty"`
}
