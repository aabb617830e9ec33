//go:build linux && amd64

package kvm_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/guest"
)

// A domain from its definition to its end, as one program sees it.
func TestLifecycle(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		c, ctx := p.open(t), patiently(t)
		cfg := config("one", "")
		cfg.UUID, cfg.VCPUs, cfg.Title = uuid.New(), 2, "a title"
		cfg.Memory = 48 * polyvisor.MiB
		d := define(t, c, cfg)
		require.Equal(t, "one", d.Name())
		require.Equal(t, cfg.UUID, d.UUID())
		other := define(t, c, config("other", ""))

		// Defined and never started.
		i := info(t, d)
		require.Equal(t, polyvisor.Info{State: polyvisor.Shutoff, ID: -1, Persistent: true, MaxMemory: 48 * polyvisor.MiB,
			Memory: 48 * polyvisor.MiB, VCPUs: 2}, i)
		_, err := d.Wait(ctx)
		requireCode(t, err, polyvisor.ErrInvalidState, "start it")
		for op, call := range map[string]func(context.Context) error{
			"suspend": d.Suspend, "resume": d.Resume, "shutdown": d.Shutdown, "reboot": d.Reboot, "destroy": d.Destroy,
		} {
			requireCode(t, call(ctx), polyvisor.ErrInvalidState, op, "shutoff")
		}
		_, err = d.Console(ctx, polyvisor.ConsoleOptions{})
		requireCode(t, err, polyvisor.ErrInvalidState)
		requireNames(t, c, polyvisor.DomainFilter{}, "one", "other")
		requireNames(t, c, polyvisor.DomainFilter{Active: true})
		requireNames(t, c, polyvisor.DomainFilter{Inactive: true}, "one", "other")

		require.NoError(t, d.Start(ctx))
		requireCode(t, d.Start(ctx), polyvisor.ErrInvalidState, "running")
		requireNames(t, c, polyvisor.DomainFilter{Active: true}, "one")
		requireNames(t, c, polyvisor.DomainFilter{Inactive: true}, "other")

		// The guest sees what was asked for.
		con := console(t, d)
		con.ready(t)
		require.Contains(t, con.String(), guest.Banner)
		require.Equal(t, "hello there", con.answer(t, "echo hello there"))
		require.Contains(t, con.answer(t, "mem"), "48 MiB")
		require.Contains(t, con.answer(t, "cpus"), "2")

		i = info(t, d)
		require.Equal(t, polyvisor.Running, i.State)
		require.Positive(t, i.ID)
		require.Positive(t, i.CPUTime)
		require.Equal(t, 2, i.VCPUs)
		require.Equal(t, polyvisor.Bytes(48*polyvisor.MiB), i.Memory)
		require.Nil(t, i.LastStop)
		id, err := d.ID(ctx)
		require.NoError(t, err)
		for how, look := range map[string]func() (*polyvisor.Domain, error){
			"name": func() (*polyvisor.Domain, error) { return c.Domain(ctx, "one") },
			"UUID": func() (*polyvisor.Domain, error) { return c.DomainByUUID(ctx, cfg.UUID) },
			"ID":   func() (*polyvisor.Domain, error) { return c.DomainByID(ctx, id) },
		} {
			got, err := look()
			require.NoError(t, err, how)
			require.Equal(t, cfg.UUID, got.UUID(), how)
			require.Equal(t, polyvisor.Running, state(t, got), how)
		}
		_, err = c.Domain(ctx, "nobody")
		requireCode(t, err, polyvisor.ErrNotFound, "nobody")
		_, err = c.DomainByID(ctx, id+1000)
		requireCode(t, err, polyvisor.ErrNotFound)
		_, err = c.DomainByUUID(ctx, uuid.New())
		requireCode(t, err, polyvisor.ErrNotFound)

		// A pause keeps the guest's state: what it was told before, it answers after.
		con.answer(t, "fill 1 4711")
		sum := con.answer(t, "sum 1")
		require.NoError(t, d.Suspend(ctx))
		require.Equal(t, polyvisor.Paused, state(t, d))
		requireCode(t, d.Suspend(ctx), polyvisor.ErrInvalidState, "resume it")
		before := info(t, d).CPUTime
		con.write(t, "echo while paused")
		require.Equal(t, before, info(t, d).CPUTime, "a paused guest uses no processor")
		require.NotContains(t, con.String(), "while paused")
		require.NoError(t, d.Resume(ctx))
		requireCode(t, d.Resume(ctx), polyvisor.ErrInvalidState)
		con.await(t, "while paused", 2) // the echo of the line, and the answer
		con.await(t, guest.Prompt, 7)
		require.Equal(t, sum, con.answer(t, "sum 1"))

		// One owner of the console, who may be thrown out.
		_, err = d.Console(ctx, polyvisor.ConsoleOptions{})
		requireCode(t, err, polyvisor.ErrBusy)
		rwc, err := d.Console(ctx, polyvisor.ConsoleOptions{Force: true})
		require.NoError(t, err)
		<-con.end
		require.ErrorIs(t, con.err, polyvisor.ErrBusy)
		_, err = io.WriteString(con.rwc, "x")
		require.ErrorIs(t, err, polyvisor.ErrBusy)
		said := con.String()
		con = newTerminal(t, rwc)
		con.await(t, said, 1) // what was said before comes in pieces, with prompts of its own
		require.Equal(t, "mine", con.answer(t, "echo mine"))

		// Reboot: asked, not forced; the domain and its console stay.
		prompts := strings.Count(con.String(), guest.Prompt)
		require.NoError(t, d.Reboot(ctx))
		con.await(t, guest.Prompt, prompts+1)
		require.Equal(t, 2, strings.Count(con.String(), guest.Banner))
		require.Equal(t, polyvisor.Running, state(t, d))
		require.Equal(t, id, info(t, d).ID)
		require.NotEqual(t, sum, con.answer(t, "sum 1"), "a reboot clears the memory")

		require.NoError(t, d.Shutdown(ctx))
		stop := wait(t, d)
		require.Equal(t, polyvisor.StopShutdown, stop.Reason)
		require.False(t, stop.Time.IsZero())
		<-con.end
		require.ErrorIs(t, con.err, io.EOF)
		require.Equal(t, polyvisor.Shutoff, state(t, d))
		require.Equal(t, &stop, info(t, d).LastStop)
		_, err = d.ID(ctx)
		requireCode(t, err, polyvisor.ErrInvalidState)
		_, err = c.DomainByID(ctx, id)
		requireCode(t, err, polyvisor.ErrNotFound)

		// Again, with a higher number, and without asking the guest this time.
		require.NoError(t, d.Start(ctx))
		require.Greater(t, info(t, d).ID, id)
		require.NoError(t, d.Destroy(ctx))
		require.Equal(t, polyvisor.Shutoff, state(t, d))
		require.Equal(t, polyvisor.StopKilled, wait(t, d).Reason)

		require.NoError(t, d.Undefine(ctx))
		_, err = c.Domain(ctx, "one")
		requireCode(t, err, polyvisor.ErrNotFound)
		_, err = d.State(ctx)
		requireCode(t, err, polyvisor.ErrNotFound)
		require.NoError(t, other.Undefine(ctx))
		require.Equal(t, emptyTree, p.tree(t))
	})
}

