package polyvisor_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

// opening is a Registration that notes what it is called with.
type opening struct {
	uri     *polyvisor.URI
	options polyvisor.OpenOptions
	err     error
	params  []string
}

func (o *opening) registration() polyvisor.Registration {
	return polyvisor.Registration{Params: o.params, Open: func(_ context.Context, u *polyvisor.URI, opts polyvisor.OpenOptions) (polyvisor.Driver, error) {
		o.uri, o.options = u, opts
		if o.err != nil {
			return nil, o.err
		}
		return newRecorder(nil), nil
	}}
}

func TestRegistryZeroValue(t *testing.T) {
	var reg polyvisor.Registry
	assert.Empty(t, reg.Drivers())
	_, err := polyvisor.Open(t.Context(), "what:///", polyvisor.WithRegistry(&reg))
	require.ErrorIs(t, err, polyvisor.ErrUnsupported)
	assert.EqualError(t, err, "what: open: unsupported operation: no driver for what:// is linked into this program (none is)")
	reg.Register("one", new(opening).registration())
	reg.Register("another", new(opening).registration())
	assert.Equal(t, []string{"another", "one"}, reg.Drivers())
}

func TestRegisterPanics(t *testing.T) {
	reg := new(polyvisor.Registry)
	ok := new(opening).registration()
	reg.Register("kvm", ok)
	for scheme, want := range map[string]string{
		"kvm": `polyvisor: Register: scheme "kvm" is registered twice`,
		"":    `polyvisor: Register: scheme "" is not a lower-case word`,
		"KVM": `polyvisor: Register: scheme "KVM" is not a lower-case word`,
		"a+b": `polyvisor: Register: scheme "a+b" is not a lower-case word`,
		"a b": `polyvisor: Register: scheme "a b" is not a lower-case word`,
		"ä":   `polyvisor: Register: scheme "ä" is not a lower-case word`,
	} {
		assert.PanicsWithValue(t, want, func() { reg.Register(scheme, ok) })
	}
	assert.PanicsWithValue(t, `polyvisor: Register: scheme "x" has no Open function`, func() { reg.Register("x", polyvisor.Registration{}) })
	assert.Equal(t, []string{"kvm"}, reg.Drivers(), "a refused registration leaves nothing")
	reg.Register("qemu2", ok)
}

func TestDefaultRegistry(t *testing.T) {
	// The examples of this package register a driver there, and import one.
	assert.Equal(t, []string{"fake"}, polyvisor.Drivers())
	assert.Equal(t, polyvisor.DefaultRegistry.Drivers(), polyvisor.Drivers())
	_, err := polyvisor.Open(t.Context(), "kvm:///session")
	assert.EqualError(t, err, `kvm: open: unsupported operation: no driver for kvm:// is linked into this program (known: fake); `+
		`add import _ "github.com/polyvisor/polyvisor/drivers/kvm"`)
	_, err = polyvisor.Open(t.Context(), "vbox:///session")
	assert.EqualError(t, err, "vbox: open: unsupported operation: no driver for vbox:// is linked into this program (known: fake)")
}

func TestOpen(t *testing.T) {
	o := &opening{params: []string{"state", "run"}}
	var reg polyvisor.Registry
	reg.Register("kvm", o.registration())
	conn, err := polyvisor.Open(t.Context(), "kvm:///session?state=/x", polyvisor.WithRegistry(&reg))
	require.NoError(t, err)
	defer conn.Close()
	assert.Equal(t, "kvm:///session?state=%2Fx", conn.URI())
	assert.Equal(t, "/x", o.uri.Param("state"))
	assert.Empty(t, o.uri.Param("run"))
	assert.False(t, o.options.ReadOnly)
	assert.NotNil(t, o.options.Logger, "never nil")

	var log strings.Builder
	logger := slog.New(slog.NewTextHandler(&log, nil))
	conn, err = polyvisor.Open(t.Context(), "kvm:///session", polyvisor.WithRegistry(&reg), polyvisor.ReadOnly(), polyvisor.WithLogger(logger))
	require.NoError(t, err)
	defer conn.Close()
	assert.True(t, o.options.ReadOnly)
	assert.True(t, conn.IsReadOnly())
	assert.Same(t, logger, o.options.Logger)

	conn, err = polyvisor.Open(t.Context(), "kvm:///", polyvisor.WithRegistry(&reg), polyvisor.WithLogger(nil), polyvisor.WithRegistry(nil))
	require.NoError(t, err)
	defer conn.Close()
	assert.NotNil(t, o.options.Logger, "nil options leave things as they are")
}

