// Package boot times how long commands take to a line of their output, in turn and several times over, and samples the memory of
// their processes meanwhile. It runs in the nested machine (command inside) and knows nothing of hypervisors.
package boot

import (
	"encoding/json"
	"io"
	"time"

	"github.com/polyvisor/polyvisor/internal/bench/smaps"
)

// Plan is the work of one run.
type Plan struct {
	Phases []Phase `json:"phases"`
}

// Phase runs its subjects in turn, Rounds times: a b c, a b c, ...
type Phase struct {
	Name     string    `json:"name"`
	Rounds   int       `json:"rounds"`
	Subjects []Subject `json:"subjects"`
}

// Subject is a command that is timed to a line of its output.
type Subject struct {
	Name   string   `json:"name"`
	Args   []string `json:"args"`
	Env    []string `json:"env,omitempty"`
	Marker string   `json:"marker"` // the line, or a part of it
	// Timeout bounds it up to the marker, and once more from there to its end. Kill ends it at the marker, for commands
	// that do not end by themselves.
	Timeout time.Duration `json:"timeout"`
	Kill    bool          `json:"kill,omitempty"`
	Input   string        `json:"input,omitempty"` // given on standard input at the marker, which otherwise is empty
	// Linger is how long the command is left alone at the marker, before Input.
	Linger time.Duration `json:"linger,omitempty"`

	// Sample is the file name of the program whose memory is sampled every SampleEvery: the first process of this name that
	// is there after the start. Regions are the sizes of the guest's memory regions.
	Sample      string        `json:"sample,omitempty"`
	SampleEvery time.Duration `json:"sample_every,omitempty"`
	Regions     []uint64      `json:"regions,omitempty"`

	// Collect is a pattern (path.Match) of files that are given back after the command's end.
	Collect string `json:"collect,omitempty"`
}

// Result is what came of one command.
type Result struct {
	Phase   string `json:"phase"`
	Round   int    `json:"round"`
	Subject string `json:"subject"`

	Start  time.Time                  `json:"start"`            // before the fork
	Marker time.Duration              `json:"marker_ns"`        // from there to the marker's arrival; 0: it did not come
	End    time.Duration              `json:"end_ns"`           // to the end of the command
	Exit   int                        `json:"exit"`             // exit code; -1 if a signal ended it
	Killed bool                       `json:"killed,omitempty"` // by us
	User   time.Duration              `json:"user_ns"`          // processor time of the command and its waited-for children
	System time.Duration              `json:"system_ns"`
	Memory *smaps.Series              `json:"memory,omitempty"`
	Files  map[string]json.RawMessage `json:"files,omitempty"` // of Collect; JSON only
	Error  string                     `json:"error,omitempty"`
	Output string                     `json:"output,omitempty"` // its end, when something went wrong
}

// Emit writes a result as a line.
func Emit(w io.Writer, r Result) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// maxOutput is how much of a command's output is kept.
const maxOutput = 8 << 10
