//go:build linux && amd64

package kvmapi

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// DevicePath is where the KVM device is found.
const DevicePath = "/dev/kvm"

// System is an open KVM device.
type System struct {
	handle
	mmapSize int
}

// Open opens the KVM device at path (normally [DevicePath]) and checks its API version. A failure is an *[OpenError].
// Needs: basic.
func Open(path string) (*System, error) {
	var fd int
	var err error
	for {
		fd, err = unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return nil, openError(path, err)
	}
	s := &System{handle: handle{fd: fd}}
	version, err := s.ioctl("KVM_GET_API_VERSION", ioGetAPIVersion, 0)
	if err != nil {
		s.Close()
		return nil, &OpenError{Path: path, Reason: ErrNotKVM, Err: err,
			Remedy: "name the device of the kernel's kvm module, normally " + DevicePath}
	}
	if version != APIVersion {
		s.Close()
		return nil, &OpenError{Path: path, Reason: ErrAPIVersion,
			Err:    fmt.Errorf("the kernel says %d, this program needs %d", version, APIVersion),
			Remedy: "use a Linux kernel of version 4.14 or newer"}
	}
	s.mmapSize, err = s.ioctl("KVM_GET_VCPU_MMAP_SIZE", ioGetVCPUMmapSize, 0)
	if err != nil {
		s.Close()
		return nil, &OpenError{Path: path, Reason: ErrNotKVM, Err: err}
	}
	if s.mmapSize < runPageMin {
		s.Close()
		return nil, &OpenError{Path: path, Reason: ErrNotKVM,
			Err: fmt.Errorf("the shared page of a vCPU is %d bytes, at least %d are needed", s.mmapSize, runPageMin)}
	}
	return s, nil
}

func openError(path string, err error) error {
	e := &OpenError{Path: path, Err: err}
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		e.Reason = ErrNoDevice
		e.Remedy = "load the module kvm_intel or kvm_amd, switch virtualisation on in the firmware, or pass the device into the container"
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		e.Reason = ErrPermission
		e.Remedy = "join the group that owns the device, normally kvm, and log in again"
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EISDIR):
		e.Reason = ErrNotKVM
	}
	return e
}

// Close closes the device. VMs made from it live on.
func (s *System) Close() error { return s.close() }

// CheckExtension asks for a capability of the host: 0 means absent.
// Needs: basic.
func (s *System) CheckExtension(c Cap) (int, error) {
	return s.ioctl("KVM_CHECK_EXTENSION", ioCheckExtension, uintptr(c))
}

// CreateVM makes a virtual machine without memory or processors.
// Needs: basic.
func (s *System) CreateVM() (*VM, error) {
	fd, err := s.ioctl("KVM_CREATE_VM", ioCreateVM, 0)
	if err != nil {
		return nil, err
	}
	// The kernel sets close-on-exec on the descriptors it makes here.
	return &VM{handle: handle{fd: fd}, mmapSize: s.mmapSize}, nil
}

var supported struct {
	sync.Mutex
	entries []CPUIDEntry
}

// GetSupportedCPUID gives the processor features that the host and KVM can show to a guest. The call is slow (a
// millisecond and more on some hosts) and its answer does not change, so the process asks once; the slice is the caller's.
// Needs: KVM_CAP_EXT_CPUID.
func (s *System) GetSupportedCPUID() ([]CPUIDEntry, error) {
	supported.Lock()
	defer supported.Unlock()
	if supported.entries == nil {
		e, err := s.supportedCPUID()
		if err != nil {
			return nil, err
		}
		supported.entries = e
	}
	return slices.Clone(supported.entries), nil
}

// cpuidBuffer is struct kvm_cpuid2 with room for the most entries that KVM takes.
type cpuidBuffer struct {
	n       uint32
	_       uint32
	entries [MaxCPUIDEntries]CPUIDEntry
}

// MaxCPUIDEntries is KVM_MAX_CPUID_ENTRIES.
const MaxCPUIDEntries = 256

func (s *System) supportedCPUID() ([]CPUIDEntry, error) {
	buf := &cpuidBuffer{n: MaxCPUIDEntries}
	if _, err := s.ioctlPtr("KVM_GET_SUPPORTED_CPUID", ioGetSupportedCPUID, unsafe.Pointer(buf)); err != nil {
		return nil, err
	}
	return slices.Clone(buf.entries[:min(buf.n, MaxCPUIDEntries)]), nil
}

// GetMSRIndexList gives the numbers of the model-specific registers that belong to a guest's state.
// Needs: basic.
func (s *System) GetMSRIndexList() ([]uint32, error) {
	// The first word is the room, then the answer's length. The kernel says E2BIG and the length it wants.
	buf := make([]uint32, 1+1024)
	for {
		buf[0] = uint32(len(buf) - 1)
		_, err := s.ioctlPtr("KVM_GET_MSR_INDEX_LIST", ioGetMSRIndexList, unsafe.Pointer(&buf[0]))
		switch {
		case err == nil:
			return slices.Clone(buf[1 : 1+min(int(buf[0]), len(buf)-1)]), nil
		case errors.Is(err, unix.E2BIG) && int(buf[0]) >= len(buf) && buf[0] < 1<<16:
			buf = make([]uint32, 1+buf[0])
		default:
			return nil, err
		}
	}
}
