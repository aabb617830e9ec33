package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/fake"
	"github.com/polyvisor/polyvisor/internal/leaktest"
	"github.com/polyvisor/polyvisor/internal/libvirttest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const patience = 30 * time.Second

// stage is an orchestrator at work on a hypervisor.
type stage struct {
	t    *testing.T
	conn *polyvisor.Conn
	stop context.CancelFunc
	done chan error
}

func begin(t *testing.T, conn *polyvisor.Conn, spec *Spec) *stage {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s := &stage{t: t, conn: conn, stop: cancel, done: make(chan error, 1)}
	o := &Orchestrator{
		Conn: conn, Spec: spec, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Backoff: time.Millisecond, Drain: 2 * time.Second,
	}
	go func() { s.done <- o.Run(ctx) }()
	t.Cleanup(cancel)
	return s
}

func (s *stage) eventually(what string, ok func() bool) {
	s.t.Helper()
	require.Eventually(s.t, ok, patience, time.Millisecond, what)
}

// running waits until the domain runs with another ID than the one given.
func (s *stage) running(name string, not int) int {
	s.t.Helper()
	id := 0
	s.eventually(name+" runs", func() bool {
		dom, err := s.conn.Domain(s.t.Context(), name)
		if err != nil {
			return false
		}
		i, err := dom.Info(s.t.Context())
		id = i.ID
		return err == nil && i.State == polyvisor.Running && id != not
	})
	return id
}

func (s *stage) end() error {
	s.t.Helper()
	s.stop()
	select {
	case err := <-s.done:
		return err
	case <-time.After(patience):
		s.t.Fatal("the orchestrator does not end")
		return nil
	}
}

func (s *stage) state(name string) polyvisor.State {
	s.t.Helper()
	dom, err := s.conn.Domain(s.t.Context(), name)
	require.NoError(s.t, err)
	state, err := dom.State(s.t.Context())
	require.NoError(s.t, err)
	return state
}

func spec(names ...string) *Spec {
	s := new(Spec)
	for _, n := range names {
		s.Domains = append(s.Domains, &polyvisor.Config{Name: n})
	}
	return s
}

func hypervisor(t *testing.T) (*fake.Hypervisor, *polyvisor.Conn) {
	h := fake.New(fake.Options{})
	conn := h.Conn()
	t.Cleanup(func() {
		require.NoError(t, conn.Close())
		h.Close()
	})
	return h, conn
}

func guest(t *testing.T, h *fake.Hypervisor, name string) *fake.Guest {
	t.Helper()
	g, err := h.Guest(name)
	require.NoError(t, err)
	return g
}

func TestKeepsDomainsRunning(t *testing.T) {
	h, conn := hypervisor(t)
	s := begin(t, conn, spec("a", "b", "c"))
	first := s.running("a", -1)
	s.running("b", -1)
	other := s.running("c", -1)

	require.NoError(t, guest(t, h, "a").Crash("triple fault"))
	require.NotEqual(t, first, s.running("a", first), "a crashed domain is started again")
	require.Equal(t, other, s.running("c", -1), "the others are left alone")

	require.NoError(t, guest(t, h, "b").PowerOff())
	s.eventually("b is off", func() bool { return s.state("b") == polyvisor.Shutoff })

	require.NoError(t, s.end())
	for _, name := range []string{"a", "b", "c"} {
		require.Equal(t, polyvisor.Shutoff, s.state(name), name)
	}
}

func TestRestartAlways(t *testing.T) {
	h, conn := hypervisor(t)
	always := spec("a")
	always.Restart = "always"
	s := begin(t, conn, always)
	first := s.running("a", -1)
	require.NoError(t, guest(t, h, "a").PowerOff())
	s.running("a", first)
	require.NoError(t, s.end())
}

func TestTriesAgainAfterFaults(t *testing.T) {
	h, conn := hypervisor(t)
	for _, f := range []fake.Fault{
		{Op: "start", Nth: 1, Err: polyvisor.ErrNoResource},
		{Op: "start", Nth: 2, Half: polyvisor.ErrNoResource},
		{Op: "define", Nth: 1, Err: polyvisor.ErrBusy},
		{Op: "lookup", Nth: 2, Drop: true},
	} {
		_, err := h.Fault(f)
		require.NoError(t, err)
	}
	s := begin(t, conn, spec("a"))
	s.running("a", -1)
	require.NoError(t, s.end())
}

