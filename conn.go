package polyvisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/google/uuid"
)

// Conn is a connection to a hypervisor. It is safe for concurrent use. Every
// method that takes a context returns when the context ends, with its error.
type Conn struct {
	driver   Driver
	uri      *URI
	typ      string
	caps     Capabilities
	readOnly bool
	early    early

	// ctx ends when Close is called and takes all calls under way with it.
	ctx    context.Context
	cancel context.CancelCauseFunc

	mu     sync.Mutex // protects the following
	closed bool
	calls  sync.WaitGroup
	slots  map[uuid.UUID]*slot
	spare  []*slot                // to be used again
	open   map[io.Closer]struct{} // consoles, sockets and commands

	subscriptions map[*Subscription]struct{}

	closeErr error
	done     chan struct{} // closed when Close is through
}

// Open connects to the hypervisor that the URI names. ctx bounds the call, not
// the connection. The caller closes the Conn.
//
// Errors: ErrInvalidConfig for a URI that is wrong, ErrUnsupported for one that
// no linked driver serves, and what the driver finds: ErrPermission,
// ErrNotFound, ErrNoResource.
func Open(ctx context.Context, uri string, opts ...Option) (*Conn, error) {
	o := newOptions(opts)
	u, err := ParseURI(uri)
	if err != nil {
		return nil, wrap("open", "", "", err)
	}
	if err := checkContext(ctx); err != nil {
		return nil, wrap("open", u.Scheme, "", err)
	}
	reg, err := o.registry.find(u)
	if err == nil {
		err = u.checkParams(reg.Params)
	}
	if err != nil {
		return nil, wrap("open", u.Scheme, "", err)
	}
	d, err := reg.Open(ctx, u, o.driver)
	if err == nil && d == nil {
		err = fmt.Errorf("%w: the driver gave neither a connection nor an error, which is a defect of the driver", ErrNoResource)
	}
	if err != nil {
		return nil, wrap("open", u.Scheme, "", err)
	}
	c := newConn(d, u, o)
	if o.early == nil {
		return c, nil
	}
	err = c.call(ctx, "open", "", func(ctx context.Context) (err error) {
		c.early, err = c.defineEarly(ctx, *o.early)
		return err
	})
	if err != nil {
		if closing := c.Close(); closing != nil {
			err = errors.Join(err, closing)
		}
		return nil, err
	}
	return c, nil
}

// NewConn makes a Conn of an open driver, which it owns from then on. Drivers
// use it for their own typed Open functions, tests to use a driver without a
// registry. uri is what Conn.URI returns; if it is nil, the driver's type stands
// for it. With Early, which is for Open, no domain can be made or started.
func NewConn(d Driver, uri *URI, opts ...Option) *Conn {
	o := newOptions(opts)
	c := newConn(d, uri, o)
	if o.early != nil {
		c.early = make(early)
	}
	return c
}

func newConn(d Driver, u *URI, o options) *Conn {
	if u == nil {
		u = &URI{Scheme: d.Type()}
	}
	c := &Conn{
		driver: d, uri: u, typ: d.Type(), caps: d.Capabilities().clone(), readOnly: o.driver.ReadOnly,
		slots: make(map[uuid.UUID]*slot), open: make(map[io.Closer]struct{}), done: make(chan struct{}),
		subscriptions: make(map[*Subscription]struct{}),
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	return c
}

// Close ends the calls under way on the connection and its domains with
// ErrClosed, closes open consoles, sockets, commands and subscriptions and releases the
// connection. Domains go on running unless the driver's documentation says
// otherwise. A second Close waits for the first and returns its error.
func (c *Conn) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		<-c.done
		return c.closeErr
	}
	c.closed = true
	open := slices.Collect(maps.Keys(c.open))
	subscriptions := slices.Collect(maps.Keys(c.subscriptions))
	c.mu.Unlock()
	c.cancel(ErrClosed)
	for _, f := range open {
		_ = f.Close()
	}
	for _, s := range subscriptions {
		_ = s.Close()
	}
	c.calls.Wait()
	c.closeErr = wrap("close", c.typ, "", c.driver.Close())
	close(c.done)
	return c.closeErr
}

