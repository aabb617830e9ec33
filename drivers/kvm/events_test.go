//go:build linux && amd64

package kvm_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor"
)

func subscribe(t testing.TB, c *polyvisor.Conn) *polyvisor.Subscription {
	t.Helper()
	s, err := c.Subscribe(patiently(t), polyvisor.SubscribeOptions{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// requireEvents reads as many events as there are words. A word is the type and
// the state, and the reason of a stop.
func requireEvents(t testing.TB, s *polyvisor.Subscription, words ...string) []polyvisor.Event {
	t.Helper()
	var events []polyvisor.Event
	var got []string
	for range words {
		e, err := s.Next(patiently(t))
		require.NoError(t, err, "after %v", got)
		w := fmt.Sprintf("%s %s: %s", e.Name, e.Type, e.State)
		if e.Stop != nil {
			w += " by " + e.Stop.Reason.String()
		}
		require.False(t, e.Time.IsZero())
		got, events = append(got, w), append(events, e)
	}
	require.Equal(t, words, got)
	return events
}

// Two connections, of which one does everything and both hear of it.
func TestEvents(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		actor, ctx := p.open(t), patiently(t)
		before := started(t, actor, config("before", ""))
		require.NoError(t, before.Suspend(ctx))

		other := p.open(t)
		quiet := p.open(t, polyvisor.ReadOnly())
		subs := []*polyvisor.Subscription{subscribe(t, other), subscribe(t, actor), subscribe(t, quiet)}
		expect := func(words ...string) {
			t.Helper()
			for _, s := range subs {
				requireEvents(t, s, words...)
			}
		}

		// What ran when the subscription began.
		require.NoError(t, before.SetLabels(ctx, map[string]string{"a": "b"}))
		require.NoError(t, before.Resume(ctx))
		require.NoError(t, before.Undefine(ctx))
		require.NoError(t, before.Destroy(ctx))
		expect("before labels: paused", "before resumed: running", "before undefined: running", "before stopped: shutoff by killed")

		d := define(t, actor, config("one", ""))
		d = define(t, actor, configOf(t, d))
		require.NoError(t, d.SetLabels(ctx, map[string]string{"a": "b"}))
		require.NoError(t, d.SetAutostart(ctx, true))
		require.NoError(t, d.SetMemory(ctx, 32*polyvisor.MiB))
		require.NoError(t, d.SetVCPUs(ctx, 2))
		require.NoError(t, d.Rename(ctx, "two"))
		expect("one defined: shutoff", "one defined: shutoff", "one labels: shutoff", "one labels: shutoff", "one memory: shutoff",
			"one defined: shutoff", "two renamed: shutoff")

		require.NoError(t, d.Start(ctx, polyvisor.StartPaused()))
		require.NoError(t, d.SetLabels(ctx, nil))
		require.NoError(t, d.Resume(ctx))
		con := console(t, d)
		con.ready(t)
		con.write(t, "reboot")
		con.await(t, "pv> ", 2)
		require.NoError(t, d.Suspend(ctx))
		require.NoError(t, d.Resume(ctx))
		con.write(t, "triple")
		wait(t, d)
		require.NoError(t, d.SetLabels(ctx, nil))
		require.NoError(t, d.Destroy(ctx))
		require.NoError(t, d.SetLabels(ctx, nil))
		require.NoError(t, d.Undefine(ctx))
		expect("two started: paused", "two labels: paused", "two resumed: running", "two rebooted: running", "two suspended: paused",
			"two resumed: running", "two stopped: crashed by crash", "two labels: crashed", "two labels: shutoff", "two undefined: shutoff")

		// Runs that end before anyone could ask.
		for n := range 5 {
			name := fmt.Sprint("short", n)
			tr := create(t, actor, config(name, "auto=poweroff"))
			require.Equal(t, polyvisor.StopShutdown, wait(t, tr).Reason)
			expect(name+" started: running", name+" stopped: shutoff by shutdown")
		}
		// A failed start is no event.
		bad := config("bad", "")
		bad.Boot.Kernel = polyvisor.Path("/nonexistent/kernel")
		_, err := actor.Create(ctx, bad)
		require.Error(t, err)
		define(t, actor, config("last", ""))
		expect("last defined: shutoff")
	})
}

// The death of a VM process is noticed though nobody asks, by each subscriber once.
func TestEventOfDeath(t *testing.T) {
	needKVM(t)
	p := newPlace(t, process)
	actor, other := p.open(t), p.open(t)
	quiet := p.open(t, polyvisor.ReadOnly())
	first, second, third := subscribe(t, actor), subscribe(t, other), subscribe(t, quiet)
	d := started(t, actor, config("d", ""))
	tr := create(t, actor, config("t", ""))
	all := []*polyvisor.Subscription{first, second, third}
	for _, s := range all {
		requireEvents(t, s, "d defined: shutoff", "d started: running", "t started: running")
	}
	late := subscribe(t, other)
	for _, victim := range []*polyvisor.Domain{d, tr} {
		id := info(t, victim).ID
		for _, pid := range p.vmPIDs() {
			if victimID(t, p, pid) == id {
				require.NoError(t, unix.Kill(pid, unix.SIGKILL))
			}
		}
		for _, s := range append(all, late) {
			e := requireEvents(t, s, victim.Name()+" stopped: crashed by service-died")
			require.Equal(t, victim.UUID(), e[0].UUID)
		}
	}
	require.Equal(t, polyvisor.StopServiceDied, wait(t, d).Reason)
	define(t, actor, config("last", ""))
	for _, s := range append(all, late) {
		requireEvents(t, s, "last defined: shutoff")
	}
}

// Alone on a read-only connection there is nobody to clear away.
func TestEventOfDeathReadOnly(t *testing.T) {
	needKVM(t)
	p := newPlace(t, process)
	actor, quiet := p.open(t), p.open(t, polyvisor.ReadOnly())
	d := started(t, actor, config("d", ""))
	s := subscribe(t, quiet)
	require.NoError(t, unix.Kill(p.vmPID(t), unix.SIGKILL))
	requireEvents(t, s, "d stopped: crashed by service-died")
	require.Equal(t, polyvisor.Crashed, state(t, d)) // clears away, and writes it down
	require.NoError(t, d.Undefine(patiently(t)))
	requireEvents(t, s, "d undefined: shutoff")
}

// Nothing is left of subscriptions.
func TestEventsLeaveNothing(t *testing.T) {
	inEach(t, func(t *testing.T, p place) {
		c, ctx := p.open(t), patiently(t)
		started(t, c, config("a", ""))
		started(t, c, config("b", ""))
		subscribe(t, c).Close()
		before := inUse(t)
		for range 20 {
			s, err := c.Subscribe(ctx, polyvisor.SubscribeOptions{})
			require.NoError(t, err)
			require.NoError(t, s.Close())
		}
		eventually(t, func() bool { return inUse(t).fds <= before.fds }, "descriptors are left: %d, now %d", before.fds, inUse(t).fds)
		require.Zero(t, goroutinesWith("(*eventHub)"))

		// Closing the connection ends them too.
		c2 := p.open(t)
		s, err := c2.Subscribe(ctx, polyvisor.SubscribeOptions{})
		require.NoError(t, err)
		require.NoError(t, c2.Close())
		_, err = s.Next(ctx)
		require.ErrorIs(t, err, polyvisor.ErrClosed)
		require.Zero(t, goroutinesWith("(*eventHub)"))
	})
}
