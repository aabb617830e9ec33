package rpc_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/rpc"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/rpc/rpctest"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/xdr"
)

const (
	remote   = rpc.ProgramRemote
	getState = 212 // DOMAIN_GET_STATE
	console  = 201 // DOMAIN_OPEN_CONSOLE
)

// start gives a client of a server that handles frames so.
func start(t testing.TB, o rpc.Options, handle func(*rpctest.Server, rpctest.Frame)) (*rpc.Client, *rpctest.Server) {
	t.Helper()
	conn, server := rpctest.Socket(t)
	return serve(t, conn, server, o, handle), server
}

func serve(t testing.TB, conn net.Conn, server *rpctest.Server, o rpc.Options, handle func(*rpctest.Server, rpctest.Frame)) *rpc.Client {
	c := rpc.New(conn, o)
	var wg sync.WaitGroup
	wg.Go(func() { server.Serve(handle) })
	t.Cleanup(func() {
		c.Close()
		server.Conn.Close()
		wg.Wait()
	})
	return c
}

// number makes a call whose argument and result are a number.
func number(ctx context.Context, c *rpc.Client, n uint32) (uint32, error) {
	var got uint32
	err := c.Call(ctx, remote, getState, func(w *xdr.Writer) { w.Uint32(n) }, func(r *xdr.Reader) { got = r.Uint32() })
	return got, err
}

func TestCall(t *testing.T) {
	for name, pair := range map[string]func(testing.TB) (net.Conn, *rpctest.Server){
		"socket": rpctest.Socket,
		"pipe": func(testing.TB) (net.Conn, *rpctest.Server) {
			return rpctest.Pipe()
		},
	} {
		t.Run(name, func(t *testing.T) {
			conn, server := pair(t)
			c := serve(t, conn, server, rpc.Options{}, rpctest.Echo)
			for n := range uint32(100) {
				got, err := number(t.Context(), c, n)
				require.NoError(t, err)
				require.Equal(t, n, got)
			}
		})
	}
}

func TestCallTellsTheServersError(t *testing.T) {
	want := &rpc.Error{Code: libvirt.ErrNoDomain, Domain: 10, Level: libvirt.ErrError, Message: "Domain not found: x", Str1: "a", Str3: "c", Int1: -1, Int2: 7}
	c, _ := start(t, rpc.Options{}, func(s *rpctest.Server, f rpctest.Frame) { s.Write(f.Error(want)) })
	_, err := number(t.Context(), c, 1)
	var got *rpc.Error
	require.ErrorAs(t, err, &got)
	assert.Equal(t, want, got)
	assert.Equal(t, "Domain not found: x", err.Error())
	assert.NoError(t, c.Err())
}

// A server that is too old for a procedure says so in words.
func TestUnknownProcedureIsNoSupport(t *testing.T) {
	c, _ := start(t, rpc.Options{}, func(s *rpctest.Server, f rpctest.Frame) {
		s.Write(f.Error(&rpc.Error{Code: libvirt.ErrRPC, Domain: 7, Level: libvirt.ErrError, Message: "unknown procedure: 999"}))
	})
	_, err := number(t.Context(), c, 1)
	var got *rpc.Error
	require.ErrorAs(t, err, &got)
	assert.Equal(t, libvirt.ErrNoSupport, got.Code)
}

func TestRepliesInAnyOrder(t *testing.T) {
	const calls = 50
	var held []rpctest.Frame
	c, _ := start(t, rpc.Options{}, func(s *rpctest.Server, f rpctest.Frame) {
		held = append(held, f.Reply(f.Payload))
		if len(held) == calls {
			for i := range held { // the last first
				s.Write(held[calls-1-i])
			}
		}
	})
	var wg sync.WaitGroup
	for n := range uint32(calls) {
		wg.Go(func() {
			got, err := number(t.Context(), c, n)
			assert.NoError(t, err)
			assert.Equal(t, n, got)
		})
	}
	wg.Wait()
}

// An abandoned call returns at once, its reply is dropped when it comes, and
// the connection goes on.
func TestAbandonedCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, server := rpctest.Pipe()
		var late []rpctest.Frame
		c := serve(t, conn, server, rpc.Options{}, func(s *rpctest.Server, f rpctest.Frame) {
			if late = append(late, f); len(late) == 2 {
				s.Write(late[0].Reply([]byte{0, 0, 0, 99}), f.Reply(f.Payload))
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := number(ctx, c, 1)
		assert.Equal(t, context.DeadlineExceeded, err)
		got, err := number(t.Context(), c, 2)
		require.NoError(t, err)
		assert.Equal(t, uint32(2), got)

		_, err = number(ctx, c, 3)
		assert.Equal(t, context.DeadlineExceeded, err, "nothing is sent when the context has ended before")
		synctest.Wait()
		assert.Len(t, late, 2)
	})
}

