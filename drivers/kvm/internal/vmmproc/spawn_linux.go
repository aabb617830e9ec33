package vmmproc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/store"
)

// NamedFile is an open descriptor that a VM process gets.
type NamedFile struct {
	Name string // in Env.Files
	File *os.File
}

// SpawnConfig is a domain that is to run in a process of its own.
type SpawnConfig struct {
	Program string // from FindProgram
	// Run is the run directory with its life lock. Spawn owns it from then on,
	// also on failure.
	Run    *store.Run
	Spec   json.RawMessage
	Files  []NamedFile // stay the caller's
	Config Config
	// Log is the absolute path of the file for what the VM process has to say,
	// such as the trace of a crash; empty for nowhere. It is begun anew when it
	// is longer than 256 KiB.
	Log string
	Env []string // beyond the few variables that a VM process always gets
}

// ErrSpawn is matched by errors about the VM process itself, in contrast to those
// about the machine in it.
var ErrSpawn = errors.New("start of the VM process")

const (
	maxLog       = 256 << 10
	deathTimeout = 5 * time.Second // for a killed VM process to be gone
)

// keptEnv are the variables that a VM process inherits.
var keptEnv = []string{"PATH", "HOME", "LANG", "TZ", "GODEBUG", "GOTRACEBACK", "GORACE", "GOCOVERDIR"}

// Spawn starts a domain in a process of its own and returns its pid when the
// guest runs. Ending ctx before that kills the process; nothing is left behind
// then, nor if the start fails. The process outlives the caller.
//
// An error of the VM process is an [*Error] with the code it gave.
func Spawn(ctx context.Context, cfg SpawnConfig) (int, error) {
	sp, pid, err := begin(ctx, cfg, false)
	if err != nil {
		return 0, err
	}
	sp.sock.Close()
	return pid, nil
}

// SpawnFollowed is Spawn for a caller that must learn how the run ended even if
// that is before it can ask, as of a transient domain, which leaves no record. The
// caller closes the Follower.
func SpawnFollowed(ctx context.Context, cfg SpawnConfig) (int, *Follower, error) {
	sp, pid, err := begin(ctx, cfg, true)
	if err != nil {
		return 0, nil, err
	}
	return pid, &Follower{dir: cfg.Run.Dir, sock: sp.sock, lines: sp.lines}, nil
}

// begin gives the spawner with its socket open.
func begin(ctx context.Context, cfg SpawnConfig, follow bool) (*spawner, int, error) {
	collectOrphans()
	sp, err := newSpawner(cfg)
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("%w: %w", ErrSpawn, err), cfg.Run.Abort())
	}
	sp.follow = follow
	pid, err := sp.start(ctx)
	if err != nil {
		sp.kill()
		sp.sock.Close()
		return nil, 0, errors.Join(err, cfg.Run.Abort())
	}
	cfg.Run.Release()
	adoptOrphan(pid)
	return sp, pid, nil
}

// spawner is a start under way, in the caller.
type spawner struct {
	cfg    SpawnConfig
	follow bool
	sock   *os.File // this side of the handshake
	lines  *lineReader
	proc   *os.Process // the first instance
	pid    int         // of the VM process, 0 before it is known
	vm     int         // pidfd of the VM process, -1 if there is none
	logAt  int64       // what is in the log from here on is of this start
}

