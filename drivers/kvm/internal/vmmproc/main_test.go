//go:build linux

package vmmproc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/store"
	"github.com/polyvisor/polyvisor/internal/leaktest"
)

func init() { MaybeMain(fakeFactory) }

// roleEnv makes the test binary one of the other processes of a test.
const roleEnv = "VMMPROC_TEST_ROLE"

var roles = map[string]func(args []string) error{}

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		if err := roles[role](os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0") // for the VM processes
	leaktest.Main(m)
}

var bg = context.Background()

func role(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(bg, time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), roleEnv+"="+name)
	cmd.Stderr = os.Stderr
	return cmd
}

func uuidN(n int) store.UUID {
	u, err := store.ParseUUID(fmt.Sprintf("00000000-0000-4000-8000-%012x", n))
	if err != nil {
		panic(err)
	}
	return u
}

// testStore gives a store with the persistent domain "web", uuidN(1).
func testStore(t testing.TB) *store.Store {
	t.Helper()
	d := t.TempDir()
	s, err := store.Open(store.Paths{State: d + "/state", Run: d + "/run"})
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	require.NoError(t, s.Define(bg, store.Definition{Name: "web", UUID: uuidN(1), Config: []byte("{}")}))
	return s
}

// newRun is the first half of a start.
func newRun(s *store.Store) (*store.Run, error) {
	return s.NewRun(bg, store.RunSpec{Name: "web", UUID: uuidN(1), Config: []byte("{}")})
}

func spawn(ctx context.Context, s *store.Store, spec fakeSpec, cfg Config) (int, error) {
	r, err := newRun(s)
	if err != nil {
		return 0, err
	}
	raw, err := json.Marshal(spec)
	if err != nil {
		return 0, err
	}
	return Spawn(ctx, SpawnConfig{Program: selfExe, Run: r, Spec: raw, Config: cfg, Log: filepath.Join(s.DomainDir(uuidN(1)), store.LogName)})
}

// mode is a way to run a domain; most tests are for both.
type mode struct {
	name  string
	start func(t *testing.T, s *store.Store, spec fakeSpec, cfg Config) error
}

var modes = []mode{
	{"process", func(t *testing.T, s *store.Store, spec fakeSpec, cfg Config) error {
		pid, err := spawn(bg, s, spec, cfg)
		if err != nil {
			return err
		}
		t.Cleanup(func() {
			if runs(pid) {
				_ = unix.Kill(pid, unix.SIGTERM)
			}
			awaitGone(t, pid)
			if t.Failed() {
				b, _ := os.ReadFile(filepath.Join(s.DomainDir(uuidN(1)), store.LogName))
				t.Logf("log of the VM process:\n%s", b)
			}
		})
		return nil
	}},
	{"none", func(t *testing.T, s *store.Store, spec fakeSpec, cfg Config) error {
		r, err := newRun(s)
		if err != nil {
			return err
		}
		raw, _ := json.Marshal(spec)
		srv, err := Serve(bg, ServeConfig{Run: r, Spec: raw, Config: cfg}, fakeFactory)
		if err != nil {
			return err
		}
		t.Cleanup(func() { srv.Close() })
		return nil
	}},
}

func eachMode(t *testing.T, f func(t *testing.T, m mode)) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) { f(t, m) })
	}
}

// awaitGone waits until a process does not exist or is a zombie.
func awaitGone(t testing.TB, pid int) {
	t.Helper()
	require.Eventually(t, func() bool { return !runs(pid) }, 20*time.Second, time.Millisecond, "process %d is still there", pid)
}

func runs(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	return f[0] != "Z" && f[0] != "X"
}

func dial(t testing.TB, s *store.Store) *Client {
	t.Helper()
	cl, err := Dial(bg, s.RunDir(uuidN(1)))
	require.NoError(t, err)
	t.Cleanup(func() { cl.Close() })
	return cl
}

// awaitStop waits for the end of the run, which may have come already.
func awaitStop(t testing.TB, s *store.Store, cl *Client) Stop {
	t.Helper()
	stop, err := cl.Wait(bg)
	if errors.Is(err, ErrGone) {
		rec, err := s.StopRecord(uuidN(1))
		require.NoError(t, err)
		return Stop{Reason: Reason(rec.Reason), Detail: rec.Detail}
	}
	require.NoError(t, err)
	return stop
}

// expect reads from a console until text has come.
func expect(t testing.TB, r io.Reader, text string) string {
	t.Helper()
	var got []byte
	buf := make([]byte, 4096)
	if d, ok := r.(interface{ SetDeadline(time.Time) error }); ok {
		_ = d.SetDeadline(time.Now().Add(20 * time.Second))
		defer d.SetDeadline(time.Time{})
	}
	for !strings.Contains(string(got), text) {
		n, err := r.Read(buf)
		got = append(got, buf[:n]...)
		if len(got) > 1<<20 {
			got = got[len(got)-4096:]
		}
		if err != nil {
			require.NoError(t, err, "waiting for %q, got %q", text, got)
		}
	}
	return string(got)
}

// requireTidy fails if the domain's run has left anything.
func requireTidy(t testing.TB, s *store.Store) {
	t.Helper()
	ents, err := os.ReadDir(s.Paths().Run)
	require.NoError(t, err)
	for _, e := range ents {
		require.Equal(t, "last-id", e.Name())
	}
	ents, err = os.ReadDir(s.DomainDir(uuidN(1)))
	require.NoError(t, err)
	for _, e := range ents {
		require.Contains(t, []string{"domain.json", "stop.json", store.LogName}, e.Name())
	}
	alive, err := s.Alive(uuidN(1))
	require.NoError(t, err)
	require.False(t, alive)
}

func socketPair(t testing.TB) (a, b *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	require.NoError(t, err)
	return os.NewFile(uintptr(fds[0]), "a"), os.NewFile(uintptr(fds[1]), "b")
}
