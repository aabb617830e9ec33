package polyvisor_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

// Each test here proves one sentence of the comments of Driver and Instance.

func TestDriverNothingAfterClose(t *testing.T) {
	eachMethod(t, func(t *testing.T, m method) {
		conn, dom, r := m.prepare(t, nil)
		require.NoError(t, conn.Close())
		err := m.call(t.Context(), conn, dom)
		require.ErrorIs(t, err, polyvisor.ErrClosed)
		assert.Equal(t, polyvisor.CodeClosed, polyvisor.CodeOf(err))
		assert.Equal(t, "dom", dom.Name(), "a handle keeps its name after Close")
		assert.NotEqual(t, uuid.Nil, dom.UUID())
		assert.Equal(t, []string{"close"}, r.log())
	})
}

func TestDriverCloseOnce(t *testing.T) {
	conn, r := connect(t, func(r *recorder) { r.closeErr = polyvisor.ErrConnLost })
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			err := conn.Close()
			assert.ErrorIs(t, err, polyvisor.ErrConnLost)
			assert.EqualError(t, err, "rec: close: connection lost")
		})
	}
	wg.Wait()
	assert.Equal(t, []string{"capabilities", "close"}, r.log(), "Capabilities is asked once")
}

func TestDriverCloseWaitsForCalls(t *testing.T) {
	eachMethod(t, func(t *testing.T, m method) {
		conn, dom, r := m.prepare(t, nil)
		began, finish := make(chan struct{}), make(chan struct{})
		r.setScript(func(ctx context.Context, call string) error {
			if call != m.driver {
				return nil
			}
			close(began)
			<-ctx.Done()
			<-finish // a driver that takes its time to give up
			return ctx.Err()
		})
		result := make(chan error, 1)
		go func() { result <- m.call(t.Context(), conn, dom) }()
		<-began
		closed := make(chan error, 1)
		go func() { closed <- conn.Close() }()
		select {
		case <-closed:
			t.Fatal("Close did not wait for the call")
		case <-time.After(2 * time.Millisecond):
		}
		close(finish)
		require.NoError(t, <-closed)
		err := <-result
		assert.ErrorIs(t, err, polyvisor.ErrClosed)
		assert.NotErrorIs(t, err, context.Canceled)
		assert.Zero(t, conn.Slots())
	})
}

// The same for a caller who has taken a panic of the driver, as a web server
// does: Close must not hang for it.
func TestDriverPanicLeavesNothing(t *testing.T) {
	eachMethod(t, func(t *testing.T, m method) {
		conn, dom, r := m.prepare(t, nil)
		r.setScript(func(_ context.Context, call string) error {
			if call == m.driver {
				r.mu.Lock()
				r.under--
				r.mu.Unlock()
				panic("driver")
			}
			return nil
		})
		assert.PanicsWithValue(t, "driver", func() { _ = m.call(t.Context(), conn, dom) })
		assert.Zero(t, conn.Slots())
		require.NoError(t, conn.Close())
	})
}

func TestDriverContextIsNeverNil(t *testing.T) {
	eachMethod(t, func(t *testing.T, m method) {
		conn, dom, r := m.prepare(t, nil)
		var none context.Context
		err := m.call(none, conn, dom)
		require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
		assert.ErrorContains(t, err, "nil context")
		assert.Empty(t, r.log())
	})
	var reg polyvisor.Registry
	reg.Register("rec", polyvisor.Registration{Open: func(ctx context.Context, _ *polyvisor.URI, _ polyvisor.OpenOptions) (polyvisor.Driver, error) {
		t.Error("opened with a nil context")
		return newRecorder(nil), nil
	}})
	var none context.Context
	_, err := polyvisor.Open(none, "rec:///", polyvisor.WithRegistry(&reg))
	require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
}

