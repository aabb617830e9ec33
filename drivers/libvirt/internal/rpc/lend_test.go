package rpc_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/rpc"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/rpc/rpctest"
)

const slow = 5 // a procedure whose reply takes its time

// lent gives a client whose callers read by themselves: it has made one call
// after the other. The server answers slow calls when told.
func lent(t *testing.T, o rpc.Options) (*rpc.Client, *rpctest.Server, chan struct{}) {
	release := make(chan struct{})
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	c, server := start(t, o, func(s *rpctest.Server, f rpctest.Frame) {
		switch {
		case f.Type != rpc.TypeCall:
		case f.Procedure == slow:
			wg.Go(func() {
				<-release
				s.Write(f.Reply(f.Payload))
			})
		default:
			s.Write(f.Reply(f.Payload))
		}
	})
	for n := range uint32(50) {
		_, err := number(t.Context(), c, n)
		require.NoError(t, err)
	}
	return c, server, release
}

// A caller that reads by itself returns when its context ends, also if others
// go on calling, for whom it reads, too.
func TestCallerThatReadsCanLeave(t *testing.T) {
	c, _, release := lent(t, rpc.Options{})
	defer close(release)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		err := c.Call(ctx, remote, slow, nil, nil)
		cancel()
		require.Equal(t, context.DeadlineExceeded, err)
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				got, err := number(t.Context(), c, 9)
				assert.NoError(t, err)
				assert.Equal(t, uint32(9), got)
			}
		})
	}
	close(stop)
	wg.Wait()
}

// One that waits long does not keep those from their replies that come after it.
func TestCallsBesideACallerThatReads(t *testing.T) {
	c, _, release := lent(t, rpc.Options{})
	var wg sync.WaitGroup
	wg.Go(func() { assert.NoError(t, c.Call(t.Context(), remote, slow, nil, nil)) })
	for n := range uint32(500) {
		got, err := number(t.Context(), c, n)
		require.NoError(t, err)
		require.Equal(t, n, got)
	}
	s := open(t, c)
	s.Close()
	close(release)
	wg.Wait()
}

// Events, pings and the end are seen when no call is under way.
func TestIdleAfterLending(t *testing.T) {
	events := make(chan uint32, 1)
	c, server, release := lent(t, rpc.Options{Event: func(_, procedure uint32, _ []byte) { events <- procedure }})
	close(release)
	server.Write(rpctest.Event(remote, 318, nil))
	assert.Equal(t, uint32(318), <-events)
	for n := range uint32(50) {
		_, err := number(t.Context(), c, n)
		require.NoError(t, err)
	}
	server.Conn.Close()
	<-c.Done()
	assert.ErrorIs(t, c.Err(), rpc.ErrLost)
}

func TestCloseWhileLent(t *testing.T) {
	c, _, release := lent(t, rpc.Options{})
	defer close(release)
	c.Close()
	_, err := number(t.Context(), c, 1)
	assert.Equal(t, rpc.ErrClosed, err)

	c, _, release = lent(t, rpc.Options{})
	defer close(release)
	time.AfterFunc(time.Millisecond, func() { c.Close() })
	assert.Equal(t, rpc.ErrClosed, c.Call(t.Context(), remote, slow, nil, nil))
}

// shy is a context that counts how often it was asked for its channel.
type shy struct {
	context.Context
	asked int
}

func (s *shy) Done() <-chan struct{} { s.asked++; return s.Context.Done() }

// A caller that reads its reply by itself waits for nothing else, so that a context
// which would have to make its channel need not. A reply that is late, on a busy
// machine, is waited for otherwise.
func TestCallerThatReadsAsksForNoChannel(t *testing.T) {
	c, _, _ := lent(t, rpc.Options{})
	ctx := &shy{Context: t.Context()}
	const calls = 200
	for n := range uint32(calls) {
		_, err := number(ctx, c, n)
		require.NoError(t, err)
	}
	assert.Less(t, ctx.asked, calls)
}
