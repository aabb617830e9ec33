//go:build linux && amd64

package vmm

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/guest"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/kvmapi"
)

// console keeps what the guest prints.
type console struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buf.Write(p)
}

func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buf.String()
}

func (c *console) waitFor(t testing.TB, text string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(c.String(), text) }, 60*time.Second, time.Millisecond,
		"the guest never printed %q", text)
}

func needKVM(t testing.TB) {
	t.Helper()
	sys, err := kvmapi.Open(kvmapi.DevicePath)
	if err != nil {
		t.Skipf("needs /dev/kvm: %v", err)
	}
	sys.Close()
}

func guestSpec(commandLine string) Spec {
	return Spec{Memory: 64 << 20, VCPUs: 1, Boot: Boot{Kind: BootGuest, CommandLine: commandLine}}
}

// newMachine makes a machine that is closed with the test.
func newMachine(t testing.TB, spec Spec) (*Machine, *console) {
	t.Helper()
	needKVM(t)
	c := &console{}
	m, err := New(t.Context(), spec, Options{Console: c})
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, m.Close())
		if t.Failed() {
			t.Logf("console:\n%s\ninfo: %+v", c, m.Info())
		}
	})
	return m, c
}

func waitStop(t testing.TB, m *Machine) Stop {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	s, err := m.Wait(ctx)
	require.NoError(t, err)
	assert.Equal(t, StateStopped, m.Info().State)
	return s
}

// Every way a guest can end is told apart.
func TestStopReasons(t *testing.T) {
	for _, c := range []struct {
		command string
		want    StopReason
		detail  string
	}{
		{"poweroff", StopShutdown, "ACPI"},
		{"reboot", StopReboot, "ACPI"},
		{"kbdreset", StopReboot, "keyboard controller"},
		{"triple", StopCrash, "triple fault"},
		{"crash", StopCrash, ""},
	} {
		t.Run(c.command, func(t *testing.T) {
			m, _ := newMachine(t, guestSpec("auto="+c.command))
			require.NoError(t, m.Start())
			s := waitStop(t, m)
			assert.Equal(t, c.want, s.Reason, s)
			assert.Contains(t, s.Detail, c.detail)
			assert.NoError(t, m.Kill(), "kill after the end does nothing")
			var se *StateError
			assert.ErrorAs(t, m.Reset(), &se)
			assert.ErrorAs(t, m.Start(), &se)
			assert.ErrorAs(t, m.Suspend(context.Background()), &se)
			assert.ErrorAs(t, m.Resume(), &se)
			assert.ErrorAs(t, m.PowerButton(), &se)
			_, err := m.Input(t.Context(), []byte("x"))
			assert.Error(t, err)
			require.NoError(t, m.Close())
			require.NoError(t, m.Close())
			assert.Equal(t, s, waitStop(t, m), "the reason outlives Close")
			assert.Positive(t, m.Info().CPUTime)
		})
	}
}

// A guest that spins, one that halts with interrupts off and an idle one all obey.
func TestControl(t *testing.T) {
	for name, command := range map[string]string{"spin": "auto=spin all", "halt": "auto=halt", "idle": ""} {
		t.Run(name, func(t *testing.T) {
			spec := guestSpec(command)
			spec.VCPUs = 2
			m, c := newMachine(t, spec)
			assert.Equal(t, StateCreated, m.Info().State)
			require.NoError(t, m.Start())
			if command == "" {
				c.waitFor(t, guest.Prompt)
			} else {
				c.waitFor(t, guest.Banner)
			}
			for range 5 {
				require.NoError(t, m.Suspend(context.Background()))
				var se *StateError
				assert.ErrorAs(t, m.Suspend(context.Background()), &se)
				assert.Equal(t, StatePaused, m.Info().State)
				require.NoError(t, m.Resume())
				assert.ErrorAs(t, m.Resume(), &se)
			}
			if command == "" {
				_, err := m.Input(t.Context(), []byte("echo still there\n"))
				require.NoError(t, err)
				c.waitFor(t, "\nstill there")
			}
			require.NoError(t, m.Suspend(context.Background()))
			require.NoError(t, m.Kill(), "a paused machine")
			assert.Equal(t, StopKilled, waitStop(t, m).Reason)
		})
	}
}

func TestResetFromOutside(t *testing.T) {
	m, c := newMachine(t, guestSpec(""))
	require.NoError(t, m.Start())
	c.waitFor(t, guest.Prompt)
	require.NoError(t, m.Reset())
	assert.Equal(t, StopReboot, waitStop(t, m).Reason)
}

func TestPowerButton(t *testing.T) {
	m, c := newMachine(t, guestSpec(""))
	var se *StateError
	require.ErrorAs(t, m.PowerButton(), &se)
	require.NoError(t, m.Start())
	c.waitFor(t, guest.Prompt)
	require.NoError(t, m.PowerButton())
	assert.Equal(t, StopShutdown, waitStop(t, m).Reason)
}

// A button pressed while the machine is paused is seen when it goes on.
func TestPowerButtonWhilePaused(t *testing.T) {
	m, c := newMachine(t, guestSpec(""))
	require.NoError(t, m.Start())
	c.waitFor(t, guest.Prompt)
	require.NoError(t, m.Suspend(context.Background()))
	require.NoError(t, m.PowerButton())
	require.NoError(t, m.Resume())
	assert.Equal(t, StopShutdown, waitStop(t, m).Reason)
}

func TestKillBeforeStart(t *testing.T) {
	m, _ := newMachine(t, guestSpec(""))
	require.NoError(t, m.Kill())
	assert.Equal(t, StopKilled, waitStop(t, m).Reason)
	assert.Error(t, m.Start())
}

