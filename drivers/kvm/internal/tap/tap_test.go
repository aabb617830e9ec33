//go:build linux && amd64

package tap

import (
	"errors"
	"os"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/kvmapi"
	"github.com/polyvisor/polyvisor/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// private puts the test's thread, which ends with the test, into a network
// namespace of its own.
func private(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread is not used again
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("needs root for a network namespace: %v", err)
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skipf("needs /dev/net/tun: %v", err)
	}
}

func bridge(t *testing.T, name string, mtu int) netlink.Link {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = name, mtu
	require.NoError(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}))
	l, err := netlink.LinkByName(name)
	require.NoError(t, err)
	require.NoError(t, netlink.LinkSetUp(l))
	return l
}

func closeAll(t *testing.T, files []*os.File) {
	t.Helper()
	for _, f := range files {
		require.NoError(t, f.Close())
	}
}

// A tap that is made is what was asked for, and is gone with its last queue.
func TestTransient(t *testing.T) {
	private(t)
	br := bridge(t, "br0", 1400)
	for _, cfg := range []Config{
		{Name: "vm0"},
		{},
		{Name: "vm1", Bridge: "br0"},
		{Name: "vm2", Bridge: "br0", MTU: 1300, Queues: 4, VNetHdr: true, MAC: [6]byte{2, 1, 2, 3, 4, 5}},
	} {
		files, name, err := Open(t.Context(), cfg)
		require.NoError(t, err)
		require.Len(t, files, max(cfg.Queues, 1))
		if cfg.Name != "" {
			require.Equal(t, cfg.Name, name)
		}
		l, err := netlink.LinkByName(name)
		require.NoError(t, err)
		mtu := map[string]int{"": 1500, "br0": 1400}[cfg.Bridge]
		if cfg.MTU != 0 {
			mtu = cfg.MTU
		}
		assert.Equal(t, mtu, l.Attrs().MTU)
		told, err := MTU(name)
		require.NoError(t, err)
		assert.Equal(t, mtu, told)
		assert.NotZero(t, l.Attrs().RawFlags&unix.IFF_UP, "it is up")
		if cfg.Bridge != "" {
			assert.Equal(t, br.Attrs().Index, l.Attrs().MasterIndex)
		}
		if cfg.MAC != [6]byte{} {
			assert.Equal(t, cfg.MAC[:], []byte(l.Attrs().HardwareAddr))
		}
		closeAll(t, files[1:])
		_, err = netlink.LinkByName(name)
		require.NoError(t, err, "a queue is open")
		closeAll(t, files[:1])
		_, err = netlink.LinkByName(name)
		require.ErrorAs(t, err, new(netlink.LinkNotFoundError))
	}
}

// A frame that is written to one queue of a bridge comes out of another tap on
// it, behind a header of 12 bytes if there is one.
func TestFrames(t *testing.T) {
	private(t)
	bridge(t, "br0", 0)
	a, _, err := Open(t.Context(), Config{Name: "a", Bridge: "br0", VNetHdr: true})
	require.NoError(t, err)
	defer closeAll(t, a)
	b, _, err := Open(t.Context(), Config{Name: "b", Bridge: "br0"})
	require.NoError(t, err)
	defer closeAll(t, b)
	frame := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 0x88, 0xb5}, "a frame of an experiment of sixty bytes or more ......"...)
	expect := func(f *os.File, header int) {
		buf := make([]byte, 2000)
		for { // the kernel has frames of its own
			n, err := f.Read(buf)
			require.NoError(t, err)
			if n >= header+14 && [2]byte(buf[header+12:]) == [2]byte{0x88, 0xb5} {
				assert.Equal(t, frame, buf[header:n])
				return
			}
		}
	}
	_, err = a[0].Write(append(make([]byte, 12), frame...))
	require.NoError(t, err)
	expect(b[0], 0)
	frame[11] = 8 // or the bridge takes it for one of a's
	_, err = b[0].Write(frame)
	require.NoError(t, err)
	expect(a[0], 12)
}

