//go:build linux

package vmmproc

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/store"
)

const rounds = 50

func init() {
	// Starts the domain and stays until it is killed.
	roles["starter"] = func(a []string) error {
		s, err := store.Open(store.Paths{State: a[0], Run: a[1]})
		if err != nil {
			return err
		}
		var spec fakeSpec
		if err := json.Unmarshal([]byte(a[2]), &spec); err != nil {
			return err
		}
		fmt.Println("ready")
		if _, err := spawn(bg, s, spec, Config{}); err != nil {
			return err
		}
		fmt.Println("started")
		select {}
	}
	// Starts the domain if it is not active and ends it if it is, many times.
	roles["operate"] = func(a []string) error {
		s, err := store.Open(store.Paths{State: a[0], Run: a[1]})
		if err != nil {
			return err
		}
		for range 15 {
			if err := startOrStop(s, a[2]); err != nil {
				return err
			}
		}
		return nil
	}
	// A subreaper, such as the first process of a container.
	roles["reaper"] = func(a []string) error {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return err
		}
		s, err := store.Open(store.Paths{State: a[0], Run: a[1]})
		if err != nil {
			return err
		}
		pid, err := spawn(bg, s, fakeSpec{}, Config{})
		if err != nil {
			return err
		}
		cl, err := Dial(bg, s.RunDir(uuidN(1)))
		if err != nil {
			return err
		}
		if _, err := cl.Destroy(bg); err != nil {
			return err
		}
		for range 1000 {
			if _, err := cl.Info(bg); !errors.Is(err, ErrGone) {
				return fmt.Errorf("after the end: %w", err)
			}
			collectOrphans() // as the next call of Spawn does
			if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err != nil {
				return nil
			}
			time.Sleep(time.Millisecond)
		}
		return errors.New("the VM process was not collected")
	}
}

func startOrStop(s *store.Store, exclusive string) error {
	lk, err := s.LockDomain(bg, uuidN(1))
	if err != nil {
		return err
	}
	defer lk.Unlock()
	act, err := s.ActiveByUUID(uuidN(1))
	if errors.Is(err, store.ErrNotFound) {
		_, err := spawn(bg, s, fakeSpec{Exclusive: exclusive}, Config{})
		return err
	}
	if err != nil {
		return err
	}
	cl, err := Dial(bg, act.Dir)
	if err != nil {
		return err
	}
	defer cl.Close()
	if err := cl.Suspend(bg); err != nil {
		return err
	}
	_, err = cl.Destroy(bg)
	return err
}