// newSpawner starts the first instance of the program.
func newSpawner(cfg SpawnConfig) (*spawner, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "handshake")
	defer theirs.Close()
	if err := unix.SetNonblock(fds[0], true); err != nil {
		unix.Close(fds[0])
		return nil, os.NewSyscallError("fcntl", err)
	}
	sp := &spawner{cfg: cfg, sock: os.NewFile(uintptr(fds[0]), "handshake"), vm: -1}
	sp.lines = newLineReader(sp.sock, MaxLine)
	if fdFiles+len(cfg.Files) > maxFDs {
		sp.sock.Close()
		return nil, &Error{CodeInvalidArgument, fmt.Sprintf("%d open files for one domain, at most %d are possible", len(cfg.Files), maxFDs-fdFiles)}
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		sp.sock.Close()
		return nil, err
	}
	defer null.Close()
	log := null
	if cfg.Log != "" {
		if log, err = openLog(cfg.Log); err != nil {
			sp.sock.Close()
			return nil, err
		}
		defer log.Close()
		if sp.logAt, err = log.Seek(0, io.SeekEnd); err != nil {
			sp.sock.Close()
			return nil, err
		}
	}
	files := []*os.File{null, null, log, theirs, cfg.Run.Life()}
	for _, f := range cfg.Files {
		files = append(files, f.File)
	}
	sp.proc, err = os.StartProcess(cfg.Program, []string{ProgramName, title(cfg.Run.Name)}, &os.ProcAttr{
		Dir:   "/",
		Env:   append(vmEnv(cfg.Env), stageVar(stageOne, len(files))),
		Files: files,
		Sys:   detached(),
	})
	if err != nil {
		sp.sock.Close()
		return nil, err
	}
	return sp, nil
}

// vmEnv gives the environment of a VM process: not that of the caller, whose secrets a
// VM process does not need.
func vmEnv(more []string) []string {
	var env []string
	for _, k := range keptEnv {
		if v, ok := os.LookupEnv(k); ok {
			env = append(env, k+"="+v)
		}
	}
	env = append(env, more...)
	for i, v := range slices.Backward(env) {
		if set, ok := strings.CutPrefix(v, "GODEBUG="); ok { // the last of a name counts
			env[i] = "GODEBUG=" + noHugeHeap + "," + set
			return env
		}
	}
	return append(env, "GODEBUG="+noHugeHeap)
}

// noHugeHeap keeps the Go heap out of transparent huge pages, which would make a heap of 1 MiB take up 4 on hosts where they
// are used without being asked for. Guest memory is not the Go runtime's and may have them. What the caller's own GODEBUG says
// comes later and counts.
const noHugeHeap = "disablethp=1"

func openLog(path string) (*os.File, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("the path of the log, %q, is not absolute", path)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	if fi, err := f.Stat(); err == nil && fi.Size() > maxLog {
		if err := f.Truncate(0); err != nil {
			f.Close()
			return nil, err
		}
	}
	return f, nil
}

// start carries out the handshake.
func (sp *spawner) start(ctx context.Context) (int, error) {
	done := within(ctx, sp.sock.SetDeadline)
	pid, err := sp.handshake()
	if err = done(err); err != nil {
		if c := ctx.Err(); c != nil {
			return 0, fmt.Errorf("start of domain %q: %w", sp.cfg.Run.Name, context.Cause(ctx))
		}
		return 0, err
	}
	sp.wait()
	return pid, nil
}

func (sp *spawner) handshake() (int, error) {
	var hello helloMessage
	err := sp.receive(&hello)
	if err != nil {
		return 0, err
	}
	if hello.Error != nil {
		return 0, fmt.Errorf("%w: %w", ErrSpawn, hello.Error)
	}
	if hello.Version != Version {
		return 0, fmt.Errorf("%w: %w", ErrSpawn, &Error{CodeVersion, fmt.Sprintf(
			"the VM program %s speaks version %d of the handshake, this program %d; install the polyvisor-vmm that belongs to it, or name it by vmm=", sp.cfg.Program, hello.Version, Version)})
	}
	// The process holds its end of the socket, so the pid is still its own.
	sp.pid = hello.PID
	if sp.vm, err = unix.PidfdOpen(hello.PID, 0); err != nil {
		sp.vm = -1 // Linux before 5.3
	}
	order := orderMessage{
		RunDir: sp.cfg.Run.Dir, StateDir: sp.cfg.Run.StateDir(), UUID: sp.cfg.Run.UUID,
		Config: sp.cfg.Config, Spec: sp.cfg.Spec, Follow: sp.follow,
	}
	for _, f := range sp.cfg.Files {
		order.Files = append(order.Files, f.Name)
	}
	line, err := encodeLine(order, maxOrder)
	if err != nil {
		return 0, err
	}
	// If the process is gone, what it said last is worth more than EPIPE.
	if _, err := sp.sock.Write(line); err != nil && !errors.Is(err, unix.EPIPE) {
		return 0, err
	}
	var out outcomeMessage
	if err := sp.receive(&out); err != nil {
		return 0, err
	}
	if out.Error != nil {
		return 0, out.Error
	}
	if !out.Started {
		return 0, fmt.Errorf("%w: %w", ErrSpawn, &Error{CodeProtocol, "the outcome says nothing"})
	}
	return hello.PID, nil
}