// A tap that existed is used as it is and stays.
func TestExisting(t *testing.T) {
	private(t)
	bridge(t, "br0", 0)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "mine"
	tuntap := &netlink.Tuntap{LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TAP, Flags: netlink.TUNTAP_NO_PI, Owner: 1234}
	require.NoError(t, netlink.LinkAdd(tuntap))
	for _, f := range tuntap.Fds {
		f.Close()
	}
	_, _, err := Open(t.Context(), Config{Name: "mine", Bridge: "br0", MTU: 1400})
	require.ErrorIs(t, err, ErrMismatch)
	for _, remedy := range []string{"master br0", "mtu", "ip link set mine up"} {
		require.ErrorContains(t, err, remedy)
	}
	l, err := netlink.LinkByName("mine")
	require.NoError(t, err)
	require.NoError(t, netlink.LinkSetUp(l))
	files, _, err := Open(t.Context(), Config{Name: "mine"})
	require.NoError(t, err)
	_, _, err = Open(t.Context(), Config{Name: "mine"})
	require.ErrorIs(t, err, ErrBusy)
	_, _, err = Open(t.Context(), Config{Name: "mine", Queues: 2})
	require.Error(t, err)
	closeAll(t, files)
	l, err = netlink.LinkByName("mine")
	require.NoError(t, err, "it stays")
	assert.EqualValues(t, 1234, l.(*netlink.Tuntap).Owner, "and its owner")
}

func TestErrors(t *testing.T) {
	private(t)
	_, _, err := Open(t.Context(), Config{Name: "vm0", Bridge: "br9"})
	require.ErrorIs(t, err, ErrNoBridge)
	require.ErrorContains(t, err, "ip link add br9 type bridge")
	_, _, err = Open(t.Context(), Config{Name: "vm0", Bridge: "lo"})
	require.ErrorIs(t, err, ErrNoBridge)
	_, _, err = Open(t.Context(), Config{Name: "lo"})
	require.ErrorIs(t, err, ErrMismatch)
	_, _, err = Open(t.Context(), Config{Name: "a-name-that-is-too-long"})
	require.ErrorContains(t, err, "longer than 15 bytes")
	_, _, err = Open(t.Context(), Config{Queues: 257})
	require.ErrorContains(t, err, "at most 256")
	_, err = MTU("vm0")
	require.ErrorContains(t, err, "vm0")
	_, err = netlink.LinkByName("vm0")
	require.True(t, errors.As(err, new(netlink.LinkNotFoundError)), "nothing is left")
}

// Each error of the kernel is told with what to do.
func TestExplain(t *testing.T) {
	for errno, want := range map[unix.Errno]error{unix.ENOENT: ErrNoDevice, unix.ENODEV: ErrNoDevice, unix.EPERM: ErrPermission, unix.EBUSY: ErrBusy, unix.EINVAL: ErrMismatch} {
		err := explain("vm0", 1, errno)
		require.ErrorIs(t, err, want)
		require.ErrorIs(t, err, errno)
	}
	require.ErrorContains(t, explain("vm0", 1, unix.EPERM), "CAP_NET_ADMIN")
	require.ErrorContains(t, explain("vm0", 1, unix.ENOENT), "modprobe tun")
}

// A queue that is not used gets no frame, and gets them again.
func TestUseQueues(t *testing.T) {
	private(t)
	files, name, err := Open(t.Context(), Config{Queues: 3, VNetHdr: true})
	require.NoError(t, err)
	defer closeAll(t, files)
	queues := func() (used, unused int) {
		l, err := netlink.LinkByName(name)
		require.NoError(t, err)
		return l.(*netlink.Tuntap).Queues, l.(*netlink.Tuntap).DisabledQueues
	}
	for _, n := range []int{1, 1, 3, 2, 3, 3} {
		for i, f := range files {
			require.NoError(t, kvmapi.UseTapQueue(f, i < n))
		}
		used, unused := queues()
		require.EqualValues(t, n, used)
		require.EqualValues(t, 3-n, unused)
	}
	single, _, err := Open(t.Context(), Config{})
	require.NoError(t, err)
	defer closeAll(t, single)
	require.NoError(t, kvmapi.UseTapQueue(single[0], true))
	require.ErrorIs(t, kvmapi.UseTapQueue(single[0], false), unix.EINVAL)
	require.Error(t, kvmapi.UseTapQueue(os.Stdin, true))
}

// One queue of a tap that may have several.
func TestExistingWithQueues(t *testing.T) {
	private(t)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "many"
	tuntap := &netlink.Tuntap{LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TAP, Flags: netlink.TUNTAP_MULTI_QUEUE_DEFAULTS, Queues: 1}
	require.NoError(t, netlink.LinkAdd(tuntap))
	closeAll(t, tuntap.Fds)
	l, err := netlink.LinkByName("many")
	require.NoError(t, err)
	require.NoError(t, netlink.LinkSetUp(l))
	for _, queues := range []int{0, 2} {
		files, _, err := Open(t.Context(), Config{Name: "many", Queues: queues})
		require.NoError(t, err, "%d queues", queues)
		closeAll(t, files)
	}
}