func TestWaitObeysContext(t *testing.T) {
	m, _ := newMachine(t, guestSpec(""))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := m.Wait(ctx)
	assert.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, StateCreated, m.Info().State)
}

func TestSMP(t *testing.T) {
	for _, n := range []int{1, 2, 3, 8} {
		spec := guestSpec("")
		spec.VCPUs = n
		m, c := newMachine(t, spec)
		require.NoError(t, m.Start())
		c.waitFor(t, guest.Prompt)
		i := m.Info()
		assert.Len(t, i.VCPUTime, n)
		t.Logf("%d vCPUs: %s exits %v accesses %v", n, firstLines(c.String(), 4), i.Exits, i.Accesses)
	}
}

func firstLines(s string, n int) string {
	lines := strings.SplitN(s, "\n", n+1)
	return strings.Join(lines[:min(n, len(lines))], " | ")
}

// Everybody at once: nothing hangs, and there is one reason.
func TestConcurrentControl(t *testing.T) {
	for range 5 {
		m, c := newMachine(t, guestSpec("auto=spin"))
		require.NoError(t, m.Start())
		c.waitFor(t, guest.Banner)
		var wg sync.WaitGroup
		reasons := make(chan Stop, 4)
		for range 4 {
			wg.Go(func() {
				s, err := m.Wait(context.Background())
				assert.NoError(t, err)
				reasons <- s
			})
			wg.Go(func() { _ = m.Suspend(context.Background()); _ = m.Resume() })
			wg.Go(func() { _ = m.PowerButton(); m.Info() })
		}
		wg.Go(func() { _ = m.Kill() })
		wg.Go(func() { _ = m.Reset() })
		wg.Wait()
		first := <-reasons
		for range 3 {
			assert.Equal(t, first, <-reasons)
		}
		require.NoError(t, m.Close())
	}
}

func TestNewErrors(t *testing.T) {
	needKVM(t)
	dir := t.TempDir()
	junk := filepath.Join(dir, "junk")
	require.NoError(t, os.WriteFile(junk, bytes.Repeat([]byte("junk"), 5000), 0o600))
	linux := func(kernel, initrd string) Spec {
		return Spec{Memory: 64 << 20, VCPUs: 1, Boot: Boot{Kind: BootLinux, Kernel: kernel, Initrd: initrd}}
	}
	for _, c := range []struct {
		name string
		spec Spec
		opts Options
		want string
		is   error
	}{
		{"nothing", Spec{}, Options{}, "memory", ErrSpec},
		{"no kernel named", linux("", ""), Options{}, "kernel", ErrSpec},
		{"kernel absent", linux(filepath.Join(dir, "absent"), ""), Options{}, "absent", os.ErrNotExist},
		{"kernel is junk", linux(junk, ""), Options{}, "junk", nil},
		{"kernel is a directory", linux(dir, ""), Options{}, "kernel", nil},
		{"initrd absent", linux(junk, filepath.Join(dir, "no-initrd")), Options{}, "no-initrd", os.ErrNotExist},
		{"no device", guestSpec(""), Options{Device: filepath.Join(dir, "kvm")}, "kvm", kvmapi.ErrNoDevice},
		{"not a device", guestSpec(""), Options{Device: junk}, junk, kvmapi.ErrNotKVM},
		{"too much memory", Spec{Memory: 1 << 46, VCPUs: 1, Boot: Boot{Kind: BootGuest}}, Options{}, "memory", nil},
		{"command line too long", guestSpec(strings.Repeat("x", guest.MaxCommandLine+1)), Options{}, "command line", guest.ErrCommandLine},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := New(t.Context(), c.spec, c.opts)
			require.Error(t, err)
			assert.Nil(t, m)
			assert.Contains(t, err.Error(), c.want)
			if c.is != nil {
				assert.ErrorIs(t, err, c.is)
			}
		})
	}
	// Files given open are closed even when New fails early.
	f, err := os.Open(junk)
	require.NoError(t, err)
	_, err = New(t.Context(), Spec{}, Options{Kernel: f})
	require.Error(t, err)
	assert.ErrorIs(t, f.Close(), os.ErrClosed)
}

func TestValidate(t *testing.T) {
	good := guestSpec("")
	require.NoError(t, good.Validate())
	for name, change := range map[string]func(*Spec){
		"little memory":     func(s *Spec) { s.Memory = MinMemory - 4096 },
		"odd memory":        func(s *Spec) { s.Memory++ },
		"no vCPU":           func(s *Spec) { s.VCPUs = 0 },
		"negative vCPUs":    func(s *Spec) { s.VCPUs = -1 },
		"many vCPUs":        func(s *Spec) { s.VCPUs = MaxVCPUs + 1 },
		"no kind":           func(s *Spec) { s.Boot.Kind = "" },
		"guest with kernel": func(s *Spec) { s.Boot.Kernel = "x" },
		"entry":             func(s *Spec) { s.Boot.Entry = "real" },
		"zero byte":         func(s *Spec) { s.Boot.CommandLine = "a\x00b" },
	} {
		s := good
		change(&s)
		assert.ErrorIs(t, s.Validate(), ErrSpec, name)
	}
	err := (&Spec{}).Validate()
	for _, part := range []string{"memory", "vCPUs", "boot kind"} {
		assert.ErrorContains(t, err, part, "all problems at once")
	}
}

func TestUndo(t *testing.T) {
	var order []int
	var u undoList
	boom := errors.New("boom")
	for i := range 3 {
		u.add(func() error {
			order = append(order, i)
			if i == 1 {
				return boom
			}
			return nil
		})
	}
	assert.ErrorIs(t, u.run(), boom)
	assert.Equal(t, []int{2, 1, 0}, order)
	assert.NoError(t, u.run())
	assert.Len(t, order, 3)
}