// emptyTree is what an opened place without domains has.
var emptyTree = []string{".", "run", "state", "state/domains"}

func requireNames(t testing.TB, c *polyvisor.Conn, f polyvisor.DomainFilter, want ...string) {
	t.Helper()
	doms, err := c.Domains(patiently(t), f)
	require.NoError(t, err)
	var names []string
	for _, d := range doms {
		names = append(names, d.Name())
	}
	require.Equal(t, want, names)
}

// A domain that is undefined while it runs is transient from then on; how it
// ended is told to those who still hold it.
func TestUndefineRunning(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		c, ctx := p.open(t), patiently(t)
		d := started(t, c, config("gone", ""))
		con := console(t, d)
		con.ready(t)
		require.NoError(t, d.Undefine(ctx))
		requireCode(t, d.Undefine(ctx), polyvisor.ErrInvalidState, "transient")
		require.False(t, info(t, d).Persistent)
		requireNames(t, c, polyvisor.DomainFilter{}, "gone")
		second, err := c.Domain(ctx, "gone")
		require.NoError(t, err)
		requireCode(t, second.Start(ctx), polyvisor.ErrInvalidState)
		require.Equal(t, "still here", con.answer(t, "echo still here"))
		require.NoError(t, d.Shutdown(ctx))
		require.Equal(t, polyvisor.StopShutdown, wait(t, d).Reason)
		require.Equal(t, polyvisor.StopShutdown, wait(t, second).Reason)
		_, err = d.State(ctx)
		requireCode(t, err, polyvisor.ErrNotFound)
		requireNames(t, c, polyvisor.DomainFilter{})
		require.Equal(t, emptyTree, p.tree(t))
	})
}

