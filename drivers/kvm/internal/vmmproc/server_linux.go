package vmmproc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/store"
)

// ServeConfig is a domain that is to run in this process.
type ServeConfig struct {
	// Run is the run directory with its life lock. Serve owns it from then on,
	// also on failure.
	Run    *store.Run
	Spec   json.RawMessage
	Files  map[string]*os.File // see Env; the server closes them when the run ends
	Config Config
	Log    Logger // nil for none

	// Restart takes over the run of a domain that ActionRenameRestart starts; nil
	// starts it in a process of its own. It belongs to the callee, also on failure;
	// Spec and Files are those of this run.
	Restart func(ctx context.Context, run *store.Run, cfg Config) error

	// commit is called when all is ready, before the guest runs. An error of it
	// undoes the start.
	commit func() error
	// quiet is called when no request has come for quietAfter, if one has.
	quiet func()
}

// quietAfter is less than a person notices and more than a program leaves between two
// requests that belong together.
const quietAfter = 100 * time.Millisecond

// Server runs one domain and serves its control socket.
type Server struct {
	run     *store.Run
	spec    json.RawMessage
	files   map[string]*os.File
	cfg     Config
	log     Logger
	factory Factory
	restart func(context.Context, *store.Run, Config) error
	ln      *os.File
	console *console
	hello   Hello

	killed context.Context // ends when the run is to be destroyed
	kill   context.CancelFunc
	done   chan struct{}  // closed when the run has ended and all is taken down
	slow   chan struct{}  // holds one: Suspend, Resume, Reset or a rebuild is under way
	paused bool           // what Suspend and Resume left; guarded by slow
	pins   map[int][]byte // in place of those of cfg; guarded by slow

	mu       sync.Mutex // guards the following
	m        Machine
	changed  chan struct{} // closed when m is replaced, and when the run ends
	comeBack bool          // the guest was asked to power off in order to reboot
	reset    bool          // the reset operation was asked for; cleared with the machine's end
	reboots  int
	counted  bool          // the counters of m are in the following
	cpuTime  time.Duration // of machines that were replaced
	exits    map[string]uint64
	vcpuTime []time.Duration
	disks    []Disk // counters of machines that were replaced
	nics     []NIC
	conns    map[*serverConn]struct{}
	ended    *Stop // how the guest ended that is kept; see ActionPreserve
	stop     *Stop // set when the run has ended

	deviceErrors deviceErrors
	sockets      runSockets

	quiet *time.Timer // nil if nobody wants to know; runs after a request

	handlers sync.WaitGroup // connections and what they have under way
	renewing sync.WaitGroup // a renewal, which uses the files
}

// Serve builds a domain's machine, starts it and serves its control socket until
// the run ends. ctx bounds the start only. Nothing is left behind if it fails.
func Serve(ctx context.Context, cfg ServeConfig, factory Factory) (*Server, error) {
	s := &Server{
		run: cfg.Run, spec: cfg.Spec, files: cfg.Files, cfg: cfg.Config, log: cfg.Log, factory: factory, restart: cfg.Restart,
		done: make(chan struct{}), slow: make(chan struct{}, 1), changed: make(chan struct{}),
		conns: map[*serverConn]struct{}{},
	}
	if s.log == nil {
		s.log = noLog{}
	}
	if cfg.quiet != nil {
		s.quiet = time.AfterFunc(time.Hour, cfg.quiet)
		s.quiet.Stop()
	}
	s.sockets.dir = cfg.Run.Dir
	s.hello = Hello{Version: Version, PID: os.Getpid(), Name: cfg.Run.Name, UUID: cfg.Run.UUID.String(), ID: cfg.Run.ID}
	s.killed, s.kill = context.WithCancel(context.Background())
	s.console = &console{input: s.input, machine: func() Machine { m, _ := s.machine(); return m }}
	if err := s.start(ctx, cfg.commit); err != nil {
		s.kill()
		if s.ln != nil {
			s.ln.Close()
		}
		s.console.finish()
		s.closeFiles()
		return nil, errors.Join(err, cfg.Run.Abort())
	}
	s.handlers.Go(s.acceptLoop)
	go s.supervise(s.m)
	return s, nil
}

