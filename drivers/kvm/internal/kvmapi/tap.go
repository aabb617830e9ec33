//go:build linux && amd64

package kvmapi

import (
	"os"

	"golang.org/x/sys/unix"
)

// tapPath is the device that taps are made with; see the kernel's
// Documentation/networking/tuntap.rst.
const tapPath = "/dev/net/tun"

// TapFlags choose what a queue of a tap is like.
type TapFlags struct {
	MultiQueue bool // IFF_MULTI_QUEUE
	VNetHdr    bool // IFF_VNET_HDR with headers of 12 bytes, those of virtio 1
	Offloads   bool // checksums and TSO are left to the other side: TUNSETOFFLOAD
}

// OpenTapQueue opens a queue of a tap, which is made if there is none of that
// name and is gone with its last queue then, and tells its name, which the kernel
// chooses if none is given. The file is non-blocking, and the
// caller's. Errors are those of the kernel: ENOENT without the device, EPERM
// without CAP_NET_ADMIN for a tap that is not the caller's, EINVAL for flags
// that are not those of an existing tap, EBUSY for a tap that has all its queues.
func OpenTapQueue(name string, flags TapFlags) (*os.File, string, error) {
	fd, err := unix.Open(tapPath, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, "", &os.PathError{Op: "open", Path: tapPath, Err: err}
	}
	name, err = setTap(fd, name, flags)
	if err != nil {
		unix.Close(fd)
		return nil, "", err
	}
	// Only now: the descriptor cannot be polled before it has a tap.
	return os.NewFile(uintptr(fd), name), name, nil
}

func setTap(fd int, name string, flags TapFlags) (string, error) {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return "", err
	}
	bits := uint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if flags.MultiQueue {
		bits |= unix.IFF_MULTI_QUEUE
	}
	if flags.VNetHdr {
		bits |= unix.IFF_VNET_HDR
	}
	req.SetUint16(bits)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return "", &IoctlError{Call: "TUNSETIFF", Err: err}
	}
	if flags.VNetHdr {
		const header = 12 // struct virtio_net_hdr_v1
		if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, header); err != nil {
			return "", &IoctlError{Call: "TUNSETVNETHDRSZ", Err: err}
		}
	}
	offload := 0
	if flags.Offloads {
		offload = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN
	}
	if flags.VNetHdr {
		if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offload); err != nil {
			return "", &IoctlError{Call: "TUNSETOFFLOAD", Err: err}
		}
	}
	return req.Name(), nil
}

// SetTapOffloads says which work the reader of a tap takes from the kernel: frames
// without a checksum, and TCP segments larger than the MTU of IPv4 and IPv6. It is for
// all queues of the tap.
func SetTapOffloads(f *os.File, csum, tso4, tso6 bool) error {
	bits := 0
	for bit, on := range map[int]bool{unix.TUN_F_CSUM: csum, unix.TUN_F_TSO4: csum && tso4, unix.TUN_F_TSO6: csum && tso6} {
		if on {
			bits |= bit
		}
	}
	return controlTap(f, "TUNSETOFFLOAD", func(fd int) error { return unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, bits) })
}

// UseTapQueue says whether the kernel gives frames to a queue of a tap with MultiQueue. A
// queue that is not used still belongs to the tap. It is no error if that is so already.
func UseTapQueue(f *os.File, use bool) error {
	req, err := unix.NewIfreq("")
	if err != nil {
		return err
	}
	get := func(fd int) error { return unix.IoctlIfreq(fd, unix.TUNGETIFF, req) }
	if err := controlTap(f, "TUNGETIFF", get); err != nil {
		return err
	}
	if used := req.Uint16()&unix.IFF_DETACH_QUEUE == 0; used == use {
		return nil
	}
	if req.SetUint16(unix.IFF_DETACH_QUEUE); use {
		req.SetUint16(unix.IFF_ATTACH_QUEUE)
	}
	return controlTap(f, "TUNSETQUEUE", func(fd int) error { return unix.IoctlIfreq(fd, unix.TUNSETQUEUE, req) })
}

func controlTap(f *os.File, name string, call func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if cerr := raw.Control(func(fd uintptr) { err = call(int(fd)) }); cerr != nil {
		return cerr
	}
	if err != nil {
		return &IoctlError{Call: name, Err: err}
	}
	return nil
}
