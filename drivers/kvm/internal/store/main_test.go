//go:build linux

package store

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/polyvisor/polyvisor/internal/leaktest"
)

// roleEnv makes the test binary one of the other processes of a test.
const roleEnv = "STORE_TEST_ROLE"

var roles = map[string]func(args []string) error{
	"define": func(a []string) error {
		s, err := Open(Paths{a[0], a[1]})
		if err != nil {
			return err
		}
		return s.Define(context.Background(), testDef(a[2], mustUUID(a[3]), "from "+a[3]))
	},
	// Ends itself by SIGKILL in step number a[4] of an operation.
	"crash": func(a []string) error {
		s, err := Open(Paths{a[0], a[1]})
		if err != nil {
			return err
		}
		at, _ := strconv.Atoi(a[4])
		step = func(string) {
			if at--; at < 0 {
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}
		return crashOps[a[2]](s, mustUUID(a[3]))
	},
	// Writes definitions until the file size limit stops it.
	"full": func(a []string) error {
		s, err := Open(Paths{a[0], a[1]})
		if err != nil {
			return err
		}
		return s.Redefine(context.Background(), testDef("web", mustUUID(a[2]), string(make([]byte, 20000))))
	},
	"incr": func(a []string) error {
		s, err := Open(Paths{a[0], a[1]})
		if err != nil {
			return err
		}
		for range 50 {
			lk, err := s.LockDomain(context.Background(), mustUUID(a[2]))
			if err != nil {
				return err
			}
			b, _ := os.ReadFile(a[3])
			n, _ := strconv.Atoi(string(b))
			if err := os.WriteFile(a[3], []byte(strconv.Itoa(n+1)), 0o600); err != nil {
				return err
			}
			lk.Unlock()
		}
		return nil
	},
	// Makes a run directory and stays until it is killed.
	"run": func(a []string) error {
		s, err := Open(Paths{a[0], a[1]})
		if err != nil {
			return err
		}
		r, err := s.NewRun(context.Background(), RunSpec{Name: a[2], UUID: mustUUID(a[3]), Transient: a[4] == "transient"})
		if err != nil {
			return err
		}
		if a[5] == "started" {
			if err := r.MarkStarted(); err != nil {
				return err
			}
		}
		fmt.Println("ready")
		select {}
	},
}

var crashOps = map[string]func(*Store, UUID) error{
	"define":   func(s *Store, u UUID) error { return s.Define(context.Background(), testDef("new", u, "new")) },
	"redefine": func(s *Store, u UUID) error { return s.Redefine(context.Background(), testDef("web", u, "new")) },
	"undefine": func(s *Store, u UUID) error { return s.Undefine(context.Background(), u) },
	"run": func(s *Store, u UUID) error {
		r, err := s.NewRun(context.Background(), RunSpec{Name: "web", UUID: u})
		if err != nil {
			return err
		}
		if err := r.MarkStarted(); err != nil {
			return err
		}
		return r.Finish(StopRecord{Reason: "shutdown"})
	},
}

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		if err := roles[role](os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	leaktest.Main(m)
}

func role(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), roleEnv+"="+name)
	return cmd
}

func testStore(t *testing.T) *Store {
	t.Helper()
	d := t.TempDir()
	s, err := Open(Paths{d + "/state", d + "/run"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func mustUUID(s string) UUID {
	u, err := ParseUUID(s)
	if err != nil {
		panic(err)
	}
	return u
}

func uuidN(n int) UUID {
	return mustUUID(fmt.Sprintf("00000000-0000-4000-8000-%012x", n))
}

func testDef(name string, u UUID, note string) Definition {
	c, _ := json.Marshal(map[string]string{"note": note})
	return Definition{Name: name, UUID: u, Config: c}
}