// start undoes nothing but the machine; Serve does the rest.
func (s *Server) start(ctx context.Context, commit func() error) error {
	if err := s.cfg.validate(); err != nil {
		return err
	}
	if s.cfg.ConsoleLog != "" {
		l, err := openConsoleLog(s.cfg.ConsoleLog, s.cfg.ConsoleLogMax, s.log)
		if err != nil {
			return err
		}
		s.console.log = l
	}
	m, err := s.build(ctx, 0)
	if err != nil {
		return err
	}
	// Not before: a client that connects is served at once.
	if s.ln, err = listen(s.run.Dir, store.SocketName); err == nil {
		err = context.Cause(ctx)
	}
	if err == nil && commit != nil {
		err = commit()
	}
	if err == nil {
		err = s.pinAll(m)
	}
	if err == nil {
		err = s.startMachine(m)
	}
	if err == nil {
		// From here on a reaper that finds the run dead says that the machine
		// died, not that it was never started.
		err = s.run.MarkStarted()
	}
	if err != nil {
		return errors.Join(err, m.Close())
	}
	s.m = m
	s.announce(store.EventStarted)
	return nil
}

// startMachine lets the first machine run, or leaves it suspended.
func (s *Server) startMachine(m Machine) error {
	if s.cfg.StartPaused {
		s.paused = true
		return m.StartPaused()
	}
	return m.Start()
}

// build calls the factory; a panic of it must not take the caller's program or
// the reason with it.
func (s *Server) build(ctx context.Context, n int) (m Machine, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &Error{CodeInternal, fmt.Sprintf("panic while the machine was built: %v", r)}
		}
	}()
	return s.factory(ctx, s.spec, Env{Files: s.files, Console: s.console, DeviceError: s.deviceError,
		Listen: s.sockets.Listen, Connect: s.sockets.Connect, Rebuild: n})
}

func (c *Config) validate() error {
	for _, a := range []Action{c.OnPoweroff, c.OnReboot, c.OnCrash} {
		switch a {
		case "", ActionDestroy, ActionRestart, ActionPreserve, ActionRenameRestart:
		default:
			return &Error{CodeInvalidArgument, fmt.Sprintf("unknown action %q; known are %q, %q, %q and %q", a, ActionDestroy, ActionRestart, ActionPreserve, ActionRenameRestart)}
		}
	}
	if c.ConsoleLog != "" && !filepath.IsAbs(c.ConsoleLog) {
		return &Error{CodeInvalidArgument, fmt.Sprintf("the path of the console log, %q, is not absolute", c.ConsoleLog)}
	}
	return nil
}

func (s *Server) machine() (Machine, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m, s.changed
}

