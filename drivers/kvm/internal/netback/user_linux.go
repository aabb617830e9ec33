package netback

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrInUse is matched if a port that is to be published is taken.
var ErrInUse = errors.New("port in use")

// startTimeout bounds a start whose context has no end.
const startTimeout = 30 * time.Second

// socketBuffer is asked for on both ends: frames on the way, in bytes.
const socketBuffer = 1 << 20

// keptEnv are the variables that a helper inherits.
var keptEnv = []string{"PATH", "HOME", "LANG", "TZ", "GODEBUG", "GOTRACEBACK", "GORACE", "GOCOVERDIR"}

// Process is a running helper.
type Process struct {
	pid  int
	proc *os.Process
	done chan struct{}
}

// PID gives the process's number.
func (p *Process) PID() int { return p.pid }

// Done is closed when the helper is gone and collected, which a goroutine of
// the program that started it waits for.
func (p *Process) Done() <-chan struct{} { return p.done }

// Kill ends the helper and waits for its end. Closing every copy of the VM's end
// of the socket does so, too.
func (p *Process) Kill() {
	_ = p.proc.Kill()
	<-p.done
}

// StartUser starts the helper for a card and returns when it serves: the
// published ports are bound and a frame that is sent is answered. vmEnd is the
// VM process's end of the socket, non-blocking; it is the caller's, who passes it
// on and closes it. The helper ends when the last copy is closed.
//
// Errors: ErrInUse with the port; what is wrong with the configuration; the end
// of ctx. Nothing is left then.
func StartUser(ctx context.Context, program Program, cfg UserConfig) (vmEnd *os.File, proc *Process, err error) {
	if err := cfg.Check(); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	vmEnd, theirs, err := pair(unix.SOCK_SEQPACKET)
	if err != nil {
		return nil, nil, err
	}
	defer theirs.Close()
	control, theirControl, err := pair(unix.SOCK_STREAM)
	if err != nil {
		return nil, nil, errors.Join(err, vmEnd.Close())
	}
	defer control.Close()
	proc, err = spawn(program, cfg.Log, theirs, theirControl)
	theirControl.Close()
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("start %s for network user: %w", program.path, err), vmEnd.Close())
	}
	stop := context.AfterFunc(ctx, func() { _ = control.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := configure(control, program, cfg); err != nil {
		proc.Kill()
		if ctx.Err() != nil {
			err = fmt.Errorf("start %s: %w", program.path, context.Cause(ctx))
		}
		return nil, nil, errors.Join(err, vmEnd.Close())
	}
	return vmEnd, proc, nil
}

// pair gives two connected sockets that children do not inherit.
func pair(typ int) (a, b *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	for _, fd := range fds { // as far as the host permits
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, socketBuffer)
	}
	return os.NewFile(uintptr(fds[0]), "usernet"), os.NewFile(uintptr(fds[1]), "usernet"), nil
}

func spawn(program Program, log, frames, control *os.File) (*Process, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	if log == nil {
		log = null
	}
	env := []string{stageEnv + "=" + stageOne}
	for _, k := range keptEnv {
		if v, ok := os.LookupEnv(k); ok {
			env = append(env, k+"="+v)
		}
	}
	p, err := os.StartProcess(program.path, []string{ProgramName}, &os.ProcAttr{
		Dir: "/", Env: env, Files: []*os.File{null, null, log, frames, control},
		Sys: &syscall.SysProcAttr{Setsid: true}, // out of reach of the terminal's signals
	})
	if err != nil {
		return nil, err
	}
	proc := &Process{pid: p.Pid, proc: p, done: make(chan struct{})}
	go func() {
		defer close(proc.done)
		_, _ = p.Wait() // fails where the program ignores SIGCHLD
	}()
	return proc, nil
}

// configure tells the helper what to do and waits for its answer.
func configure(control *os.File, program Program, cfg UserConfig) error {
	err := json.NewEncoder(control).Encode(cfg)
	if err != nil && !errors.Is(err, unix.EPIPE) {
		return err
	}
	var o outcome
	err = json.NewDecoder(io.LimitReader(control, 1<<16)).Decode(&o)
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%s ended before it was ready, without a word; is it a polyvisor-usernet of this version?", program.path)
	case err != nil:
		return err
	case o.InUse:
		return fmt.Errorf("%w: %s; publish another one or end what uses it", ErrInUse, o.Error)
	case !o.Ready:
		return fmt.Errorf("network user: %s", o.Error)
	}
	return nil
}

func isInUse(err error) bool { return errors.Is(err, unix.EADDRINUSE) }
