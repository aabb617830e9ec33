package polyvisor

import (
	"encoding"
	"fmt"
	"net"
	"strconv"
)

// Device is a device of a domain that can be attached and detached: *Disk,
// *NIC, *Share or *RNG. Only this package implements it.
type Device interface {
	// DeviceID is the name by which Detach and Update find the device in its
	// domain: the target of a disk, the MAC address of a NIC, the tag of a share,
	// "rng".
	DeviceID() string
	// isDevice keeps the set closed, so that drivers can know all kinds.
	isDevice()
}

// DeviceMode says how a device's back end is accessed, with the numbers of
// libvirt's virDeviceMode.
type DeviceMode uint8

// The modes.
const (
	// DeviceDefault leaves the choice to the device: read-write for a disk.
	DeviceDefault DeviceMode = 0
	// DeviceReadOnly: the guest cannot write.
	DeviceReadOnly DeviceMode = 1
	// DeviceReadWrite: the guest can write; refused while someone else does.
	DeviceReadWrite DeviceMode = 2
	// DeviceReadWriteForce: the guest can write even if the back end is in use
	// already. Two writers of one image destroy it unless they agree otherwise.
	DeviceReadWriteForce DeviceMode = 3
)

var deviceModes = wordTable[DeviceMode]{"default", "ro", "rw", "rw-force"}

// String gives the mode as a word.
func (m DeviceMode) String() string { return deviceModes.word(m, "device mode") }

