package polyvisor_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

func TestConnTellsAboutItself(t *testing.T) {
	r := newRecorder(t)
	u, err := polyvisor.ParseURI("rec:///here?b=2&a=1")
	require.NoError(t, err)
	conn := polyvisor.NewConn(r, u)
	defer conn.Close()
	assert.Equal(t, "rec:///here?a=1&b=2", conn.URI())
	assert.Equal(t, "rec", conn.Type())
	assert.False(t, conn.IsReadOnly())
	v, err := conn.Version(t.Context())
	require.NoError(t, err)
	assert.Equal(t, polyvisor.Version{Library: polyvisor.LibraryVersion, Hypervisor: "1.2.3"}, v)
	n, err := conn.Node(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 4, n.MaxCPUs())
	host, err := conn.Hostname(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "host", host)
}

func TestConnWithoutURI(t *testing.T) {
	conn := polyvisor.NewConn(newRecorder(t), nil)
	defer conn.Close()
	assert.Equal(t, "rec://", conn.URI())
}

// What a caller does to the Capabilities it got changes nothing.
func TestCapabilitiesAreACopy(t *testing.T) {
	conn, r := connect(t, func(r *recorder) {
		r.caps.Reasons = map[polyvisor.Feature]string{"x": "why"}
	})
	r.caps.Features[0] = "gone"
	caps := conn.Capabilities()
	assert.True(t, caps.Has(polyvisor.FeatureSuspend))
	caps.Features[0], caps.Reasons["x"] = "gone", "changed"
	again := conn.Capabilities()
	assert.True(t, again.Has(polyvisor.FeatureSuspend))
	assert.Equal(t, "why", again.Reasons["x"])
	assert.False(t, again.Has("teleport"))
}

func TestLookup(t *testing.T) {
	conn, r := connect(t, nil)
	id := r.put("web", polyvisor.Running)
	r.put("db", polyvisor.Shutoff)
	for _, find := range []func() (*polyvisor.Domain, error){
		func() (*polyvisor.Domain, error) { return conn.Domain(t.Context(), "web") },
		func() (*polyvisor.Domain, error) { return conn.DomainByUUID(t.Context(), id) },
		func() (*polyvisor.Domain, error) { return conn.DomainByID(t.Context(), 1) },
	} {
		dom, err := find()
		require.NoError(t, err)
		assert.Equal(t, "web", dom.Name())
		assert.Equal(t, id, dom.UUID())
		assert.Same(t, conn, dom.Conn())
		assert.Equal(t, "hvm", dom.OSType())
	}
	other := uuid.New()
	for want, find := range map[string]func() (*polyvisor.Domain, error){
		`rec: lookup "nobody": no domain: not found`:                                              func() (*polyvisor.Domain, error) { return conn.Domain(t.Context(), "nobody") },
		`rec: lookup "` + other.String() + `": no domain: not found`:                              func() (*polyvisor.Domain, error) { return conn.DomainByUUID(t.Context(), other) },
		`rec: lookup "ID 77": no domain: not found`:                                               func() (*polyvisor.Domain, error) { return conn.DomainByID(t.Context(), 77) },
		`rec: lookup: invalid configuration: the name is empty`:                                   func() (*polyvisor.Domain, error) { return conn.Domain(t.Context(), "") },
		`rec: lookup: invalid configuration: the UUID is zero`:                                    func() (*polyvisor.Domain, error) { return conn.DomainByUUID(t.Context(), uuid.Nil) },
		`rec: lookup: invalid configuration: 0 is not the ID of an active domain; IDs begin at 1`: func() (*polyvisor.Domain, error) { return conn.DomainByID(t.Context(), 0) },
	} {
		dom, err := find()
		assert.EqualError(t, err, want)
		assert.Nil(t, dom)
	}
}

