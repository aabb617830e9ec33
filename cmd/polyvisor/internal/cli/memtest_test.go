package cli_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/polyvisor/polyvisor"
)

// memDriver is a driver in memory whose domains have a small guest: it prints
// a banner, echoes lines, and obeys the lines poweroff, reboot, crash and
// "flood N". A URI memtest:///HOST names a host; the connections to it share
// their domains.
type memDriver struct {
	h   *memHost
	log *slog.Logger
}

type memHost struct {
	mu      sync.Mutex
	domains map[uuid.UUID]*memDomain
	nextID  int
	// slow delays List, failStart makes Start fail; for tests of those cases.
	slow      time.Duration
	failStart error
	damaged   []string // what List warns of
	noConsole bool
	noSuspend bool

	failConsole, failResume error

	// waiting, if set, is told of every Wait that is under way; Shutdown then
	// does not ask the guest before there is one.
	waiting chan struct{}

	sinks map[int]func(polyvisor.Event)
}

var memHosts sync.Map // name -> *memHost

func hostOf(name string) *memHost {
	h, _ := memHosts.LoadOrStore(name, &memHost{domains: make(map[uuid.UUID]*memDomain)})
	return h.(*memHost)
}

func init() {
	polyvisor.Register("memtest", polyvisor.Registration{Open: func(_ context.Context, u *polyvisor.URI, o polyvisor.OpenOptions) (polyvisor.Driver, error) {
		name := strings.TrimPrefix(u.Path, "/")
		if name == "" {
			return nil, fmt.Errorf("%w: no host in the path", polyvisor.ErrNotFound)
		}
		return &memDriver{hostOf(name), o.Logger}, nil
	}})
}

func (d *memDriver) Type() string { return "memtest" }
func (d *memDriver) Close() error { return nil }
func (d *memDriver) Capabilities() polyvisor.Capabilities {
	c := polyvisor.Capabilities{Arch: "amd64", OSType: "hvm", Features: polyvisor.Features(), MaxVCPUs: 8}
	c.Features = slices.DeleteFunc(c.Features, func(f polyvisor.Feature) bool {
		return f == polyvisor.FeatureConsole && d.h.noConsole || f == polyvisor.FeatureSuspend && d.h.noSuspend
	})
	return c
}
func (d *memDriver) Version(context.Context) (polyvisor.Version, error) {
	return polyvisor.Version{Hypervisor: "memtest 1"}, nil
}
func (d *memDriver) Node(context.Context) (polyvisor.Node, error) {
	return polyvisor.Node{Hostname: "memhost", Model: "a model", Memory: 4 * polyvisor.GiB, CPUs: 11, MHz: 1800, NUMANodes: 1, Sockets: 2, Cores: 3, Threads: 2}, nil
}

func (d *memDriver) Define(_ context.Context, c *polyvisor.Config) (polyvisor.Instance, error) {
	return d.h.add(c, true)
}

func (d *memDriver) Create(ctx context.Context, c *polyvisor.Config, o polyvisor.StartOptions) (polyvisor.Instance, error) {
	dom, err := d.h.add(c, false)
	if err != nil {
		return nil, err
	}
	if err := dom.Start(ctx, o); err != nil {
		d.h.remove(dom)
		return nil, err
	}
	return dom, nil
}

func (h *memHost) add(c *polyvisor.Config, persistent bool) (*memDomain, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, o := range h.domains {
		if o.config.Name == c.Name && o.config.UUID == c.UUID && persistent {
			o.config = c
			return o, nil
		}
		if o.config.Name == c.Name || o.config.UUID == c.UUID {
			return nil, fmt.Errorf("%w: domain %q", polyvisor.ErrExists, o.config.Name)
		}
	}
	dom := &memDomain{h: h, config: c, name: c.Name, id: c.UUID, persistent: persistent, state: polyvisor.Shutoff}
	h.domains[c.UUID] = dom
	return dom, nil
}

func (h *memHost) remove(d *memDomain) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.domains, d.id)
}

