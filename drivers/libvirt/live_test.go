package libvirt_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/conformance"
	"github.com/polyvisor/polyvisor/drivers/libvirt"
	"github.com/polyvisor/polyvisor/internal/libvirttest"
)

// onTest opens a connection to the hypervisor in memory of a daemon.
func onTest(t *testing.T, d *libvirttest.Daemon, o libvirt.Options) *polyvisor.Conn {
	t.Helper()
	o.URI = d.URI("test", libvirttest.Unix)
	c, err := libvirt.Open(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, c.Close()) })
	return c
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	require.Eventually(t, f, time.Minute, 10*time.Millisecond, what)
}

// The lifecycle over each transport.
func TestTransports(t *testing.T) {
	for _, by := range []libvirttest.Transport{libvirttest.TCP, libvirttest.TLS, libvirttest.SSH, libvirttest.SSHProgram} {
		t.Run(string(by), func(t *testing.T) {
			t.Parallel()
			d := libvirttest.Start(t, libvirttest.Options{TCP: by == libvirttest.TCP, TLS: by == libvirttest.TLS, SSH: by == libvirttest.SSH || by == libvirttest.SSHProgram})
			open := opener(t, libvirt.Options{URI: d.URI("test", by)})
			run(t, []conformance.Harness{{Open: open, Timeout: time.Minute, Config: &polyvisor.Config{Memory: 256 * polyvisor.MiB}}}, nil, func(c conformance.Case) bool {
				group, name, _ := strings.Cut(c.Name, "/")
				if by == libvirttest.SSHProgram { // a second for each connection, and the same bytes as over ssh
					return c.Name == "connection/close-ends-calls" || c.Name == "connection/shared" || c.Name == "life/persistent" || c.Name == "life/transient" || c.Name == "wait/many"
				}
				return group == "connection" || group == "life" && name != "start-fails" || group == "wait" || group == "events"
			})
		})
	}
}

// What we do is seen by virsh, and the other way round.
func TestAgreesWithVirsh(t *testing.T) {
	d := libvirttest.Start(t, libvirttest.Options{})
	c := onTest(t, d, libvirt.Options{})
	ctx := t.Context()
	virsh := func(args ...string) string {
		t.Helper()
		return strings.TrimSpace(d.Virsh(t, "test", args...))
	}
	sub, err := c.Subscribe(ctx, polyvisor.SubscribeOptions{})
	require.NoError(t, err)
	next := func(want polyvisor.EventType) polyvisor.Event {
		t.Helper()
		e, err := sub.Next(ctx)
		require.NoError(t, err)
		require.Equal(t, want, e.Type, "%+v", e)
		return e
	}

	dom, err := c.Define(ctx, &polyvisor.Config{Name: "ours", Title: "A title", Labels: map[string]string{"k": "v"}, Memory: 64 * polyvisor.MiB, VCPUs: 2, Autostart: true})
	require.NoError(t, err)
	next(polyvisor.EventDefined)
	assert.Contains(t, virsh("list", "--all", "--name"), "ours")
	assert.Equal(t, "shut off", virsh("domstate", "ours"))
	assert.Equal(t, dom.UUID().String(), virsh("domuuid", "ours"))
	assert.Regexp(t, `Autostart: +enable`, virsh("dominfo", "ours"))
	xml, err := dom.XML(ctx)
	require.NoError(t, err)
	assert.Equal(t, strings.TrimSpace(xml), virsh("dumpxml", "ours"))

	require.NoError(t, dom.Start(ctx))
	next(polyvisor.EventStarted)
	assert.Equal(t, "running", virsh("domstate", "ours"))
	require.NoError(t, dom.Suspend(ctx))
	next(polyvisor.EventSuspended)
	assert.Equal(t, "paused", virsh("domstate", "ours"))

	virsh("resume", "ours")
	assert.Equal(t, polyvisor.Running, next(polyvisor.EventResumed).State)
	virsh("destroy", "ours")
	assert.Equal(t, polyvisor.StopKilled, next(polyvisor.EventStopped).Stop.Reason)
	stop, err := dom.Wait(ctx)
	require.NoError(t, err)
	assert.Equal(t, polyvisor.StopKilled, stop.Reason)
	virsh("autostart", "--disable", "ours")
	on, err := dom.Autostart(ctx)
	require.NoError(t, err)
	assert.False(t, on)
	virsh("setmaxmem", "ours", "128M", "--config")
	info, err := dom.Info(ctx)
	require.NoError(t, err)
	assert.Equal(t, 128*polyvisor.MiB, int(info.MaxMemory))
	virsh("undefine", "ours")
	next(polyvisor.EventUndefined)
	_, err = dom.State(ctx)
	assert.ErrorIs(t, err, polyvisor.ErrNotFound)

	virsh("define", writeFile(t, "theirs.xml", `<domain type='test'><name>theirs</name><memory unit='MiB'>32</memory><os><type>hvm</type></os>
		<devices><disk type='file' device='cdrom'><target dev='hdc' bus='ide'/></disk></devices></domain>`))
	next(polyvisor.EventDefined)
	theirs, err := c.Domain(ctx, "theirs")
	require.NoError(t, err)
	cfg, err := theirs.Config(ctx)
	require.NoError(t, err, "what a Config cannot say is left out")
	assert.Equal(t, 32*polyvisor.MiB, int(cfg.Memory))
	assert.Empty(t, cfg.Disks)
	require.NoError(t, theirs.Undefine(ctx))
}