func (sp *spawner) receive(v any) error {
	line, err := sp.lines.next()
	if err == nil {
		err = json.Unmarshal(line, v)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, io.ErrUnexpectedEOF) {
		if last := lastWords(sp.cfg.Log, sp.logAt); last != "" {
			return fmt.Errorf("%w: it ended before the guest could run; its last words: %s", ErrSpawn, last)
		}
		return fmt.Errorf("%w: %s ended before the guest could run, without a word; is it a polyvisor-vmm, or a program that uses this package?", ErrSpawn, sp.cfg.Program)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSpawn, err)
	}
	return nil
}

// lastWords gives the line of the log, from a place on, that says why a Go program
// crashed, or else the last one.
func lastWords(path string, from int64) string {
	if path == "" {
		return ""
	}
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, from, MaxLine))
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	last := lines[len(lines)-1]
	for _, l := range lines {
		if strings.HasPrefix(l, "panic: ") || strings.HasPrefix(l, "fatal error: ") {
			last = l
		}
	}
	return last[:min(len(last), 512)]
}

// wait collects the first instance, which exits as soon as the second runs.
func (sp *spawner) wait() {
	if sp.vm >= 0 {
		unix.Close(sp.vm)
		sp.vm = -1
	}
	_, _ = sp.proc.Wait() // fails where the program ignores SIGCHLD
}

// kill ends whatever of the start is under way and waits, for a bounded time,
// until it is gone.
func (sp *spawner) kill() {
	_ = sp.proc.Kill()
	if sp.vm >= 0 {
		_ = unix.PidfdSendSignal(sp.vm, unix.SIGKILL, nil, 0)
	} else if sp.pid > 0 {
		_ = unix.Kill(sp.pid, unix.SIGKILL)
	}
	// A second instance that has not said hello yet exits by itself when it finds
	// nobody at the other end. The stream ends when nobody holds it any more.
	_ = closeWrite(sp.sock)
	_ = sp.sock.SetReadDeadline(time.Now().Add(deathTimeout))
	_, _ = io.Copy(io.Discard, sp.sock)
	sp.wait()
}

// orphans are VM processes that this process started and that came to it as
// children when their first instance had ended, because it is process 1 or a
// subreaper. See the package comment.
var orphans struct {
	mu   sync.Mutex
	pids map[int]struct{}
}

func adoptOrphan(pid int) {
	// Not a child: ECHILD. A child that runs: 0.
	if got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); err != nil || got != 0 {
		return
	}
	orphans.mu.Lock()
	defer orphans.mu.Unlock()
	if orphans.pids == nil {
		orphans.pids = map[int]struct{}{}
	}
	orphans.pids[pid] = struct{}{}
}

// collectOrphans waits for those that have ended; it does not block.
func collectOrphans() {
	orphans.mu.Lock()
	defer orphans.mu.Unlock()
	for pid := range orphans.pids {
		got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil)
		if got == pid || err == unix.ECHILD {
			delete(orphans.pids, pid)
		}
	}
}
