package proto

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The operations of a Request.
const (
	OpPing     = "ping"
	OpExec     = "exec"
	OpPut      = "put"
	OpGet      = "get"
	OpTime     = "time"
	OpShutdown = "shutdown"
)

// Request is what the host wants. The field of its operation is set.
type Request struct {
	Version  int       `json:"version"`
	Op       string    `json:"op"`
	Exec     *Exec     `json:"exec,omitempty"`
	Put      *Put      `json:"put,omitempty"`
	Get      *Get      `json:"get,omitempty"`
	Time     *Time     `json:"time,omitempty"`
	Shutdown *Shutdown `json:"shutdown,omitempty"`
}

// Where an output of a command goes to.
const (
	ToNull   = ""       // nowhere
	ToStream = "stream" // to the stream of its name
	ToStdout = "stdout" // of the standard error: to where the standard output goes
)

// Exec is a command. Names and arguments need not be UTF-8, so they are bytes, which
// JSON writes as base64.
type Exec struct {
	// Args has the program and its arguments. Path is the file, if it is another.
	Args [][]byte `json:"args"`
	Path []byte   `json:"path,omitempty"`
	// Env is added to the environment that the agent gives.
	Env  [][]byte `json:"env,omitempty"`
	Dir  []byte   `json:"dir,omitempty"`
	User []byte   `json:"user,omitempty"`

	Stdin  bool   `json:"stdin,omitempty"`
	Stdout string `json:"stdout,omitempty"`
	Stderr string `json:"stderr,omitempty"`
	// TTY gives the command a terminal: the streams stdin and stdout.
	TTY *Size `json:"tty,omitempty"`
}

// Size is that of a terminal in characters; 0 is not known.
type Size struct {
	Cols uint16 `json:"cols"`
	Rows uint16 `json:"rows"`
}

// Put writes a file from the stream stdin. It is complete under its name or not
// there.
type Put struct {
	Path []byte `json:"path"`
	Mode uint32 `json:"mode"`
}

// Get reads a file to the stream stdout.
type Get struct {
	Path []byte `json:"path"`
}

// Time sets the clock: nanoseconds since 1970.
type Time struct {
	UnixNano int64 `json:"unix_nano"`
}

// Shutdown ends the system; with Reboot it comes back.
type Shutdown struct {
	Reboot bool `json:"reboot,omitempty"`
}

// Answer is a positive answer; what it has depends on the operation.
type Answer struct {
	// Version is the highest version that the agent speaks, in answers to a ping.
	Version int `json:"version,omitempty"`
	// Problems are what went wrong when the agent set the system up, in answers to a
	// ping.
	Problems []string `json:"problems,omitempty"`
	// PID is the number of the command's process.
	PID int `json:"pid,omitempty"`
	// Size and Mode are those of a file.
	Size int64  `json:"size,omitempty"`
	Mode uint32 `json:"mode,omitempty"`
}

// Exit is how a command ended: by itself with a code, or by a signal.
type Exit struct {
	Code   int `json:"code"`
	Signal int `json:"signal,omitempty"`
}

// Codes of a Failure.
const (
	FailNotFound   = "not-found"
	FailPermission = "permission"
	FailInvalid    = "invalid"
	FailExists     = "exists"
	FailResource   = "resource"
	FailVersion    = "version"
	FailOther      = "other"
)

// Failure is a negative answer.
type Failure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (f *Failure) Error() string { return f.Message }

// Fail makes a Failure.
func Fail(code, format string, args ...any) *Failure {
	return &Failure{code, fmt.Sprintf(format, args...)}
}

// maxText bounds a text of the guest that people are shown.
const maxText = 1024

// printable makes a text of the other side one that does nothing to a terminal.
func printable(s string) string {
	if len(s) > maxText {
		s = s[:maxText] + "..."
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		s = strings.Map(func(r rune) rune {
			if !unicode.IsPrint(r) {
				return unicode.ReplacementChar
			}
			return r
		}, s)
	}
	return s
}

// Decode reads a message as JSON; texts that people are shown are made harmless.
func Decode(b []byte, into any) error {
	if err := json.Unmarshal(b, into); err != nil {
		return breach("a message that is not what was to come: %v", err)
	}
	switch m := into.(type) {
	case *Failure:
		m.Code, m.Message = printable(m.Code), printable(m.Message)
	case *Answer:
		for i := range m.Problems {
			m.Problems[i] = printable(m.Problems[i])
		}
	}
	return nil
}