// The context and the connection come before the arguments.
func TestClosedBeforeArguments(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	none := ""
	for name, call := range map[string]func(ctx context.Context, c *polyvisor.Conn) error{
		"define nil": func(ctx context.Context, c *polyvisor.Conn) error { _, err := c.Define(ctx, nil); return err },
		"define": func(ctx context.Context, c *polyvisor.Conn) error {
			_, err := c.Define(ctx, &polyvisor.Config{})
			return err
		},
		"create nil": func(ctx context.Context, c *polyvisor.Conn) error { _, err := c.Create(ctx, nil); return err },
		"create": func(ctx context.Context, c *polyvisor.Conn) error {
			_, err := c.Create(ctx, &polyvisor.Config{})
			return err
		},
		"define XML":   func(ctx context.Context, c *polyvisor.Conn) error { _, err := c.DefineXML(ctx, none); return err },
		"create XML":   func(ctx context.Context, c *polyvisor.Conn) error { _, err := c.CreateXML(ctx, none); return err },
		"restore":      func(ctx context.Context, c *polyvisor.Conn) error { _, err := c.Restore(ctx, none); return err },
		"domain":       func(ctx context.Context, c *polyvisor.Conn) error { _, err := c.Domain(ctx, none); return err },
		"domain by ID": func(ctx context.Context, c *polyvisor.Conn) error { _, err := c.DomainByID(ctx, 0); return err },
		"domain by UUID": func(ctx context.Context, c *polyvisor.Conn) error {
			_, err := c.DomainByUUID(ctx, uuid.Nil)
			return err
		},
		"subscribe": func(ctx context.Context, c *polyvisor.Conn) error {
			other, _ := connect(t, func(r *recorder) { r.put("web", polyvisor.Running) })
			dom, err := other.Domain(t.Context(), "web")
			require.NoError(t, err)
			_, err = c.Subscribe(ctx, polyvisor.SubscribeOptions{Domain: dom})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			conn, r := connect(t, nil)
			require.ErrorIs(t, call(t.Context(), conn), polyvisor.ErrInvalidConfig)
			require.ErrorIs(t, call(ended, conn), context.Canceled)
			require.NoError(t, conn.Close())
			require.ErrorIs(t, call(t.Context(), conn), polyvisor.ErrClosed)
			assert.Subset(t, []string{"capabilities", "close"}, r.log(), "nothing else reaches the driver")
		})
	}
}

func names(doms []*polyvisor.Domain) []string {
	list := []string{}
	for _, d := range doms {
		list = append(list, d.Name())
	}
	return list
}

func TestDomains(t *testing.T) {
	conn, r := connect(t, nil)
	for i, s := range polyvisor.States() {
		r.put(fmt.Sprintf("%c %s", 'z'-i, s), s)
	}
	active := []string{"v in shutdown", "w paused", "x blocked", "y running"}
	inactive := []string{"t crashed", "u shutoff", "z no state"}
	all := append(append(append([]string{}, inactive[:2]...), active...), inactive[2])
	for _, tt := range []struct {
		filter polyvisor.DomainFilter
		want   []string
	}{
		{polyvisor.DomainFilter{}, all},
		{polyvisor.DomainFilter{Active: true, Inactive: true}, all},
		{polyvisor.DomainFilter{Active: true}, active},
		{polyvisor.DomainFilter{Inactive: true}, inactive},
	} {
		doms, err := conn.Domains(t.Context(), tt.filter)
		require.NoError(t, err)
		assert.Equal(t, tt.want, names(doms), "%+v", tt.filter)
	}
	r.log()
	a, i, err := conn.CountDomains(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []int{4, 3}, []int{a, i})
	assert.Len(t, onlyCalls(r.log(), "list"), 1, "both numbers are of one list")
}

func TestDomainsThatVanishAreLeftOut(t *testing.T) {
	conn, r := connect(t, nil)
	r.put("stays", polyvisor.Running)
	gone := r.put("goes", polyvisor.Running)
	r.setScript(func(_ context.Context, call string) error {
		if call == "state" {
			r.mu.Lock()
			defer r.mu.Unlock()
			if d, ok := r.domains[gone]; ok {
				r.forget(d)
			}
		}
		return nil
	})
	doms, err := conn.Domains(t.Context(), polyvisor.DomainFilter{Active: true})
	require.NoError(t, err)
	assert.Equal(t, []string{"stays"}, names(doms))
	a, i, err := conn.CountDomains(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []int{1, 0}, []int{a, i})
}