func TestEndedContextReachesNoDriver(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	eachMethod(t, func(t *testing.T, m method) {
		conn, dom, r := m.prepare(t, nil)
		err := m.call(ctx, conn, dom)
		require.ErrorIs(t, err, context.Canceled)
		assert.Equal(t, polyvisor.CodeCanceled, polyvisor.CodeOf(err))
		assert.Empty(t, r.log())
	})
}

func TestDriverReadOnly(t *testing.T) {
	eachMethod(t, func(t *testing.T, m method) {
		conn, dom, r := m.prepare(t, nil, polyvisor.ReadOnly())
		assert.True(t, conn.IsReadOnly())
		err := m.call(t.Context(), conn, dom)
		if !m.changes {
			require.NoError(t, err)
			return
		}
		require.ErrorIs(t, err, polyvisor.ErrReadOnly)
		assert.Equal(t, polyvisor.CodeReadOnly, polyvisor.CodeOf(err))
		assert.Empty(t, r.log())
	})
}

func TestDriverUndeclaredFeature(t *testing.T) {
	eachMethod(t, func(t *testing.T, m method) {
		if m.need == "" {
			return
		}
		conn, dom, r := m.prepare(t, func(r *recorder) {
			r.caps.Features = slices.DeleteFunc(polyvisor.Features(), func(f polyvisor.Feature) bool { return f == m.need })
			r.caps.Reasons = map[polyvisor.Feature]string{m.need: "the moon is full"}
		})
		err := m.call(t.Context(), conn, dom)
		var unsupported *polyvisor.UnsupportedError
		require.ErrorAs(t, err, &unsupported)
		assert.Equal(t, polyvisor.UnsupportedError{Feature: m.need, Driver: "rec", Reason: "the moon is full"}, *unsupported)
		require.ErrorIs(t, err, errors.ErrUnsupported)
		assert.Equal(t, polyvisor.CodeUnsupported, polyvisor.CodeOf(err))
		assert.ErrorContains(t, err, fmt.Sprintf("%s is not supported by the rec driver: the moon is full", m.need))
		assert.Empty(t, r.log())
	})
}

// A feature that is declared, but that this driver or one domain does not have.
func TestDriverMissingMethod(t *testing.T) {
	eachMethod(t, func(t *testing.T, m method) {
		if m.by == "" {
			return
		}
		r := newRecorder(t)
		var d polyvisor.Driver = r
		want := "domain"
		if m.by == byDriver {
			d, want = bareDriver{r}, "connection"
		} else {
			r.wrap = func(i polyvisor.Instance) polyvisor.Instance { return bare{i} }
		}
		conn := polyvisor.NewConn(d, nil)
		defer conn.Close()
		dom := m.domain(t, conn, r)
		err := m.call(t.Context(), conn, dom)
		require.ErrorIs(t, err, polyvisor.ErrUnsupported)
		assert.ErrorContains(t, err, "this "+want+" does not offer it")
		if m.fn != "Conn.Stats" { // which finds out by asking
			assert.Empty(t, r.log())
		}
		assert.Zero(t, conn.Slots())
	})
}

