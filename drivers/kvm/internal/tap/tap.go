//go:build linux && amd64

// Package tap makes taps for network cards: it opens the queues of a tap by its
// name, makes it if there is none, and joins it to a bridge.
//
// A tap that was made is transient: it goes with its last queue, so that a VM
// process that was killed leaves nothing. One that existed is used as it is: it
// keeps its address, MTU, bridge and owner, but what the caller asks for has to
// be so already. Queues are opened by ioctls of our own, as the library's way of
// doing it would change the owner of a tap that exists.
package tap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/kvmapi"
)

// Errors of Open, each with its remedy in the text.
var (
	ErrNoDevice   = errors.New("no /dev/net/tun")
	ErrPermission = errors.New("no permission to use taps")
	ErrNoBridge   = errors.New("no such bridge")
	ErrMismatch   = errors.New("the tap exists and is different")
	ErrBusy       = errors.New("the tap is in use")
)

// Config is a tap.
type Config struct {
	// Name is at most 15 bytes; empty for a name that the kernel chooses, which
	// only the first of a new tap can be.
	Name string
	// Bridge is the one that the tap is joined to; empty for none.
	Bridge string
	// MTU is in bytes; 0 leaves that of the bridge or 1500.
	MTU int
	// Queues is how many files there are, 1 if 0. More need a tap with
	// IFF_MULTI_QUEUE.
	Queues int
	// VNetHdr makes each frame begin with a struct virtio_net_hdr_v1, 12 bytes.
	// Without it there are no offloads.
	VNetHdr bool
	// MAC is the host's side's address, which must not be the guest's; the kernel
	// chooses one if zero.
	MAC [6]byte
}

const maxQueues = 256 // MAX_TAP_QUEUES of the kernel

// Open gives a file for each queue, non-blocking, one frame for each read and
// write, and the name of the tap. The files are the caller's, who closes them;
// the tap, if it was made here, is gone with the last copy. Nothing is left after
// an error.
//
// Errors: ErrNoDevice, ErrPermission, ErrNoBridge, ErrMismatch, ErrBusy.
func Open(ctx context.Context, cfg Config) (files []*os.File, name string, err error) {
	queues := max(cfg.Queues, 1)
	switch {
	case queues > maxQueues:
		return nil, "", fmt.Errorf("tap %q: %d queues, at most %d are possible", cfg.Name, queues, maxQueues)
	case len(cfg.Name) >= unix.IFNAMSIZ:
		return nil, "", fmt.Errorf("tap %q: the name is longer than %d bytes", cfg.Name, unix.IFNAMSIZ-1)
	}
	if err := context.Cause(ctx); err != nil {
		return nil, "", err
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, "", fmt.Errorf("tap %q: %w", cfg.Name, err)
	}
	defer h.Close()
	bridge, err := findBridge(h, cfg.Bridge)
	if err != nil {
		return nil, "", err
	}
	existing, err := find(h, cfg.Name)
	if err != nil {
		return nil, "", err
	}
	defer func() {
		if err != nil {
			for _, f := range files {
				f.Close()
			}
			files = nil
		}
	}()
	name = cfg.Name
	// A tap with several queues wants to be opened as one, also for one queue.
	multi := queues > 1 || hasQueues(existing)
	for range queues {
		f, actual, err := kvmapi.OpenTapQueue(name, kvmapi.TapFlags{MultiQueue: multi, VNetHdr: cfg.VNetHdr, Offloads: cfg.VNetHdr})
		if err != nil {
			return files, "", explain(name, queues, err)
		}
		files, name = append(files, f), actual
	}
	if existing != nil {
		return files, name, matches(existing, cfg, bridge)
	}
	return files, name, setUp(h, name, cfg, bridge)
}

// MTU gives the MTU of a tap, in bytes.
func MTU(name string) (int, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return 0, fmt.Errorf("tap %q: %w", name, err)
	}
	defer h.Close()
	l, err := h.LinkByName(name)
	if err != nil {
		return 0, fmt.Errorf("tap %q: %w", name, err)
	}
	return l.Attrs().MTU, nil
}

