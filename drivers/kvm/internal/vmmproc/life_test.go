//go:build linux

package vmmproc

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/store"
)

func TestLife(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := testStore(t)
		require.NoError(t, m.start(t, s, fakeSpec{}, Config{}))
		act, err := s.ActiveByUUID(uuidN(1))
		require.NoError(t, err)
		require.True(t, act.Started)
		cl := dial(t, s)
		st, err := cl.Info(bg)
		require.NoError(t, err)
		require.Equal(t, act.PID, st.PID)
		require.Equal(t, m.name == "none", st.PID == os.Getpid())
		require.Equal(t, "web", st.Name)
		require.Equal(t, StateRunning, st.State)
		require.NoError(t, cl.Suspend(bg))
		require.ErrorIs(t, cl.Suspend(bg), ErrInvalidState)
		st, err = cl.Info(bg)
		require.NoError(t, err)
		require.Equal(t, StatePaused, st.State)
		require.NoError(t, cl.Resume(bg))

		// Many wait, some from other connections.
		var wg sync.WaitGroup
		for i := range 10 {
			c := cl
			if i%2 == 0 {
				c = dial(t, s)
			}
			wg.Go(func() {
				stop, err := c.Wait(bg)
				if err != nil || stop.Reason != ReasonShutdown {
					t.Error(stop, err)
				}
				// What a waiter sees is the end of everything.
				if rec, err := s.StopRecord(uuidN(1)); err != nil || rec.Reason != "shutdown" {
					t.Error(rec, err)
				}
			})
		}
		require.NoError(t, cl.Shutdown(bg))
		wg.Wait()
		requireTidy(t, s)
		_, err = cl.Info(bg)
		require.ErrorIs(t, err, ErrGone)
		_, err = Dial(bg, s.RunDir(uuidN(1)))
		require.ErrorIs(t, err, ErrGone)
		rec, err := s.StopRecord(uuidN(1))
		require.NoError(t, err)
		require.Equal(t, "power button", rec.Detail)
		require.Equal(t, uint64(1), rec.Exits["io"])
		// It starts again at once.
		require.NoError(t, m.start(t, s, fakeSpec{}, Config{}))
		stop, err := dial(t, s).Destroy(bg)
		require.NoError(t, err)
		require.Equal(t, ReasonKilled, stop.Reason)
		requireTidy(t, s)
	})
}

func TestFailedStart(t *testing.T) {
	for _, tc := range []struct {
		name string
		spec fakeSpec
		cfg  Config
		code *Error
		text string
	}{
		{"build", fakeSpec{BuildError: "no such kernel", BuildCode: CodeNotFound}, Config{}, ErrNotFound, "build: no such kernel"},
		{"start", fakeSpec{StartError: "no vcpu"}, Config{}, &Error{Code: CodeInternal}, "no vcpu"},
		{"panic", fakeSpec{BuildPanic: true}, Config{}, &Error{Code: CodeInternal}, "the factory is broken"},
		{"action", fakeSpec{}, Config{OnCrash: "explode"}, ErrInvalidArgument, `"explode"`},
		{"relative log", fakeSpec{}, Config{ConsoleLog: "log"}, ErrInvalidArgument, "not absolute"},
		{"no such log", fakeSpec{}, Config{ConsoleLog: "/nonexistent/log"}, ErrNotFound, "/nonexistent/log"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, m mode) {
				s := testStore(t)
				err := m.start(t, s, tc.spec, tc.cfg)
				require.ErrorContains(t, err, tc.text)
				if m.name == "process" || tc.code.Code != CodeInternal && tc.code.Code != CodeNotFound {
					require.ErrorIs(t, err, tc.code)
				}
				requireTidy(t, s)
				require.NoError(t, m.start(t, s, fakeSpec{}, Config{}))
			})
		})
	}
}

func TestStartedProcessDiesAtOnce(t *testing.T) {
	s := testStore(t)
	_, err := spawn(bg, s, fakeSpec{BuildExit: true}, Config{})
	require.ErrorIs(t, err, ErrSpawn)
	require.ErrorContains(t, err, "panic: crash of the VMM")
	requireTidy(t, s)
}

func TestSpawnOfAnotherProgram(t *testing.T) {
	for _, prog := range []string{"/bin/true", "/nonexistent/polyvisor-vmm", "/etc/passwd"} {
		s := testStore(t)
		r, err := newRun(s)
		require.NoError(t, err)
		_, err = Spawn(bg, SpawnConfig{Program: prog, Run: r, Spec: []byte("{}")})
		require.ErrorIs(t, err, ErrSpawn)
		require.ErrorContains(t, err, prog)
		requireTidy(t, s)
	}
}

