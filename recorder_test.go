package polyvisor_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// recorder is a Driver in memory. It notes every call, lets a test script
// what a call does, and checks while it is called what the root package
// promises to drivers: a broken promise is a violation, which fails the test.
type recorder struct {
	name string // what Type returns
	caps polyvisor.Capabilities

	// script runs in every call except Capabilities, Type, Name and UUID. It
	// may block; an error is what the call returns.
	script func(ctx context.Context, call string) error
	// closeErr is what Close returns.
	closeErr error
	// wrap, if set, is applied to every Instance that is given out.
	wrap func(polyvisor.Instance) polyvisor.Instance

	mu         sync.Mutex
	calls      []string
	violations []string
	under      int // calls under way
	closes     int
	nextID     int
	domains    map[uuid.UUID]*recDomain
	given      []*polyvisor.Config // what Define and Create were given
	filesOpen  []bool              // whether the files of given could be read in the call
	consoles   int                 // open ones
	saved      map[string]*recDomain
	exit       polyvisor.ExitStatus   // of commands
	process    *recProcess            // the last
	started    polyvisor.StartOptions // of the last Start, Create or Restore
	device     polyvisor.Device       // that the last device operation was given
	sinks      map[int]func(polyvisor.Event)
	nextSink   int
}

type recDomain struct {
	config     *polyvisor.Config
	state      polyvisor.State
	id         int
	persistent bool
	gone       bool
	ops        int // operations of the table under way
	last       *polyvisor.Stop
	ended      chan struct{} // of the present or last run; closed at its end
}

// newRecorder gives a recorder that can do everything.
func newRecorder(t testing.TB) *recorder {
	r := &recorder{
		name:    "rec",
		caps:    polyvisor.Capabilities{Arch: "amd64", OSType: "hvm", Features: polyvisor.Features(), MaxVCPUs: 64, MinMemory: 1 << 20, MaxMemory: 1 << 40},
		domains: make(map[uuid.UUID]*recDomain), sinks: make(map[int]func(polyvisor.Event)), saved: make(map[string]*recDomain),
	}
	if t != nil {
		t.Cleanup(func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			for _, v := range r.violations {
				t.Errorf("promise to drivers broken: %s", v)
			}
			if r.under != 0 {
				t.Errorf("%d calls are still under way", r.under)
			}
		})
	}
	return r
}

// connect gives a recorder, already changed by setup, and a connection to it
// that the test's end closes.
func connect(t testing.TB, setup func(*recorder), opts ...polyvisor.Option) (*polyvisor.Conn, *recorder) {
	t.Helper()
	r := newRecorder(t)
	if setup != nil {
		setup(r)
	}
	conn := polyvisor.NewConn(r, &polyvisor.URI{Scheme: "rec", Path: "/"}, opts...)
	t.Cleanup(func() { _ = conn.Close() })
	return conn, r
}

// enter is the beginning of every driver call.
func (r *recorder) enter(ctx context.Context, call string) (leave func(), err error) {
	r.mu.Lock()
	r.note(call)
	if ctx == nil {
		r.violate("%s: nil context", call)
	}
	r.under++
	script := r.script
	r.mu.Unlock()
	leave = func() {
		r.mu.Lock()
		r.under--
		r.mu.Unlock()
	}
	if script != nil {
		err = script(ctx, call)
	}
	return leave, err
}

// note records a call; the caller holds r.mu.
func (r *recorder) note(call string) {
	r.calls = append(r.calls, call)
	if r.closes > 0 {
		r.violate("%s after Close", call)
	}
}

func (r *recorder) violate(format string, args ...any) {
	r.violations = append(r.violations, fmt.Sprintf(format, args...))
}

// log gives the calls noted since it was called last.
func (r *recorder) log() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	calls := r.calls
	r.calls = nil
	return calls
}

func (r *recorder) setScript(f func(ctx context.Context, call string) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.script = f
}