func findBridge(h *netlink.Handle, name string) (netlink.Link, error) {
	if name == "" {
		return nil, nil
	}
	l, err := h.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) || err == nil && l.Type() != "bridge" {
		return nil, fmt.Errorf("%w: %q; make it with: ip link add %s type bridge && ip link set %s up", ErrNoBridge, name, name, name)
	}
	if err != nil {
		return nil, fmt.Errorf("bridge %q: %w", name, err)
	}
	return l, nil
}

// find gives the tap of a name, nil if there is none.
func find(h *netlink.Handle, name string) (netlink.Link, error) {
	if name == "" {
		return nil, nil
	}
	l, err := h.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("tap %q: %w", name, err)
	}
	if t, ok := l.(*netlink.Tuntap); !ok || t.Mode != netlink.TUNTAP_MODE_TAP {
		return nil, fmt.Errorf("%w: %q is a %s; give the name of a tap, or of nothing", ErrMismatch, name, l.Type())
	}
	return l, nil
}

func hasQueues(l netlink.Link) bool {
	t, ok := l.(*netlink.Tuntap)
	return ok && t.Flags&netlink.TUNTAP_MULTI_QUEUE != 0
}

// matches compares what is asked for with a tap that is left alone.
func matches(l netlink.Link, cfg Config, bridge netlink.Link) error {
	a := l.Attrs()
	var errs []error
	differs := func(what string, have, want any, remedy string) {
		errs = append(errs, fmt.Errorf("%w: tap %q has %s %v, not %v; %s", ErrMismatch, a.Name, what, have, want, remedy))
	}
	if bridge != nil && a.MasterIndex != bridge.Attrs().Index {
		differs("the bridge of index", a.MasterIndex, bridge.Attrs().Index, "join it with: ip link set "+a.Name+" master "+cfg.Bridge)
	}
	if cfg.MTU != 0 && a.MTU != cfg.MTU {
		differs("MTU", a.MTU, cfg.MTU, "set it with: ip link set "+a.Name+" mtu")
	}
	if a.Flags&net.FlagUp == 0 {
		errs = append(errs, fmt.Errorf("%w: tap %q is down; do: ip link set %s up", ErrMismatch, a.Name, a.Name))
	}
	return errors.Join(errs...)
}

// setUp makes a new tap what it is to be.
func setUp(h *netlink.Handle, name string, cfg Config, bridge netlink.Link) error {
	l, err := h.LinkByName(name)
	if err == nil && cfg.MAC != [6]byte{} {
		err = h.LinkSetHardwareAddr(l, cfg.MAC[:])
	}
	if mtu := cfg.MTU; err == nil {
		if mtu == 0 && bridge != nil {
			mtu = bridge.Attrs().MTU // or the bridge would take the tap's
		}
		if mtu != 0 {
			err = h.LinkSetMTU(l, mtu)
		}
	}
	if err == nil && bridge != nil {
		err = h.LinkSetMasterByIndex(l, bridge.Attrs().Index)
	}
	if err == nil {
		err = h.LinkSetUp(l)
	}
	if err != nil {
		return fmt.Errorf("set up tap %q: %w", name, explain(name, cfg.Queues, err))
	}
	return nil
}

// explain says what an error of the kernel means for the user.
func explain(name string, queues int, err error) error {
	switch {
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO):
		return fmt.Errorf("%w: %w; load the module with: modprobe tun", ErrNoDevice, err)
	case errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w: tap %q: %w; run with CAP_NET_ADMIN, have it made for you (ip tuntap add %s mode tap user NAME), or use network user", ErrPermission, name, err, name)
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w: %q: %w; give another name or end what uses it", ErrBusy, name, err)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%w: %q does not have what %d queues take: %w; make it with: ip tuntap add %s mode tap [multi_queue] [vnet_hdr]", ErrMismatch, name, queues, err, name)
	}
	return fmt.Errorf("tap %q: %w", name, err)
}
