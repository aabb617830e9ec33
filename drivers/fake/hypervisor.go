package fake

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/polyvisor/polyvisor"
)

// Bounds of a domain.
const (
	minMemory = 4 * polyvisor.MiB
	maxMemory = 1 * polyvisor.TiB
	maxVCPUs  = 64
)

// Hypervisor is a fake hypervisor: the domains, and the handles with which a
// test makes things happen to them. It is safe for concurrent use.
type Hypervisor struct {
	name     string
	log      *slog.Logger
	shutdown time.Duration // how long guests take to power off

	faults plan // of the calls of all connections

	mu     sync.Mutex // protects the following, and all domains
	node   polyvisor.Node
	byName map[string]*domain
	byUUID map[uuid.UUID]*domain
	byID   map[int]*domain
	nextID int
	images map[imageID]int     // how many write to it
	cids   map[uint32]struct{} // of active domains
	conns  map[*driver]struct{}

	programs map[string]Program // of all guests

	subs       []*subscriber // never changed in place
	queue      []delivery
	delivering bool
	lose, lost int // events to be lost, and lost since the last gap
}

func newHypervisor(name string, o Options) *Hypervisor {
	h := &Hypervisor{
		name: name, log: o.Logger, shutdown: o.Shutdown, node: o.Node,
		byName: make(map[string]*domain), byUUID: make(map[uuid.UUID]*domain), byID: make(map[int]*domain),
		images: make(map[imageID]int), cids: make(map[uint32]struct{}), conns: make(map[*driver]struct{}), programs: map[string]Program{"tool": tool},
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if h.node == (polyvisor.Node{}) {
		h.node = defaultNode
	}
	return h
}

var defaultNode = polyvisor.Node{
	Hostname: "fake", Model: "fake processor", Memory: maxMemory, CPUs: 8, MHz: 2000,
	NUMANodes: 1, Sockets: 1, Cores: 4, Threads: 2,
}

// New makes a hypervisor of the caller's own, without domains. Of the options,
// Node, Shutdown and Logger count; the others are about connections. It is
// garbage when nothing refers to it any more, and Close ends its domains.
func New(o Options) *Hypervisor { return newHypervisor("private", o) }

// Conn opens a connection to the hypervisor, which the caller closes.
func (h *Hypervisor) Conn(opts ...polyvisor.Option) *polyvisor.Conn {
	return polyvisor.NewConn(h.connect(), &polyvisor.URI{Scheme: "fake", Path: "/" + h.name}, opts...)
}

// Driver opens a connection as the driver's side of it, for those who wrap
// drivers. polyvisor.NewConn makes a Conn of it, which closes it.
func (h *Hypervisor) Driver() polyvisor.Driver { return h.connect() }

// Registry gives a registry in which every fake URI leads to this hypervisor,
// for programs that open their connections by URI; see polyvisor.WithRegistry.
// The faults and latencies of the URI count.
func (h *Hypervisor) Registry() *polyvisor.Registry {
	r := new(polyvisor.Registry)
	r.Register("fake", polyvisor.Registration{Params: params, Open: func(ctx context.Context, u *polyvisor.URI, o polyvisor.OpenOptions) (polyvisor.Driver, error) {
		opts, err := parseOptions(u, o)
		if err != nil {
			return nil, err
		}
		return h.open(ctx, opts)
	}})
	return r
}

// Open opens a connection as polyvisor.Open does, with the options that only
// that takes, such as Early.
func (h *Hypervisor) Open(ctx context.Context, opts ...polyvisor.Option) (*polyvisor.Conn, error) {
	return polyvisor.Open(ctx, "fake:///"+h.name, append(opts, polyvisor.WithRegistry(h.Registry()))...)
}

// open connects, with the faults of a connection.
func (h *Hypervisor) open(ctx context.Context, o Options) (*driver, error) {
	c := h.connect()
	c.faults.set(o.Faults, o.Latency, o.Seed)
	if err := c.do(ctx, opOpen, nil, "", func(*verdict) error { return nil }); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

func (h *Hypervisor) connect() *driver {
	c := &driver{h: h}
	h.mu.Lock()
	defer h.unlock()
	h.conns[c] = struct{}{}
	return c
}

// Close ends all active domains, as a host does that loses power. Connections
// stay open.
func (h *Hypervisor) Close() {
	h.mu.Lock()
	defer h.unlock()
	for _, d := range h.activeLocked() {
		d.endLocked(polyvisor.Stop{Reason: polyvisor.StopInfrastructureError, Detail: "the host lost power"})
	}
}

// RestartHost ends all active domains, as Close does, and starts those that
// are to be started with the host. What keeps one from starting is logged.
func (h *Hypervisor) RestartHost() {
	h.Close()
	h.autostart()
}

func (h *Hypervisor) autostart() {
	h.mu.Lock()
	var list []*domain
	for _, d := range h.byUUID {
		if d.def != nil && d.def.Autostart && d.run == nil {
			list = append(list, d)
		}
	}
	h.unlock()
	slices.SortFunc(list, func(a, b *domain) int { return slices.Compare(a.id[:], b.id[:]) })
	for _, d := range list {
		if err := d.start(nil, polyvisor.StartOptions{}); err != nil {
			h.log.Warn("autostart", "domain", d.name, "error", err)
		}
	}
}

// activeLocked lists the active domains by their IDs.
func (h *Hypervisor) activeLocked() []*domain {
	list := make([]*domain, 0, len(h.byID))
	for _, d := range h.byID {
		list = append(list, d)
	}
	slices.SortFunc(list, func(a, b *domain) int { return a.run.id - b.run.id })
	return list
}

// addLocked enters a new domain.
func (h *Hypervisor) addLocked(d *domain) {
	h.byName[d.name] = d
	h.byUUID[d.id] = d
}

// forgetLocked takes a domain out.
func (h *Hypervisor) forgetLocked(d *domain) {
	delete(h.byName, d.name)
	delete(h.byUUID, d.id)
	d.gone = true
}

// takenLocked gives the domain that has both name and UUID, nil if neither is
// taken, and ErrExists if only one is or they belong to two domains.
func (h *Hypervisor) takenLocked(name string, id uuid.UUID) (*domain, error) {
	a, b := h.byName[name], h.byUUID[id]
	switch {
	case a == b:
		return a, nil
	case a != nil:
		return nil, fmt.Errorf("%w: a domain named %q, with UUID %s", polyvisor.ErrExists, name, a.id)
	}
	return nil, fmt.Errorf("%w: UUID %s belongs to domain %q", polyvisor.ErrExists, id, b.name)
}

var (
	sharedMu sync.Mutex
	shared   = make(map[string]*sharedHypervisor)
)

// sharedHypervisor is one that a URI names.
type sharedHypervisor struct {
	h     *Hypervisor
	state string // the file it began with
}

// Named gives the hypervisor of fake:///NAME, or nil if no connection to it
// was opened yet.
func Named(name string) *Hypervisor {
	sharedMu.Lock()
	defer sharedMu.Unlock()
	if s := shared[name]; s != nil {
		return s.h
	}
	return nil
}

// Forget ends the domains of the hypervisor fake:///NAME; the next connection
// to the name finds a new one. Open connections keep the old one.
func Forget(name string) {
	sharedMu.Lock()
	s := shared[name]
	delete(shared, name)
	sharedMu.Unlock()
	if s != nil {
		s.h.Close()
	}
}

// sharedFor gives the hypervisor of a name, made and loaded if there is none.
func sharedFor(o Options) (*Hypervisor, error) {
	sharedMu.Lock()
	defer sharedMu.Unlock()
	if s := shared[o.Name]; s != nil {
		if o.State != "" && o.State != s.state {
			return nil, fmt.Errorf("%w: hypervisor %s is there already and began with another state (%q); use another name", polyvisor.ErrBusy, o.Name, s.state)
		}
		return s.h, nil
	}
	h := newHypervisor(o.Name, o)
	if o.State != "" {
		if err := h.LoadFile(o.State); err != nil {
			return nil, err
		}
	}
	shared[o.Name] = &sharedHypervisor{h, o.State}
	return h, nil
}

// nextIDLocked gives the ID of a run.
func (h *Hypervisor) nextIDLocked() int {
	h.nextID++
	return h.nextID
}

// quiet reports that nothing has to be looked at before a call.
func (c *driver) quiet() bool { return !c.h.faults.armed() && !c.faults.armed() && !c.down.Load() }