// configFeatures gives for a feature a Config that needs it.
func configFeatures() map[polyvisor.Feature]func(t *testing.T) *polyvisor.Config {
	fixed := func(c polyvisor.Config) func(*testing.T) *polyvisor.Config {
		return func(*testing.T) *polyvisor.Config { return c.Clone() }
	}
	open := func(t *testing.T) *os.File {
		f, err := os.Create(filepath.Join(t.TempDir(), "kernel"))
		require.NoError(t, err)
		return f
	}
	file := polyvisor.Path("/file")
	return map[polyvisor.Feature]func(t *testing.T) *polyvisor.Config{
		polyvisor.FeatureBuiltinGuest: fixed(polyvisor.Config{}),
		polyvisor.FeatureLinuxBoot:    fixed(polyvisor.Config{Boot: polyvisor.Boot{Kernel: file}}),
		polyvisor.FeatureFirmware:     fixed(polyvisor.Config{Boot: polyvisor.Boot{Firmware: file}}),
		polyvisor.FeatureOpenFiles: func(t *testing.T) *polyvisor.Config {
			return &polyvisor.Config{Boot: polyvisor.Boot{Kernel: polyvisor.OpenFile(open(t))}}
		},
		polyvisor.FeatureConsoleLog:      fixed(polyvisor.Config{Console: polyvisor.ConsoleConfig{Log: "/log"}}),
		polyvisor.FeatureConsoleFiles:    fixed(polyvisor.Config{Console: polyvisor.ConsoleConfig{In: file}}),
		polyvisor.FeatureVirtioConsole:   fixed(polyvisor.Config{Console: polyvisor.ConsoleConfig{Virtio: true}}),
		polyvisor.FeatureHypervisorLog:   fixed(polyvisor.Config{Log: file}),
		polyvisor.FeatureInstanceID:      fixed(polyvisor.Config{InstanceID: polyvisor.InstanceID{1}}),
		polyvisor.FeatureLabels:          fixed(polyvisor.Config{Labels: map[string]string{"a": ""}}),
		polyvisor.FeatureAutostart:       fixed(polyvisor.Config{Autostart: true}),
		polyvisor.FeatureMaxMemory:       fixed(polyvisor.Config{MaxMemory: polyvisor.GiB}),
		polyvisor.FeatureMemoryBacking:   fixed(polyvisor.Config{MemoryBacking: []polyvisor.MemoryBacking{{File: file, End: 0x1000}}}),
		polyvisor.FeatureBalloon:         fixed(polyvisor.Config{Balloon: true}),
		polyvisor.FeatureMaxVCPUs:        fixed(polyvisor.Config{MaxVCPUs: 2}),
		polyvisor.FeatureTopology:        fixed(polyvisor.Config{Topology: polyvisor.Topology{Sockets: 1, Cores: 1, Threads: 1}}),
		polyvisor.FeatureVCPUPin:         fixed(polyvisor.Config{VCPU: []polyvisor.VCPUConfig{{Affinity: polyvisor.CPUs(1)}}}),
		polyvisor.FeatureVCPUConfig:      fixed(polyvisor.Config{VCPU: []polyvisor.VCPUConfig{{Weight: 1}}}),
		polyvisor.FeatureDisks:           fixed(polyvisor.Config{Disks: []polyvisor.Disk{{Source: file}}}),
		polyvisor.FeatureNICs:            fixed(polyvisor.Config{NICs: []polyvisor.NIC{{}}}),
		polyvisor.FeaturePortForwards:    fixed(polyvisor.Config{NICs: []polyvisor.NIC{{Forwards: []polyvisor.PortForward{{HostPort: 80}}}}}),
		polyvisor.FeatureHostLoopback:    fixed(polyvisor.Config{NICs: []polyvisor.NIC{{HostLoopback: true}}}),
		polyvisor.FeatureShares:          fixed(polyvisor.Config{Shares: []polyvisor.Share{{Tag: "t", Source: "/"}}}),
		polyvisor.FeatureRNG:             fixed(polyvisor.Config{RNG: &polyvisor.RNG{}}),
		polyvisor.FeatureVsock:           fixed(polyvisor.Config{Vsock: &polyvisor.VsockConfig{}}),
		polyvisor.FeatureProtected:       fixed(polyvisor.Config{Protected: true}),
		polyvisor.FeatureHypervisorAuth:  fixed(polyvisor.Config{HypervisorAuth: true}),
		polyvisor.FeatureLifecyclePolicy: fixed(polyvisor.Config{OnCrash: polyvisor.ActionRestart}),
		polyvisor.FeaturePreserve:        fixed(polyvisor.Config{OnReboot: polyvisor.ActionPreserve}),
		polyvisor.FeatureRenameRestart:   fixed(polyvisor.Config{OnPoweroff: polyvisor.ActionRenameRestart}),
	}
}