// Also a guest that stops before anybody can ask tells how it ended.
func TestTransient(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		c, ctx := p.open(t), patiently(t)
		for command, want := range map[string]polyvisor.StopReason{
			"poweroff": polyvisor.StopShutdown, "triple": polyvisor.StopCrash,
		} {
			for range 5 {
				d := create(t, c, config("brief", "auto="+command))
				require.Equal(t, want, wait(t, d).Reason)
				require.Equal(t, want, wait(t, d).Reason, "also later")
				_, err := d.State(ctx)
				requireCode(t, err, polyvisor.ErrNotFound)
			}
		}
		d := create(t, c, config("brief", ""))
		require.False(t, info(t, d).Persistent)
		_, err := c.Create(ctx, config("brief", ""))
		requireCode(t, err, polyvisor.ErrExists, "brief")
		_, err = c.Define(ctx, config("brief", ""))
		requireCode(t, err, polyvisor.ErrExists, "brief")
		// With its own identity it becomes persistent.
		same := config("brief", "")
		same.UUID = d.UUID()
		define(t, c, same)
		require.True(t, info(t, d).Persistent)
		require.NoError(t, d.Remove(ctx))
		require.Equal(t, emptyTree, p.tree(t))
	})
}

// Any number of callers wait, on several connections, and may come late.
func TestWait(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		c, second, ctx := p.open(t), p.open(t), patiently(t)
		d := started(t, c, config("awaited", ""))
		elsewhere, err := second.Domain(ctx, "awaited")
		require.NoError(t, err)
		short, cancel := context.WithCancel(ctx)
		var wg, ended sync.WaitGroup
		stops := make([]polyvisor.Stop, 20)
		errs := make([]error, 30)
		for i := len(stops); i < len(errs); i++ {
			ended.Go(func() { _, errs[i] = d.Wait(short) })
		}
		for i := range stops {
			wg.Go(func() {
				switch {
				case i%2 == 0:
					stops[i], errs[i] = d.Wait(ctx)
				default:
					stops[i], errs[i] = elsewhere.Wait(ctx)
				}
			})
		}
		con := console(t, d)
		con.ready(t)
		cancel() // ends those waits and nothing else
		ended.Wait()
		con.write(t, "poweroff")
		wg.Wait()
		for i, err := range errs {
			if i >= len(stops) {
				require.ErrorIs(t, err, context.Canceled)
				continue
			}
			require.NoError(t, err)
			require.Equal(t, polyvisor.StopShutdown, stops[i].Reason)
		}
		require.Equal(t, wait(t, d), wait(t, elsewhere))
	})
}

// A running guest keeps what it was started with; the next start takes the new
// definition.
func TestRedefine(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		c, ctx := p.open(t), patiently(t)
		d := started(t, c, config("changing", "auto=echo old-words"))
		con := console(t, d)
		con.await(t, "old-words", 1)
		changed := config("changing", "auto=echo new-words")
		changed.UUID, changed.VCPUs = d.UUID(), 2
		define(t, c, changed)
		cfg, err := d.Config(ctx)
		require.NoError(t, err)
		require.Equal(t, 1, cfg.VCPUs)
		require.Equal(t, 1, info(t, d).VCPUs)
		require.NoError(t, d.Destroy(ctx))
		cfg, err = d.Config(ctx)
		require.NoError(t, err)
		require.Equal(t, 2, cfg.VCPUs)
		require.NoError(t, d.Start(ctx))
		con = console(t, d)
		con.await(t, "new-words", 1)
		con.ready(t)
		require.NotContains(t, con.String(), "old-words")
		require.NoError(t, d.Remove(ctx))
	})
}