func TestOpenErrors(t *testing.T) {
	o := &opening{params: []string{"state", "run"}}
	var reg polyvisor.Registry
	reg.Register("kvm", o.registration())
	reg.Register("plain", new(opening).registration())
	for uri, want := range map[string]string{
		"kvm:///s?stat=1":        "kvm: open: invalid configuration: connection URI: unknown parameter stat; kvm:// knows state, run",
		"kvm:///s?b=1&a=1&run=1": "kvm: open: invalid configuration: connection URI: unknown parameter a, b; kvm:// knows state, run",
		"plain:///s?x=1":         "plain: open: invalid configuration: connection URI: unknown parameter x; plain:// knows none",
		"kvm:///s?State=1":       "kvm: open: invalid configuration: connection URI: unknown parameter State; kvm:// knows state, run",
		"":                       "open: invalid configuration: connection URI: it is empty; kvm:///session is this user's virtual machines on this host",
	} {
		o.uri = nil
		conn, err := polyvisor.Open(t.Context(), uri, polyvisor.WithRegistry(&reg))
		assert.EqualError(t, err, want)
		assert.Equal(t, polyvisor.CodeInvalidConfig, polyvisor.CodeOf(err))
		assert.Nil(t, conn)
		assert.Nil(t, o.uri, "the driver was not asked")
	}
	o.err = fmt.Errorf("/dev/kvm: %w", polyvisor.ErrPermission)
	_, err := polyvisor.Open(t.Context(), "kvm:///", polyvisor.WithRegistry(&reg))
	assert.EqualError(t, err, "kvm: open: /dev/kvm: permission denied")
	require.ErrorIs(t, err, polyvisor.ErrPermission)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o.uri = nil
	_, err = polyvisor.Open(ctx, "kvm:///", polyvisor.WithRegistry(&reg))
	require.ErrorIs(t, err, context.Canceled)
	assert.Nil(t, o.uri)
}

// A transport or a host makes it the libvirt driver's, whatever the scheme.
func TestOpenRemote(t *testing.T) {
	local, remote := new(opening), &opening{params: []string{"socket"}}
	var reg polyvisor.Registry
	reg.Register("kvm", local.registration())
	_, err := polyvisor.Open(t.Context(), "kvm+ssh://me@host/system", polyvisor.WithRegistry(&reg))
	require.ErrorIs(t, err, polyvisor.ErrUnsupported)
	assert.ErrorContains(t, err, "kvm+ssh://me@host/system names a remote host or a transport")
	reg.Register("libvirt", remote.registration())
	for _, uri := range []string{"kvm+unix:///system?socket=/x", "qemu://host/system", "kvm://session", "libvirt:///x"} {
		remote.uri = nil
		conn, err := polyvisor.Open(t.Context(), uri, polyvisor.WithRegistry(&reg))
		require.NoError(t, err)
		require.NotNil(t, remote.uri, uri)
		require.NoError(t, conn.Close())
	}
	assert.Nil(t, local.uri)
}

func TestRegistryIsSafeForConcurrentUse(t *testing.T) {
	var reg polyvisor.Registry
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			reg.Register(fmt.Sprint("x", i), new(opening).registration())
			_ = reg.Drivers()
			conn, err := polyvisor.Open(context.Background(), fmt.Sprintf("x%d:///", i), polyvisor.WithRegistry(&reg))
			if assert.NoError(t, err) {
				assert.NoError(t, conn.Close())
			}
		})
	}
	wg.Wait()
	assert.Len(t, reg.Drivers(), 32)
}