func TestDriverConfigFeatures(t *testing.T) {
	for feature, config := range configFeatures() {
		t.Run(string(feature), func(t *testing.T) {
			c := config(t)
			c.Name = "dom"
			conn, r := connect(t, without(feature))
			r.log()
			_, err := conn.Create(t.Context(), c)
			var unsupported *polyvisor.UnsupportedError
			require.ErrorAs(t, err, &unsupported)
			assert.Equal(t, feature, unsupported.Feature)
			assert.Empty(t, r.log())

			c = config(t)
			c.Name = "dom"
			conn, _ = connect(t, nil)
			_, err = conn.Create(t.Context(), c)
			require.NoError(t, err, "the feature is all that was missing")
		})
	}
}

// A feature that nothing needs would be a promise without content.
func TestEveryFeatureIsNeeded(t *testing.T) {
	configs := configFeatures()
	for _, f := range polyvisor.Features() {
		if f == polyvisor.FeatureGuestStates {
			continue // what is told, and nothing that can be asked for; the suite holds a driver to it
		}
		byMethod := slices.ContainsFunc(methods(), func(m method) bool { return m.need == f })
		assert.True(t, byMethod || configs[f] != nil, f)
	}
}

func TestDriverConfigIsReady(t *testing.T) {
	mine := &polyvisor.Config{Name: "dom"}
	for _, op := range []string{"define", "create"} {
		conn, r := connect(t, nil)
		add := conn.Define
		if op == "create" {
			add = create(conn)
		}
		dom, err := add(t.Context(), mine)
		require.NoError(t, err)
		require.Len(t, r.given, 1)
		got := r.given[0]
		assert.NotSame(t, mine, got, "the Config belongs to the driver")
		assert.NotEqual(t, uuid.Nil, got.UUID)
		assert.Equal(t, dom.UUID(), got.UUID)
		want := &polyvisor.Config{
			Name: "dom", UUID: got.UUID, Memory: 256 * polyvisor.MiB, MaxMemory: 256 * polyvisor.MiB, VCPUs: 1, MaxVCPUs: 1,
			OnPoweroff: polyvisor.ActionDestroy, OnReboot: polyvisor.ActionRestart, OnCrash: polyvisor.ActionDestroy,
		}
		assert.Equal(t, want, got)
		assert.Equal(t, &polyvisor.Config{Name: "dom"}, mine, "the caller's Config stays as it was")
		require.NoError(t, got.Validate())
	}
}

func TestDriverConfigFits(t *testing.T) {
	conn, r := connect(t, func(r *recorder) {
		r.caps.MaxVCPUs, r.caps.MinMemory, r.caps.MaxMemory = 4, 32<<20, 1<<30
	})
	r.log()
	for _, tt := range []struct {
		config polyvisor.Config
		want   []string
	}{
		{polyvisor.Config{}, []string{"name: empty"}},
		{polyvisor.Config{Name: "a", VCPUs: 5}, []string{"vcpus: 5, the host allows at most 4"}},
		{polyvisor.Config{Name: "a", MaxVCPUs: 5}, []string{"max_vcpus: 5, the host allows at most 4"}},
		{polyvisor.Config{Name: "a", MaxMemory: 2 * polyvisor.GiB}, []string{"memory: 2GiB, the host allows at most 1GiB"}},
		{polyvisor.Config{Name: "a", Memory: 16 * polyvisor.MiB}, []string{"memory: 16MiB, at least 32MiB is needed"}},
		{polyvisor.Config{Name: "a", Memory: 2 * polyvisor.GiB, VCPUs: 9}, []string{
			"vcpus: 9, the host allows at most 4", "memory: 2GiB, the host allows at most 1GiB"}},
		{polyvisor.Config{Name: "a/b", Memory: 7, VCPUs: -1, OnCrash: "dance"}, []string{
			`name: "a/b" contains a slash`, "memory: 7B is not a multiple of 4KiB", "vcpus: -1 is negative", `on_crash: "dance" is not an action`}},
	} {
		for _, add := range []func(context.Context, *polyvisor.Config) (*polyvisor.Domain, error){conn.Define, create(conn)} {
			dom, err := add(t.Context(), &tt.config)
			require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
			assert.Nil(t, dom)
			for _, text := range tt.want {
				assert.ErrorContains(t, err, text)
			}
		}
	}
	for _, add := range []func(context.Context, *polyvisor.Config) (*polyvisor.Domain, error){conn.Define, create(conn)} {
		_, err := add(t.Context(), nil)
		require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
	}
	assert.Empty(t, r.log())
	_, err := conn.Define(t.Context(), &polyvisor.Config{Name: "a", VCPUs: 4, Memory: 1 * polyvisor.GiB})
	require.NoError(t, err, "the bounds themselves are allowed")
}

