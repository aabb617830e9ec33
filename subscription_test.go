package polyvisor_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

func subscribe(t *testing.T, conn *polyvisor.Conn, o polyvisor.SubscribeOptions) *polyvisor.Subscription {
	t.Helper()
	s, err := conn.Subscribe(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// named gives events that differ by their names.
func named(names ...string) []polyvisor.Event {
	list := make([]polyvisor.Event, len(names))
	for i, n := range names {
		list[i] = polyvisor.Event{Type: polyvisor.EventStarted, Name: n}
	}
	return list
}

// rest gives what is left of a closed subscription, as "SEQ TYPE NAME LOST".
func rest(t *testing.T, s *polyvisor.Subscription) []string {
	t.Helper()
	require.NoError(t, s.Close())
	var list []string
	for e := range s.All(t.Context()) {
		list = append(list, fmt.Sprintf("%d %s %s%d", e.Seq, e.Type, e.Name, e.Lost))
	}
	return list
}

func TestEventsInOrder(t *testing.T) {
	conn, r := connect(t, nil)
	s := subscribe(t, conn, polyvisor.SubscribeOptions{})
	r.emit(named("a", "b")...)
	for i, want := range []string{"a", "b"} {
		e, err := s.Next(t.Context())
		require.NoError(t, err)
		assert.Equal(t, want, e.Name)
		assert.Equal(t, uint64(i+1), e.Seq)
	}
	r.emit(named("c")...)
	assert.Equal(t, []string{"3 started c0"}, rest(t, s), "what is left is given after Close")
	_, err := s.Next(t.Context())
	require.ErrorIs(t, err, polyvisor.ErrClosed)
	assert.EqualError(t, err, "rec: next event: connection is closed")
	r.emit(named("d")...)
	assert.Empty(t, rest(t, s), "nothing comes after Close")
}

func TestEventGap(t *testing.T) {
	conn, r := connect(t, nil)
	s := subscribe(t, conn, polyvisor.SubscribeOptions{Buffer: 2})
	r.emit(named("a", "b", "lost", "lost", "lost")...)
	e, err := s.Next(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "a", e.Name)
	r.emit(named("lost")...) // there would be room, but it would come before the gap
	for _, want := range []polyvisor.Event{{Type: polyvisor.EventStarted, Name: "b", Seq: 2}, {Type: polyvisor.EventGap, Lost: 4, Seq: 3}} {
		e, err := s.Next(t.Context())
		require.NoError(t, err)
		e.Time = time.Time{}
		assert.Equal(t, want, e)
	}
	r.emit(named("c")...)
	assert.Equal(t, []string{"4 started c0"}, rest(t, s), "after the gap it goes on")
}

// Gaps that a driver tells add up with the subscription's own.
func TestEventGapOfTheDriver(t *testing.T) {
	gap := func(n uint64) polyvisor.Event { return polyvisor.Event{Type: polyvisor.EventGap, Lost: n} }
	for _, tt := range []struct {
		events []polyvisor.Event
		want   []string
	}{
		{[]polyvisor.Event{gap(5)}, []string{"1 gap 5"}},
		{append(named("a", "lost"), gap(5)), []string{"1 started a0", "2 gap 6"}},
		{append(named("a", "lost"), gap(0)), []string{"1 started a0", "2 gap 0"}},
		{append(named("a"), polyvisor.Event{Type: polyvisor.EventResync}), []string{"1 started a0", "2 gap 1"}},
	} {
		conn, r := connect(t, nil)
		s := subscribe(t, conn, polyvisor.SubscribeOptions{Buffer: 1})
		r.emit(tt.events...)
		assert.Equal(t, tt.want, rest(t, s))
	}
}

func TestEventsOfOneDomain(t *testing.T) {
	conn, r := connect(t, nil)
	id := r.put("web", polyvisor.Running)
	dom, err := conn.Domain(t.Context(), "web")
	require.NoError(t, err)
	s := subscribe(t, conn, polyvisor.SubscribeOptions{Domain: dom})
	r.emit(
		polyvisor.Event{Type: polyvisor.EventStarted, UUID: uuid.New()}, polyvisor.Event{Type: polyvisor.EventSuspended, UUID: id, Name: "web"},
		polyvisor.Event{Type: polyvisor.EventResync}, polyvisor.Event{Type: polyvisor.EventGap, Lost: 3},
	)
	assert.Equal(t, []string{"1 suspended web0", "2 resync 0", "3 gap 3"}, rest(t, s))
}

func TestEventsOfAnotherConnection(t *testing.T) {
	theirs, other := inState(t, polyvisor.Running, nil)
	conn, r := connect(t, nil)
	_, err := conn.Subscribe(t.Context(), polyvisor.SubscribeOptions{Domain: theirs})
	require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
	require.ErrorContains(t, err, `domain "dom" is of another connection`)
	assert.NotContains(t, r.log(), "subscribe")
	assert.Empty(t, other.log())
}

// A driver may tell one Stop to many; what one reader does to it no other sees.
func TestEventsShareNothing(t *testing.T) {
	conn, r := connect(t, nil)
	a, b := subscribe(t, conn, polyvisor.SubscribeOptions{}), subscribe(t, conn, polyvisor.SubscribeOptions{})
	r.emit(polyvisor.Event{Type: polyvisor.EventStopped, Stop: &polyvisor.Stop{Reason: polyvisor.StopCrash}})
	first, err := a.Next(t.Context())
	require.NoError(t, err)
	first.Stop.Reason = polyvisor.StopKilled
	second, err := b.Next(t.Context())
	require.NoError(t, err)
	assert.Equal(t, polyvisor.StopCrash, second.Stop.Reason)
}

func TestNextContext(t *testing.T) {
	conn, r := connect(t, nil)
	s := subscribe(t, conn, polyvisor.SubscribeOptions{})
	var none context.Context
	_, err := s.Next(none)
	require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	_, err = s.Next(ctx)
	require.ErrorIs(t, err, context.Canceled)
	assert.EqualError(t, err, "rec: next event: context canceled: enough")
	assert.Equal(t, polyvisor.CodeCanceled, polyvisor.CodeOf(err))
	for range s.All(ctx) {
		t.Error("there is none")
	}
	r.emit(named("a", "b")...)
	for e := range s.All(t.Context()) {
		assert.Equal(t, "a", e.Name)
		break
	}
	assert.Equal(t, []string{"2 started b0"}, rest(t, s), "what a loop has not taken stays")
}

// Every reader that waits is told: of events, one each, and of the end.
func TestManyReaders(t *testing.T) {
	for _, closeConn := range []bool{false, true} {
		conn, r := connect(t, nil)
		s := subscribe(t, conn, polyvisor.SubscribeOptions{Buffer: 100_000})
		const readers, events = 8, 2000
		var got atomic.Int32
		var wg sync.WaitGroup
		all := make(chan struct{})
		for range readers {
			wg.Go(func() {
				for {
					e, err := s.Next(context.Background())
					if err != nil {
						assert.ErrorIs(t, err, polyvisor.ErrClosed)
						return
					}
					assert.Equal(t, polyvisor.EventStarted, e.Type)
					if got.Add(1) == events {
						close(all)
					}
				}
			})
		}
		for range 4 {
			wg.Go(func() {
				for range events / 4 {
					r.emit(named("a")...)
				}
			})
		}
		<-all // hangs if a wake-up is lost
		if closeConn {
			require.NoError(t, conn.Close())
		} else {
			require.NoError(t, s.Close())
		}
		wg.Wait()
	}
}

// A slow reader against fast drivers: what it gets and what the gaps stand for
// add up, in one unbroken sequence.
func TestGapsAddUp(t *testing.T) {
	conn, r := connect(t, nil)
	s := subscribe(t, conn, polyvisor.SubscribeOptions{Buffer: 3})
	const events = 5000
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range events / 2 {
				r.emit(named("a")...)
			}
		})
	}
	done := make(chan uint64)
	go func() {
		var sum, seq uint64
		for e := range s.All(context.Background()) {
			if seq++; e.Seq != seq {
				t.Errorf("%d after %d", e.Seq, seq-1)
			}
			if e.Type == polyvisor.EventGap {
				sum += e.Lost
			} else {
				sum++
			}
		}
		done <- sum
	}()
	wg.Wait()
	require.NoError(t, s.Close())
	assert.Equal(t, uint64(events), <-done)
}

