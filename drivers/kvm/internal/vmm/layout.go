//go:build linux && amd64

package vmm

import (
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/acpi"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/guestmem"
)

// hole is where memory below 4 GiB ends at the latest.
func (s *Spec) hole() uint64 {
	if s.Boot.Kind == BootFirmware {
		return firmwareHole
	}
	return guestmem.HoleStart
}

// acpiBase is the first port of the ACPI device.
func (s *Spec) acpiBase() uint16 {
	if s.Boot.Kind == BootFirmware {
		return firmwareACPI
	}
	return acpi.IOBase
}