func TestCancelStart(t *testing.T) {
	for _, spec := range []fakeSpec{{BuildDelay: time.Minute}, {BuildHang: time.Minute}} {
		for _, after := range []time.Duration{0, time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond} {
			s := testStore(t)
			ctx, cancel := context.WithTimeout(bg, after)
			_, err := spawn(ctx, s, spec, Config{})
			cancel()
			require.ErrorIs(t, err, context.DeadlineExceeded)
			requireTidy(t, s)
		}
	}
}

func TestPolicies(t *testing.T) {
	for _, tc := range []struct {
		name   string
		cfg    Config
		input  string
		reboot bool // by the operation
		want   Reason
	}{
		{"off", Config{}, "off\n", false, ReasonShutdown},
		{"reset restarts", Config{}, "reset\n", false, ""},
		{"reset ends", Config{OnReboot: ActionDestroy}, "reset\n", false, ReasonReboot},
		{"off restarts", Config{OnPoweroff: ActionRestart}, "off\n", false, ""},
		{"crash ends", Config{}, "crash\n", false, ReasonCrash},
		{"crash restarts", Config{OnCrash: ActionRestart}, "crash\n", false, ""},
		{"reboot", Config{}, "", true, ""},
		{"reboot ends", Config{OnReboot: ActionDestroy}, "", true, ReasonReboot},
	} {
		t.Run(tc.name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, m mode) {
				s := testStore(t)
				require.NoError(t, m.start(t, s, fakeSpec{}, tc.cfg))
				cl := dial(t, s)
				con, err := cl.Console(bg, false)
				require.NoError(t, err)
				defer con.Close()
				expect(t, con, "boot 0\n")
				if tc.reboot {
					require.NoError(t, cl.Reboot(bg))
				} else {
					_, err = con.Write([]byte(tc.input))
					require.NoError(t, err)
				}
				if tc.want != "" {
					stop := awaitStop(t, s, cl)
					require.Equal(t, tc.want, stop.Reason)
					return
				}
				// Console and connection outlive the machine.
				expect(t, con, "boot 1\n")
				_, err = con.Write([]byte("echo again\n"))
				require.NoError(t, err)
				expect(t, con, "again\n")
				st, err := cl.Info(bg)
				require.NoError(t, err)
				require.Equal(t, 1, st.Reboots)
				require.Equal(t, uint64(2), st.Exits["io"])
			})
		})
	}
}

func TestShutdownTakesRebootBack(t *testing.T) {
	s := testStore(t)
	require.NoError(t, modes[1].start(t, s, fakeSpec{IgnoreButton: true}, Config{}))
	cl := dial(t, s)
	require.NoError(t, cl.Reboot(bg))
	require.NoError(t, cl.Shutdown(bg))
	con, err := cl.Console(bg, false)
	require.NoError(t, err)
	defer con.Close()
	_, err = con.Write([]byte("off\n"))
	require.NoError(t, err)
	stop := awaitStop(t, s, cl)
	require.Equal(t, ReasonShutdown, stop.Reason)
}

func TestResetKeepsPause(t *testing.T) {
	s := testStore(t)
	require.NoError(t, modes[1].start(t, s, fakeSpec{}, Config{OnReboot: ActionDestroy}))
	cl := dial(t, s)
	require.NoError(t, cl.Suspend(bg))
	require.NoError(t, cl.Reset(bg))
	require.Eventually(t, func() bool {
		st, err := cl.Info(bg)
		return err == nil && st.Reboots == 1 && st.State == StatePaused
	}, 10*time.Second, time.Millisecond)
	require.NoError(t, cl.Resume(bg))
}

func TestRebuildFails(t *testing.T) {
	s := testStore(t)
	require.NoError(t, modes[0].start(t, s, fakeSpec{RebuildError: "the kernel is gone"}, Config{}))
	cl := dial(t, s)
	require.NoError(t, cl.Reset(bg))
	stop := awaitStop(t, s, cl)
	require.Equal(t, ReasonCrash, stop.Reason)
	require.Contains(t, stop.Detail, "the kernel is gone")
	requireTidy(t, s)
}

func TestDestroyDuringRestartStorm(t *testing.T) {
	s := testStore(t)
	require.NoError(t, modes[0].start(t, s, fakeSpec{CrashOnBoot: true}, Config{OnCrash: ActionRestart}))
	cl := dial(t, s)
	require.Eventually(t, func() bool {
		st, err := cl.Info(bg)
		return err == nil && st.Reboots > 1
	}, 10*time.Second, time.Millisecond)
	_, err := cl.Destroy(bg)
	require.NoError(t, err)
	requireTidy(t, s)
}

func TestDestroyDuringSuspend(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := testStore(t)
		require.NoError(t, m.start(t, s, fakeSpec{SlowSuspend: time.Hour}, Config{}))
		cl := dial(t, s)
		res := make(chan error, 1)
		go func() { res <- cl.Suspend(bg) }()
		time.Sleep(10 * time.Millisecond)
		_, err := cl.Destroy(bg)
		require.NoError(t, err)
		require.ErrorIs(t, <-res, ErrGone)
	})
}