func (d *memDriver) Lookup(_ context.Context, k polyvisor.Key) (polyvisor.Instance, error) {
	d.h.mu.Lock()
	defer d.h.mu.Unlock()
	for _, dom := range d.h.domains {
		if k.Name == dom.name || k.UUID == dom.id || k.ID > 0 && k.ID == dom.run.number() {
			return dom, nil
		}
	}
	return nil, fmt.Errorf("%w: no such domain", polyvisor.ErrNotFound)
}

func (d *memDriver) List(ctx context.Context) ([]polyvisor.Instance, error) {
	select {
	case <-time.After(d.h.slow):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	d.h.mu.Lock()
	defer d.h.mu.Unlock()
	for _, file := range d.h.damaged {
		d.log.Warn("left out of the list", "file", file, "error", errors.Join(errors.New("damaged"), errors.New("restore it")))
	}
	var all []polyvisor.Instance
	for _, dom := range d.h.domains {
		all = append(all, dom)
	}
	return all, nil
}

// memDomain's fields below config are under the host's mu.
type memDomain struct {
	h          *memHost
	name       string
	id         uuid.UUID
	config     *polyvisor.Config
	persistent bool
	state      polyvisor.State
	run        *memRun
	last       *polyvisor.Stop
}

// memRun is one life of a domain.
type memRun struct {
	id      int
	console *memConsole
	ended   chan struct{}
	stop    polyvisor.Stop
	asked   atomic.Int32
	begun   chan struct{} // closed when the guest may execute its first instruction
	begin   func()
}

func (r *memRun) number() int {
	if r == nil {
		return -1
	}
	return r.id
}

func (d *memDomain) Name() string {
	d.h.mu.Lock()
	defer d.h.mu.Unlock()
	return d.name
}

func (d *memDomain) UUID() uuid.UUID { return d.id }

func (d *memDomain) gone() bool { return d.h.domains[d.id] != d }

func (d *memDomain) State(context.Context) (polyvisor.State, error) {
	d.h.mu.Lock()
	defer d.h.mu.Unlock()
	if d.gone() {
		return 0, fmt.Errorf("%w: the domain is gone", polyvisor.ErrNotFound)
	}
	return d.state, nil
}

func (d *memDomain) Info(ctx context.Context) (polyvisor.Info, error) {
	if _, err := d.State(ctx); err != nil {
		return polyvisor.Info{}, err
	}
	if d.name == "hung" {
		<-ctx.Done()
		return polyvisor.Info{}, ctx.Err()
	}
	d.h.mu.Lock()
	defer d.h.mu.Unlock()
	i := polyvisor.Info{State: d.state, ID: -1, Persistent: d.persistent, MaxMemory: d.config.MaxMemory, Memory: d.config.Memory,
		VCPUs: d.config.VCPUs, CPUTime: 1500 * time.Millisecond, LastStop: d.last}
	if d.state.Active() {
		i.ID, i.LastStop = d.run.number(), nil
	}
	return i, nil
}

func (d *memDomain) Config(context.Context) (*polyvisor.Config, error) {
	d.h.mu.Lock()
	defer d.h.mu.Unlock()
	return d.config.Clone(), nil
}

func (d *memDomain) Start(_ context.Context, o polyvisor.StartOptions) error {
	d.h.mu.Lock()
	defer d.h.mu.Unlock()
	if d.h.failStart != nil {
		return d.h.failStart
	}
	d.h.nextID++
	d.run = &memRun{id: d.h.nextID, console: newMemConsole(), ended: make(chan struct{}), begun: make(chan struct{})}
	d.run.begin = sync.OnceFunc(func() { close(d.run.begun) })
	d.state = polyvisor.Paused
	if !o.Paused {
		d.state = polyvisor.Running
		d.run.begin()
	}
	d.h.emitLocked(d, polyvisor.Event{Type: polyvisor.EventStarted})
	go d.guest(d.run, d.config.Clone())
	return nil
}

// finish ends a run for a reason, once.
func (d *memDomain) finish(r *memRun, reason polyvisor.StopReason, detail string) {
	d.h.mu.Lock()
	defer d.h.mu.Unlock()
	select {
	case <-r.ended:
		return
	default:
	}
	r.stop = polyvisor.Stop{Reason: reason, Detail: detail, Time: time.Now()}
	d.last, d.state = &r.stop, reason.State()
	d.h.emitLocked(d, polyvisor.Event{Type: polyvisor.EventStopped, Stop: &r.stop})
	if !d.persistent {
		delete(d.h.domains, d.id)
	}
	r.console.end()
	close(r.ended)
}

// guest is what runs, with the definition that it was started with.
func (d *memDomain) guest(r *memRun, c *polyvisor.Config) {
	select {
	case <-r.begun:
	case <-r.ended:
		return
	}
	cmdline := " " + c.Boot.CommandLine + " "
	has := func(word string) bool { return strings.Contains(cmdline, " "+word+" ") }
	if has("poweroff") {
		r.console.print([]byte("bye\r\n"))
		d.finish(r, polyvisor.StopShutdown, "")
		return
	}
	r.console.print([]byte("guest of " + d.name + " is up\r\n"))
	if has("deaf") { // takes no input
		<-r.ended
		return
	}
	for {
		line, err := r.console.line()
		if err != nil {
			return
		}
		var n int
		switch {
		case line == "poweroff":
			d.finish(r, polyvisor.StopShutdown, "")
		case line == "reboot" && c.OnReboot == polyvisor.ActionDestroy:
			d.finish(r, polyvisor.StopReboot, "")
		case line == "reboot":
			r.console.print([]byte("restarted\r\n"))
		case line == "crash":
			d.finish(r, polyvisor.StopCrash, "triple fault\x1b[31m\nat 0x1000")
		case scan(line, "flood %d", &n):
			r.console.print(pattern(n))
			r.console.print([]byte("flooded\r\n"))
		default:
			r.console.print([]byte("echo " + line + "\r\n"))
		}
	}
}

func scan(line, format string, v ...any) bool {
	n, err := fmt.Sscanf(line, format, v...)
	return err == nil && n == len(v)
}

// pattern is n bytes in which a lost or doubled byte is seen.
func pattern(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%09d\n", i)
	}
	return b.Bytes()[:n]
}