// input gives console input to the machine that is there; while it is being
// replaced, it waits for the next one.
func (s *Server) input(ctx context.Context, p []byte) (int, error) {
	m, changed := s.machine()
	if m == nil {
		return 0, ErrMachineEnded
	}
	n, err := m.Input(ctx, p)
	if n == 0 && errors.Is(err, ErrMachineEnded) {
		select {
		case <-changed:
			return 0, nil
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return n, err
}

// Wait returns how the run ended, when everything of it is gone. It may be called
// by any number of goroutines, also after the end.
func (s *Server) Wait(ctx context.Context) (Stop, error) {
	select {
	case <-s.done:
		s.mu.Lock()
		defer s.mu.Unlock()
		return *s.stop, nil
	case <-ctx.Done():
		return Stop{}, context.Cause(ctx)
	}
}

// Destroy ends the run without asking the guest. It does not wait.
func (s *Server) Destroy() { s.kill() }

// Close destroys the domain if it still runs and waits until everything of it is
// gone.
func (s *Server) Close() error {
	s.kill()
	<-s.done
	return nil
}

// finish ends the run, in an order that keeps what others see true: when the stop
// is on record and the run directory is gone, the machine is gone too, so that
// whoever hears of the stop may start the domain again at once. m is nil if it is
// closed; tidy is false if it cannot be.
func (s *Server) finish(m Machine, exit Exit, tidy bool) {
	s.kill() // ends what is under way on the machine
	select {
	case s.slow <- struct{}{}:
	case <-time.After(killPatience):
		tidy = false
	}
	if m != nil {
		s.addExits(m)
		if tidy {
			if err := m.Close(); err != nil {
				s.log.Error("close the machine", "err", err)
			}
		}
	}
	stop := Stop{Reason: exit.Reason, Detail: exit.Detail, Time: time.Now().UTC(), Exits: s.exits}
	kept := s.ended != nil
	if kept {
		stop.Time = s.ended.Time
	}
	s.ln.Close()
	// Who hears of the stop finds the log complete, and files that the machine had locked are free.
	s.console.flush()
	if !waitAtMost(&s.renewing, killPatience) {
		s.log.Error("the guest's fresh start does not end")
	}
	s.closeFiles()
	err := s.run.Finish(store.StopRecord{Reason: string(stop.Reason), Detail: stop.Detail, Time: stop.Time, Exits: stop.Exits, Cleared: kept})
	if err != nil {
		s.log.Error("end of the run", "reason", stop.Reason, "err", err)
	}
	s.log.Info("the domain has stopped", "reason", stop.Reason, "detail", stop.Detail)

	s.mu.Lock()
	s.stop = &stop
	s.m = nil
	close(s.changed)
	conns := make([]*serverConn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	var told sync.WaitGroup
	for _, c := range conns {
		told.Go(func() { c.tellStop(stop) })
	}
	s.console.finish()
	told.Wait()
	for _, c := range conns {
		hangUp(c.f)
	}
	if s.quiet != nil {
		s.quiet.Stop()
	}
	if !waitAtMost(&s.handlers, killPatience) {
		s.log.Error("an operation on the machine does not return")
	}
}

// waitAtMost is a WaitGroup's Wait that does not hang on a broken machine.
func waitAtMost(wg *sync.WaitGroup, d time.Duration) bool {
	all := make(chan struct{})
	go func() { wg.Wait(); close(all) }()
	select {
	case <-all:
		return true
	case <-time.After(d):
		return false
	}
}

// served is told of each request.
func (s *Server) served() {
	if s.quiet != nil {
		s.quiet.Reset(quietAfter)
	}
}

func (s *Server) closeFiles() {
	s.sockets.close()
	for _, f := range s.files {
		f.Close()
	}
}

func (s *Server) acceptLoop() {
	for {
		f, err := accept(s.ln)
		if s.killed.Err() != nil {
			// The socket is closed, or about to be.
			if err == nil {
				f.Close()
			}
			return
		}
		if err != nil {
			s.log.Error("accept a control connection", "err", err)
			// Out of descriptors or memory: others may free some.
			if pause(s.killed, 100*time.Millisecond) != nil {
				return
			}
			continue
		}
		s.serveConn(f)
	}
}

// serveConn begins to serve a connection whose peer may be served.
func (s *Server) serveConn(f *os.File) {
	cred, err := peer(f)
	if err == nil && !allowed(cred, os.Geteuid()) {
		err = &Error{CodePermission, fmt.Sprintf("user %d may not control a domain of user %d", cred.Uid, os.Geteuid())}
	}
	c := &serverConn{s: s, f: f, waits: map[uint64]string{}, calls: map[uint64]context.CancelFunc{}}
	if err == nil {
		c.pid = int(cred.Pid)
		s.mu.Lock()
		switch {
		case s.stop != nil:
			err = ErrGone
		case len(s.conns) >= MaxConns:
			err = &Error{CodeBusy, fmt.Sprintf("the VM process has %d control connections already, the most it serves", MaxConns)}
		default:
			s.conns[c] = struct{}{}
			s.handlers.Add(1)
		}
		s.mu.Unlock()
	}
	if err != nil {
		// The socket buffer is empty: this does not block.
		c.reply(0, nil, err)
		f.Close()
		return
	}
	go func() {
		defer s.handlers.Done()
		c.serve()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
}

// allowed says whether a peer may control the domains of this user.
func allowed(cred *unix.Ucred, euid int) bool {
	return cred.Uid == 0 || int(cred.Uid) == euid
}
