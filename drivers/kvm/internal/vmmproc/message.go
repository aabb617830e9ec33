package vmmproc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Version is the version of the control protocol and of the handshake at the
// start that this package speaks.
const Version = 1

// Bounds of the protocol.
const (
	MaxLine  = 64 << 10 // bytes in a line, with its newline
	MaxConns = 64       // connections to one VM process
	MaxSlow  = 8        // suspend, resume and reset under way on one connection
	MaxWaits = 1024     // waits under way on one connection
)

// Patience of the server; shorter in tests.
var (
	helloTimeout = 5 * time.Second // for the first request
	writeTimeout = 5 * time.Second // for a peer to read an answer
)

// Operations.
const (
	opHello    = "hello"
	opInfo     = "info"
	opSuspend  = "suspend"
	opResume   = "resume"
	opShutdown = "shutdown"
	opReboot   = "reboot"
	opReset    = "reset"
	opDestroy  = "destroy"
	opWait     = "wait"
	opCancel   = "cancel"
	opConsole  = "console"
	opDetached = "console-ended"
	opVCPUs    = "vcpus"
	opPin      = "pin"
	opCoreDump = "core-dump"
	opSize     = "console-size"
)

// request is a line from a client.
type request struct {
	ID   uint64          `json:"id"`
	Op   string          `json:"op"`
	Args json.RawMessage `json:"args,omitempty"`
}

// reply is a line to a client. Exactly one of Result and Error is set.
type reply struct {
	ID     uint64          `json:"id"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  *Error          `json:"error,omitempty"`
}

type helloArgs struct {
	Versions []int `json:"versions"`
}

// Hello is what a VM process says about itself.
type Hello struct {
	Version int    `json:"version"`
	PID     int    `json:"pid"`
	Name    string `json:"name"`
	UUID    string `json:"uuid"`
	ID      int    `json:"id"`
}

type cancelArgs struct {
	ID uint64 `json:"id"`
}

type consoleArgs struct {
	Force bool `json:"force,omitempty"`
}

type consoleReply struct {
	Session uint64 `json:"session"`
}

type sizeArgs struct {
	Session uint64 `json:"session"`
	Cols    uint16 `json:"cols"`
	Rows    uint16 `json:"rows"`
}

// detachedReply says why a console session ended; no error means that it has
// not, or not for a reason of the server.
type detachedReply struct {
	Error *Error `json:"error,omitempty"`
}

// Status is the answer to info.
type Status struct {
	Info
	Hello
	Started time.Time `json:"started"` // of the domain's run
	Reboots int       `json:"reboots"` // machines built anew since
	Console int       `json:"console"` // pid of the console's owner, 0 for none
	// Ended says how the guest ended that is kept; nil if it has not.
	Ended *Stop `json:"ended,omitempty"`
}

// Stop is how a domain's run ended.
type Stop struct {
	Reason Reason            `json:"reason"`
	Detail string            `json:"detail,omitempty"`
	Time   time.Time         `json:"time"`
	Exits  map[string]uint64 `json:"exits,omitempty"`
}

var errTrailing = errors.New("more than one value on the line")

// parseRequest reads a line from a client.
func parseRequest(line []byte) (request, error) {
	var r request
	if err := decodeStrict(line, &r); err != nil {
		return request{}, &Error{CodeProtocol, fmt.Sprintf("malformed request: %v", err)}
	}
	if r.Op == "" {
		return request{}, &Error{CodeProtocol, "malformed request: no op"}
	}
	return r, nil
}

// parseReply reads a line from a server. Members that it does not know are from a
// newer server and are skipped.
func parseReply(line []byte) (reply, error) {
	var r reply
	if err := json.Unmarshal(line, &r); err != nil {
		return reply{}, &Error{CodeProtocol, fmt.Sprintf("malformed reply of the VM process: %v", err)}
	}
	if (r.Error == nil) == (r.Result == nil) {
		return reply{}, &Error{CodeProtocol, "malformed reply of the VM process: neither or both of result and error"}
	}
	return r, nil
}

// decodeStrict reads exactly one value without unknown members: a request that
// asks for something this version does not know must not be done in part.
func decodeStrict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if d.More() {
		return errTrailing
	}
	return nil
}

// decodeArgs reads the arguments of an operation, which may be left out.
func decodeArgs(r request, v any) error {
	if len(r.Args) == 0 {
		return nil
	}
	if err := decodeStrict(r.Args, v); err != nil {
		return &Error{CodeInvalidArgument, fmt.Sprintf("%s: malformed arguments: %v", r.Op, err)}
	}
	return nil
}

// encodeLine makes a line of a message.
func encodeLine(v any, limit int) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if len(b)+1 > limit {
		return nil, &Error{CodeProtocol, fmt.Sprintf("a message of %d bytes is longer than a line may be (%d)", len(b)+1, limit)}
	}
	return append(b, '\n'), nil
}