// put adds a domain in the given state and gives its UUID.
func (r *recorder) put(name string, s polyvisor.State) uuid.UUID {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := (&polyvisor.Config{Name: name}).WithDefaults()
	d := &recDomain{config: c, state: s, persistent: true}
	if s.Active() {
		d.run(r)
		d.state = s
	}
	r.domains[c.UUID] = d
	return c.UUID
}

// preserve keeps what crashed, as on_crash preserve does.
func (r *recorder) preserve(id uuid.UUID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.domains[id].run(r)
	r.domains[id].state = polyvisor.Crashed
}

// set changes the state behind the connection's back.
func (r *recorder) set(id uuid.UUID, s polyvisor.State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.domains[id].state = s
}

func (d *recDomain) run(r *recorder) {
	r.nextID++
	d.state, d.id, d.last, d.ended = polyvisor.Running, r.nextID, nil, make(chan struct{})
}

// begin runs as the options of the start say.
func (d *recDomain) begin(r *recorder) {
	if d.run(r); r.started.Paused {
		d.state = polyvisor.Paused
	}
}

// end ends the run; the caller holds r.mu.
func (d *recDomain) end(r *recorder, why polyvisor.StopReason) {
	d.last = &polyvisor.Stop{Reason: why}
	d.state, d.id = why.State(), 0
	if !d.persistent {
		r.forget(d)
	}
	close(d.ended)
}

func (r *recorder) forget(d *recDomain) {
	d.gone = true
	delete(r.domains, d.config.UUID)
}

// stop ends a run as a guest does.
func (r *recorder) stop(id uuid.UUID, why polyvisor.StopReason) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.domains[id].end(r, why)
}

func (r *recorder) Capabilities() polyvisor.Capabilities {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.note("capabilities")
	return r.caps
}

func (r *recorder) Type() string { return r.name }

func (r *recorder) Version(ctx context.Context) (polyvisor.Version, error) {
	leave, err := r.enter(ctx, "version")
	defer leave()
	return polyvisor.Version{Hypervisor: "1.2.3"}, err
}

func (r *recorder) Node(ctx context.Context) (polyvisor.Node, error) {
	leave, err := r.enter(ctx, "node")
	defer leave()
	return polyvisor.Node{Hostname: "host", CPUs: 4, Memory: 8 * polyvisor.GiB, NUMANodes: 1, Sockets: 1, Cores: 2, Threads: 2}, err
}

// take notes a Config and whether its open files are open.
func (r *recorder) take(c *polyvisor.Config) {
	r.given = append(r.given, c)
	for _, f := range c.Files() {
		r.takeFile(*f.File)
	}
}

func (r *recorder) takeFile(f polyvisor.File) {
	if f.Open != nil {
		_, err := f.Open.Stat()
		r.filesOpen = append(r.filesOpen, err == nil)
	}
}

func (r *recorder) Define(ctx context.Context, c *polyvisor.Config) (polyvisor.Instance, error) {
	return r.add(ctx, "define", c, false)
}

func (r *recorder) Create(ctx context.Context, c *polyvisor.Config, o polyvisor.StartOptions) (polyvisor.Instance, error) {
	r.startedWith(o)
	return r.add(ctx, "create", c, true)
}

func (r *recorder) startedWith(o polyvisor.StartOptions) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.started = o
}

func (r *recorder) add(ctx context.Context, call string, c *polyvisor.Config, transient bool) (polyvisor.Instance, error) {
	leave, err := r.enter(ctx, call)
	defer leave()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.take(c)
	if err != nil {
		return nil, err
	}
	for _, d := range r.domains {
		sameName, sameID := d.config.Name == c.Name, d.config.UUID == c.UUID
		switch {
		case sameName && sameID && !transient:
			d.config = c
			return r.instance(d), nil
		case sameName || sameID:
			return nil, fmt.Errorf("domain %q: %w", c.Name, polyvisor.ErrExists)
		}
	}
	d := &recDomain{config: c, state: polyvisor.Shutoff, persistent: !transient}
	r.domains[c.UUID] = d
	if transient {
		d.begin(r)
	}
	return r.instance(d), nil
}