func TestSIGTERM(t *testing.T) {
	s := testStore(t)
	require.NoError(t, modes[0].start(t, s, fakeSpec{}, Config{}))
	cl := dial(t, s)
	p, err := os.FindProcess(cl.Hello().PID)
	require.NoError(t, err)
	defer p.Release()
	require.NoError(t, p.Signal(sigTERM))
	stop := awaitStop(t, s, cl)
	require.Equal(t, ReasonKilled, stop.Reason)
	requireTidy(t, s)
}

func TestVMProcessIsDetached(t *testing.T) {
	s := testStore(t)
	leak, err := os.Open("/etc/passwd")
	require.NoError(t, err)
	defer leak.Close()
	dupTo(t, leak, 57) // without close-on-exec
	t.Setenv("SECRET_OF_THE_CALLER", "1")
	require.NoError(t, modes[0].start(t, s, fakeSpec{}, Config{}))
	pid := dial(t, s).Hello().PID
	proc := filepath.Join("/proc", itoa(pid))
	cwd, err := os.Readlink(proc + "/cwd")
	require.NoError(t, err)
	require.Equal(t, "/", cwd)
	env, err := os.ReadFile(proc + "/environ")
	require.NoError(t, err)
	require.NotContains(t, string(env), "SECRET")
	cmd, err := os.ReadFile(proc + "/cmdline")
	require.NoError(t, err)
	require.Equal(t, "polyvisor-vmm\x00web\x00", string(cmd))
	fds, err := os.ReadDir(proc + "/fd")
	require.NoError(t, err)
	for _, e := range fds {
		to, _ := os.Readlink(proc + "/fd/" + e.Name())
		require.NotEqual(t, "/etc/passwd", to)
	}
	stat, err := os.ReadFile(proc + "/stat")
	require.NoError(t, err)
	f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	require.NotEqual(t, itoa(os.Getpid()), f[1], "it is a child of the caller")
	require.NotEqual(t, itoa(sid(t, 0)), f[3], "it is in the caller's session")
	status, err := os.ReadFile(proc + "/status")
	require.NoError(t, err)
	require.Contains(t, string(status), "Umask:\t0077")
	fi, err := os.Stat(filepath.Join(s.RunDir(uuidN(1)), store.SocketName))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), fi.Mode().Perm())
}

func TestOpenFilesReachTheMachine(t *testing.T) {
	s := testStore(t)
	path := filepath.Join(t.TempDir(), "kernel")
	require.NoError(t, os.WriteFile(path, []byte("I am the kernel\n"), 0o600))
	f, err := os.Open(path)
	require.NoError(t, err)
	require.NoError(t, os.Remove(path))
	r, err := newRun(s)
	require.NoError(t, err)
	_, err = Spawn(bg, SpawnConfig{Program: selfExe, Run: r, Spec: []byte(`{"cat_file":"kernel"}`), Files: []NamedFile{{"kernel", f}}})
	f.Close()
	require.NoError(t, err)
	cl := dial(t, s)
	con, err := cl.Console(bg, false)
	require.NoError(t, err)
	defer con.Close()
	expect(t, con, "I am the kernel\n")
	_, err = con.Write([]byte("reset\n"))
	require.NoError(t, err)
	expect(t, con, "boot 1\nI am the kernel\n") // also after a reboot
	_, err = cl.Destroy(bg)
	require.NoError(t, err)
}

func TestLongRunDirectory(t *testing.T) {
	d := t.TempDir() + "/" + strings.Repeat("long/", 40)
	s, err := store.Open(store.Paths{State: d + "state", Run: d + "run"})
	require.NoError(t, err)
	defer s.Close()
	require.NoError(t, s.Define(bg, store.Definition{Name: "web", UUID: uuidN(1), Config: []byte("{}")}))
	require.NoError(t, modes[0].start(t, s, fakeSpec{}, Config{}))
	_, err = dial(t, s).Destroy(bg)
	require.NoError(t, err)
	requireTidy(t, s)
}

// The reason of a crash during the start is told, not that of an older one.
func TestLastWords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	old := "panic: old\n"
	require.NoError(t, os.WriteFile(path, []byte(old), 0o600))
	require.Empty(t, lastWords(path, int64(len(old))))
	require.NoError(t, os.WriteFile(path, []byte(old+"one\npanic: new\n\ngoroutine 1\n"), 0o600))
	require.Equal(t, "panic: new", lastWords(path, int64(len(old))))
	require.NoError(t, os.WriteFile(path, []byte("one\ntwo\n"), 0o600))
	require.Equal(t, "two", lastWords(path, 0))
	require.Empty(t, lastWords("", 0))
	require.Empty(t, lastWords(path+"x", 0))
}
