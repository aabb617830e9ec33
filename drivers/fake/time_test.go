package fake

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

// CPU time goes on while the guest runs, for each processor that is there.
func TestCPUTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, conn := private(t, Options{})
		d, _ := create(t, h, conn, &polyvisor.Config{Name: "web", VCPUs: 1, MaxVCPUs: 3})
		cpuTime := func() time.Duration {
			i, err := d.Info(t.Context())
			require.NoError(t, err)
			return i.CPUTime
		}
		time.Sleep(10 * time.Second)
		require.Equal(t, 10*time.Second, cpuTime())
		require.NoError(t, d.SetVCPUs(t.Context(), 3))
		time.Sleep(time.Second)
		require.Equal(t, 13*time.Second, cpuTime())
		require.NoError(t, d.Suspend(t.Context()))
		time.Sleep(time.Hour)
		require.Equal(t, 13*time.Second, cpuTime(), "a suspended guest takes none")
		require.NoError(t, d.Resume(t.Context()))
		require.NoError(t, d.SetVCPUs(t.Context(), 2))
		time.Sleep(time.Second)
		require.Equal(t, 15*time.Second, cpuTime())
		list, err := d.VCPUs(t.Context())
		require.NoError(t, err)
		require.Equal(t, []time.Duration{12 * time.Second, 2 * time.Second, time.Second}, []time.Duration{list[0].CPUTime, list[1].CPUTime, list[2].CPUTime})
		require.Equal(t, polyvisor.VCPUOffline, list[2].State)
		require.Equal(t, -1, list[2].CPU)
	})
}

// A guest that takes its time to power off is in shutdown meanwhile.
func TestShutdownTakesTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, conn := private(t, Options{Shutdown: time.Minute})
		d, _ := create(t, h, conn, &polyvisor.Config{Name: "web"})
		began := time.Now()
		require.NoError(t, d.Shutdown(t.Context()))
		s, err := d.State(t.Context())
		require.NoError(t, err)
		require.Equal(t, polyvisor.ShuttingDown, s)
		require.ErrorIs(t, d.Suspend(t.Context()), polyvisor.ErrInvalidState)
		stop, err := d.Wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, polyvisor.StopShutdown, stop.Reason)
		require.Equal(t, time.Minute, time.Since(began))

		d, _ = create(t, h, conn, &polyvisor.Config{Name: "web"})
		require.NoError(t, d.Reboot(t.Context()))
		time.Sleep(2 * time.Minute)
		s, err = d.State(t.Context())
		require.NoError(t, err)
		require.Equal(t, polyvisor.Running, s, "it came back")
		g, err := h.Guest("web")
		require.NoError(t, err)
		require.Contains(t, say(t, g, "facts"), "fact: boots=2\n")
	})
}

// A guest that crashes as soon as it runs is restarted for ever, without a busy
// loop and without filling anything.
func TestRestartLoop(t *testing.T) {
	for _, action := range []polyvisor.Action{polyvisor.ActionRestart, polyvisor.ActionRenameRestart} {
		t.Run(string(action), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, conn := private(t, Options{})
				sub, err := conn.Subscribe(t.Context(), polyvisor.SubscribeOptions{})
				require.NoError(t, err)
				defer sub.Close()
				d, err := conn.Create(t.Context(), &polyvisor.Config{Name: "web", OnCrash: action, Boot: polyvisor.Boot{CommandLine: "auto=crash"}})
				require.NoError(t, err)
				time.Sleep(10 * restartTime)
				synctest.Wait()
				active, _, err := conn.CountDomains(t.Context())
				require.NoError(t, err)
				if action == polyvisor.ActionRestart {
					require.Equal(t, 1, active)
				} else {
					s, err := d.State(t.Context())
					require.NoError(t, err)
					require.Equal(t, polyvisor.Crashed, s)
					_, err = conn.Domain(t.Context(), "web-1-1-1")
					require.NoError(t, err)
				}
				events := 0
				for e := range sub.All(t.Context()) {
					if e.Type == polyvisor.EventRebooted || e.Type == polyvisor.EventStarted {
						events++
					}
					if events == 10 {
						break
					}
				}
			})
		})
	}
}

func TestButtonAndBlocked(t *testing.T) {
	h, conn := private(t, Options{})
	d, g := create(t, h, conn, &polyvisor.Config{Name: "web"})
	state := func(want polyvisor.State) {
		t.Helper()
		s, err := d.State(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, s)
	}
	say(t, g, "button ignore")
	require.NoError(t, d.Shutdown(t.Context()))
	state(polyvisor.Running)
	say(t, g, "block")
	state(polyvisor.Blocked)
	require.NoError(t, d.Suspend(t.Context()))
	state(polyvisor.Paused)
	require.NoError(t, d.Resume(t.Context()))
	state(polyvisor.Blocked)
	con, err := d.Console(t.Context(), polyvisor.ConsoleOptions{})
	require.NoError(t, err)
	_, err = con.Write([]byte("button hold\r"))
	require.NoError(t, err)
	require.NoError(t, con.Close())
	state(polyvisor.Running)
	require.NoError(t, d.Shutdown(t.Context()))
	state(polyvisor.ShuttingDown)
	require.NoError(t, d.Destroy(t.Context()))
	require.ErrorIs(t, g.Crash(""), polyvisor.ErrInvalidState, "the run is over")

	d, g = create(t, h, conn, &polyvisor.Config{Name: "web", Balloon: true, MaxMemory: 512 * polyvisor.MiB})
	require.NoError(t, g.Hang())
	require.NoError(t, d.Shutdown(t.Context()))
	state(polyvisor.Running)
	require.NoError(t, d.SetMemory(t.Context(), 64*polyvisor.MiB))
	i, err := d.Info(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, polyvisor.DefaultMemory, i.Memory, "a guest that hangs gives nothing back")
	_, err = g.Run("echo")
	require.ErrorIs(t, err, polyvisor.ErrInvalidState)
	require.NoError(t, g.Kill())
	stop, err := d.Wait(t.Context())
	require.NoError(t, err)
	require.Equal(t, polyvisor.StopServiceDied, stop.Reason)
}

// 100,000 domains that run take no goroutine, and less than 4 KiB each.
func TestManyDomains(t *testing.T) {
	n := 100_000
	if testing.Short() {
		n = 5_000
	}
	bytes, goroutines := footprint(t, n)
	t.Logf("%d running domains: %.0f bytes each, %d goroutines", n, bytes, goroutines)
	require.Zero(t, goroutines)
	require.Less(t, bytes, 4096.0)
	runtime.GC()
}
