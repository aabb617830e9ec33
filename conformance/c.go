package conformance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/polyvisor/polyvisor"
)

// C is a case under way. Its methods that end the case (Fatalf and those that
// say so) are for the goroutine of Case.Run.
type C struct {
	ctx  context.Context
	h    *Harness
	cs   Case
	conn *polyvisor.Conn
	caps polyvisor.Capabilities
	dir  string

	cleanups []cleanup
	marks    int // how many mark has given

	mu       sync.Mutex
	failures []string
}

func newC(ctx context.Context, h *Harness, cs Case, conn *polyvisor.Conn, dir string) *C {
	c := &C{ctx: ctx, h: h, cs: cs, conn: conn, caps: conn.Capabilities(), dir: dir}
	c.cleanup("closing the connection", func() { _ = conn.Close() })
	return c
}

// cleanup is something to do after a case.
type cleanup struct {
	what string
	do   func()
}

// Context ends with the time limit of the case.
func (c *C) Context() context.Context { return c.ctx }

// Conn is the connection of the case.
func (c *C) Conn() *polyvisor.Conn { return c.conn }

// Errorf notes a failure; the case goes on. It may be called concurrently.
func (c *C) Errorf(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures = append(c.failures, fmt.Sprintf(format, args...))
}

// Fatalf notes a failure and ends the case.
func (c *C) Fatalf(format string, args ...any) {
	c.Errorf(format, args...)
	runtime.Goexit()
}

func (c *C) reason() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.failures, "\n")
}

// cleanup calls f after the case, the last one first; what says what that is.
func (c *C) cleanup(what string, f func()) { c.cleanups = append(c.cleanups, cleanup{what, f}) }

// Open gives a further connection, which is closed after the case.
func (c *C) Open(opts ...polyvisor.Option) *polyvisor.Conn {
	conn, err := c.h.Open(c.ctx, opts...)
	c.ok(err, "open another connection")
	c.cleanup("closing a further connection", func() { _ = conn.Close() })
	return conn
}

// Config gives a fresh Config of the harness's guest, named Prefix and name.
func (c *C) Config(name string, edits ...func(*polyvisor.Config)) *polyvisor.Config {
	cfg := c.h.Config.Clone()
	cfg.Name = Prefix + name
	cfg.UUID = polyvisor.Config{}.UUID
	for _, edit := range edits {
		edit(cfg)
	}
	return cfg
}

// path gives the path of a file of the case that does not exist.
func (c *C) path(name string) string { return filepath.Join(c.dir, name) }

// file makes a file of the case.
func (c *C) file(name string, content []byte) string {
	p := c.path(name)
	if err := os.WriteFile(p, content, 0o600); err != nil {
		c.Fatalf("%v", err)
	}
	return p
}

// image makes an empty disk image.
func (c *C) image(name string) string {
	p := c.file(name, nil)
	if err := os.Truncate(p, polyvisor.MiB); err != nil {
		c.Fatalf("%v", err)
	}
	return p
}

// ok ends the case if there is an error.
func (c *C) ok(err error, what string, args ...any) {
	if err != nil {
		c.Fatalf("%s: %v", fmt.Sprintf(what, args...), err)
	}
}

// check notes a failure unless cond is true.
func (c *C) check(cond bool, format string, args ...any) {
	if !cond {
		c.Errorf(format, args...)
	}
}

// fails notes a failure unless err is an *Error of one of the codes that matches
// its sentinel.
func (c *C) fails(err error, what string, want ...polyvisor.Code) {
	if msg := wrongError(err, want...); msg != "" {
		c.Errorf("%s: %s", what, msg)
	}
}

// wrongError says what is wrong with an error, nothing if it is as it should be.
func wrongError(err error, want ...polyvisor.Code) string {
	if err == nil {
		return fmt.Sprintf("succeeded, want the error %q", words(want))
	}
	var e *polyvisor.Error
	switch code := polyvisor.CodeOf(err); {
	case !errors.As(err, &e):
		return fmt.Sprintf("%v (a %T) is not an *Error", err, err)
	case !slices.Contains(want, code):
		return fmt.Sprintf("%v: the code is %q, want %q", err, code, words(want))
	case e.Op == "" || e.Driver == "" || e.Err == nil:
		return fmt.Sprintf("%v: operation %q, driver %q or cause %v missing", err, e.Op, e.Driver, e.Err)
	case !matchesSentinel(err, code):
		return fmt.Sprintf("%v does not match the sentinel of its code, %q", err, code)
	}
	return ""
}

func words(codes []polyvisor.Code) string {
	var all []string
	for _, c := range codes {
		all = append(all, c.String())
	}
	return strings.Join(all, " or ")
}

var sentinels = map[polyvisor.Code]error{
	polyvisor.CodeNotFound: polyvisor.ErrNotFound, polyvisor.CodeExists: polyvisor.ErrExists,
	polyvisor.CodeInvalidState: polyvisor.ErrInvalidState, polyvisor.CodeInvalidConfig: polyvisor.ErrInvalidConfig,
	polyvisor.CodeNoResource: polyvisor.ErrNoResource, polyvisor.CodeUnsupported: polyvisor.ErrUnsupported,
	polyvisor.CodeReadOnly: polyvisor.ErrReadOnly, polyvisor.CodePermission: polyvisor.ErrPermission,
	polyvisor.CodeBusy: polyvisor.ErrBusy, polyvisor.CodeConnLost: polyvisor.ErrConnLost, polyvisor.CodeClosed: polyvisor.ErrClosed,
}

func matchesSentinel(err error, code polyvisor.Code) bool {
	if code == polyvisor.CodeCanceled {
		return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
	}
	s, ok := sentinels[code]
	return ok && errors.Is(err, s)
}

// has reports whether all features are declared.
func (c *C) has(features ...polyvisor.Feature) bool {
	return !slices.ContainsFunc(features, func(f polyvisor.Feature) bool { return !c.caps.Has(f) })
}

// eventually waits until f is true, and ends the case if that does not come.
func (c *C) eventually(what string, f func() bool) {
	came := false
	defer func() {
		if !came && c.ctx.Err() != nil { // also if it ended in the midst of f
			c.Errorf("waited in vain until %s", what)
		}
	}()
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		if came = f(); came {
			return
		}
		select {
		case <-c.ctx.Done():
			runtime.Goexit()
		case <-time.After(wait):
		}
	}
}

// soon gives a context for what must come soon or must not come at all.
func (c *C) soon(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(c.ctx, d)
	c.cleanup("ending a context", cancel)
	return ctx
}