func (r *recorder) instance(d *recDomain) polyvisor.Instance {
	var i polyvisor.Instance = &recInstance{r: r, d: d}
	if r.wrap != nil {
		i = r.wrap(i)
	}
	return i
}

func (r *recorder) Lookup(ctx context.Context, key polyvisor.Key) (polyvisor.Instance, error) {
	leave, err := r.enter(ctx, "lookup")
	defer leave()
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	set := 0
	for _, given := range []bool{key.Name != "", key.UUID != uuid.Nil, key.ID != 0} {
		if given {
			set++
		}
	}
	if set != 1 {
		r.violate("lookup with %d fields of the key set", set)
	}
	for _, d := range r.domains {
		if d.config.Name == key.Name || d.config.UUID == key.UUID || key.ID > 0 && d.id == key.ID {
			return r.instance(d), nil
		}
	}
	return nil, fmt.Errorf("no domain: %w", polyvisor.ErrNotFound)
}

func (r *recorder) List(ctx context.Context) ([]polyvisor.Instance, error) {
	leave, err := r.enter(ctx, "list")
	defer leave()
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []polyvisor.Instance
	for _, d := range r.domains {
		all = append(all, r.instance(d))
	}
	return all, nil
}

func (r *recorder) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, "close")
	if r.under != 0 {
		r.violate("Close with %d calls under way", r.under)
	}
	if r.consoles != 0 {
		r.violate("Close with %d consoles open", r.consoles)
	}
	if len(r.sinks) != 0 {
		r.violate("Close with %d subscriptions", len(r.sinks))
	}
	if r.closes++; r.closes > 1 {
		r.violate("Close called %d times", r.closes)
	}
	return r.closeErr
}

// recInstance has every ability.
type recInstance struct {
	r *recorder
	d *recDomain
}

func (i *recInstance) Name() string {
	i.r.mu.Lock()
	defer i.r.mu.Unlock()
	i.checkOpen("Name")
	return i.d.config.Name
}

func (i *recInstance) UUID() uuid.UUID {
	i.r.mu.Lock()
	defer i.r.mu.Unlock()
	i.checkOpen("UUID")
	return i.d.config.UUID
}

func (i *recInstance) checkOpen(call string) {
	if i.r.closes > 0 {
		i.r.violate("%s after Close", call)
	}
}

func (i *recInstance) State(ctx context.Context) (polyvisor.State, error) {
	leave, err := i.r.enter(ctx, "state")
	defer leave()
	if err != nil {
		return polyvisor.NoState, err
	}
	i.r.mu.Lock()
	defer i.r.mu.Unlock()
	return i.d.state, i.exists()
}

func (i *recInstance) exists() error {
	if i.d.gone {
		return fmt.Errorf("the domain is gone: %w", polyvisor.ErrNotFound)
	}
	return nil
}

func (i *recInstance) Info(ctx context.Context) (polyvisor.Info, error) {
	leave, err := i.r.enter(ctx, "info")
	defer leave()
	if err != nil {
		return polyvisor.Info{}, err
	}
	i.r.mu.Lock()
	defer i.r.mu.Unlock()
	info := polyvisor.Info{
		State: i.d.state, ID: -1, Persistent: i.d.persistent, MaxMemory: i.d.config.MaxMemory, Memory: i.d.config.Memory,
		VCPUs: i.d.config.VCPUs, CPUTime: 1500 * time.Millisecond, LastStop: i.d.last,
	}
	if i.d.id > 0 {
		info.ID = i.d.id
	}
	return info, i.exists()
}

func (i *recInstance) Config(ctx context.Context) (*polyvisor.Config, error) {
	leave, err := i.r.enter(ctx, "config")
	defer leave()
	if err != nil {
		return nil, err
	}
	i.r.mu.Lock()
	defer i.r.mu.Unlock()
	return i.d.config.Clone(), i.exists()
}

// operate runs one operation of the table.
func (i *recInstance) operate(ctx context.Context, op polyvisor.Op, effect func() error) error {
	defer i.alone(string(op))()
	return i.apply(ctx, op, effect)
}