func TestDriverOpenFilesAreClosed(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		name   string
		define bool
		setup  func(*recorder)
		opts   []polyvisor.Option
		config polyvisor.Config
		ctx    context.Context
		closed bool // connection closed before
		want   error
		taken  bool // the driver got the files, open
	}{
		{name: "success", taken: true},
		{name: "driver fails", setup: func(r *recorder) { r.script = failOn("create", polyvisor.ErrNoResource) }, want: polyvisor.ErrNoResource, taken: true},
		{name: "name missing", config: polyvisor.Config{Name: "."}, want: polyvisor.ErrInvalidConfig},
		{name: "too big", config: polyvisor.Config{Name: "a", VCPUs: 65}, want: polyvisor.ErrInvalidConfig},
		{name: "feature", setup: func(r *recorder) { r.caps.Features = nil }, want: polyvisor.ErrUnsupported},
		{name: "open files not supported", setup: func(r *recorder) {
			r.caps.Features = []polyvisor.Feature{polyvisor.FeatureTransient, polyvisor.FeatureLinuxBoot}
		}, want: polyvisor.ErrUnsupported},
		{name: "read-only", opts: []polyvisor.Option{polyvisor.ReadOnly()}, want: polyvisor.ErrReadOnly},
		{name: "context", ctx: ended, want: context.Canceled},
		{name: "closed", closed: true, want: polyvisor.ErrClosed},
		{name: "define", define: true, want: polyvisor.ErrInvalidConfig},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn, r := connect(t, tt.setup, tt.opts...)
			if tt.closed {
				require.NoError(t, conn.Close())
			}
			kernel, initrd, err := os.Pipe()
			require.NoError(t, err)
			c := tt.config
			if c.Name == "" {
				c.Name = "dom"
			}
			c.Boot = polyvisor.Boot{Kernel: polyvisor.OpenFile(kernel), Initrd: polyvisor.OpenFile(initrd)}
			ctx := tt.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			add := create(conn)
			if tt.define {
				add = conn.Define
			}
			_, err = add(ctx, &c)
			if tt.want == nil {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, tt.want)
			}
			for _, f := range []*os.File{kernel, initrd} {
				_, err := f.Stat()
				assert.ErrorIs(t, err, os.ErrClosed, "%s is open after the call", f.Name())
			}
			if tt.taken {
				assert.Equal(t, []bool{true, true}, r.filesOpen, "files are open while the driver has them")
			} else {
				assert.Empty(t, r.given)
			}
		})
	}
}