// Three runs append to one log of the console, in a directory with a long name.
func TestConsoleLog(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		p.dir += "/" + strings.Repeat("long", 30)
		require.NoError(t, os.Mkdir(p.dir, 0o700))
		c := p.open(t)
		cfg := config("logged", "auto=echo written;poweroff")
		cfg.Console.Log = p.dir + "/console.log"
		d := define(t, c, cfg)
		for n := range 3 {
			require.NoError(t, d.Start(patiently(t)))
			require.Equal(t, polyvisor.StopShutdown, wait(t, d).Reason)
			b, err := os.ReadFile(cfg.Console.Log)
			require.NoError(t, err)
			require.Equal(t, n+1, strings.Count(string(b), "written"))
		}
	})
}

// A connection that may change nothing sees everything.
func TestReadOnly(t *testing.T) {
	p := newPlace(t, process)
	c, ctx := p.open(t), patiently(t)
	d := started(t, c, config("seen", ""))
	r := p.open(t, polyvisor.ReadOnly())
	seen, err := r.Domain(ctx, "seen")
	require.NoError(t, err)
	require.Equal(t, polyvisor.Running, state(t, seen))
	for op, call := range map[string]func(context.Context) error{
		"suspend": seen.Suspend, "shutdown": seen.Shutdown, "destroy": seen.Destroy, "undefine": seen.Undefine, "reboot": seen.Reboot,
	} {
		require.ErrorIs(t, call(ctx), polyvisor.ErrReadOnly, op)
	}
	_, err = r.Define(ctx, config("more", ""))
	require.ErrorIs(t, err, polyvisor.ErrReadOnly)

	// Nobody has cleared away after the dead process yet.
	kill9(t, p.vmPID(t))
	before := p.tree(t)
	i := info(t, seen)
	require.Equal(t, polyvisor.Crashed, i.State)
	require.Equal(t, polyvisor.StopServiceDied, i.LastStop.Reason)
	require.Equal(t, polyvisor.StopServiceDied, wait(t, seen).Reason)
	require.Equal(t, before, p.tree(t))
	require.Equal(t, polyvisor.Crashed, state(t, d))
}

// With isolation=none the machines end with the connection; other connections
// and programs see them until then.
func TestCloseEndsLocalMachines(t *testing.T) {
	p := newPlace(t, none)
	c, other, ctx := p.open(t), p.open(t), patiently(t)
	d := started(t, c, config("local", "auto=spin"))
	seen, err := other.Domain(ctx, "local")
	require.NoError(t, err)
	require.Equal(t, polyvisor.Running, state(t, seen))
	con := console(t, seen)
	con.await(t, guest.Banner, 1)
	require.NoError(t, c.Close())
	require.Zero(t, vcpuThreads())
	require.Equal(t, polyvisor.StopKilled, wait(t, seen).Reason)
	require.NoError(t, c.Close())
	requireCode(t, d.Start(ctx), polyvisor.ErrClosed)
}

// The end of a context ends the call. A start is undone; the domain can be started
// afterwards.
func TestStartEndsWithContext(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		c := p.open(t)
		d := define(t, c, config("abandoned", ""))
		for i := range 10 {
			ctx, cancel := context.WithTimeoutCause(patiently(t), jitter(10+3*i), errors.New("changed my mind"))
			err := d.Start(ctx)
			cancel()
			if err == nil {
				require.Equal(t, polyvisor.Running, state(t, d))
				require.NoError(t, d.Destroy(patiently(t)))
				continue
			}
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Empty(t, p.vmPIDs(), fmt.Sprint(err))
			require.False(t, state(t, d).Active())
		}
		require.NoError(t, d.Start(patiently(t)))
		require.NoError(t, d.Remove(patiently(t)))
		require.Equal(t, emptyTree, p.tree(t))
	})
}
