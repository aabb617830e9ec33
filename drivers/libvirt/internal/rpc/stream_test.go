package rpc_test

import (
	"bytes"
	"context"
	"io"
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

func open(t *testing.T, c *rpc.Client) *rpc.Stream {
	t.Helper()
	s, err := c.CallStream(t.Context(), remote, console, func(w *xdr.Writer) { w.Uint32(7) }, nil)
	require.NoError(t, err)
	return s
}

// loop is a server whose streams give back what they get.
func loop(s *rpctest.Server, f rpctest.Frame) {
	switch {
	case f.Type == rpc.TypeCall:
		s.Write(f.Reply(f.Payload))
	case f.Type == rpc.TypeStream:
		s.Write(f)
	}
}

func TestStreamBothWays(t *testing.T) {
	c, _ := start(t, rpc.Options{}, loop)
	s := open(t, c)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	var wg sync.WaitGroup
	wg.Go(func() {
		n, err := s.Write(sent)
		assert.NoError(t, err)
		assert.Equal(t, len(sent), n)
	})
	got := make([]byte, len(sent))
	_, err := io.ReadFull(s, got)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(sent, got))
	wg.Wait()
	require.NoError(t, s.Finish(t.Context()))
	_, err = s.Read(got)
	assert.Equal(t, rpc.ErrStreamClosed, err)
	_, err = s.Write(got)
	assert.Equal(t, rpc.ErrStreamClosed, err)
	assert.Equal(t, rpc.ErrStreamClosed, s.Finish(t.Context()))
	assert.NoError(t, s.Close())
}

func TestStreamEnds(t *testing.T) {
	failed := &rpc.Error{Code: libvirt.ErrOperationFailed, Level: libvirt.ErrError, Message: "disk on fire"}
	for _, tt := range []struct {
		name  string
		after func(*rpctest.Server, rpctest.Frame) // what the server sends after the reply and some data
		check func(t *testing.T, err error)        // what Read gives behind the data
	}{
		{"empty packet", func(s *rpctest.Server, f rpctest.Frame) { s.Write(f.Stream(rpc.StatusContinue, nil)) }, func(t *testing.T, err error) { assert.Equal(t, io.EOF, err) }},
		{"finished", func(s *rpctest.Server, f rpctest.Frame) { s.Write(f.Stream(rpc.StatusOK, nil)) }, func(t *testing.T, err error) { assert.Equal(t, io.EOF, err) }},
		{"error", func(s *rpctest.Server, f rpctest.Frame) { s.Write(f.Stream(rpc.StatusError, f.Error(failed).Payload)) }, func(t *testing.T, err error) {
			assert.Equal(t, failed, err)
		}},
		{"error of garbage", func(s *rpctest.Server, f rpctest.Frame) { s.Write(f.Stream(rpc.StatusError, []byte{1})) }, func(t *testing.T, err error) {
			assert.ErrorIs(t, err, rpc.ErrProtocol)
		}},
		{"hole", func(s *rpctest.Server, f rpctest.Frame) {
			h := f.Stream(rpc.StatusContinue, make([]byte, 12))
			h.Type = rpc.TypeStreamHole
			s.Write(h)
		}, func(t *testing.T, err error) { assert.ErrorIs(t, err, rpc.ErrProtocol) }},
		{"lost", func(s *rpctest.Server, f rpctest.Frame) { s.Conn.Close() }, func(t *testing.T, err error) { assert.ErrorIs(t, err, rpc.ErrLost) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := start(t, rpc.Options{}, func(s *rpctest.Server, f rpctest.Frame) {
				if f.Type == rpc.TypeCall && f.Procedure == console {
					s.Write(f.Reply(nil), f.Stream(rpc.StatusContinue, []byte("data")))
					tt.after(s, f)
				} else if f.Type == rpc.TypeCall {
					s.Write(f.Reply(f.Payload))
				}
			})
			s, err := c.CallStream(t.Context(), remote, console, nil, nil)
			if tt.name == "lost" && err != nil {
				return // the end may overtake the caller
			}
			require.NoError(t, err)
			got := make([]byte, 4)
			_, err = io.ReadFull(s, got)
			require.NoError(t, err)
			assert.Equal(t, "data", string(got))
			_, err = s.Read(got)
			tt.check(t, err)
			s.Close()
			if tt.name != "lost" {
				_, err = number(t.Context(), c, 1)
				assert.NoError(t, err, "the connection goes on")
			}
		})
	}
}