func (d *memDomain) Suspend(context.Context) error { return d.set(polyvisor.Paused) }
func (d *memDomain) Resume(context.Context) error {
	if d.h.failResume != nil {
		return d.h.failResume
	}
	return d.set(polyvisor.Running)
}
func (d *memDomain) set(s polyvisor.State) error {
	d.h.mu.Lock()
	defer d.h.mu.Unlock()
	d.state = s
	if s == polyvisor.Running {
		d.run.begin()
	}
	return nil
}

func (d *memDomain) current() *memRun {
	d.h.mu.Lock()
	defer d.h.mu.Unlock()
	return d.run
}

func (d *memDomain) Shutdown(context.Context) error {
	r := d.current()
	r.asked.Add(1)
	if d.h.waiting != nil {
		select {
		case <-d.h.waiting:
		case <-time.After(patience):
			return fmt.Errorf("%w: nobody waits for the end", polyvisor.ErrBusy)
		}
	}
	if strings.Contains(d.config.Boot.CommandLine, "stubborn") {
		r.console.print([]byte("no\r\n"))
		return nil
	}
	r.console.print([]byte("going down\r\n"))
	d.finish(r, polyvisor.StopShutdown, "")
	return nil
}

func (d *memDomain) Reboot(context.Context) error {
	d.current().console.print([]byte("restarted\r\n"))
	return nil
}

func (d *memDomain) Destroy(context.Context) error {
	d.finish(d.current(), polyvisor.StopKilled, "")
	return nil
}

func (d *memDomain) Undefine(context.Context) error {
	d.h.mu.Lock()
	defer d.h.mu.Unlock()
	if !d.persistent {
		return fmt.Errorf("%w: domain is transient", polyvisor.ErrInvalidState)
	}
	d.persistent = false
	if !d.state.Active() {
		delete(d.h.domains, d.id)
	}
	return nil
}