func TestOperationsOfTwoProcessesAreSerialised(t *testing.T) {
	s := testStore(t)
	var wg sync.WaitGroup
	for range 3 {
		cmd := role(t, "operate", s.Paths().State, s.Paths().Run, filepath.Join(t.TempDir(), "exclusive"))
		require.NoError(t, cmd.Start())
		wg.Go(func() {
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	// An odd number of operations: it runs.
	_, err := dial(t, s).Destroy(bg)
	require.NoError(t, err)
	requireTidy(t, s)
}

func TestSubreaperCollectsItsVMProcesses(t *testing.T) {
	s := testStore(t)
	require.NoError(t, role(t, "reaper", s.Paths().State, s.Paths().Run).Run())
}

// The starter is killed at a random moment: the domain then runs, or nothing of
// it is left; never something between.
func TestKilledStarter(t *testing.T) {
	s := testStore(t)
	ran := 0
	for i := range rounds {
		pidFile := filepath.Join(t.TempDir(), "pid")
		spec := fakeSpec{PIDFile: pidFile, BuildDelay: time.Duration(rand.IntN(4)) * time.Millisecond}
		raw, err := json.Marshal(spec)
		require.NoError(t, err)
		cmd := role(t, "starter", s.Paths().State, s.Paths().Run, string(raw))
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines := bufio.NewReader(out)
		_, err = lines.ReadString('\n')
		require.NoError(t, err)
		if i%4 == 0 { // a quarter of them when the guest runs
			l, err := lines.ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, "started\n", l)
		} else {
			time.Sleep(time.Duration(rand.IntN(12_000)) * time.Microsecond)
		}
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()

		// The start ends one way or the other, without anybody's help.
		require.Eventually(t, func() bool {
			a, err := s.ActiveByUUID(uuidN(1))
			return errors.Is(err, store.ErrNotFound) || err == nil && a.Started
		}, 20*time.Second, time.Millisecond)
		if _, err := s.ActiveByUUID(uuidN(1)); err == nil {
			ran++
			s2, err := store.Open(s.Paths()) // as a new process would
			require.NoError(t, err)
			require.NoError(t, s2.Close())
			cl, err := Dial(bg, s.RunDir(uuidN(1)))
			require.NoError(t, err)
			con, err := cl.Console(bg, false)
			require.NoError(t, err)
			expect(t, con, "boot 0\n")
			require.NoError(t, cl.Shutdown(bg))
			stop := awaitStop(t, s, cl)
			require.Equal(t, ReasonShutdown, stop.Reason)
			con.Close()
			cl.Close()
		} else {
			// The lock goes a moment after the directory.
			require.NoError(t, s.ReapDomain(bg, uuidN(1)))
			_, err := s.Reap(bg)
			require.NoError(t, err)
		}
		requireTidy(t, s)
		if b, err := os.ReadFile(pidFile); err == nil {
			pid, err := strconv.Atoi(string(b))
			require.NoError(t, err)
			awaitGone(t, pid)
		}
	}
	t.Logf("%d of %d domains outlived their starter", ran, rounds)
	require.GreaterOrEqual(t, ran, rounds/4)
	require.Less(t, ran, rounds, "none was killed in time")
}

func TestKilledVMProcess(t *testing.T) {
	s := testStore(t)
	for i := range rounds {
		pid, err := spawn(bg, s, fakeSpec{}, Config{})
		require.NoError(t, err)
		cl, err := Dial(bg, s.RunDir(uuidN(1)))
		require.NoError(t, err)
		con, err := cl.Console(bg, false)
		require.NoError(t, err)
		waiting := make(chan error, 1)
		go func() { _, err := cl.Wait(bg); waiting <- err }()
		if i%2 == 0 {
			_, err = con.Write([]byte("flood 100000000\n")) // busy when it is killed
			require.NoError(t, err)
		}
		time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
		require.NoError(t, unix.Kill(pid, unix.SIGKILL))
		require.ErrorIs(t, <-waiting, ErrGone)
		require.ErrorIs(t, cl.Suspend(bg), ErrGone)
		cl.Close()
		_, err = con.Read(make([]byte, 1<<20))
		for err == nil {
			_, err = con.Read(make([]byte, 1<<20))
		}
		con.Close()
		if i%3 == 0 {
			continue // the next start takes the remains away
		}
		require.NoError(t, s.ReapDomain(bg, uuidN(1)))
		rec, err := s.StopRecord(uuidN(1))
		require.NoError(t, err)
		require.Equal(t, store.ReasonDied, rec.Reason)
		require.Contains(t, rec.Detail, itoa(pid))
		requireTidy(t, s)
	}
	require.NoError(t, s.ReapDomain(bg, uuidN(1)))
	requireTidy(t, s)
}

// The VM process is killed at a random moment of its start: the starter says so
// and leaves nothing.
func TestVMProcessKilledWhileItStarts(t *testing.T) {
	s := testStore(t)
	failed := 0
	for range rounds {
		pidFile := filepath.Join(t.TempDir(), "pid")
		stop := make(chan struct{})
		killer := make(chan struct{})
		after := time.Duration(rand.IntN(4000)) * time.Microsecond
		go func() {
			defer close(killer)
			for {
				select {
				case <-stop:
					return
				default:
				}
				if b, err := os.ReadFile(pidFile); err == nil && len(b) > 0 {
					pid, _ := strconv.Atoi(string(b))
					time.Sleep(after)
					_ = unix.Kill(pid, unix.SIGKILL)
					return
				}
			}
		}()
		pid, err := spawn(bg, s, fakeSpec{PIDFile: pidFile, BuildDelay: 2 * time.Millisecond}, Config{})
		if err != nil {
			close(stop)
			<-killer
			failed++
			require.ErrorIs(t, err, ErrSpawn)
			requireTidy(t, s)
			continue
		}
		<-killer
		close(stop)
		awaitGone(t, pid)
		require.NoError(t, s.ReapDomain(bg, uuidN(1)))
		requireTidy(t, s)
	}
	t.Logf("%d of %d starts failed", failed, rounds)
}

// Starter and VM process die together in the middle of a start.
func TestBothKilledWhileStarting(t *testing.T) {
	s := testStore(t)
	pidFile := filepath.Join(t.TempDir(), "pid")
	raw, _ := json.Marshal(fakeSpec{PIDFile: pidFile, BuildHang: time.Minute})
	cmd := role(t, "starter", s.Paths().State, s.Paths().Run, string(raw))
	require.NoError(t, cmd.Start())
	var pid int
	require.Eventually(t, func() bool {
		b, _ := os.ReadFile(pidFile)
		pid, _ = strconv.Atoi(string(b))
		return pid > 0
	}, 20*time.Second, time.Millisecond)
	// Others see that it is being started.
	a, err := s.ActiveByUUID(uuidN(1))
	require.NoError(t, err)
	require.False(t, a.Started)
	_, err = Dial(bg, a.Dir)
	require.ErrorIs(t, err, ErrNotReady)
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	require.NoError(t, unix.Kill(pid, unix.SIGKILL))
	require.NoError(t, s.ReapDomain(bg, uuidN(1)))
	rec, err := s.StopRecord(uuidN(1))
	require.NoError(t, err)
	require.Equal(t, store.ReasonStartFailed, rec.Reason)
	requireTidy(t, s)
	require.False(t, strings.Contains(rec.Detail, "%!"))
}
