//go:build linux && amd64

package vmm

import (
	"fmt"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/acpi"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/guestmem"
)

// resetVector is where a PC's firmware begins, seen from real mode: f000:fff0. A jump there restarts the computer.
const resetVector = 0xffff0

// writeResetVector puts code there that writes ACPI's reset register. Linux resets by that jump, and not by the register,
// on every machine with hardware-reduced ACPI and no EFI: it takes such a machine for one with EFI, asks EFI, which is not
// there, and falls to "BIOS" (arch/x86/kernel/reboot.c, reboot_init and native_machine_emergency_restart).
func writeResetVector(mem *guestmem.Memory) error {
	r := acpi.RegistersAt(acpi.IOBase)
	code := []byte{
		0xba, byte(r.Reset), byte(r.Reset >> 8), // mov dx, reset register
		0xb0, r.ResetValue, // mov al, reset value
		0xee,       // out dx, al
		0xfa,       // cli
		0xf4,       // hlt
		0xeb, 0xfd, // jmp to the hlt
	}
	if err := mem.WriteAt(code, resetVector); err != nil {
		return fmt.Errorf("write the reset vector: %w", err)
	}
	return nil
}