// Hot calls take few allocations.
func TestAllocations(t *testing.T) {
	d := libvirttest.Start(t, libvirttest.Options{})
	c := onTest(t, d, libvirt.Options{})
	ctx := t.Context()
	dom, err := c.Define(ctx, &polyvisor.Config{Name: "hot", Memory: 64 * polyvisor.MiB})
	require.NoError(t, err)
	defer dom.Undefine(ctx)
	require.NoError(t, dom.Start(ctx))
	defer dom.Destroy(ctx)
	inst := dom.Unwrap()
	drv := c.Unwrap()
	for _, tt := range []struct {
		name string
		call func() error
	}{
		{"state", func() error { _, err := inst.State(ctx); return err }},
		{"info", func() error { _, err := inst.Info(ctx); return err }},
		{"lookup", func() error { _, err := drv.Lookup(ctx, polyvisor.Key{Name: "hot"}); return err }},
	} {
		require.NoError(t, tt.call())
		n := testing.AllocsPerRun(200, func() { _ = tt.call() })
		t.Logf("%s: %.1f allocations", tt.name, n)
		if !raceDetector {
			assert.LessOrEqual(t, n, 4.0, tt.name)
		}
	}
}

// A handle of go-libvirt works over the same connection, and ends with it.
func TestUnwrap(t *testing.T) {
	d := libvirttest.Start(t, libvirttest.Options{})
	c := onTest(t, d, libvirt.Options{})
	h, ok := polyvisor.As[*golibvirt.Libvirt](c.Unwrap())
	require.True(t, ok)
	again, _ := polyvisor.As[*golibvirt.Libvirt](c.Unwrap())
	assert.Same(t, h, again)
	name, err := h.ConnectGetType()
	require.NoError(t, err)
	assert.Equal(t, "TEST", strings.ToUpper(name))
	pools, _, err := h.ConnectListAllStoragePools(1, 0)
	require.NoError(t, err)
	assert.NotEmpty(t, pools, "what this package has no method for")
	require.NoError(t, c.Close())
	_, err = h.ConnectGetType()
	assert.Error(t, err)
}