func TestOneOperationAtATime(t *testing.T) {
	conn, r := connect(t, nil)
	id := r.put("dom", polyvisor.Running)
	byName, err := conn.Domain(t.Context(), "dom")
	require.NoError(t, err)
	byUUID, err := conn.DomainByUUID(t.Context(), id)
	require.NoError(t, err)
	byID, err := conn.DomainByID(t.Context(), 1)
	require.NoError(t, err)
	list, err := conn.Domains(t.Context(), polyvisor.DomainFilter{})
	require.NoError(t, err)
	require.Len(t, list, 1)

	script, began, release := hang("suspend")
	r.setScript(script)
	r.log()
	first := make(chan error, 1)
	go func() { first <- byName.Suspend(t.Context()) }()
	<-began

	// Another operation by any other handle waits as long as its context allows.
	for _, dom := range []*polyvisor.Domain{byUUID, byID, list[0]} {
		ctx, cancel := context.WithCancel(t.Context())
		waiter := make(chan error, 1)
		go func() { waiter <- dom.Reboot(ctx) }()
		require.Eventually(t, func() bool { return conn.Queue(dom) == 2 }, time.Minute, time.Millisecond)
		cancel()
		err := <-waiter
		require.ErrorIs(t, err, context.Canceled)
		assert.Equal(t, polyvisor.CodeCanceled, polyvisor.CodeOf(err))
		assert.ErrorContains(t, err, "waiting for another operation on the domain")
	}
	second := make(chan error, 1)
	go func() { second <- byUUID.Resume(t.Context()) }()
	require.Eventually(t, func() bool { return conn.Queue(byUUID) == 2 }, time.Minute, time.Millisecond)

	// Other domains do not wait for this one.
	r.put("other", polyvisor.Running)
	other, err := conn.Domain(t.Context(), "other")
	require.NoError(t, err)
	require.NoError(t, other.Reboot(t.Context()))

	// State and Info do not wait either.
	s, err := list[0].State(t.Context())
	require.NoError(t, err)
	assert.Equal(t, polyvisor.Running, s)
	_, err = byID.Info(t.Context())
	require.NoError(t, err)

	close(release)
	require.NoError(t, <-first)
	require.NoError(t, <-second, "the second came when the first was through, in the state that it led to")
	assert.Equal(t, []string{"suspend", "resume"}, onlyCalls(r.log(), "suspend", "resume"))
	assert.Zero(t, conn.Slots())
}

func TestWaitAndDestroyDoNotWaitForTheTurn(t *testing.T) {
	conn, r := connect(t, nil)
	r.put("dom", polyvisor.Running)
	dom, err := conn.Domain(t.Context(), "dom")
	require.NoError(t, err)
	script, began, release := hang("reboot")
	r.setScript(script)
	reboot := make(chan error, 1)
	go func() { reboot <- dom.Reboot(t.Context()) }()
	<-began
	waited := make(chan error, 1)
	go func() {
		stop, err := dom.Wait(t.Context())
		assert.Equal(t, polyvisor.StopKilled, stop.Reason)
		waited <- err
	}()
	require.NoError(t, dom.Destroy(t.Context()))
	require.NoError(t, <-waited)
	close(release)
	require.ErrorIs(t, <-reboot, polyvisor.ErrInvalidState, "the driver saw the change")
}

func TestDestroyAbortsAHungStart(t *testing.T) {
	conn, r := connect(t, nil)
	id := r.put("dom", polyvisor.Shutoff)
	dom, err := conn.Domain(t.Context(), "dom")
	require.NoError(t, err)
	again, err := conn.DomainByUUID(t.Context(), id)
	require.NoError(t, err)
	script, began, _ := hang("start")
	r.setScript(script)
	r.log()
	start := make(chan error, 1)
	go func() { start <- dom.Start(t.Context()) }()
	<-began
	require.NoError(t, again.Destroy(t.Context()))
	err = <-start
	require.ErrorIs(t, err, polyvisor.ErrInvalidState)
	assert.EqualError(t, err, `rec: start "dom": invalid state: destroyed while it was starting`)
	assert.NotErrorIs(t, err, context.Canceled, "the caller's context is not the cause")
	assert.Equal(t, []string{"state", "info", "start", "state"}, r.log(), "inactive after the abort: nothing to destroy")
	assert.Zero(t, conn.Slots())

	r.setScript(nil)
	require.NoError(t, dom.Start(t.Context()), "it starts again")
}

