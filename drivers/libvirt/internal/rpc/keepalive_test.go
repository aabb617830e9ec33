package rpc_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/rpc"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/rpc/rpctest"
)

const (
	ping = 1
	pong = 2
)

func keepAlive(procedure uint32) rpctest.Frame {
	return rpctest.Event(rpc.ProgramKeepAlive, procedure, nil)
}

func TestSilentServerIsFound(t *testing.T) {
	for _, tt := range []struct {
		interval time.Duration
		count    int
	}{{5 * time.Second, 5}, {time.Second, 0}, {10 * time.Millisecond, 1}} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			conn, server := rpctest.Pipe()
			var pings []time.Duration
			c := serve(t, conn, server, rpc.Options{KeepAlive: tt.interval, KeepAliveCount: tt.count}, func(s *rpctest.Server, f rpctest.Frame) {
				if f.Program == rpc.ProgramKeepAlive {
					assert.Equal(t, keepAlive(ping).Header, f.Header)
					pings = append(pings, time.Since(began))
				}
			})
			_, err := number(t.Context(), c, 1)
			assert.ErrorIs(t, err, rpc.ErrLost)
			assert.ErrorIs(t, err, rpc.ErrKeepAlive)
			assert.Equal(t, tt.interval*time.Duration(tt.count+1), time.Since(began))
			synctest.Wait()
			require.Len(t, pings, tt.count)
			for i, at := range pings {
				assert.Equal(t, tt.interval*time.Duration(i+1), at)
			}
		})
	}
}

// A server that does not even read is found as well, though no question gets
// out.
func TestServerThatDoesNotReadIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		conn, server := rpctest.Pipe()
		defer server.Conn.Close()
		c := rpc.New(conn, rpc.Options{KeepAlive: time.Second, KeepAliveCount: 2})
		defer c.Close()
		_, err := number(t.Context(), c, 1)
		assert.ErrorIs(t, err, rpc.ErrKeepAlive)
		assert.Equal(t, 3*time.Second, time.Since(began))
	})
}

// Whatever comes counts as a sign of life, and the time is counted from it.
func TestSignsOfLife(t *testing.T) {
	for name, sign := range map[string]func(*rpctest.Server) error{
		"pong":              func(s *rpctest.Server) error { return s.Write(keepAlive(pong)) },
		"event":             func(s *rpctest.Server) error { return s.Write(rpctest.Event(remote, 318, nil)) },
		"a bit of a frame":  func(s *rpctest.Server) error { return s.Raw([]byte{0}) },
		"its own questions": func(s *rpctest.Server) error { return s.Write(keepAlive(ping)) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn, server := rpctest.Pipe()
				c := serve(t, conn, server, rpc.Options{KeepAlive: time.Second, KeepAliveCount: 2}, func(*rpctest.Server, rpctest.Frame) {})
				var last time.Time
				for range 3 {
					time.Sleep(2900 * time.Millisecond)
					require.NoError(t, c.Err())
					last = time.Now()
					require.NoError(t, sign(server))
				}
				<-c.Done()
				assert.Equal(t, 3*time.Second, time.Since(last))
			})
		})
	}
}

// The server's questions are answered without any call under way, and with
// keepalive of our own not started.
func TestPong(t *testing.T) {
	conn, server := rpctest.Socket(t)
	c := rpc.New(conn, rpc.Options{})
	defer c.Close()
	for range 3 {
		require.NoError(t, server.Write(keepAlive(ping)))
		f, err := server.Read()
		require.NoError(t, err)
		assert.Equal(t, keepAlive(pong).Header, f.Header)
	}
}

// A server that asks and asks and does not read the answers costs one answer,
// not memory.
func TestPingsAreNotHoarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, server := rpctest.Pipe()
		c := rpc.New(conn, rpc.Options{})
		for range 1000 {
			require.NoError(t, server.Write(keepAlive(ping)))
		}
		synctest.Wait()
		answers := 0
		go func() {
			time.Sleep(time.Second)
			c.Close()
		}()
		server.Serve(func(*rpctest.Server, rpctest.Frame) { answers++ })
		assert.LessOrEqual(t, answers, 2) // one on its way, one in the queue
		server.Conn.Close()
	})
}

func TestKeepAliveOnceAndAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, server := rpctest.Pipe()
		c := serve(t, conn, server, rpc.Options{}, func(*rpctest.Server, rpctest.Frame) {})
		c.KeepAlive(0, 1)
		c.KeepAlive(time.Second, 0)
		c.KeepAlive(time.Millisecond, 0)
		began := time.Now()
		<-c.Done()
		assert.Equal(t, time.Second, time.Since(began))
		c.KeepAlive(time.Second, 1)
	})
}
