package polyvisor

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
)

// Cmd is a command to run in a guest, in the shape of os/exec's.
type Cmd struct {
	// Args has the program and its arguments. A program without a slash is looked for
	// in the guest's PATH.
	Args []string
	// Path is the file of the program, if it is to see another name of itself in
	// Args[0].
	Path string
	// Env is NAME=VALUE, added to the environment that the guest's agent gives:
	// PATH, HOME, USER, LOGNAME, and TERM with a terminal.
	Env []string
	// Dir is the directory to run in, an absolute path; the home directory of the user if it is empty.
	Dir string
	// User is USER or USER:GROUP, names or numbers of the guest; root if it is
	// empty.
	User string

	// Stdin is what the command reads; nothing if it is nil. It is read until it
	// ends, the command ends or reads no more; a Read under way then is not waited
	// for.
	Stdin io.Reader
	// Stdout and Stderr take what the command writes; nil drops it. If they are
	// the same, that is comparable with ==, both go there in order. The library never
	// writes to one of them at the same time twice.
	Stdout io.Writer
	Stderr io.Writer
	// TTY, if not nil, runs the command on a terminal of this size: what it prints,
	// errors too, comes by Stdout, and Stderr is not used. The end of Stdin is
	// control-D.
	TTY *TTYSize
}

// TTYSize is the size of a terminal in characters; 0 is not known.
type TTYSize struct{ Cols, Rows uint16 }

// Signal is a signal by the number that it has in Linux, whatever the system of
// this program is.
type Signal int

// The signals that programs send most.
const (
	SIGHUP  Signal = 1
	SIGINT  Signal = 2
	SIGQUIT Signal = 3
	SIGKILL Signal = 9
	SIGUSR1 Signal = 10
	SIGUSR2 Signal = 12
	SIGTERM Signal = 15
)

var signalNames = map[Signal]string{
	SIGHUP: "SIGHUP", SIGINT: "SIGINT", SIGQUIT: "SIGQUIT", 4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", SIGKILL: "SIGKILL",
	SIGUSR1: "SIGUSR1", 11: "SIGSEGV", SIGUSR2: "SIGUSR2", 13: "SIGPIPE", 14: "SIGALRM", SIGTERM: "SIGTERM", 17: "SIGCHLD", 18: "SIGCONT", 19: "SIGSTOP",
}

// String gives the name of the signal, or "signal NUMBER".
func (s Signal) String() string {
	if name, ok := signalNames[s]; ok {
		return name
	}
	return fmt.Sprintf("signal %d", int(s))
}

// ExitStatus is how a command ended.
type ExitStatus struct {
	// Code is its exit code, or 128 and the number of the signal.
	Code int
	// Signal is what ended it; 0 if it ended by itself.
	Signal Signal
}

// ExitError is the error of a command that did not end with code 0.
type ExitError struct {
	ExitStatus
	// Stderr is the end of what the command wrote there, if ExecOutput ran it and
	// Cmd.Stderr was nil.
	Stderr []byte
}

func (e *ExitError) Error() string {
	if e.Signal != 0 {
		return "the command was ended by " + e.Signal.String()
	}
	return fmt.Sprintf("the command ended with exit code %d", e.Code)
}

// Merged reports whether what the command writes goes to one writer, in order.
func (c *Cmd) Merged() (same bool) {
	defer func() { _ = recover() }() // writers that cannot be compared are not the same
	return c.TTY == nil && c.Stdout != nil && c.Stdout == c.Stderr
}

// validate checks a command.
func (c *Cmd) validate() error {
	if len(c.Args) == 0 || c.Args[0] == "" && c.Path == "" {
		return badArg("no command: Cmd.Args is empty")
	}
	for _, s := range append([]string{c.Path, c.Dir, c.User}, c.Args...) {
		if strings.IndexByte(s, 0) >= 0 {
			return badArg("the command has a zero byte in %q", s)
		}
	}
	if c.Dir != "" && c.Dir[0] != '/' {
		return badArg("Cmd.Dir: %q does not begin with /", c.Dir)
	}
	for _, e := range c.Env {
		if name, _, ok := strings.Cut(e, "="); !ok || name == "" || strings.IndexByte(e, 0) >= 0 {
			return badArg("Cmd.Env: %q is not NAME=VALUE", e)
		}
	}
	return nil
}

