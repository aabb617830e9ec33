//go:build linux

package net

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
)

// MaxPairs bounds the queue pairs of a device.
const MaxPairs = 16

// MTU that a device may announce.
const (
	MinMTU = 68 // IPv4's least
	MaxMTU = 65535
)

// Backend is where frames go to and come from.
type Backend struct {
	// Files has one file for each pair of queues: a queue of a tap, or a unix socket of type SOCK_SEQPACKET or
	// SOCK_DGRAM with a frame in each message. They are non-blocking. The caller closes them, after the last Stop.
	Files []*os.File
	// VNetHdr says that a struct virtio_net_hdr_v1 of 12 bytes, little-endian, precedes each frame (a tap with
	// IFF_VNET_HDR and TUNSETVNETHDRSZ 12).
	VNetHdr bool
	// Offloads says that the back end completes checksums and cuts large TCP segments, as the header asks. Needs VNetHdr.
	Offloads bool
}

// Config of a device.
type Config struct {
	MAC     [6]byte
	MTU     uint16 // announced to the guest; 0 announces none
	Backend Backend

	// SetOffloads tells the back end which of the Guest offloads the driver takes (GuestCsum, GuestTSO4, GuestTSO6: the
	// bits of Features), at each Start and whenever the driver changes them. Needed with Backend.Offloads. It may block
	// shortly; it is not called on vCPU threads. An error at Start fails the device.
	SetOffloads func(features uint64) error
	// SetPairs tells the back end to use the first n files only, at each Start and whenever the driver changes the
	// number. Needed with more than one file; as SetOffloads otherwise.
	SetPairs func(n int) error
	// Lost is called once when the back end has failed or gone, from a goroutine of the device. It must return soon and
	// not call the device's Stop. The guest sees the link go down by then. Nil ignores it.
	Lost func(error)
}

func (c *Config) check() error {
	var errs []error
	add := func(format string, a ...any) { errs = append(errs, fmt.Errorf("network device: "+format, a...)) }
	if n := len(c.Backend.Files); n == 0 || n > MaxPairs {
		add("%d back end files: give 1 to %d, one for each pair of queues", n, MaxPairs)
	}
	if len(c.Backend.Files) > 1 && c.SetPairs == nil {
		add("several back end files without SetPairs: give it, or one file")
	}
	if c.Backend.Offloads && (!c.Backend.VNetHdr || c.SetOffloads == nil) {
		add("offloads need a back end with headers and SetOffloads")
	}
	if c.MTU != 0 && c.MTU < MinMTU {
		add("MTU %d: give 0 for none, or %d to %d", c.MTU, MinMTU, MaxMTU)
	}
	if c.MAC[0]&1 != 0 || c.MAC == [6]byte{} {
		add("MAC % x: a group address or all zeros; give an address of one station", c.MAC)
	}
	return errors.Join(errs...)
}

// Device configuration space, virtio 1.2 section 5.1.4.
const (
	cfgStatus = 6
	cfgPairs  = 8
	cfgMTU    = 10
	cfgSize   = 12

	statusLinkUp = 1
)

// ConfigSize is the size of the configuration space in bytes.
func (d *Device) ConfigSize() int { return cfgSize }

// ReadConfig gives what the driver reads.
func (d *Device) ReadConfig(off int, p []byte) {
	var b [cfgSize]byte
	copy(b[:], d.c.MAC[:])
	told := int32(toldDown)
	if d.link.Load() {
		told = toldUp
		binary.LittleEndian.PutUint16(b[cfgStatus:], statusLinkUp)
	}
	d.told.Store(told)
	binary.LittleEndian.PutUint16(b[cfgPairs:], uint16(len(d.pairs)))
	binary.LittleEndian.PutUint16(b[cfgMTU:], d.c.MTU)
	copy(p, b[off:])
}

// WriteConfig changes nothing: with VERSION_1 all fields are the device's.
func (d *Device) WriteConfig(int, []byte) {}
