package fake

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/polyvisor/polyvisor"
)

// Options configure Open and New. The zero value is fake:///default.
type Options struct {
	// Name is the hypervisor's, "default" if empty: one path element.
	Name string
	// State is a file that the hypervisor begins with; see Hypervisor.Load. It
	// is read by the first connection to the name.
	State string
	// Faults and Latency are those of the calls of this connection; Seed chooses
	// the random latencies.
	Faults  []Fault
	Latency []Latency
	Seed    uint64
	// Shutdown is how long guests take to power off when they are asked; the
	// domain is ShuttingDown meanwhile. It belongs to the hypervisor, and counts
	// when that is made.
	Shutdown time.Duration
	// Node describes the host of a hypervisor that is made; 8 CPUs and 1 TiB if
	// zero.
	Node polyvisor.Node
	// Logger takes the log; nothing is logged if nil.
	Logger *slog.Logger
	// ReadOnly gives a connection that changes nothing.
	ReadOnly bool
}

// params are the parameters of a fake URI.
var params = []string{"state", "fault", "latency", "seed", "shutdown"}

func init() {
	polyvisor.Register("fake", polyvisor.Registration{
		Params: params,
		Open: func(ctx context.Context, u *polyvisor.URI, o polyvisor.OpenOptions) (polyvisor.Driver, error) {
			opts, err := parseOptions(u, o)
			if err != nil {
				return nil, err
			}
			return openDriver(ctx, opts)
		},
	})
}

// Open connects to a hypervisor that the process shares; polyvisor.Open does
// the same with a URI. ctx bounds the call.
//
// Errors: ErrInvalidConfig for options or a state file that are wrong,
// ErrNotFound for a state file that is missing, ErrBusy if the hypervisor began
// with another one.
func Open(ctx context.Context, o Options) (*polyvisor.Conn, error) {
	d, err := openDriver(ctx, o)
	if err != nil {
		return nil, &polyvisor.Error{Op: "open", Driver: "fake", Code: polyvisor.CodeOf(err), Err: err}
	}
	opts := []polyvisor.Option{polyvisor.WithLogger(o.Logger)}
	if o.ReadOnly {
		opts = append(opts, polyvisor.ReadOnly())
	}
	return polyvisor.NewConn(d, o.uri(), opts...), nil
}

// openDriver connects.
func openDriver(ctx context.Context, o Options) (*driver, error) {
	if o.Name == "" {
		o.Name = "default"
	}
	if err := checkOptions(o); err != nil {
		return nil, err
	}
	h, err := sharedFor(o)
	if err != nil {
		return nil, err
	}
	return h.open(ctx, o)
}

func checkOptions(o Options) error {
	if strings.Contains(o.Name, "/") {
		return fmt.Errorf("%w: hypervisor %q; want one name, as in fake:///default", polyvisor.ErrInvalidConfig, o.Name)
	}
	if o.Shutdown < 0 {
		return fmt.Errorf("%w: shutdown %s is negative", polyvisor.ErrInvalidConfig, o.Shutdown)
	}
	for _, f := range o.Faults {
		if err := f.check(); err != nil {
			return err
		}
	}
	for _, l := range o.Latency {
		if err := l.check(); err != nil {
			return err
		}
	}
	return nil
}

// parseOptions reads a fake URI.
func parseOptions(u *polyvisor.URI, o polyvisor.OpenOptions) (Options, error) {
	bad := func(format string, args ...any) (Options, error) {
		return Options{}, fmt.Errorf("%w: connection URI: "+format, append([]any{polyvisor.ErrInvalidConfig}, args...)...)
	}
	opts := Options{Name: strings.TrimPrefix(u.Path, "/"), State: u.Param("state"), Logger: o.Logger, ReadOnly: o.ReadOnly}
	if opts.Name == "" || strings.Contains(opts.Name, "/") {
		return bad("path %q; want the name of a hypervisor, as in fake:///default", u.Path)
	}
	var err error
	if opts.Faults, err = parseList(u.Param("fault"), ParseFault); err != nil {
		return bad("fault: %w", err)
	}
	if opts.Latency, err = parseList(u.Param("latency"), ParseLatency); err != nil {
		return bad("latency: %w", err)
	}
	if s := u.Param("seed"); s != "" {
		if opts.Seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			return bad("seed %q is not a number", s)
		}
	}
	if s := u.Param("shutdown"); s != "" {
		if opts.Shutdown, err = parseDuration(s); err != nil {
			return bad("shutdown: %w", err)
		}
	}
	return opts, nil
}

// parseList parses what commas part.
func parseList[T any](s string, parse func(string) (T, error)) ([]T, error) {
	if s == "" {
		return nil, nil
	}
	var list []T
	for part := range strings.SplitSeq(s, ",") {
		v, err := parse(part)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

// uri gives the URI that leads to the same hypervisor in the same way.
func (o Options) uri() *polyvisor.URI {
	u := &polyvisor.URI{Scheme: "fake", Path: "/" + o.Name, Query: make(url.Values)}
	if o.Name == "" {
		u.Path = "/default"
	}
	set := func(name, value string) {
		if value != "" {
			u.Query.Set(name, value)
		}
	}
	set("state", o.State)
	var faults, latency []string
	for _, f := range o.Faults {
		faults = append(faults, f.String())
	}
	for _, l := range o.Latency {
		latency = append(latency, l.String())
	}
	set("fault", strings.Join(faults, ","))
	set("latency", strings.Join(latency, ","))
	if o.Seed != 0 {
		set("seed", strconv.FormatUint(o.Seed, 10))
	}
	if o.Shutdown != 0 {
		set("shutdown", o.Shutdown.String())
	}
	return u
}
