package polyvisor

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
)

// Registration is how a driver makes itself known under a URI scheme.
type Registration struct {
	// Open connects. The URI's scheme is the registered one and its parameters
	// are all in Params.
	Open func(ctx context.Context, u *URI, o OpenOptions) (Driver, error)
	// Params are the names of the URI parameters that the driver understands;
	// others are refused before Open is called.
	Params []string
}

// OpenOptions are the options of Open as a driver sees them.
type OpenOptions struct {
	// ReadOnly asks for a connection that changes nothing. The root package
	// refuses changes by itself; a driver may use it to connect with less
	// privilege.
	ReadOnly bool
	// Logger is never nil.
	Logger *slog.Logger
}

// Registry maps URI schemes to drivers. The zero value is empty and ready to
// use; it is safe for concurrent use.
type Registry struct {
	mu      sync.RWMutex
	schemes map[string]Registration
}

// DefaultRegistry is what Register and Open use.
var DefaultRegistry = new(Registry)

// remoteScheme is the scheme of the driver that serves every URI with a
// transport or a host.
const remoteScheme = "libvirt"

// importOf says which import makes a scheme known, for error messages.
var importOf = map[string]string{
	"kvm": "kvm", "fake": "fake", "qemu": "libvirt", "test": "libvirt", "xen": "libvirt", "ch": "libvirt", "lxc": "libvirt", "libvirt": "libvirt",
}

// Register makes a driver known under a scheme in the DefaultRegistry. It is
// meant for init functions; it panics if the scheme is taken or not a lower-case word.
func Register(scheme string, r Registration) { DefaultRegistry.Register(scheme, r) }

// Drivers lists the schemes known to the DefaultRegistry, sorted.
func Drivers() []string { return DefaultRegistry.Drivers() }

// Register makes a driver known under a scheme. It panics if the scheme is
// taken or is not a lower-case word.
func (r *Registry) Register(scheme string, reg Registration) {
	if scheme == "" || strings.ContainsFunc(scheme, func(c rune) bool { return (c < 'a' || c > 'z') && (c < '0' || c > '9') }) {
		panic(fmt.Sprintf("polyvisor: Register: scheme %q is not a lower-case word", scheme))
	}
	if reg.Open == nil {
		panic(fmt.Sprintf("polyvisor: Register: scheme %q has no Open function", scheme))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.schemes[scheme]; ok {
		panic(fmt.Sprintf("polyvisor: Register: scheme %q is registered twice", scheme))
	}
	if r.schemes == nil {
		r.schemes = make(map[string]Registration)
	}
	r.schemes[scheme] = reg
}

// Drivers lists the known schemes, sorted.
func (r *Registry) Drivers() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	names := make([]string, 0, len(r.schemes))
	for s := range r.schemes {
		names = append(names, s)
	}
	slices.Sort(names)
	return names
}

// find gives the registration that serves u.
func (r *Registry) find(u *URI) (Registration, error) {
	scheme := u.Scheme
	if u.Remote() {
		scheme = remoteScheme
	}
	r.mu.RLock()
	reg, ok := r.schemes[scheme]
	r.mu.RUnlock()
	if ok {
		return reg, nil
	}
	if u.Remote() {
		return reg, fmt.Errorf("%w: %s names a remote host or a transport, and no driver for those is linked into this program", ErrUnsupported, u)
	}
	known := "none is"
	if names := r.Drivers(); len(names) > 0 {
		known = "known: " + strings.Join(names, ", ")
	}
	remedy := ""
	if pkg, ok := importOf[scheme]; ok {
		remedy = fmt.Sprintf("; add import _ \"github.com/polyvisor/polyvisor/drivers/%s\"", pkg)
	}
	return reg, fmt.Errorf("%w: no driver for %s:// is linked into this program (%s)%s", ErrUnsupported, scheme, known, remedy)
}

// Option is an option of Open and NewConn. nil is none.
type Option func(*options)

type options struct {
	registry *Registry
	early    *string
	driver   OpenOptions
}

func newOptions(opts []Option) options {
	o := options{registry: DefaultRegistry, driver: OpenOptions{Logger: slog.New(slog.DiscardHandler)}}
	for _, f := range opts {
		if f != nil {
			f(&o)
		}
	}
	return o
}

// ReadOnly gives a connection on which everything that would change a domain
// fails with ErrReadOnly.
func ReadOnly() Option { return func(o *options) { o.driver.ReadOnly = true } }

// WithLogger sends the library's log to l; nothing is logged by default.
func WithLogger(l *slog.Logger) Option {
	return func(o *options) {
		if l != nil {
			o.driver.Logger = l
		}
	}
}

// WithRegistry finds the driver in r instead of in the DefaultRegistry.
func WithRegistry(r *Registry) Option {
	return func(o *options) {
		if r != nil {
			o.registry = r
		}
	}
}