func TestArgumentsThatDoNotFit(t *testing.T) {
	c, _ := start(t, rpc.Options{}, rpctest.Echo)
	err := c.Call(t.Context(), remote, getState, func(w *xdr.Writer) { w.String(strings.Repeat("x", xdr.StringMax+1)) }, nil)
	assert.ErrorIs(t, err, rpc.ErrTooLarge)
	err = c.Call(t.Context(), remote, getState, func(w *xdr.Writer) { w.Fixed(make([]byte, rpc.MaxMessage)) }, nil)
	assert.ErrorIs(t, err, rpc.ErrTooLarge)
	_, err = number(t.Context(), c, 1)
	assert.NoError(t, err, "nothing was sent")
}

func TestLargestFrames(t *testing.T) {
	c, _ := start(t, rpc.Options{}, rpctest.Echo)
	for _, n := range []int{0, 1, 4, 65535, 65536, 65537, 1 << 20, rpc.MaxMessage - 24} {
		sent := make([]byte, n)
		if n > 0 {
			sent[0], sent[n-1] = 1, 2
		}
		got := -1
		err := c.Call(t.Context(), remote, getState, func(w *xdr.Writer) { w.Reset(append(w.Bytes(), sent...)) }, func(r *xdr.Reader) { got = r.Remaining() })
		require.NoError(t, err)
		require.Equal(t, n, got)
	}
}

// A reply that does not decode fails its call only.
func TestReplyThatDoesNotDecode(t *testing.T) {
	c, _ := start(t, rpc.Options{}, rpctest.Echo)
	err := c.Call(t.Context(), remote, getState, func(w *xdr.Writer) { w.Uint32(0xffffffff) }, func(r *xdr.Reader) {
		for range r.Count(1<<32-1, 4) {
			r.Uint32()
		}
	})
	require.ErrorIs(t, err, rpc.ErrProtocol)
	assert.ErrorIs(t, err, xdr.ErrMalformed)
	_, err = number(t.Context(), c, 1)
	assert.NoError(t, err)
}

func TestLostConnection(t *testing.T) {
	c, server := start(t, rpc.Options{}, func(s *rpctest.Server, f rpctest.Frame) { s.Conn.Close() })
	_, err := number(t.Context(), c, 1)
	assert.ErrorIs(t, err, rpc.ErrLost)
	<-c.Done()
	assert.ErrorIs(t, c.Err(), rpc.ErrLost)
	_, err = number(t.Context(), c, 1)
	assert.ErrorIs(t, err, rpc.ErrLost)
	server.Conn.Close()
}

func TestServerSaysGoodbye(t *testing.T) {
	c, server := start(t, rpc.Options{}, rpctest.Echo)
	server.Conn.Close()
	<-c.Done()
	assert.ErrorIs(t, c.Err(), io.EOF)
	assert.ErrorContains(t, c.Err(), "the server closed it")
}

func TestClose(t *testing.T) {
	c, _ := start(t, rpc.Options{}, func(*rpctest.Server, rpctest.Frame) {})
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			_, err := number(t.Context(), c, 1)
			assert.Equal(t, rpc.ErrClosed, err)
		})
	}
	for range 3 {
		wg.Go(func() { assert.NoError(t, c.Close()) })
	}
	wg.Wait()
	assert.Equal(t, rpc.ErrClosed, c.Err())
	_, err := number(t.Context(), c, 1)
	assert.True(t, errors.Is(err, rpc.ErrClosed))
}

func TestEvents(t *testing.T) {
	type event struct {
		program, procedure uint32
		payload            string
	}
	events := make(chan event, 10)
	_, server := start(t, rpc.Options{Event: func(program, procedure uint32, payload []byte) {
		events <- event{program, procedure, string(payload)}
	}}, rpctest.Echo)
	server.Write(
		rpctest.Event(remote, 318, []byte("one.")),
		rpctest.Event(0x12345678, 1, []byte("nobody knows this program")),
		rpctest.Event(rpc.ProgramQEMU, 6, []byte("two.")),
	)
	assert.Equal(t, event{remote, 318, "one."}, <-events)
	assert.Equal(t, event{rpc.ProgramQEMU, 6, "two."}, <-events)
}