// call runs one driver call of the connection.
func (c *Conn) call(ctx context.Context, op, domain string, f func(ctx context.Context) error) error {
	call, err := c.begin(ctx)
	if err != nil {
		return wrap(op, c.typ, domain, err)
	}
	defer call.end() // also when the driver panics: Close waits for it
	return wrap(op, c.typ, domain, c.causeOf(call, f(call)))
}

// checkContext refuses the contexts with which no call is begun.
func checkContext(ctx context.Context) error {
	if ctx == nil {
		return fmt.Errorf("%w: nil context; use context.Background", ErrInvalidConfig)
	}
	return ctx.Err()
}

// causeOf says ErrClosed for a context error that the closing of the
// connection brought about, and adds the reason given to other cancellations.
func (c *Conn) causeOf(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil || !errors.Is(err, ctx.Err()) {
		return err
	}
	switch cause := context.Cause(ctx); {
	case cause == ctx.Err():
		return err
	case c.ctx.Err() != nil && cause == ErrClosed:
		return ErrClosed
	default:
		return &canceledError{err: err, reason: cause}
	}
}

// canceledError is a context error with the reason of the cancellation. The
// reason is told and not matched: it may be another operation's *Error, as in
// a group of calls that the first failure cancels.
type canceledError struct{ err, reason error }

func (e *canceledError) Error() string { return e.err.Error() + ": " + e.reason.Error() }
func (e *canceledError) Unwrap() error { return e.err }

func (c *Conn) writable() error {
	if c.readOnly {
		return ErrReadOnly
	}
	return nil
}

func (c *Conn) need(f Feature) error {
	if f == "" || c.caps.Has(f) {
		return nil
	}
	return unsupported(f, c.typ, &c.caps)
}

// offered gives the ability that a declared feature stands for.
func offered[T any](c *Conn, v any, f Feature) (T, error) {
	if err := c.need(f); err != nil {
		var none T
		return none, err
	}
	t, ok := As[T](v)
	if ok {
		return t, nil
	}
	who := "connection"
	if _, is := v.(Instance); is {
		who = "domain"
	}
	return t, &UnsupportedError{Feature: f, Driver: c.typ, Reason: "declared, but this " + who + " does not offer it"}
}

// URI gives the connection's URI.
func (c *Conn) URI() string { return c.uri.String() }

// Type is the driver's name: "kvm", "libvirt", "fake".
func (c *Conn) Type() string { return c.typ }

// IsReadOnly reports whether the connection was opened with ReadOnly.
func (c *Conn) IsReadOnly() bool { return c.readOnly }

// Capabilities tells what the driver can do on this host, as found at Open.
func (c *Conn) Capabilities() Capabilities { return c.caps.clone() }

// Version asks for the versions of the library and the hypervisor.
func (c *Conn) Version(ctx context.Context) (Version, error) {
	var v Version
	err := c.call(ctx, "version", "", func(ctx context.Context) (err error) {
		v, err = c.driver.Version(ctx)
		return err
	})
	v.Library = LibraryVersion
	return v, err
}

// Node describes the host (virNodeGetInfo).
func (c *Conn) Node(ctx context.Context) (Node, error) {
	var n Node
	err := c.call(ctx, "node info", "", func(ctx context.Context) (err error) {
		n, err = c.driver.Node(ctx)
		return err
	})
	return n, err
}

// Hostname is the name of the host.
func (c *Conn) Hostname(ctx context.Context) (string, error) {
	n, err := c.Node(ctx)
	return n.Hostname, err
}

// Define stores a domain without starting it (virDomainDefineXML). Defaults
// are filled in; if a domain with the same name and UUID exists its definition
// is replaced. Open files in the Config are closed and refused: only Create
// takes them.
//
// Errors: ErrInvalidConfig with all problems at once, ErrUnsupported for what
// the driver cannot do, ErrExists if the name or the UUID is taken,
// ErrReadOnly.
func (c *Conn) Define(ctx context.Context, config *Config) (*Domain, error) {
	return c.newDomain(ctx, "define", config, false, StartOptions{})
}