func TestDomainsFailsAsAWhole(t *testing.T) {
	conn, r := connect(t, nil)
	r.put("a", polyvisor.Running)
	r.put("b", polyvisor.Running)
	asked := 0
	r.setScript(func(_ context.Context, call string) error {
		if call == "state" {
			if asked++; asked == 2 {
				return polyvisor.ErrConnLost
			}
		}
		return nil
	})
	doms, err := conn.Domains(t.Context(), polyvisor.DomainFilter{Active: true})
	require.ErrorIs(t, err, polyvisor.ErrConnLost)
	assert.Nil(t, doms)
	asked = 0
	_, _, err = conn.CountDomains(t.Context())
	require.ErrorIs(t, err, polyvisor.ErrConnLost)
}

func TestDefineReplaces(t *testing.T) {
	conn, _ := connect(t, nil)
	first, err := conn.Define(t.Context(), &polyvisor.Config{Name: "web", VCPUs: 1})
	require.NoError(t, err)
	_, err = conn.Define(t.Context(), &polyvisor.Config{Name: "web", UUID: first.UUID(), VCPUs: 2})
	require.NoError(t, err)
	c, err := first.Config(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 2, c.VCPUs)
	_, err = conn.Define(t.Context(), &polyvisor.Config{Name: "web"})
	require.ErrorIs(t, err, polyvisor.ErrExists, "same name, other UUID")
	_, err = conn.Define(t.Context(), &polyvisor.Config{Name: "other", UUID: first.UUID()})
	require.ErrorIs(t, err, polyvisor.ErrExists, "same UUID, other name")
	_, err = conn.Create(t.Context(), &polyvisor.Config{Name: "web", UUID: first.UUID()})
	require.ErrorIs(t, err, polyvisor.ErrExists)
}