// A Start that succeeds in spite of the abort is destroyed the ordinary way.
func TestDestroyOfAStartThatWonTheRace(t *testing.T) {
	conn, r := connect(t, nil)
	r.put("dom", polyvisor.Shutoff)
	dom, err := conn.Domain(t.Context(), "dom")
	require.NoError(t, err)
	began := make(chan struct{})
	r.setScript(func(ctx context.Context, call string) error {
		if call == "start" {
			close(began)
			<-ctx.Done() // too late to undo
		}
		return nil
	})
	start := make(chan error, 1)
	go func() { start <- dom.Start(t.Context()) }()
	<-began
	require.NoError(t, dom.Destroy(t.Context()))
	require.NoError(t, <-start)
	s, err := dom.State(t.Context())
	require.NoError(t, err)
	assert.Equal(t, polyvisor.Shutoff, s)
	assert.Contains(t, r.log(), "destroy")
}

// A driver that does not give up its Start keeps Destroy only as long as the
// context of Destroy allows.
func TestDestroyOfAStubbornStart(t *testing.T) {
	conn, r := connect(t, nil)
	r.put("dom", polyvisor.Shutoff)
	dom, err := conn.Domain(t.Context(), "dom")
	require.NoError(t, err)
	began, release := make(chan struct{}), make(chan struct{})
	r.setScript(func(_ context.Context, call string) error {
		if call == "start" {
			close(began)
			<-release
		}
		return nil
	})
	start := make(chan error, 1)
	go func() { start <- dom.Start(t.Context()) }()
	<-began
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, dom.Destroy(ctx), context.DeadlineExceeded)
	close(release)
	require.NoError(t, <-start)
}

// The end of Start's own context is Start's error.
func TestStartEndsWithItsContext(t *testing.T) {
	conn, r := connect(t, nil)
	r.put("dom", polyvisor.Shutoff)
	dom, err := conn.Domain(t.Context(), "dom")
	require.NoError(t, err)
	script, began, _ := hang("start")
	r.setScript(script)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-began
		cancel()
	}()
	err = dom.Start(ctx)
	require.ErrorIs(t, err, context.Canceled)
	assert.EqualError(t, err, `rec: start "dom": START: context canceled`)
	assert.Zero(t, conn.Slots())
}

// Every operation in every state: the table alone decides whether the driver
// sees it, and the state is asked right before.
func TestTransitionsDecide(t *testing.T) {
	for _, m := range methods() {
		transition, ok := polyvisor.Transitions[polyvisor.Op(m.name)]
		if !ok {
			continue
		}
		for _, s := range polyvisor.States() {
			t.Run(m.name+" when "+s.String(), func(t *testing.T) {
				m.state = s
				conn, dom, r := m.prepare(t, nil)
				err := m.call(t.Context(), conn, dom)
				if slices.Contains(transition.From, s) {
					require.NoError(t, err)
					assert.Equal(t, []string{"state", m.driver}, onlyCalls(r.log(), "state", m.driver))
					if transition.To != polyvisor.NoState {
						got, err := dom.State(t.Context())
						require.NoError(t, err)
						assert.Equal(t, transition.To, got)
					}
					return
				}
				var wrong *polyvisor.StateError
				require.ErrorAs(t, err, &wrong)
				require.ErrorIs(t, err, polyvisor.ErrInvalidState)
				assert.Equal(t, polyvisor.StateError{Op: polyvisor.Op(m.name), State: s, Want: transition.From}, *wrong)
				assert.Equal(t, []string{"state"}, r.log())
			})
		}
	}
}

func TestStateFailureStopsTheOperation(t *testing.T) {
	for _, m := range methods() {
		if _, ok := polyvisor.Transitions[polyvisor.Op(m.name)]; !ok {
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			conn, dom, r := m.prepare(t, nil)
			r.setScript(failOn("state", fmt.Errorf("socket: %w", polyvisor.ErrConnLost)))
			err := m.call(t.Context(), conn, dom)
			require.ErrorIs(t, err, polyvisor.ErrConnLost)
			assert.EqualError(t, err, fmt.Sprintf("rec: %s %q: socket: connection lost", m.name, "dom"))
			assert.Equal(t, []string{"state"}, r.log())
			assert.Zero(t, conn.Slots())
		})
	}
}