func TestSubscriptionClose(t *testing.T) {
	conn, r := connect(t, nil)
	s := subscribe(t, conn, polyvisor.SubscribeOptions{})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { assert.NoError(t, s.Close()) })
	}
	wg.Go(func() { assert.NoError(t, conn.Close()) })
	wg.Wait()
	require.NoError(t, s.Close())
	assert.Empty(t, r.sinks)
	_, err := s.Next(t.Context())
	require.ErrorIs(t, err, polyvisor.ErrClosed)
}

// Close while Subscribe is under way: the subscription ends one way or the
// other, before the driver is closed.
func TestSubscribeDuringClose(t *testing.T) {
	conn, r := connect(t, nil)
	began, finish := make(chan struct{}), make(chan struct{})
	r.setScript(func(ctx context.Context, call string) error {
		if call == "subscribe" {
			close(began)
			<-ctx.Done()
			<-finish // and succeeds all the same
		}
		return nil
	})
	result := make(chan error)
	go func() {
		_, err := conn.Subscribe(t.Context(), polyvisor.SubscribeOptions{})
		result <- err
	}()
	<-began
	closed := make(chan error)
	go func() { closed <- conn.Close() }()
	close(finish)
	require.ErrorIs(t, <-result, polyvisor.ErrClosed)
	require.NoError(t, <-closed)

	for range 200 { // and at any moment
		conn, _ := connect(t, nil)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if s, err := conn.Subscribe(context.Background(), polyvisor.SubscribeOptions{}); err == nil {
					_, err := s.Next(context.Background())
					assert.ErrorIs(t, err, polyvisor.ErrClosed)
				}
			})
		}
		wg.Go(func() { _ = conn.Close() })
		wg.Wait()
	}
}
