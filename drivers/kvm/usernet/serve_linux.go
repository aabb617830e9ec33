package usernet

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"

	"github.com/containers/gvisor-tap-vsock/pkg/types"
	"github.com/containers/gvisor-tap-vsock/pkg/virtualnetwork"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/netback"
)

const (
	gatewayMAC = "5a:94:ef:e4:0c:ee" // locally administered
	// maxDescriptors bounds connections, which are two descriptors at most.
	maxDescriptors = 2048
	maxLog         = 256 << 10
)

func init() { netback.MaybeMain(serve) }

// serve is the helper process: it returns when the VM process is gone.
func serve(cfg netback.UserConfig, frames *os.File, ready func() error) error {
	logrus.SetOutput(&boundedWriter{to: os.Stderr, left: maxLog})
	logrus.SetLevel(logrus.WarnLevel)
	limit := unix.Rlimit{}
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil && limit.Cur > maxDescriptors {
		limit.Cur = maxDescriptors
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	}
	conn, err := newConn(frames, &cfg)
	if err != nil {
		return err
	}
	defer conn.Close()
	network, err := virtualnetwork.New(configuration(&cfg))
	if err != nil {
		return err
	}
	if err := ready(); err != nil {
		return err
	}
	_ = network.AcceptBess(context.Background(), conn) // ends with the socket, always with an error
	return nil
}

// configuration is the library's word for a card.
func configuration(cfg *netback.UserConfig) *types.Configuration {
	a := cfg.Addresses()
	record := func(name string, addr netip.Addr) types.Record {
		return types.Record{Name: name, IP: net.IP(addr.AsSlice())}
	}
	zone := types.Zone{Name: netback.Zone + ".", Records: []types.Record{record("gateway", a.Gateway)}}
	c := &types.Configuration{
		MTU: cfg.MTU, Subnet: cfg.Subnet.Masked().String(), GatewayIP: a.Gateway.String(), GatewayMacAddress: gatewayMAC,
		DHCPStaticLeases: map[string]string{a.Guest.String(): net.HardwareAddr(cfg.MAC[:]).String()},
		DNSSearchDomains: []string{netback.Zone},
		Forwards:         make(map[string]string),
	}
	if cfg.Hostname != "" {
		zone.Records = append(zone.Records, record(cfg.Hostname, a.Guest))
	}
	if cfg.HostLoopback {
		zone.Records = append(zone.Records, record("host", a.Host))
		c.NAT = map[string]string{a.Host.String(): "127.0.0.1"}
		c.GatewayVirtualIPs = []string{a.Host.String()}
	}
	c.DNS = []types.Zone{zone}
	for _, f := range cfg.Forwards {
		local := netip.AddrPortFrom(f.Host, f.HostPort).String()
		if f.Protocol == "udp" {
			local = "udp:" + local
		}
		c.Forwards[local] = fmt.Sprintf("%s:%s", a.Guest, strconv.Itoa(int(f.GuestPort)))
	}
	return c
}

// boundedWriter drops what is beyond a number of bytes: the guest can make the
// stack complain as often as it likes.
type boundedWriter struct {
	mu   sync.Mutex
	to   io.Writer
	left int
}

func (w *boundedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := min(w.left, len(p)); n > 0 {
		w.left -= n
		if _, err := w.to.Write(p[:n]); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}