func (d *memDomain) Wait(ctx context.Context) (polyvisor.Stop, error) {
	r := d.current()
	if r == nil {
		return polyvisor.Stop{}, fmt.Errorf("%w: the domain has never run", polyvisor.ErrInvalidState)
	}
	if d.h.waiting != nil {
		d.h.waiting <- struct{}{}
	}
	select {
	case <-r.ended:
		return r.stop, nil
	case <-ctx.Done():
		return polyvisor.Stop{}, ctx.Err()
	}
}

func (d *memDomain) OpenConsole(_ context.Context, o polyvisor.ConsoleOptions) (io.ReadWriteCloser, error) {
	if d.h.failConsole != nil {
		return nil, d.h.failConsole
	}
	return d.current().console.open(o.Force)
}

// memConsole is a serial port with a replay buffer. Output waits for the owner
// of the console, or is forgotten from the oldest on if there is none.
type memConsole struct {
	mu    sync.Mutex
	cond  *sync.Cond
	out   []byte // printed, not read
	in    []byte // typed, not taken by the guest
	owner *memPort
	over  bool
	fault error // of Read
}

// fail breaks the connection to the console.
func (c *memConsole) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = err
	c.cond.Broadcast()
}

const memRing = 64 << 10

func newMemConsole() *memConsole {
	c := &memConsole{}
	c.cond = sync.NewCond(&c.mu)
	return c
}

func (c *memConsole) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	c.cond.Broadcast()
}

func (c *memConsole) print(p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(p) > 0 && !c.over {
		for c.owner != nil && len(c.out) >= memRing && !c.over {
			c.cond.Wait()
		}
		n := min(len(p), memRing)
		c.out = append(c.out, p[:n]...)
		p = p[n:]
		if c.owner == nil && len(c.out) > memRing {
			c.out = c.out[len(c.out)-memRing:]
		}
		c.cond.Broadcast()
	}
}

// line is the next line typed.
func (c *memConsole) line() (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if i := bytes.IndexAny(c.in, "\r\n"); i >= 0 {
			line := string(c.in[:i])
			c.in = c.in[i+1:]
			c.cond.Broadcast()
			return line, nil
		}
		if c.over {
			return "", io.EOF
		}
		c.cond.Wait()
	}
}

func (c *memConsole) open(force bool) (*memPort, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.owner != nil && !force {
		return nil, fmt.Errorf("%w: the console has an owner", polyvisor.ErrBusy)
	}
	c.owner = &memPort{c: c}
	c.cond.Broadcast()
	return c.owner, nil
}

type memPort struct{ c *memConsole }

func (p *memPort) Read(b []byte) (int, error) {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	for p.c.owner == p && len(p.c.out) == 0 && !p.c.over && p.c.fault == nil {
		p.c.cond.Wait()
	}
	switch {
	case p.c.fault != nil:
		return 0, p.c.fault
	case p.c.owner == nil:
		return 0, io.ErrClosedPipe
	case p.c.owner != p:
		return 0, fmt.Errorf("%w: the console was taken over", polyvisor.ErrBusy)
	case len(p.c.out) == 0:
		return 0, io.EOF
	}
	n := copy(b, p.c.out)
	p.c.out = p.c.out[n:]
	p.c.cond.Broadcast()
	return n, nil
}

// Write waits while the guest leaves more than a FIFO's worth of input.
func (p *memPort) Write(b []byte) (int, error) {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	for i := range b {
		for p.c.owner == p && len(p.c.in) >= 64 && !p.c.over {
			p.c.cond.Wait()
		}
		if p.c.owner != p || p.c.over {
			return i, io.ErrClosedPipe
		}
		p.c.in = append(p.c.in, b[i])
		p.c.cond.Broadcast()
	}
	return len(b), nil
}

func (p *memPort) Close() error {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	if p.c.owner == p {
		p.c.owner = nil
	}
	p.c.cond.Broadcast()
	return nil
}

// now is the state at the moment.
func (d *memDomain) now() polyvisor.State {
	d.h.mu.Lock()
	defer d.h.mu.Unlock()
	return d.state
}
