//go:build linux && amd64

package vcpu

import (
	"encoding/binary"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/kvmapi"
)

// Model-specific registers (Intel SDM volume 4).
const (
	msrMTRRPhysBase0 = 0x200
	msrMTRRPhysMask0 = 0x201
	msrMTRRFix64K    = 0x250
	msrMTRRFix16K0   = 0x258
	msrMTRRFix16K1   = 0x259
	msrMTRRFix4K0    = 0x268 // to 0x26f
	msrMiscEnable    = 0x1a0
	msrMTRRDefType   = 0x2ff

	miscEnableFastStrings = 1 << 0
	mtrrEnable            = 1 << 11
	mtrrFixedEnable       = 1 << 10
	mtrrValid             = 1 << 11
	mtrrWriteBack         = 6
	mtrrUncached          = 0
)

// MSRs gives what firmware leaves in the model-specific registers of every processor: memory is write-back by default,
// the old video window and the device hole from 3 to 4 GiB are uncached; fast string instructions on.
func MSRs(physBits int) []kvmapi.MSR {
	const allWriteBack = 0x0606060606060606
	const hole, holeSize = uint64(3) << 30, uint64(1) << 30
	m := []kvmapi.MSR{
		{Index: msrMiscEnable, Data: miscEnableFastStrings},
		{Index: msrMTRRFix64K, Data: allWriteBack},
		{Index: msrMTRRFix16K0, Data: allWriteBack},
		{Index: msrMTRRFix16K1, Data: mtrrUncached}, // 0xa0000 to 0xbffff
	}
	for i := range uint32(8) {
		m = append(m, kvmapi.MSR{Index: msrMTRRFix4K0 + i, Data: allWriteBack})
	}
	return append(m,
		kvmapi.MSR{Index: msrMTRRPhysBase0, Data: hole | mtrrUncached},
		kvmapi.MSR{Index: msrMTRRPhysMask0, Data: (uint64(1)<<physBits-1)&^(holeSize-1) | mtrrValid},
		kvmapi.MSR{Index: msrMTRRDefType, Data: mtrrEnable | mtrrFixedEnable | mtrrWriteBack},
	)
}

// Local APIC registers and the modes put into them (Intel SDM volume 3, 11.5.1).
const (
	lapicLVTLint0 = 0x350
	lapicLVTLint1 = 0x360
	lvtModeNMI    = 4 << 8
	lvtModeExtINT = 7 << 8
	lvtMasked     = 1 << 16
)

// setLINT wires the local interrupt inputs as firmware does in virtual wire mode: the 8259's interrupt goes to the first
// processor's LINT0, LINT1 is the NMI everywhere.
func setLINT(l *kvmapi.LapicState, id int) {
	lint0 := uint32(lvtModeExtINT)
	if id != 0 {
		lint0 |= lvtMasked
	}
	binary.LittleEndian.PutUint32(l.Regs[lapicLVTLint0:], lint0)
	binary.LittleEndian.PutUint32(l.Regs[lapicLVTLint1:], lvtModeNMI)
}