// alone notes that the root package promises to call nothing else that
// changes the domain until done is called.
func (i *recInstance) alone(call string) (done func()) {
	i.r.mu.Lock()
	defer i.r.mu.Unlock()
	if i.d.ops++; i.d.ops > 1 {
		i.r.violate("%s while another operation is under way on the domain", call)
	}
	return func() {
		i.r.mu.Lock()
		defer i.r.mu.Unlock()
		i.d.ops--
	}
}

func (i *recInstance) apply(ctx context.Context, op polyvisor.Op, effect func() error) error {
	return i.do(ctx, string(op), func() error {
		if !i.d.state.Allowed(op) { // changed since State: the driver's own check
			return &polyvisor.StateError{Op: op, State: i.d.state, Want: polyvisor.Transitions[op].From}
		}
		return effect()
	})
}

// do runs a call on a domain that exists.
func (i *recInstance) do(ctx context.Context, call string, effect func() error) error {
	leave, err := i.r.enter(ctx, call)
	defer leave()
	if err != nil {
		return err
	}
	i.r.mu.Lock()
	defer i.r.mu.Unlock()
	if err := i.exists(); err != nil {
		return err
	}
	return effect()
}

func (i *recInstance) become(s polyvisor.State) func() error {
	return func() error { i.d.state = s; return nil }
}

func (i *recInstance) Start(ctx context.Context, o polyvisor.StartOptions) error {
	i.r.startedWith(o)
	return i.operate(ctx, polyvisor.OpStart, func() error {
		i.d.begin(i.r)
		return nil
	})
}

func (i *recInstance) Destroy(ctx context.Context) error {
	return i.apply(ctx, polyvisor.OpDestroy, func() error {
		if i.d.id == 0 { // has crashed and is inactive
			i.d.state = polyvisor.Shutoff
			return nil
		}
		i.d.end(i.r, polyvisor.StopKilled)
		return nil
	})
}

func (i *recInstance) Undefine(ctx context.Context) error {
	return i.operate(ctx, polyvisor.OpUndefine, func() error {
		if !i.d.persistent {
			return fmt.Errorf("the domain is transient: %w", polyvisor.ErrInvalidState)
		}
		if i.d.persistent = false; !i.d.state.Active() {
			i.r.forget(i.d)
		}
		return nil
	})
}

func (i *recInstance) Wait(ctx context.Context) (polyvisor.Stop, error) {
	leave, err := i.r.enter(ctx, "wait")
	defer leave()
	if err != nil {
		return polyvisor.Stop{}, err
	}
	i.r.mu.Lock()
	ended := i.d.ended
	i.r.mu.Unlock()
	if ended == nil {
		return polyvisor.Stop{}, fmt.Errorf("the domain has never run: %w", polyvisor.ErrInvalidState)
	}
	select {
	case <-ended:
		i.r.mu.Lock()
		defer i.r.mu.Unlock()
		if i.d.last == nil { // started again since
			return polyvisor.Stop{Reason: polyvisor.StopUnknown}, nil
		}
		return *i.d.last, nil
	case <-ctx.Done():
		return polyvisor.Stop{}, ctx.Err()
	}
}

func (i *recInstance) Suspend(ctx context.Context) error {
	return i.operate(ctx, polyvisor.OpSuspend, i.become(polyvisor.Paused))
}

func (i *recInstance) Resume(ctx context.Context) error {
	return i.operate(ctx, polyvisor.OpResume, i.become(polyvisor.Running))
}

func (i *recInstance) Shutdown(ctx context.Context) error {
	return i.operate(ctx, polyvisor.OpShutdown, func() error { i.d.end(i.r, polyvisor.StopShutdown); return nil })
}

func (i *recInstance) Reboot(ctx context.Context) error {
	return i.operate(ctx, polyvisor.OpReboot, i.become(polyvisor.Running))
}

func (i *recInstance) OpenConsole(ctx context.Context, _ polyvisor.ConsoleOptions) (io.ReadWriteCloser, error) {
	var con *recConsole
	err := i.operate(ctx, polyvisor.OpConsole, func() error {
		con = &recConsole{r: i.r, closed: make(chan struct{})}
		con.out.WriteString("hello from the guest\n")
		i.r.consoles++
		return nil
	})
	if err != nil {
		return nil, err
	}
	return con, nil
}

