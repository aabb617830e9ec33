package vmmproc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/store"
)

// MaybeMain makes the calling process a VM process, and does not return, if it
// was started as one by Spawn; otherwise it does nothing. It must be called
// before the program does anything else, as in an init function.
func MaybeMain(factory Factory) {
	val, ok := os.LookupEnv(stageEnv)
	if !ok || len(os.Args) == 0 || os.Args[0] != ProgramName {
		return
	}
	os.Unsetenv(stageEnv) // not for programs that a VM process may start
	stage, count, _ := strings.Cut(val, "/")
	fds, err := strconv.Atoi(count)
	if err != nil || fds < fdFiles || fds > maxFDs {
		stage = ""
	}
	switch stage {
	case stageOne:
		os.Exit(firstStage(fds))
	case stageTwo:
		// As ps(1) and pgrep(1) show it; the program was executed by a descriptor, or is the caller's. Best effort.
		_ = os.WriteFile("/proc/self/comm", []byte(ProgramName), 0)
		os.Exit(secondStage(factory, fds))
	}
	fmt.Fprintf(os.Stderr, "%s: the value of %s, %q, is not one that this program gives\n", ProgramName, stageEnv, val)
	os.Exit(2)
}

// stageVar is the variable that makes a process a stage. fds is how many
// descriptors, from 0 on, it is given.
func stageVar(stage string, fds int) string { return fmt.Sprintf("%s=%s/%d", stageEnv, stage, fds) }

// detached is how both instances are started: in a session of their own, out of
// reach of the terminal's signals.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// firstStage starts the VM process and exits, which makes it an orphan.
func firstStage(fds int) int {
	err := startSecondStage(fds)
	if err == nil {
		return 0
	}
	if line, lerr := encodeLine(helloMessage{Version: Version, Error: toError(err)}, MaxLine); lerr == nil {
		_, _ = unix.Write(fdHandshake, line)
	}
	return 1
}

func startSecondStage(fds int) error {
	if err := closeOnExecFrom(fdHandshake); err != nil {
		return err
	}
	files := make([]uintptr, fds)
	for i := range files {
		files[i] = uintptr(i)
	}
	_, err := syscall.ForkExec(selfExe, os.Args, &syscall.ProcAttr{
		Dir: "/", Env: append(os.Environ(), stageVar(stageTwo, fds)), Files: files, Sys: detached(),
	})
	if err != nil {
		return &os.PathError{Op: "exec", Path: selfExe, Err: err}
	}
	return nil
}