func TestRefusedStream(t *testing.T) {
	c, _ := start(t, rpc.Options{}, func(s *rpctest.Server, f rpctest.Frame) {
		s.Write(f.Error(&rpc.Error{Code: libvirt.ErrOperationInvalid, Level: libvirt.ErrError, Message: "domain is not running"}))
	})
	_, err := c.CallStream(t.Context(), remote, console, nil, nil)
	var e *rpc.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, libvirt.ErrOperationInvalid, e.Code)
}

// The reply's own result is decoded; one that does not decode closes the stream.
func TestStreamReply(t *testing.T) {
	frames := make(chan rpctest.Frame, 10)
	c, _ := start(t, rpc.Options{}, func(s *rpctest.Server, f rpctest.Frame) {
		frames <- f
		loop(s, f)
	})
	var got uint32
	s, err := c.CallStream(t.Context(), remote, console, func(w *xdr.Writer) { w.Uint32(7) }, func(r *xdr.Reader) { got = r.Uint32() })
	require.NoError(t, err)
	assert.Equal(t, uint32(7), got)
	s.Close()
	<-frames
	assert.Equal(t, rpc.StatusError, (<-frames).Status)
	_, err = c.CallStream(t.Context(), remote, console, nil, func(r *xdr.Reader) { got = r.Uint32() })
	require.ErrorIs(t, err, rpc.ErrProtocol)
	<-frames
	assert.Equal(t, rpc.StatusError, (<-frames).Status)
}

// Nobody reads the stream: it fails and is aborted at the server, and calls go
// on all the while.
func TestStreamThatNobodyReads(t *testing.T) {
	aborted := make(chan rpctest.Frame, 1)
	var opened rpctest.Frame
	c, _ := start(t, rpc.Options{StreamQueue: 64 << 10}, func(s *rpctest.Server, f rpctest.Frame) {
		switch {
		case f.Type == rpc.TypeStream:
			aborted <- f
		case f.Procedure == console:
			opened = f
			s.Write(f.Reply(nil))
		default:
			for range 10 {
				s.Write(opened.Stream(rpc.StatusContinue, make([]byte, 16<<10)))
			}
			s.Write(f.Reply(f.Payload))
		}
	})
	s := open(t, c)
	for n := range uint32(10) {
		got, err := number(t.Context(), c, n)
		require.NoError(t, err)
		assert.Equal(t, n, got)
	}
	assert.Equal(t, rpc.StatusError, (<-aborted).Status)
	all, err := io.ReadAll(s)
	assert.Equal(t, rpc.ErrStreamOverflow, err)
	assert.Len(t, all, 64<<10, "what had come before is there")
	assert.NoError(t, s.Close())
}

// With PauseStreams the server has to wait instead, for as long as it takes,
// and nothing is lost. Keepalive neither ends the connection then, nor stops.
func TestStreamPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, server := rpctest.Pipe()
		const packets, size = 100, 16 << 10
		pings := 0
		var sender sync.WaitGroup
		c := serve(t, conn, server, rpc.Options{PauseStreams: true, StreamQueue: 64 << 10, KeepAlive: time.Second, KeepAliveCount: 2}, func(s *rpctest.Server, f rpctest.Frame) {
			switch {
			case f.Program == rpc.ProgramKeepAlive:
				pings++
			case f.Procedure == console && f.Type == rpc.TypeCall:
				sender.Go(func() {
					s.Write(f.Reply(nil))
					for i := range packets {
						s.Write(f.Stream(rpc.StatusContinue, bytes.Repeat([]byte{byte(i)}, size)))
					}
					s.Write(f.Stream(rpc.StatusContinue, nil))
				})
			}
		})
		s := open(t, c)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.NoError(t, c.Err())
		assert.InDelta(t, 60, pings, 2)
		got, err := io.ReadAll(s)
		require.NoError(t, err)
		require.Len(t, got, packets*size)
		for i := range packets {
			require.Equal(t, byte(i), got[i*size])
		}
		sender.Wait()
		s.Close()
	})
}

