package vmmproc

import (
	"encoding/json"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/store"
)

// The handshake goes over a socket pair that the caller and the VM process share
// during the start, one JSON object a line:
//
//	VM process:  hello    which version it speaks and its pid
//	caller:      order    what to start
//	VM process:  outcome  the guest runs, or why not
//
// and, if the order says that the caller follows the run, at its end
//
//	VM process:  outcome  how it stopped
//
// The end of the stream before that means that the other side is gone.

// maxOrder bounds the order, which has the spec in it.
const maxOrder = 4 << 20

// stageEnv marks a process as one of the two instances of the VM program. Its
// value is the stage and the number of descriptors it is given.
const (
	stageEnv = "POLYVISOR_VMM_STAGE"
	stageOne = "1"
	stageTwo = "2"
)

// Descriptors of the VM process at its start.
const (
	fdHandshake = 3
	fdLife      = 4
	fdFiles     = 5
	maxFDs      = 256
)

type helloMessage struct {
	Version int `json:"version"`
	PID     int `json:"pid"`
	// Error of the first instance, which could not start the second.
	Error *Error `json:"error,omitempty"`
}

type orderMessage struct {
	RunDir   string          `json:"run_dir"`
	StateDir string          `json:"state_dir"` // of the domain
	UUID     store.UUID      `json:"uuid"`
	Files    []string        `json:"files,omitempty"` // names of the descriptors from fdFiles on
	Config   Config          `json:"config"`
	Spec     json.RawMessage `json:"spec"`
	Follow   bool            `json:"follow,omitempty"`
}

type outcomeMessage struct {
	Started bool   `json:"started,omitempty"`
	Error   *Error `json:"error,omitempty"`
	Stop    *Stop  `json:"stop,omitempty"` // of the second outcome
}
