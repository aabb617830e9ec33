//go:build linux

package usernet_test

import (
	"net/netip"
	"os"
	"strconv"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/netback"
)

var dhcpOptionMTU = dhcpv4.OptionInterfaceMTU

func itoa(n int) string { return strconv.Itoa(n) }

// mustFd gives the descriptor without making the file blocking.
func mustFd(t testing.TB, f *os.File) (fd uintptr) {
	raw, err := f.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(n uintptr) { fd = n }))
	return fd
}

// FuzzFrames sends frames to a helper, which must go on answering.
func FuzzFrames(f *testing.F) {
	a := (&netback.UserConfig{}).Addresses()
	f.Add([]byte{})
	f.Add(make([]byte, 14))
	f.Add(frame(a.Guest, a.Gateway, 1, 53, []byte("\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04host\x00\x00\x01\x00\x01")))
	f.Add(frame(netip.IPv4Unspecified(), netip.AddrFrom4([4]byte{255, 255, 255, 255}), 68, 67, make([]byte, 300)))
	f.Add(frame(a.Guest, netip.MustParseAddr("127.0.0.1"), 9, 9, []byte("x")))
	end, _ := start(f, netback.UserConfig{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<16 {
			return
		}
		if len(b) >= 12 {
			copy(b[6:], guestMAC[:])
		}
		if len(b) == 0 {
			return
		}
		_, err := end.Write(b)
		require.NoError(t, err)
		answers(t, end, netback.UserConfig{})
	})
}