// A daemon that is killed and comes back, under load: every call returns, the
// connection comes back, and every subscriber is told.
func TestDaemonRestarts(t *testing.T) {
	d := libvirttest.Start(t, libvirttest.Options{})
	c := onTest(t, d, libvirt.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const callers, subscribers, restarts = 200, 4, 3
	var calls, failures atomic.Int64
	var wg sync.WaitGroup
	for n := range callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				var err error
				switch n % 4 {
				case 0:
					_, err = c.Domains(ctx, polyvisor.DomainFilter{})
				case 1:
					_, err = c.Domain(ctx, "test")
				case 2:
					_, err = c.Node(ctx)
				default:
					var dom *polyvisor.Domain
					if dom, err = c.Domain(ctx, "test"); err == nil {
						short, stop := context.WithTimeout(ctx, 50*time.Millisecond)
						_, err = dom.Wait(short)
						stop()
					}
				}
				calls.Add(1)
				if err != nil && ctx.Err() == nil {
					if code := polyvisor.CodeOf(err); code != polyvisor.CodeConnLost && code != polyvisor.CodeCanceled {
						t.Errorf("a call failed with %v, %s", err, code)
					}
					failures.Add(1)
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	var subs []*polyvisor.Subscription
	for range subscribers {
		s, err := c.Subscribe(ctx, polyvisor.SubscribeOptions{})
		require.NoError(t, err)
		subs = append(subs, s)
	}
	awaitEvent := func(s *polyvisor.Subscription, want polyvisor.EventType) {
		t.Helper()
		short, stop := context.WithTimeout(ctx, time.Minute)
		defer stop()
		for {
			e, err := s.Next(short)
			require.NoError(t, err, "waiting for %s", want)
			if e.Type == want {
				return
			}
		}
	}
	for n := range restarts {
		time.Sleep(50 * time.Millisecond)
		require.NoError(t, d.Kill())
		require.NoError(t, d.Restart())
		for _, s := range subs {
			awaitEvent(s, polyvisor.EventResync)
		}
		dom, err := c.Define(ctx, &polyvisor.Config{Name: fmt.Sprint("after-", n), Memory: 64 * polyvisor.MiB})
		require.NoError(t, err)
		for _, s := range subs {
			awaitEvent(s, polyvisor.EventDefined)
		}
		require.NoError(t, dom.Undefine(ctx))
	}
	cancel()
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("a call did not return")
	}
	t.Logf("%d calls, %d of them failed while there was no connection", calls.Load(), failures.Load())
}

// Close ends everything also while there is no connection.
func TestCloseWhileLost(t *testing.T) {
	d := libvirttest.Start(t, libvirttest.Options{})
	c, err := libvirt.Open(t.Context(), libvirt.Options{URI: d.URI("test", libvirttest.Unix)})
	require.NoError(t, err)
	dom, err := c.Domain(t.Context(), "test")
	require.NoError(t, err)
	waited := make(chan error, 1)
	go func() { _, err := dom.Wait(t.Context()); waited <- err }()
	time.Sleep(20 * time.Millisecond)
	require.NoError(t, d.Kill())
	assert.ErrorIs(t, <-waited, polyvisor.ErrConnLost)
	_, err = c.Node(t.Context())
	assert.ErrorIs(t, err, polyvisor.ErrConnLost)
	require.NoError(t, c.Close())
	_, err = c.Node(t.Context())
	assert.ErrorIs(t, err, polyvisor.ErrClosed)
}

// A daemon that is frozen is noticed by keepalive, and calls given up meanwhile leave the
// connection usable.
func TestFrozenDaemon(t *testing.T) {
	d := libvirttest.Start(t, libvirttest.Options{})
	c := onTest(t, d, libvirt.Options{KeepAlive: 200 * time.Millisecond, KeepAliveCount: 2})
	ctx := t.Context()
	require.NoError(t, d.Signal(libvirttest.Freeze))
	short, stop := context.WithTimeout(ctx, 100*time.Millisecond)
	_, err := c.Node(short)
	stop()
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, d.Signal(libvirttest.Thaw))
	_, err = c.Node(ctx)
	require.NoError(t, err, "the connection is usable after a call was given up")

	require.NoError(t, d.Signal(libvirttest.Freeze))
	_, err = c.Node(ctx)
	assert.ErrorIs(t, err, polyvisor.ErrConnLost)
	require.NoError(t, d.Signal(libvirttest.Thaw))
	eventually(t, "the connection is back", func() bool { _, err := c.Node(ctx); return err == nil })
}

// The numbers that a live daemon can be brought to tell mean what the table says.
func TestErrorsOfALiveDaemon(t *testing.T) {
	d := libvirttest.Start(t, libvirttest.Options{})
	c := onTest(t, d, libvirt.Options{})
	ctx := t.Context()
	h, ok := polyvisor.As[*golibvirt.Libvirt](c.Unwrap())
	require.True(t, ok)
	dom, err := h.DomainLookupByName("test")
	require.NoError(t, err)
	gone := golibvirt.Domain{Name: "gone", UUID: golibvirt.UUID{1}, ID: -1}
	for _, tt := range []struct {
		name   string
		number golibvirt.ErrorNumber
		class  error
		call   func() error
	}{
		{"a domain that is not there", golibvirt.ErrNoDomain, polyvisor.ErrNotFound, func() error { return h.DomainSuspend(gone) }},
		{"a state that is wrong", golibvirt.ErrOperationInvalid, polyvisor.ErrInvalidState, func() error { return h.DomainSetMaxMemory(dom, 1<<20) }},
		{"an argument that is wrong", golibvirt.ErrInvalidArg, polyvisor.ErrInvalidConfig, func() error { return h.DomainSetVcpusFlags(dom, 0, 1) }},
		{"a function that is missing", golibvirt.ErrNoSupport, polyvisor.ErrUnsupported, func() error { return h.DomainOpenConsole(dom, nil, nil, 0) }},
		{"XML that is none", golibvirt.ErrXMLDetail, polyvisor.ErrInvalidConfig, func() error { _, err := h.DomainDefineXML("<domain"); return err }},
	} {
		err := tt.call()
		var e golibvirt.Error
		if !assert.ErrorAs(t, err, &e, tt.name) {
			continue
		}
		assert.EqualValues(t, tt.number, e.Code, "%s: %s", tt.name, e.Message)
		assert.ErrorIs(t, polyvisor.LibvirtError(e.Code), tt.class, tt.name)
	}
	_, err = c.DefineXML(ctx, "<domain")
	assert.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
	libvirt.ForgetProbes() // what a connection that may write has found out
	ro := onTest(t, d, libvirt.Options{ReadOnly: true})
	hr, ok := polyvisor.As[*golibvirt.Libvirt](ro.Unwrap())
	require.True(t, ok)
	var e golibvirt.Error
	require.True(t, errors.As(hr.DomainSuspend(dom), &e), "a read-only connection of the daemon's, not only of ours")
	assert.EqualValues(t, golibvirt.ErrOperationDenied, e.Code)
	assert.ErrorIs(t, polyvisor.LibvirtError(e.Code), polyvisor.ErrReadOnly)
	assert.Equal(t, c.Capabilities(), ro.Capabilities(), "a read-only connection declares the same")
}

