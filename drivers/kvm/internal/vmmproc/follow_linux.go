package vmmproc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Follower is the starter's end of the handshake, over which the VM process tells
// how the run ended. It is for one goroutine.
type Follower struct {
	dir   string
	sock  *os.File
	lines *lineReader
}

// Wait returns how the run ended, when all of it is gone. If the VM process was
// killed, the error matches [ErrGone].
func (f *Follower) Wait(ctx context.Context) (Stop, error) {
	done := within(ctx, f.sock.SetReadDeadline)
	line, err := f.lines.next()
	if err = done(err); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, unix.ECONNRESET) {
			collectOrphans()
			return Stop{}, goneError(f.dir)
		}
		return Stop{}, err
	}
	var out outcomeMessage
	if err := json.Unmarshal(line, &out); err != nil || out.Stop == nil {
		return Stop{}, &Error{CodeProtocol, fmt.Sprintf("the VM process of %s does not say how it ended", f.dir)}
	}
	return *out.Stop, nil
}

// Close stops following; the run goes on.
func (f *Follower) Close() error { return f.sock.Close() }
