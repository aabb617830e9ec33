package fake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

// Calls fail as the URI says, and only those.
func TestFaultsOfAURI(t *testing.T) {
	h := New(Options{})
	defer h.Close()
	conn, err := polyvisor.Open(t.Context(), "fake:///x?fault=start:2:no-resource,start@db:3%2B:busy,define:3:late-exists,destroy@web:1:hang",
		polyvisor.WithRegistry(h.Registry()))
	require.NoError(t, err)
	defer conn.Close()
	web, err := conn.Define(t.Context(), &polyvisor.Config{Name: "web"})
	require.NoError(t, err)
	db, err := conn.Define(t.Context(), &polyvisor.Config{Name: "db"})
	require.NoError(t, err)
	_, err = conn.Define(t.Context(), &polyvisor.Config{Name: "late"})
	require.ErrorIs(t, err, polyvisor.ErrExists)
	_, err = conn.Domain(t.Context(), "late")
	require.NoError(t, err, "the effect was had before the error")

	require.NoError(t, db.Start(t.Context()))
	require.ErrorIs(t, web.Start(t.Context()), polyvisor.ErrNoResource)
	require.NoError(t, db.Destroy(t.Context()))
	require.NoError(t, web.Start(t.Context()))
	require.NoError(t, db.Start(t.Context()), "the second of db")
	require.NoError(t, db.Destroy(t.Context()))
	for range 2 {
		require.ErrorIs(t, db.Start(t.Context()), polyvisor.ErrBusy)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	require.ErrorIs(t, web.Destroy(ctx), context.DeadlineExceeded)
	s, err := web.State(t.Context())
	require.NoError(t, err)
	require.Equal(t, polyvisor.Running, s, "a call that is given up has no effect")
	require.NoError(t, web.Destroy(t.Context()))

	other := h.Conn()
	defer other.Close()
	dom, err := other.Domain(t.Context(), "db")
	require.NoError(t, err)
	require.NoError(t, dom.Start(t.Context()), "the faults are those of one connection")
}

// A '+' of a URI's parameters is read as a blank, and means the '+' all the same.
func TestOnwardFaultOfAURI(t *testing.T) {
	for _, sign := range []string{"+", "%2B", "%20"} {
		h := New(Options{})
		defer h.Close()
		conn, err := polyvisor.Open(t.Context(), "fake:///x?fault=define:2"+sign+":busy,list:1:no-resource", polyvisor.WithRegistry(h.Registry()))
		require.NoError(t, err, sign)
		defer conn.Close()
		_, err = conn.Define(t.Context(), &polyvisor.Config{Name: "first"})
		require.NoError(t, err)
		for range 3 {
			_, err = conn.Define(t.Context(), &polyvisor.Config{Name: "later"})
			require.ErrorIs(t, err, polyvisor.ErrBusy, sign)
		}
		again, err := polyvisor.ParseURI(conn.URI())
		require.NoError(t, err)
		faults, err := parseList(again.Param("fault"), ParseFault)
		require.NoError(t, err)
		require.True(t, faults[0].Onward)
		require.False(t, faults[1].Onward)
	}
	for _, bad := range []string{"define:+:busy", "define: :busy", "define:2++:busy", "define:2  :busy", "define:2+ :busy", "define: 2:busy"} {
		_, err := ParseFault(bad)
		require.ErrorIs(t, err, polyvisor.ErrInvalidConfig, bad)
	}
}

func TestTextOfFaultsAndLatencies(t *testing.T) {
	for _, s := range []string{
		"start:2:no-resource", "*:*:busy", "save@web:1+:half-permission", "define:3:late-conn-lost", "list:*:delay=5ms",
		"wait:1:hang", "info:1:drop", "info:1:drop=2s", "destroy:*:lose=4", "resume:1:crash", "core-dump:1:unknown",
	} {
		f, err := ParseFault(s)
		require.NoError(t, err, s)
		require.Equal(t, s, f.String())
	}
	for _, s := range []string{"", "start", "start:1", "start:0:busy", "start:x:busy", "begin:1:busy", "start:1:bad", "start:1:lose=0", "start:1:delay=-1s", "start:1:drop=x", "start:-1:busy"} {
		_, err := ParseFault(s)
		require.ErrorIs(t, err, polyvisor.ErrInvalidConfig, s)
	}
	for _, s := range []string{"1ms", "start:5ms..20ms", "set-memory:1s"} {
		l, err := ParseLatency(s)
		require.NoError(t, err, s)
		require.Equal(t, s, l.String())
	}
	for _, s := range []string{"", "x", "start:", "start:2ms..1ms", "begin:1ms", "-1ms", "1ms..2ms..3ms"} {
		_, err := ParseLatency(s)
		require.ErrorIs(t, err, polyvisor.ErrInvalidConfig, s)
	}
	o := Options{Name: "x", Shutdown: time.Second, Seed: 4, State: "/tmp/a b"}
	for _, s := range []string{"start:2:busy", "*:*:delay=1ms"} {
		f, _ := ParseFault(s)
		o.Faults = append(o.Faults, f)
	}
	o.Latency = []Latency{{Op: "start", Min: 1, Max: 2}, {Min: 3, Max: 3}}
	u, err := polyvisor.ParseURI(o.uri().String())
	require.NoError(t, err)
	back, err := parseOptions(u, polyvisor.OpenOptions{})
	require.NoError(t, err)
	require.Equal(t, o.uri(), back.uri())
}

func TestBadURIs(t *testing.T) {
	for _, uri := range []string{
		"fake:///", "fake://", "fake:///a/b", "fake:///a?fault=x", "fake:///a?latency=x", "fake:///a?seed=-1", "fake:///a?shutdown=x", "fake:///a?unknown=1",
		"fake:///a?state=/no/such/file",
	} {
		_, err := polyvisor.Open(t.Context(), uri)
		require.Error(t, err, uri)
	}
	require.Nil(t, Named("a"), "an open that failed leaves nothing")
	_, err := Open(t.Context(), Options{Name: "a", Latency: []Latency{{Min: 2, Max: 1}}})
	require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
}

func FuzzFault(f *testing.F) {
	f.Add("start@web:1+:half-no-resource")
	f.Add("*:*:drop=1ms")
	f.Fuzz(func(t *testing.T, s string) {
		fault, err := ParseFault(s)
		if err != nil {
			return
		}
		again, err := ParseFault(fault.String())
		require.NoError(t, err)
		require.Equal(t, fault.String(), again.String())
	})
}

// Latencies are what was asked for, of the clock of the bubble, the same for a
// seed, and end with the call's context.
func TestLatency(t *testing.T) {
	draw := func(t *testing.T, seed uint64) (took []time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			h, conn := private(t, Options{})
			require.NoError(t, h.Latency(seed, Latency{Op: "define", Min: time.Second, Max: time.Hour}, Latency{Min: time.Minute, Max: time.Minute}))
			for i := range 3 {
				began := time.Now()
				_, err := conn.Define(t.Context(), &polyvisor.Config{Name: fmt.Sprint(i)})
				require.NoError(t, err)
				took = append(took, time.Since(began))
				require.LessOrEqual(t, time.Second, took[i])
				require.LessOrEqual(t, took[i], time.Hour)
			}
			began := time.Now()
			_, err := conn.Node(t.Context())
			require.NoError(t, err)
			require.Equal(t, time.Minute, time.Since(began))
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err = conn.Node(ctx)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Equal(t, time.Minute+time.Second, time.Since(began))
		})
		return took
	}
	a := draw(t, 1)
	require.Equal(t, a, draw(t, 1))
	require.NotEqual(t, a, draw(t, 2))
}