func (i *recInstance) DialVsock(ctx context.Context, _ uint32) (net.Conn, error) {
	var c net.Conn
	err := i.apply(ctx, polyvisor.OpDialVsock, func() error {
		ours, theirs := net.Pipe()
		c = ours
		return theirs.Close()
	})
	return c, err
}

func (i *recInstance) ListenVsock(ctx context.Context, _ uint32) (l net.Listener, err error) {
	err = i.apply(ctx, polyvisor.OpListenVsock, func() error {
		l, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	})
	return l, err
}

func (i *recInstance) WaitReady(ctx context.Context) error {
	return i.apply(ctx, polyvisor.OpWaitReady, func() error { return nil })
}

func (i *recInstance) StartExec(ctx context.Context, c *polyvisor.Cmd) (polyvisor.ExecProcess, error) {
	p := &recProcess{cmd: c, status: i.r.exit}
	err := i.apply(ctx, polyvisor.OpExec, func() error {
		i.r.process = p
		return nil
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// recProcess is a command that has written its name to both outputs and ended.
type recProcess struct {
	cmd     *polyvisor.Cmd
	status  polyvisor.ExitStatus
	signals []polyvisor.Signal
	size    polyvisor.TTYSize
	closes  int
}

func (p *recProcess) PID() int { return 77 }

func (p *recProcess) Wait(context.Context) (polyvisor.ExitStatus, error) {
	for _, w := range []io.Writer{p.cmd.Stdout, p.cmd.Stderr} {
		if w != nil {
			if _, err := io.WriteString(w, p.cmd.Args[0]); err != nil {
				return polyvisor.ExitStatus{}, err
			}
		}
	}
	return p.status, nil
}

func (p *recProcess) Signal(_ context.Context, s polyvisor.Signal) error {
	p.signals = append(p.signals, s)
	return nil
}

func (p *recProcess) Resize(_ context.Context, size polyvisor.TTYSize) error {
	p.size = size
	return nil
}

func (p *recProcess) Close() error {
	p.closes++
	return nil
}

// recConsole prints one line, then blocks until it is closed; what is written
// goes nowhere.
type recConsole struct {
	r      *recorder
	out    bytes.Buffer
	closed chan struct{}
	once   sync.Once
}

func (c *recConsole) Read(p []byte) (int, error) {
	c.r.mu.Lock()
	n, _ := c.out.Read(p)
	c.r.mu.Unlock()
	if n > 0 {
		return n, nil
	}
	<-c.closed
	return 0, io.EOF
}

func (c *recConsole) Write(p []byte) (int, error) { return len(p), nil }

func (c *recConsole) Close() error {
	c.once.Do(func() {
		c.r.mu.Lock()
		c.r.consoles--
		c.r.mu.Unlock()
		close(c.closed)
	})
	return nil
}

// bare hides every ability of an Instance, bareDriver those of a Driver.
type (
	bare       struct{ polyvisor.Instance }
	bareDriver struct{ polyvisor.Driver }
)

// onlyCalls drops the calls that are not of interest.
func onlyCalls(calls []string, want ...string) []string {
	var kept []string
	for _, c := range calls {
		if slices.Contains(want, c) {
			kept = append(kept, c)
		}
	}
	return kept
}

// failOn scripts one call to fail.
func failOn(call string, err error) func(context.Context, string) error {
	return func(_ context.Context, c string) error {
		if c == call {
			return err
		}
		return nil
	}
}

// hang scripts one call to block until its context ends or release is closed.
// Each call that begins to block sends to began.
func hang(call string) (script func(context.Context, string) error, began chan struct{}, release chan struct{}) {
	began, release = make(chan struct{}, 100), make(chan struct{})
	return func(ctx context.Context, c string) error {
		if c != call {
			return nil
		}
		began <- struct{}{}
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", strings.ToUpper(call), ctx.Err())
		}
	}, began, release
}