// closeOnExecFrom keeps descriptors that leaked into the caller, and through it
// into this process, out of the next one.
func closeOnExecFrom(first int) error {
	err := unix.CloseRange(uint(first), ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC)
	if err != unix.ENOSYS && err != unix.EINVAL { // Linux before 5.11
		return os.NewSyscallError("close_range", err)
	}
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, n := range names {
		if fd, err := strconv.Atoi(n); err == nil && fd >= first {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// secondStage is the VM process.
func secondStage(factory Factory, fds int) int {
	// The heap of a VM process is small and changes little: keep it so. A start should not
	// come to a first collection (at 1.6 MiB): what the collector itself needs, with so
	// small a heap, is more than what it finds.
	debug.SetGCPercent(40)
	debug.SetMemoryLimit(64 << 20)
	unix.Umask(0o077)
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT)
	term := newTerminator()
	for fd := fdHandshake; fd < fds; fd++ {
		unix.CloseOnExec(fd)
	}
	_ = unix.SetNonblock(fdHandshake, true)
	sock := os.NewFile(fdHandshake, "handshake")
	log := lineLog{&boundedWriter{w: os.Stderr, left: maxLog}}

	prog := findProgram()
	srv, follow, err := answer(sock, factory, fds, term, log, prog)
	tell(sock, outcomeMessage{Started: err == nil, Error: toError(err)})
	if err != nil {
		sock.Close()
		log.Error("start", "err", err)
		return 1
	}
	if !follow {
		sock.Close()
	}
	prog.forget()
	<-srv.done
	if follow {
		tell(sock, outcomeMessage{Stop: srv.stop})
		sock.Close()
	}
	return 0
}

// tell sends an outcome. If the caller is gone, the domain goes on without it.
func tell(sock *os.File, out outcomeMessage) {
	line, err := encodeLine(out, MaxLine)
	if err != nil {
		return
	}
	_ = sock.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, _ = sock.Write(line)
}

// terminator makes SIGTERM end the run cleanly, whether it is being started or
// goes on.
type terminator struct {
	ctx    context.Context // ends with SIGTERM
	cancel context.CancelCauseFunc
	srv    atomic.Pointer[Server]
}

var errTerm = errors.New("SIGTERM came during the start")

func newTerminator() *terminator {
	t := new(terminator)
	t.ctx, t.cancel = context.WithCancelCause(context.Background())
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGTERM)
	go func() {
		<-ch
		t.cancel(errTerm)
		if s := t.srv.Load(); s != nil {
			s.Destroy()
		}
	}()
	return t
}

// started hands the run over: a signal that came before is obeyed now.
func (t *terminator) started(s *Server) {
	t.srv.Store(s)
	if t.ctx.Err() != nil {
		s.Destroy()
	}
}

// answer does the VM process's part of the handshake up to the outcome. If it
// fails, it has given up the life lock: the starter may take the end of the
// handshake for the end of the process.
func answer(sock *os.File, factory Factory, fds int, term *terminator, log Logger, prog program) (_ *Server, follow bool, _ error) {
	life := os.NewFile(fdLife, "life lock")
	order, err := receiveOrder(sock, fds)
	if err != nil {
		life.Close()
		return nil, false, err
	}
	files := make(map[string]*os.File, len(order.Files))
	for i, name := range order.Files {
		files[name] = os.NewFile(uintptr(fdFiles+i), name)
	}
	run, err := store.Adopt(order.RunDir, order.StateDir, life)
	if err != nil {
		return nil, false, err
	}
	// The start is given up when the starter goes away or SIGTERM comes.
	ctx, cancel := context.WithCancelCause(term.ctx)
	defer cancel(nil)
	go func() {
		awaitHangup(sock) // ends at the latest when sock is closed
		cancel(errStarterGone)
	}()
	prog.forget() // what read the order
	srv, err := Serve(ctx, ServeConfig{
		Run: run, Spec: order.Spec, Files: files, Config: order.Config, Log: log,
		commit: func() error {
			if hungUp(sock) {
				return errStarterGone
			}
			prog.forget() // what built the machine is needed no more
			return nil
		},
		quiet: prog.forget,
	}, factory)
	if err != nil {
		return nil, false, err
	}
	term.started(srv)
	return srv, order.Follow, nil
}

func receiveOrder(sock *os.File, fds int) (orderMessage, error) {
	var order orderMessage
	line, err := encodeLine(helloMessage{Version: Version, PID: os.Getpid()}, MaxLine)
	if err != nil {
		return order, err
	}
	if _, err := sock.Write(line); err != nil {
		return order, fmt.Errorf("the starter is gone: %w", err)
	}
	line, err = newLineReader(sock, maxOrder).next()
	if err != nil {
		return order, fmt.Errorf("the starter is gone: %w", err)
	}
	if err := decodeStrict(line, &order); err != nil {
		return order, &Error{CodeProtocol, fmt.Sprintf("malformed order: %v", err)}
	}
	if len(order.Files) != fds-fdFiles {
		return order, &Error{CodeProtocol, fmt.Sprintf("%d descriptors for %d files", fds-fdFiles, len(order.Files))}
	}
	return order, nil
}

var errStarterGone = errors.New("the process that started the domain went away before its guest could run")

// boundedWriter drops what is more than the log of a VM process may be long, so
// that a guest cannot fill the host's disk through it.
type boundedWriter struct {
	w    io.Writer
	mu   sync.Mutex // guards left
	left int
}

func (b *boundedWriter) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(p) > b.left {
		b.left = 0
		return len(p), nil
	}
	b.left -= len(p)
	return b.w.Write(p)
}