// Wrappers that know nothing of an ability: one for each form of Unwrap.
type (
	asInstance struct{ polyvisor.Instance }
	asAny      struct{ polyvisor.Instance }
	asDriver   struct{ polyvisor.Driver }
	opaque     struct{ inner any }
)

func (w asInstance) Unwrap() polyvisor.Instance { return w.Instance }
func (w asAny) Unwrap() any                     { return w.Instance }
func (w asDriver) Unwrap() polyvisor.Driver     { return w.Driver }
func (w opaque) Unwrap() any                    { return w.inner }

func TestAs(t *testing.T) {
	inst := &recInstance{}
	for _, v := range []any{inst, asInstance{inst}, asAny{inst}, asInstance{asAny{asInstance{inst}}}, opaque{asAny{inst}}} {
		s, ok := polyvisor.As[polyvisor.Suspender](v)
		require.True(t, ok, "%T", v)
		assert.Same(t, inst, s)
		_, ok = polyvisor.As[interface{ Teleport() }](v)
		assert.False(t, ok)
	}
	for _, v := range []any{nil, bare{inst}, asInstance{bare{inst}}, asInstance{}, asAny{}, opaque{}, 7} {
		_, ok := polyvisor.As[polyvisor.Suspender](v)
		assert.False(t, ok, "%T", v)
	}
	r := newRecorder(nil)
	got, ok := polyvisor.As[*recorder](asDriver{asDriver{r}})
	require.True(t, ok)
	assert.Same(t, r, got)
	_, ok = polyvisor.As[*recorder](asDriver{})
	assert.False(t, ok)
}

// The outermost that has the ability is the one that is used.
type louder struct {
	asInstance
	called *int
}

func (l louder) Suspend(ctx context.Context) error { *l.called++; return nil }
func (l louder) Resume(ctx context.Context) error  { *l.called++; return nil }

func TestDomainFindsAbilitiesThroughWrappers(t *testing.T) {
	called := 0
	conn, r := connect(t, func(r *recorder) {
		r.wrap = func(i polyvisor.Instance) polyvisor.Instance { return asAny{louder{asInstance{i}, &called}} }
	})
	id := r.put("web", polyvisor.Running)
	dom, err := conn.DomainByUUID(t.Context(), id)
	require.NoError(t, err)
	require.NoError(t, dom.Suspend(t.Context()))
	assert.Equal(t, 1, called)
	require.NoError(t, dom.Reboot(t.Context()))
	assert.Contains(t, r.log(), "reboot")
	assert.NotEqual(t, uuid.Nil, dom.UUID())
}

func TestNilOptions(t *testing.T) {
	var reg polyvisor.Registry
	reg.Register("rec", polyvisor.Registration{Open: func(context.Context, *polyvisor.URI, polyvisor.OpenOptions) (polyvisor.Driver, error) {
		return newRecorder(t), nil
	}})
	conn, err := polyvisor.Open(t.Context(), "rec:///", nil, polyvisor.WithRegistry(&reg), nil)
	require.NoError(t, err)
	defer conn.Close()
	dom, err := conn.Create(t.Context(), &polyvisor.Config{Name: "a"}, nil, polyvisor.StartPaused())
	require.NoError(t, err)
	s, err := dom.State(t.Context())
	require.NoError(t, err)
	assert.Equal(t, polyvisor.Paused, s)
	dom, err = conn.Define(t.Context(), &polyvisor.Config{Name: "b"})
	require.NoError(t, err)
	require.NoError(t, dom.Start(t.Context(), nil))
}

func TestDriverOpensNothing(t *testing.T) {
	var reg polyvisor.Registry
	reg.Register("rec", polyvisor.Registration{Open: func(context.Context, *polyvisor.URI, polyvisor.OpenOptions) (polyvisor.Driver, error) {
		return nil, nil
	}})
	conn, err := polyvisor.Open(t.Context(), "rec:///", polyvisor.WithRegistry(&reg))
	require.ErrorIs(t, err, polyvisor.ErrNoResource)
	require.ErrorContains(t, err, "rec: open: ")
	require.ErrorContains(t, err, "neither a connection nor an error")
	assert.Nil(t, conn)
}