// Closing the stream that the connection waits for lets it go on.
func TestCloseOfPausedStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, server := rpctest.Pipe()
		var sender sync.WaitGroup
		c := serve(t, conn, server, rpc.Options{PauseStreams: true, StreamQueue: 1}, func(s *rpctest.Server, f rpctest.Frame) {
			switch {
			case f.Procedure == console && f.Type == rpc.TypeCall:
				sender.Go(func() {
					s.Write(f.Reply(nil))
					for range 10 {
						s.Write(f.Stream(rpc.StatusContinue, []byte("x")))
					}
				})
			case f.Type == rpc.TypeCall:
				sender.Go(func() { s.Write(f.Reply(f.Payload)) })
			}
		})
		s := open(t, c)
		synctest.Wait()
		s.Close()
		_, err := number(t.Context(), c, 1)
		assert.NoError(t, err)
		s = open(t, c)
		synctest.Wait()
		c.Close() // and so does closing the connection
		for err == nil {
			_, err = s.Read(make([]byte, 1))
		}
		assert.Equal(t, rpc.ErrClosed, err)
		sender.Wait()
	})
}

// A write to a server that does not read waits; Close ends it.
func TestStreamWriteUntilClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, server := rpctest.Pipe()
		c := rpc.New(conn, rpc.Options{})
		var wg sync.WaitGroup
		wg.Go(func() {
			f, err := server.Read()
			assert.NoError(t, err)
			server.Write(f.Reply(nil))
		})
		s := open(t, c)
		wg.Wait()
		wg.Go(func() {
			_, err := s.Write(make([]byte, 8<<20))
			assert.Equal(t, rpc.ErrStreamClosed, err)
		})
		wg.Go(func() {
			_, err := s.Read(make([]byte, 1))
			assert.Equal(t, rpc.ErrStreamClosed, err)
		})
		synctest.Wait()
		s.Close()
		wg.Wait()
		c.Close()
		server.Conn.Close()
	})
}

func TestFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, server := rpctest.Pipe()
		failed := &rpc.Error{Code: libvirt.ErrOperationFailed, Level: libvirt.ErrError, Message: "no space left"}
		var ends []uint32
		mute := false
		c := serve(t, conn, server, rpc.Options{}, func(s *rpctest.Server, f rpctest.Frame) {
			if f.Type == rpc.TypeCall {
				s.Write(f.Reply(nil))
				return
			}
			ends = append(ends, f.Status)
			if !mute {
				s.Write(f.Stream(rpc.StatusError, f.Error(failed).Payload))
			}
		})
		s := open(t, c)
		assert.Equal(t, failed, s.Finish(t.Context()))

		mute = true
		s = open(t, c)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		assert.Equal(t, context.DeadlineExceeded, s.Finish(ctx))
		synctest.Wait()
		assert.Equal(t, []uint32{rpc.StatusOK, rpc.StatusOK, rpc.StatusError}, ends)

		s = open(t, c)
		time.AfterFunc(time.Second, func() { c.Close() })
		assert.Equal(t, rpc.ErrClosed, s.Finish(t.Context()))
	})
}

// A stream whose opening was abandoned is aborted when the server opens it
// after all.
func TestAbandonedStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, server := rpctest.Pipe()
		var frames []rpctest.Frame
		c := serve(t, conn, server, rpc.Options{StreamQueue: 1}, func(s *rpctest.Server, f rpctest.Frame) { frames = append(frames, f) })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.CallStream(ctx, remote, console, nil, nil)
		require.Equal(t, context.DeadlineExceeded, err)
		synctest.Wait()
		require.Len(t, frames, 1)
		f := frames[0]
		server.Write(f.Stream(rpc.StatusContinue, make([]byte, 100)), f.Stream(rpc.StatusContinue, make([]byte, 100)), f.Reply(nil), f.Stream(rpc.StatusContinue, []byte("late")))
		synctest.Wait()
		require.NoError(t, c.Err())
		require.Len(t, frames, 2)
		assert.Equal(t, f.Stream(rpc.StatusError, []byte{}), frames[1])
	})
}

// A server that never answers is not worth any amount of memory.
func TestTooManyAbandonedStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, server := rpctest.Pipe()
		c := serve(t, conn, server, rpc.Options{}, func(*rpctest.Server, rpctest.Frame) {})
		var err error
		for range 2000 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			_, err = c.CallStream(ctx, remote, console, nil, nil)
			cancel()
			if err != context.DeadlineExceeded {
				break
			}
		}
		assert.ErrorIs(t, err, rpc.ErrProtocol)
	})
}