// Create starts a transient domain: it has no definition, and is gone when it
// stops (virDomainCreateLinux). It returns when the guest is free to execute.
// Open files in the Config belong to the library from this call on, also if it
// fails.
//
// Errors: those of Define, and what keeps a guest from starting: ErrNotFound
// for a missing kernel, ErrNoResource, ErrPermission.
func (c *Conn) Create(ctx context.Context, config *Config, opts ...StartOption) (*Domain, error) {
	return c.newDomain(ctx, "create", config, true, startOptions(opts))
}

func (c *Conn) newDomain(ctx context.Context, op string, config *Config, transient bool, o StartOptions) (*Domain, error) {
	name := ""
	if config != nil {
		defer config.closeFiles()
		name = config.Name
	}
	return c.made(ctx, op, name, func(ctx context.Context) (Instance, error) {
		return c.makeDomain(ctx, config, transient, o)
	})
}

// made runs a call that makes a domain.
func (c *Conn) made(ctx context.Context, op, name string, f func(ctx context.Context) (Instance, error)) (*Domain, error) {
	var dom *Domain
	err := c.call(ctx, op, name, func(ctx context.Context) error {
		inst, err := f(ctx)
		if err == nil {
			dom = c.domain(inst)
		}
		return err
	})
	return dom, err
}

// makeDomain checks a configuration and gives it to the driver.
func (c *Conn) makeDomain(ctx context.Context, config *Config, transient bool, o StartOptions) (Instance, error) {
	if err := c.mayMake(transient, o); err != nil {
		return nil, err
	}
	if config == nil {
		return nil, badArg("no Config")
	}
	if err := config.Validate(); err != nil {
		return nil, err
	}
	full := config.WithDefaults()
	if err := checkConfig(full, &c.caps, c.typ, transient); err != nil {
		return nil, err
	}
	if err := c.mayAdd(); err != nil {
		return nil, err
	}
	s, err := c.acquire(ctx, full.UUID)
	if err != nil {
		return nil, err
	}
	defer c.release(s)
	if transient {
		return c.driver.Create(ctx, full, o)
	}
	return c.driver.Define(ctx, full)
}

// mayMake checks whether the driver can make domains of the kind at all.
func (c *Conn) mayMake(transient bool, o StartOptions) error {
	if transient {
		if err := c.need(FeatureTransient); err != nil {
			return err
		}
	}
	return c.need(o.need())
}

// mayAdd checks whether the connection allows domains to be made.
func (c *Conn) mayAdd() error {
	if err := c.writable(); err != nil {
		return err
	}
	if c.early != nil {
		return errEarly
	}
	return nil
}

// Domain finds a domain by its name (virDomainLookupByName).
func (c *Conn) Domain(ctx context.Context, name string) (*Domain, error) {
	var args error
	if name == "" {
		args = badArg("the name is empty")
	}
	return c.lookup(ctx, Key{Name: name}, name, args)
}

// DomainByUUID finds a domain by its UUID (virDomainLookupByUUID).
func (c *Conn) DomainByUUID(ctx context.Context, id uuid.UUID) (*Domain, error) {
	if id == uuid.Nil {
		return c.lookup(ctx, Key{}, "", badArg("the UUID is zero"))
	}
	return c.lookup(ctx, Key{UUID: id}, id.String(), nil)
}

// DomainByID finds an active domain by its number (virDomainLookupByID).
func (c *Conn) DomainByID(ctx context.Context, id int) (*Domain, error) {
	if id <= 0 {
		return c.lookup(ctx, Key{}, "", badArg("%d is not the ID of an active domain; IDs begin at 1", id))
	}
	return c.lookup(ctx, Key{ID: id}, fmt.Sprintf("ID %d", id), nil)
}

// lookup finds a domain; args is what is wrong with the arguments.
func (c *Conn) lookup(ctx context.Context, key Key, what string, args error) (*Domain, error) {
	var dom *Domain
	err := c.call(ctx, "lookup", what, func(ctx context.Context) error {
		if args != nil {
			return args
		}
		inst, err := c.driver.Lookup(ctx, key)
		if err == nil {
			dom = c.domain(inst)
		}
		return err
	})
	return dom, err
}