// A hypervisor that the daemon has no driver for is not a connection that was lost.
func TestDriverIsMissing(t *testing.T) {
	d := libvirttest.Start(t, libvirttest.Options{})
	for _, hypervisor := range []string{"xen", "ch", "lxc"} {
		c, err := polyvisor.Open(t.Context(), strings.Replace(d.URI("qemu", libvirttest.Unix), "qemu", hypervisor, 1))
		if err == nil {
			c.Close()
		}
		require.ErrorIs(t, err, polyvisor.ErrUnsupported, hypervisor)
		assert.NotErrorIs(t, err, polyvisor.ErrConnLost)
		assert.ErrorContains(t, err, "install")
	}
}

// libvirt:/// is what libvirt's own programs open without a URI.
func TestDefaultURI(t *testing.T) {
	d := libvirttest.Start(t, libvirttest.Options{})
	t.Setenv("LIBVIRT_DEFAULT_URI", d.URI("test", libvirttest.Unix))
	c, err := polyvisor.Open(t.Context(), "libvirt:///")
	require.NoError(t, err)
	_, err = c.Domain(t.Context(), "test")
	require.NoError(t, err)
	require.NoError(t, c.Close())
	_, err = polyvisor.Open(t.Context(), "libvirt:///system")
	require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
	assert.ErrorContains(t, err, "qemu:///system")
}

// A daemon that asks for a user and password gets them from the program or from auth.conf,
// also when the connection was lost; without them the error says what it wants.
func TestSASL(t *testing.T) {
	d := libvirttest.Start(t, libvirttest.Options{SASL: &libvirttest.SASL{
		Mechanisms: []string{"SCRAM-SHA-256"}, Users: map[string]string{"joe": "sesame"}, Unix: true}})
	ctx := t.Context()
	uri := d.URI("test", libvirttest.Unix)
	var asked atomic.Int64
	with := func(password string) libvirt.Options {
		return libvirt.Options{URI: uri, Credentials: func(_ context.Context, kind, about string) (string, string, error) {
			asked.Add(1)
			assert.Equal(t, "sasl", kind)
			return "joe", password, nil
		}}
	}
	c, err := libvirt.Open(ctx, with("sesame"))
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Domain(ctx, "test")
	require.NoError(t, err)
	before := asked.Load()
	require.NoError(t, d.Kill())
	require.NoError(t, d.Restart())
	eventually(t, "the connection is back", func() bool { _, err := c.Node(ctx); return err == nil })
	assert.Greater(t, asked.Load(), before)

	_, err = libvirt.Open(ctx, with("hunter2"))
	require.ErrorIs(t, err, polyvisor.ErrPermission)
	assert.NotContains(t, err.Error(), "hunter2")

	conf := writeFile(t, "auth.conf", "[credentials-a]\nauthname=joe\npassword=sesame\n[auth-libvirt-default]\ncredentials=a\n")
	byFile, err := polyvisor.Open(ctx, uri+"&authfile="+conf)
	require.NoError(t, err, "polyvisor.Open has no credentials but those of files")
	require.NoError(t, byFile.Close())
	empty := writeFile(t, "empty.conf", "\n")
	_, err = polyvisor.Open(ctx, uri+"&authfile="+empty)
	require.ErrorIs(t, err, polyvisor.ErrPermission)
	assert.Contains(t, err.Error(), empty)
}