// clone copies the command, so that the caller may use it again.
func (c *Cmd) clone() *Cmd {
	d := *c
	d.Args, d.Env = append([]string(nil), c.Args...), append([]string(nil), c.Env...)
	if c.TTY != nil {
		size := *c.TTY
		d.TTY = &size
	}
	return &d
}

// WaitReady waits until the guest's agent takes commands, which it does once the guest
// has come up. ctx bounds the wait: a guest without an agent is never ready.
//
// Errors: ErrInvalidState if the domain is not active or stops, ErrInvalidConfig if it
// has no socket device, ErrNoResource if the agent could not set the guest up.
func (d *Domain) WaitReady(ctx context.Context) error {
	return d.execer(ctx, OpWaitReady, nil, func(ctx context.Context, e Execer) error { return e.WaitReady(ctx) })
}

// Exec runs a command in the guest to its end. If ctx ends before, the command is ended
// with all that it has started.
//
// The guest runs the agent (polyvisor-vmm agent) and the domain has a socket device
// (Config.Vsock); WaitReady waits until it has come up. Other operations on the
// domain may go on, and any number of commands.
//
// Errors: *ExitError if the command ends with another code than 0; ErrNotFound for a
// program, user or directory that the guest does not have, ErrPermission; ErrNoResource
// if no agent answers; ErrInvalidConfig if the domain has no socket device; ErrConnLost
// if it stops.
func (d *Domain) Exec(ctx context.Context, cmd Cmd) error {
	p, err := d.StartExec(ctx, cmd)
	if err != nil {
		return err
	}
	defer p.Close()
	return p.Wait(ctx)
}

// maxStderr bounds what an ExitError keeps.
const maxStderr = 64 << 10

// ExecOutput is Exec and returns what the command writes to its standard output;
// Cmd.Stdout is not used.
func (d *Domain) ExecOutput(ctx context.Context, cmd Cmd) ([]byte, error) {
	var out bytes.Buffer
	var kept tail
	cmd.Stdout = &out
	if cmd.Stderr == nil && cmd.TTY == nil {
		cmd.Stderr = &kept
	}
	err := d.Exec(ctx, cmd)
	if e, ok := exitError(err); ok {
		e.Stderr = kept.b
	}
	return out.Bytes(), err
}

// tail keeps the end of what is written.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if over := len(t.b) - maxStderr; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(p), nil
}

// StartExec starts a command in the guest. It returns when the command runs, and ctx means
// nothing to it afterwards. The caller closes the Process; closing the Conn closes it
// too.
func (d *Domain) StartExec(ctx context.Context, cmd Cmd) (*Process, error) {
	var made *Process
	err := d.execer(ctx, OpExec, cmd.validate, func(ctx context.Context, e Execer) error {
		p, err := e.StartExec(ctx, cmd.clone())
		if err != nil {
			return err
		}
		made = &Process{d: d, p: p, owned: owned{conn: d.conn}}
		return d.conn.adopt(made)
	})
	if err != nil {
		return nil, err
	}
	return made, nil
}

// execer is change without the domain's turn: commands take their time.
func (d *Domain) execer(ctx context.Context, op Op, args func() error, f func(context.Context, Execer) error) error {
	return d.conn.call(ctx, string(op), d.Name(), func(ctx context.Context) error {
		e, err := offered[Execer](d.conn, d.inst, FeatureExec)
		if err != nil {
			return err
		}
		if args != nil {
			if err := args(); err != nil {
				return err
			}
		}
		if err := d.permitted(op); err != nil {
			return err
		}
		if _, err := d.legal(ctx, op); err != nil {
			return err
		}
		return f(ctx, e)
	})
}
