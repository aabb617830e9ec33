package rpc_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/rpc"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/rpc/rpctest"
)

// The connection dies under 200 goroutines that call, abandon calls, and use
// streams. Each returns, with its own reply or an error that tells why.
func TestConnectionDiesUnderLoad(t *testing.T) {
	deaths := map[string]func(*rpc.Client, *rpctest.Server){
		"server gone": func(_ *rpc.Client, s *rpctest.Server) { s.Conn.Close() },
		"closed here": func(c *rpc.Client, _ *rpctest.Server) { c.Close() },
		"garbage":     func(_ *rpc.Client, s *rpctest.Server) { s.Raw([]byte{0, 0, 0, 1}) },
	}
	for name, die := range deaths {
		t.Run(name, func(t *testing.T) {
			conn, server := rpctest.Socket(t)
			c := serve(t, conn, server, rpc.Options{KeepAlive: time.Millisecond, KeepAliveCount: 1000}, loop)
			bridged := foreign(t, c)
			var wg sync.WaitGroup
			var answered atomic.Int64
			for n := range uint32(200) {
				wg.Go(func() {
					var err error
					for err == nil {
						ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
						switch n % 4 {
						case 0:
							ctx, cancel = context.WithTimeout(ctx, time.Duration(rand.IntN(500))*time.Microsecond)
							fallthrough
						case 1:
							var got uint32
							if got, err = number(ctx, c, n); err == nil {
								assert.Equal(t, n, got)
								answered.Add(1)
							}
						case 2:
							var s *rpc.Stream
							if s, err = c.CallStream(ctx, remote, console, nil, nil); err == nil {
								s.Write([]byte{byte(n)})
								p := []byte{0}
								if _, rerr := io.ReadFull(s, p); rerr == nil {
									assert.Equal(t, byte(n), p[0])
								}
								s.Close()
							}
						case 3:
							_, err = bridged.ConnectGetLibVersion()
							if err != nil && c.Err() == nil {
								err = nil // the echo is no version
							}
						}
						cancel()
						if errors.Is(err, context.DeadlineExceeded) {
							err = nil
						}
					}
					if n%4 != 3 && !errors.Is(err, rpc.ErrLost) && !errors.Is(err, rpc.ErrClosed) {
						t.Errorf("%v", err)
					}
				})
			}
			for answered.Load() < 2000 && c.Err() == nil {
				time.Sleep(time.Millisecond)
			}
			die(c, server)
			wg.Wait()
			assert.Error(t, c.Err())
		})
	}
}
