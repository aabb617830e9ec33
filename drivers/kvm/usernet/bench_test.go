//go:build linux

package usernet_test

import (
	"io"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/netback"
)

// BenchmarkThroughput sends from the guest to the host's loopback through the
// helper, and the same without it; "ratio" is what part of the latter is
// reached. The guest's stack, which is Go, has a share in it.
func BenchmarkThroughput(b *testing.B) {
	const size = 32 << 20
	port := serveTCP(b, func(c net.Conn) {
		n, _ := io.Copy(io.Discard, io.LimitReader(c, size))
		_, _ = io.WriteString(c, strconv.FormatInt(n, 10))
	})
	send := func(c net.Conn) time.Duration {
		defer c.Close()
		start, chunk := time.Now(), make([]byte, 1<<16)
		for range size / len(chunk) {
			_, err := c.Write(chunk)
			require.NoError(b, err)
		}
		n, err := io.ReadAll(c)
		require.NoError(b, err)
		require.Equal(b, strconv.Itoa(size), string(n))
		return time.Since(start)
	}
	for _, mtu := range []int{1500, 9000, 65520} {
		b.Run("mtu="+strconv.Itoa(mtu), func(b *testing.B) {
			cfg := netback.UserConfig{HostLoopback: true, MTU: mtu}
			end, _ := start(b, cfg)
			g := boot(b, end, cfg)
			b.SetBytes(size)
			var direct, through time.Duration
			for b.Loop() {
				c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
				require.NoError(b, err)
				direct += send(c)
				c, err = dial(b, g, g.addr.Host, port)
				require.NoError(b, err)
				through += send(c)
			}
			b.ReportMetric(float64(direct)/float64(through), "ratio")
		})
	}
}