// During an outage nothing works; afterwards the subscription is told.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, conn := private(t, Options{})
		other := h.Conn()
		defer other.Close()
		d, _ := create(t, h, conn, &polyvisor.Config{Name: "web"})
		con, err := d.Console(t.Context(), polyvisor.ConsoleOptions{})
		require.NoError(t, err)
		defer con.Close()
		sub, err := conn.Subscribe(t.Context(), polyvisor.SubscribeOptions{})
		require.NoError(t, err)
		defer sub.Close()
		remove, err := h.Fault(Fault{Op: "info", Nth: 1, Drop: true, Outage: time.Minute})
		require.NoError(t, err)
		defer remove()
		_, err = d.Info(t.Context())
		require.ErrorIs(t, err, polyvisor.ErrConnLost)
		_, err = d.State(t.Context())
		require.ErrorIs(t, err, polyvisor.ErrConnLost)
		_, err = io.ReadAll(con)
		require.ErrorIs(t, err, polyvisor.ErrConnLost)
		same, err := other.Domain(t.Context(), "web")
		require.NoError(t, err, "the other connection is well")
		require.NoError(t, same.Destroy(t.Context()))
		e, err := sub.Next(t.Context())
		require.NoError(t, err)
		require.Equal(t, polyvisor.EventResync, e.Type, "and what happened meanwhile is not told")
		_, err = conn.Domain(t.Context(), "web")
		require.ErrorIs(t, err, polyvisor.ErrNotFound, "it works again")
	})
}