func TestGuestThatDoesNotShutDown(t *testing.T) {
	h, conn := hypervisor(t)
	s := begin(t, conn, spec("a"))
	s.running("a", -1)
	require.NoError(t, guest(t, h, "a").Hang())
	require.NoError(t, s.end())
	require.Equal(t, polyvisor.Shutoff, s.state("a"), "it is destroyed when its time is over")
}

func TestGivesUpWhatCannotWork(t *testing.T) {
	_, conn := hypervisor(t)
	bad := spec("a/b")
	s := begin(t, conn, bad)
	select {
	case err := <-s.done:
		require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
	case <-time.After(patience):
		t.Fatal("it tries for ever")
	}
}

func TestReadSpec(t *testing.T) {
	for text, want := range map[string]string{
		`{"domains": [{"name": "a"}], "restart": "always"}`: "",
		`{"domains": [{"nam": "a"}]}`:                       "domain 0",
		`{"restart": "never"}`:                              "want crash or always",
		`{`:                                                 "unexpected end",
	} {
		file := filepath.Join(t.TempDir(), "spec.json")
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		s, err := ReadSpec(file)
		if want == "" {
			require.NoError(t, err)
			require.Equal(t, "a", s.Domains[0].Name)
			continue
		}
		require.ErrorContains(t, err, want)
	}
	_, err := ReadSpec("/nonexistent")
	require.ErrorIs(t, err, os.ErrNotExist)
}

// The same on the kvm driver, with its built-in guest.
func TestOnKVM(t *testing.T) {
	dir, err := os.MkdirTemp("", "pv-orch-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	conn, err := polyvisor.Open(t.Context(), "kvm:///session?isolation=none&state="+dir+"/s&run="+dir+"/r&cache="+dir+"/c")
	if errors.Is(err, polyvisor.ErrNoResource) || errors.Is(err, polyvisor.ErrPermission) || errors.Is(err, polyvisor.ErrUnsupported) {
		t.Skip("needs /dev/kvm: " + err.Error())
	}
	require.NoError(t, err)
	defer conn.Close()
	s := begin(t, conn, &Spec{Domains: []*polyvisor.Config{
		{Name: "stays"},
		{Name: "crashes", Boot: polyvisor.Boot{CommandLine: "auto=triple"}},
		{Name: "paused"},
	}})
	s.running("stays", -1)
	s.running("paused", -1)
	s.suspend("paused")
	first := 0
	s.eventually("the crashing domain is started again and again", func() bool {
		dom, err := conn.Domain(t.Context(), "crashes")
		if err != nil {
			return false
		}
		i, err := dom.Info(t.Context())
		if err == nil && i.ID > 0 && first == 0 {
			first = i.ID
		}
		return err == nil && i.ID > first+1
	})
	require.NoError(t, s.end())
	require.Equal(t, polyvisor.Shutoff, s.state("stays"))
	require.Equal(t, polyvisor.StopShutdown, s.last("paused"), "it was resumed to hear that it is to shut down")
}

// The same on a libvirt daemon, whose own client brings about the crash, and which may be
// started anew meanwhile.
func TestOnLibvirt(t *testing.T) {
	d := libvirttest.Start(t, libvirttest.Options{})
	conn, err := polyvisor.Open(t.Context(), d.URI("test", libvirttest.Unix))
	require.NoError(t, err)
	defer conn.Close()
	s := begin(t, conn, &Spec{Restart: "always", Domains: []*polyvisor.Config{{Name: "a", Memory: 64 * polyvisor.MiB}, {Name: "b", Memory: 64 * polyvisor.MiB}}})
	s.running("a", -1)
	s.running("b", -1)
	require.Contains(t, d.Virsh(t, "test", "list", "--name"), "a\n")

	d.Virsh(t, "test", "shutdown", "b")
	s.eventually("b runs again", func() bool {
		dom, err := conn.Domain(t.Context(), "b")
		if err != nil {
			return false
		}
		i, err := dom.Info(t.Context())
		return err == nil && i.State == polyvisor.Running && i.ID > 3 // 1 is the daemon's own, 2 and 3 were the first runs
	})

	require.NoError(t, d.Kill())
	require.NoError(t, d.Restart())
	s.running("a", -1) // this hypervisor has forgotten it: it is defined again
	s.running("b", -1)
	require.NoError(t, s.end())
	for _, name := range []string{"a", "b"} {
		require.Equal(t, polyvisor.Shutoff, s.state(name), name)
	}
}