func TestWaitByMany(t *testing.T) {
	conn, r := connect(t, nil)
	id := r.put("web", polyvisor.Running)
	var wg sync.WaitGroup
	began := make(chan struct{}, 100)
	r.setScript(func(_ context.Context, call string) error {
		if call == "wait" {
			began <- struct{}{}
		}
		return nil
	})
	for range 50 {
		dom, err := conn.DomainByUUID(t.Context(), id)
		require.NoError(t, err)
		wg.Go(func() {
			stop, err := dom.Wait(t.Context())
			assert.NoError(t, err)
			assert.Equal(t, polyvisor.StopCrash, stop.Reason)
		})
	}
	for range 50 {
		<-began
	}
	// One who gives up disturbs nobody.
	dom, err := conn.DomainByUUID(t.Context(), id)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err = dom.Wait(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	r.stop(id, polyvisor.StopCrash)
	wg.Wait()
	stop, err := dom.Wait(t.Context())
	require.NoError(t, err, "after the end")
	assert.Equal(t, polyvisor.StopCrash, stop.Reason)
}

func TestWaitOfATransientDomain(t *testing.T) {
	conn, _ := connect(t, nil)
	dom, err := conn.Create(t.Context(), &polyvisor.Config{Name: "web"})
	require.NoError(t, err)
	require.NoError(t, dom.Shutdown(t.Context()))
	stop, err := dom.Wait(t.Context())
	require.NoError(t, err)
	assert.Equal(t, polyvisor.StopShutdown, stop.Reason)
	_, err = dom.State(t.Context())
	require.ErrorIs(t, err, polyvisor.ErrNotFound)
}

func TestWaitOfADomainThatNeverRan(t *testing.T) {
	conn, _ := connect(t, nil)
	dom, err := conn.Define(t.Context(), &polyvisor.Config{Name: "web"})
	require.NoError(t, err)
	_, err = dom.Wait(t.Context())
	require.ErrorIs(t, err, polyvisor.ErrInvalidState)
}

func TestID(t *testing.T) {
	conn, r := connect(t, nil)
	r.put("web", polyvisor.Running)
	dom, err := conn.Domain(t.Context(), "web")
	require.NoError(t, err)
	id, err := dom.ID(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 1, id)
	require.NoError(t, dom.Destroy(t.Context()))
	_, err = dom.ID(t.Context())
	require.ErrorIs(t, err, polyvisor.ErrInvalidState)
	assert.EqualError(t, err, `rec: id "web": invalid state: domain is shutoff and only active domains have an ID`)
}

func TestRemove(t *testing.T) {
	for _, s := range polyvisor.States() {
		t.Run(s.String(), func(t *testing.T) {
			conn, r := connect(t, nil)
			id := r.put("web", s)
			dom, err := conn.Domain(t.Context(), "web")
			require.NoError(t, err)
			require.NoError(t, dom.Remove(t.Context()))
			_, err = conn.DomainByUUID(t.Context(), id)
			require.ErrorIs(t, err, polyvisor.ErrNotFound)
			require.ErrorIs(t, dom.Remove(t.Context()), polyvisor.ErrNotFound)
		})
	}
	t.Run("transient", func(t *testing.T) {
		conn, _ := connect(t, nil)
		dom, err := conn.Create(t.Context(), &polyvisor.Config{Name: "web"})
		require.NoError(t, err)
		require.ErrorIs(t, dom.Undefine(t.Context()), polyvisor.ErrInvalidState)
		require.NoError(t, dom.Remove(t.Context()))
	})
	t.Run("destroy fails", func(t *testing.T) {
		conn, r := connect(t, nil)
		r.put("web", polyvisor.Running)
		dom, err := conn.Domain(t.Context(), "web")
		require.NoError(t, err)
		r.setScript(failOn("destroy", polyvisor.ErrPermission))
		require.ErrorIs(t, dom.Remove(t.Context()), polyvisor.ErrPermission)
		assert.NotContains(t, r.log(), "undefine")
	})
}

func TestConsole(t *testing.T) {
	conn, r := connect(t, nil)
	r.put("web", polyvisor.Running)
	dom, err := conn.Domain(t.Context(), "web")
	require.NoError(t, err)
	con, err := dom.Console(t.Context(), polyvisor.ConsoleOptions{})
	require.NoError(t, err)
	line := make([]byte, 100)
	n, err := con.Read(line)
	require.NoError(t, err)
	assert.Equal(t, "hello from the guest\n", string(line[:n]))
	_, err = con.Write([]byte("hello"))
	require.NoError(t, err)
	assert.Equal(t, 1, conn.Consoles())
	require.NoError(t, con.Close())
	require.NoError(t, con.Close(), "twice")
	assert.Zero(t, conn.Consoles(), "a closed console is forgotten")

	r.setScript(failOn("console", polyvisor.ErrBusy))
	none, err := dom.Console(t.Context(), polyvisor.ConsoleOptions{})
	require.ErrorIs(t, err, polyvisor.ErrBusy)
	assert.Nil(t, none)
	assert.Zero(t, conn.Consoles())
}

func TestCloseClosesConsoles(t *testing.T) {
	conn, r := connect(t, nil)
	r.put("web", polyvisor.Running)
	dom, err := conn.Domain(t.Context(), "web")
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 3 {
		con, err := dom.Console(t.Context(), polyvisor.ConsoleOptions{})
		require.NoError(t, err)
		wg.Go(func() {
			out, err := io.ReadAll(con) // ends with the console
			assert.NoError(t, err)
			assert.Equal(t, "hello from the guest\n", string(out))
		})
	}
	require.NoError(t, conn.Close())
	wg.Wait()
	assert.Zero(t, conn.Consoles())
}

// slowConsole takes its time to close.
type slowConsole struct {
	io.ReadWriteCloser
	began, release chan struct{}
}

func (c *slowConsole) Close() error {
	close(c.began)
	<-c.release
	return c.ReadWriteCloser.Close()
}

type slowConsoles struct {
	polyvisor.Instance
	con slowConsole
}

func (i *slowConsoles) OpenConsole(ctx context.Context, o polyvisor.ConsoleOptions) (io.ReadWriteCloser, error) {
	open, _ := polyvisor.As[polyvisor.ConsoleOpener](i.Instance)
	rwc, err := open.OpenConsole(ctx, o)
	i.con.ReadWriteCloser = rwc
	return &i.con, err
}

// Close waits for a console that its owner is just closing: the driver's Close
// is the last thing that the driver sees.
func TestCloseWaitsForAConsoleBeingClosed(t *testing.T) {
	began, release := make(chan struct{}), make(chan struct{})
	conn, r := connect(t, func(r *recorder) {
		r.wrap = func(i polyvisor.Instance) polyvisor.Instance {
			return &slowConsoles{i, slowConsole{nil, began, release}}
		}
	})
	r.put("web", polyvisor.Running)
	dom, err := conn.Domain(t.Context(), "web")
	require.NoError(t, err)
	con, err := dom.Console(t.Context(), polyvisor.ConsoleOptions{})
	require.NoError(t, err)
	conClosed, connClosed := make(chan error, 1), make(chan error, 1)
	go func() { conClosed <- con.Close() }()
	<-began
	go func() { connClosed <- conn.Close() }()
	select {
	case <-connClosed:
		t.Fatal("Close did not wait for the console")
	case <-time.After(5 * time.Millisecond):
	}
	close(release)
	require.NoError(t, <-conClosed)
	require.NoError(t, <-connClosed)
}

// A console that opens while the connection is being closed is closed again,
// and nobody waits for it with a lock held.
func TestConsoleOpenedDuringClose(t *testing.T) {
	began, release := make(chan struct{}), make(chan struct{})
	conn, r := connect(t, func(r *recorder) {
		r.wrap = func(i polyvisor.Instance) polyvisor.Instance {
			return &slowConsoles{i, slowConsole{nil, began, release}}
		}
	})
	r.put("web", polyvisor.Running)
	dom, err := conn.Domain(t.Context(), "web")
	require.NoError(t, err)
	opening := make(chan struct{})
	r.setScript(func(ctx context.Context, call string) error {
		if call == "console" {
			close(opening)
			<-ctx.Done() // and opens all the same
		}
		return nil
	})
	opened := make(chan error, 1)
	go func() {
		_, err := dom.Console(t.Context(), polyvisor.ConsoleOptions{})
		opened <- err
	}()
	<-opening
	closed := make(chan error, 1)
	go func() { closed <- conn.Close() }()
	<-began
	_, err = conn.Version(t.Context()) // needs the lock
	require.ErrorIs(t, err, polyvisor.ErrClosed)
	close(release)
	require.ErrorIs(t, <-opened, polyvisor.ErrClosed)
	require.NoError(t, <-closed)
	assert.Zero(t, conn.Consoles())
}

// Everything at once, by many, with calls that give up and a Close in the
// middle of it: no promise to the driver breaks and nothing is left.
func TestStorm(t *testing.T) {
	conn, r := connect(t, nil)
	ids := make([]uuid.UUID, 8)
	for i := range ids {
		ids[i] = r.put(fmt.Sprint("dom", i), polyvisor.Shutoff)
	}
	r.setScript(func(ctx context.Context, call string) error {
		if call != "state" && rand.IntN(4) == 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Duration(rand.IntN(300)) * time.Microsecond):
			}
		}
		return nil
	})
	all := methods()
	var wg sync.WaitGroup
	var calls atomic.Int32
	middle := make(chan struct{})
	for range 64 {
		wg.Go(func() {
			for range 60 {
				if calls.Add(1) == 64*30 {
					close(middle)
				}
				// Those that forget domains would end the storm early.
				m := all[rand.IntN(len(all))]
				if m.name == "undefine" || m.name == "define" || m.name == "create" {
					continue
				}
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(200+rand.IntN(2000))*time.Microsecond)
				dom, err := conn.DomainByUUID(ctx, ids[rand.IntN(len(ids))])
				if err == nil {
					err = m.call(ctx, conn, dom)
				}
				cancel()
				if err != nil && polyvisor.CodeOf(err) == polyvisor.CodeUnknown {
					t.Errorf("%s: %v", m.name, err)
				}
				var e *polyvisor.Error
				if err != nil && !errors.As(err, &e) {
					t.Errorf("%s: bare error %v", m.name, err)
				}
			}
		})
	}
	<-middle
	require.NoError(t, conn.Close())
	wg.Wait()
	assert.Zero(t, conn.Slots())
	assert.Zero(t, conn.Consoles())
	assert.NotEmpty(t, onlyCalls(r.log(), "lookup"))
}

// Without the Close: what is left when all calls are over is nothing.
func TestSlotsDoNotLeak(t *testing.T) {
	conn, r := connect(t, nil)
	id := r.put("web", polyvisor.Shutoff)
	dom, err := conn.DomainByUUID(t.Context(), id)
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for _, f := range []func(context.Context) error{start(dom), dom.Suspend, dom.Resume, dom.Reboot, dom.Shutdown, dom.Destroy} {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rand.IntN(500))*time.Microsecond)
				_ = f(ctx)
				cancel()
			}
		})
	}
	wg.Wait()
	assert.Zero(t, conn.Slots())
}