// MarshalText encodes the mode as its word.
func (m DeviceMode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText decodes what MarshalText wrote.
func (m *DeviceMode) UnmarshalText(b []byte) error { return deviceModes.parse(b, m, "device mode") }

// Writable reports whether the guest may write.
func (m DeviceMode) Writable() bool { return m != DeviceReadOnly }

// wordTable holds the words of a small enumeration, by number.
type wordTable[T ~uint8] []string

func (t wordTable[T]) word(v T, what string) string {
	if int(v) < len(t) {
		return t[v]
	}
	return fmt.Sprintf("%s %d", what, v)
}

func (t wordTable[T]) parse(b []byte, v *T, what string) error {
	for i, w := range t {
		if w == string(b) {
			*v = T(i)
			return nil
		}
	}
	return fmt.Errorf("unknown %s %q", what, b)
}

// Disk is a block device.
type Disk struct {
	// Target is the device's name for the domain's configuration and in XML,
	// such as "vda": small letters and digits, unique among the domain's disks.
	// Disks without one get vda, vdb... in their order.
	Target string `json:"target,omitempty"`
	// Source is the image.
	Source File `json:"source,omitzero"`
	// Format is the format of the image, FormatRaw if empty. It is stated and
	// never probed: a guest could write another format's header into a raw image.
	Format DiskFormat `json:"format,omitempty"`
	// Mode says whether the guest can write.
	Mode DeviceMode `json:"mode,omitzero"`
	// Serial is the serial number that the guest sees, at most 20 bytes.
	Serial string `json:"serial,omitempty"`
	// Cache says when what the guest writes is safe; empty leaves the choice among
	// the safe ways to the driver.
	Cache CacheMode `json:"cache,omitempty"`
	// Queues is how many request queues the guest sees, at most 64; 0 leaves it to
	// the driver.
	Queues int `json:"queues,omitempty"`
}

// CacheMode says what of the host stands between a guest's writes and the
// storage, in libvirt's words (the attribute cache of a disk's driver).
type CacheMode string

// The cache modes.
const (
	// CacheWriteback: writes are in the host's page cache when they complete, and
	// durable when a flush of the guest completes.
	CacheWriteback CacheMode = "writeback"
	// CacheWritethrough: a write is durable when it completes.
	CacheWritethrough CacheMode = "writethrough"
	// CacheNone is CacheWriteback past the host's page cache (O_DIRECT).
	CacheNone CacheMode = "none"
	// CacheUnsafe: a flush does nothing. A power cut of the host loses data that
	// the guest was told is safe.
	CacheUnsafe CacheMode = "unsafe"
)

// maxQueues bounds Disk.Queues and NIC.Queues.
const maxQueues = 64

// DiskFormat is the format of a disk image.
type DiskFormat string

// The disk formats.
const (
	FormatRaw   DiskFormat = "raw"
	FormatQCOW2 DiskFormat = "qcow2"
)

// DeviceID is the disk's target.
func (d *Disk) DeviceID() string { return d.Target }
func (*Disk) isDevice()          {}

// NIC is a network interface.
type NIC struct {
	// MAC is the address; a random, locally administered one is made if empty.
	MAC MAC `json:"mac,omitzero"`
	// Network is the back end; NetworkUser if empty.
	Network NetworkKind `json:"network,omitempty"`
	// Source names the bridge, the tap device or the host's network, as Network
	// demands; empty for NetworkUser.
	Source string `json:"source,omitempty"`
	// MTU is the largest packet in bytes; 0 leaves it to the back end.
	MTU int `json:"mtu,omitempty"`
	// Queues is how many pairs of queues the guest sees, at most 64; 0 leaves it to
	// the driver. NetworkUser has one.
	Queues int `json:"queues,omitempty"`
	// Forwards publishes ports of the guest on the host; for NetworkUser only,
	// whose guests nobody can reach else. A driver needs FeaturePortForwards.
	Forwards []PortForward `json:"forwards,omitempty"`
	// HostLoopback lets the guest reach what listens on the host's own loopback,
	// 127.0.0.1, at an address and name that the driver documents; for NetworkUser
	// only. It is off because programs that listen there rely on being reached by the
	// host's own users alone: set it for guests that may do all that a local user of the
	// host may do by its services. A driver needs FeatureHostLoopback.
	HostLoopback bool `json:"host_loopback,omitempty"`
}

// PortForward publishes a port of a guest on the host: who connects or sends to
// the host's port reaches the guest's. A port that is taken keeps the domain
// from starting.
type PortForward struct {
	// Protocol is ProtocolTCP, also if empty, or ProtocolUDP.
	Protocol string `json:"protocol,omitempty"`
	// HostIP is the address of the host that listens: 127.0.0.1 if empty, so
	// that only the host itself can connect; 0.0.0.0 for all of IPv4.
	HostIP string `json:"host_ip,omitempty"`
	// HostPort is the port on the host, 1 or more.
	HostPort uint16 `json:"host_port"`
	// GuestPort is the port in the guest; HostPort if 0.
	GuestPort uint16 `json:"guest_port,omitempty"`
}

// The protocols of a PortForward.
const (
	ProtocolTCP = "tcp"
	ProtocolUDP = "udp"
)

// String gives a form such as tcp 127.0.0.1:8080 to 80.
func (f PortForward) String() string {
	return fmt.Sprintf("%s %s to %d", f.Protocol, net.JoinHostPort(f.HostIP, strconv.Itoa(int(f.HostPort))), f.GuestPort)
}

// NetworkKind is the back end of a network interface.
type NetworkKind string

// The back ends.
const (
	// NetworkUser needs no privilege: the guest reaches the network through the
	// host's own sockets.
	NetworkUser NetworkKind = "user"
	// NetworkBridge attaches the interface to a bridge of the host.
	NetworkBridge NetworkKind = "bridge"
	// NetworkTap uses a tap device of the host.
	NetworkTap NetworkKind = "tap"
	// NetworkManaged attaches the interface to a network that the hypervisor
	// manages, such as libvirt's "default".
	NetworkManaged NetworkKind = "network"
)

// DeviceID is the NIC's MAC address.
func (n *NIC) DeviceID() string { return n.MAC.String() }
func (*NIC) isDevice()          {}

// MAC is an Ethernet address.
type MAC [6]byte

// ParseMAC reads an address such as 52:54:00:12:34:56.
func ParseMAC(s string) (MAC, error) {
	hw, err := net.ParseMAC(s)
	if err != nil || len(hw) != len(MAC{}) {
		return MAC{}, fmt.Errorf("%w: MAC address %q; write it as 52:54:00:12:34:56", ErrInvalidConfig, s)
	}
	return MAC(hw), nil
}

// String gives the address in lower case with colons.
func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// IsZero reports whether no address is set.
func (m MAC) IsZero() bool { return m == MAC{} }

// MarshalText encodes the address as String does.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads what ParseMAC reads.
func (m *MAC) UnmarshalText(b []byte) (err error) {
	*m, err = ParseMAC(string(b))
	return err
}

// Share is a directory of the host that the guest can mount.
type Share struct {
	// Tag is what the guest mounts; 1 to 36 bytes, unique among the domain's shares.
	Tag string `json:"tag"`
	// Source is the directory on the host.
	Source string `json:"source"`
	// Mode says whether the guest can write.
	Mode DeviceMode `json:"mode,omitzero"`
}

// DeviceID is the share's tag.
func (s *Share) DeviceID() string { return s.Tag }
func (*Share) isDevice()          {}

// RNG is a source of random numbers for the guest.
type RNG struct {
	// Source is the host's device; /dev/urandom if empty.
	Source string `json:"source,omitempty"`
	// BytesPerSecond bounds what the guest may take; 0 means no bound.
	BytesPerSecond Bytes `json:"bytes_per_second,omitempty"`
}

// DeviceID is "rng": a domain has at most one.
func (r *RNG) DeviceID() string { return "rng" }
func (*RNG) isDevice()          {}

// VsockConfig gives the guest a socket device to the host.
type VsockConfig struct {
	// CID is the guest's address, 3 or more; 0 lets the driver choose.
	CID uint32 `json:"cid,omitempty"`
}

var (
	_ encoding.TextMarshaler = DeviceMode(0)
	_ Device                 = (*Disk)(nil)
	_ Device                 = (*NIC)(nil)
	_ Device                 = (*Share)(nil)
	_ Device                 = (*RNG)(nil)
)