func TestLostEvents(t *testing.T) {
	h, conn := private(t, Options{})
	sub, err := conn.Subscribe(t.Context(), polyvisor.SubscribeOptions{})
	require.NoError(t, err)
	defer sub.Close()
	remove, err := h.Fault(Fault{Op: "define", Nth: 1, Lose: 2})
	require.NoError(t, err)
	defer remove()
	d, err := conn.Define(t.Context(), &polyvisor.Config{Name: "web"})
	require.NoError(t, err)
	require.NoError(t, d.Start(t.Context()))
	require.NoError(t, d.Suspend(t.Context()))
	require.NoError(t, d.Resume(t.Context()))
	var got []polyvisor.EventType
	for range 3 {
		e, err := sub.Next(t.Context())
		require.NoError(t, err)
		got = append(got, e.Type)
		if e.Type == polyvisor.EventGap {
			require.EqualValues(t, 2, e.Lost)
		}
	}
	require.Equal(t, []polyvisor.EventType{polyvisor.EventDefined, polyvisor.EventGap, polyvisor.EventResumed}, got)
}

func TestInjectedCrash(t *testing.T) {
	h, conn := private(t, Options{})
	remove, err := h.Fault(Fault{Op: "resume", Crash: true, Domain: "web"})
	require.NoError(t, err)
	defer remove()
	d, err := conn.Define(t.Context(), &polyvisor.Config{Name: "web"})
	require.NoError(t, err)
	require.NoError(t, d.Start(t.Context(), polyvisor.StartPaused()))
	require.NoError(t, d.Resume(t.Context()))
	stop, err := d.Wait(t.Context())
	require.NoError(t, err)
	require.Equal(t, polyvisor.StopCrash, stop.Reason)
	_, err = h.Fault(Fault{Op: "begin"})
	require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
}

// A half-way failure leaves nothing behind, whatever the call.
func TestHalfway(t *testing.T) {
	h, conn := private(t, Options{})
	broken := errors.New("broken")
	for _, op := range []string{"define", "create", "start"} {
		_, err := h.Fault(Fault{Op: op, Nth: 1, Half: broken})
		require.NoError(t, err)
	}
	c := &polyvisor.Config{Name: "web"}
	_, err := conn.Define(t.Context(), c)
	require.ErrorIs(t, err, broken)
	_, err = conn.Create(t.Context(), c)
	require.ErrorIs(t, err, broken)
	active, inactive, err := conn.CountDomains(t.Context())
	require.NoError(t, err)
	require.Zero(t, active+inactive)
	d, err := conn.Define(t.Context(), c)
	require.NoError(t, err)
	require.ErrorIs(t, d.Start(t.Context()), broken)
	s, err := d.State(t.Context())
	require.NoError(t, err)
	require.Equal(t, polyvisor.Shutoff, s)
	require.NoError(t, d.Start(t.Context()))
}
