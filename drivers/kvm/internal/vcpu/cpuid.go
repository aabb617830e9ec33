//go:build linux && amd64

package vcpu

import (
	"math/bits"
	"slices"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/kvmapi"
)

// MaxVCPUs is how many processors a machine may have.
const MaxVCPUs = 64

// CPUID leaves (Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E; Documentation/virt/kvm/x86/cpuid.rst).
const (
	leafVendor      = 0x0
	leafFeatures    = 0x1
	leafCaches      = 0x4
	leafPerfMon     = 0xa
	leafTopology    = 0xb
	leafTopologyV2  = 0x1f
	leafExtFeatures = 0x80000001
	leafExtSizes    = 0x80000008
	leafExtCaches   = 0x8000001d
	leafExtTopology = 0x8000001e
	leafEncryption  = 0x8000001f

	ecxX2APIC      = 1 << 21
	ecxTSCDeadline = 1 << 24
	ecxHypervisor  = 1 << 31
	edxHTT         = 1 << 28
	ecxCmpLegacy   = 1 << 1
	ecxTopoExt     = 1 << 22
)

// Topology says which processor of how many a set of CPUID answers is for: one socket, one thread per core.
type Topology struct {
	ID    int // also the APIC id
	Cores int
}

// idBits gives how many bits of the APIC id number the cores.
func (t Topology) idBits() uint32 { return uint32(bits.Len(uint(t.Cores - 1))) }

// CPUID makes the answers of one processor's CPUID instruction from what the host supports: the same features, the
// hypervisor bit, x2APIC, the TSC-deadline timer if the kernel's APIC has it, the processor's own APIC id and the
// machine's topology. Performance counters are left out: a guest's use of them costs every entry and exit.
func CPUID(supported []kvmapi.CPUIDEntry, t Topology, tscDeadline bool) []kvmapi.CPUIDEntry {
	amd := isAMD(supported)
	entries := make([]kvmapi.CPUIDEntry, 0, len(supported)+4)
	maxLeaf := uint32(0)
	for _, e := range supported {
		switch e.Function {
		case leafTopology, leafTopologyV2:
			continue // made anew below
		case leafVendor:
			maxLeaf = max(e.EAX, leafTopology)
			e.EAX = maxLeaf
		case leafFeatures:
			t.features(&e, tscDeadline)
		case leafCaches:
			if e.EAX&0x1f != 0 {
				e.EAX = e.EAX&0x3fff | t.cacheSharers(e.EAX)<<14 | (uint32(1)<<t.idBits()-1)<<26
			}
		case leafPerfMon, leafEncryption:
			// KVM tells of the host's encryption of memory (AMD SEV). UEFI firmware would take it for its own and read
			// registers that are not there.
			e.EAX, e.EBX, e.ECX, e.EDX = 0, 0, 0, 0
		case leafExtFeatures:
			if amd {
				e.ECX &^= ecxCmpLegacy
				if t.Cores > 1 {
					e.ECX |= ecxCmpLegacy
				}
			}
		case leafExtSizes:
			if amd {
				e.ECX = e.ECX&^0xf0ff | uint32(t.Cores-1) | t.idBits()<<12
			}
		case leafExtCaches:
			if e.EAX&0x1f != 0 {
				e.EAX = e.EAX&0x3fff | t.cacheSharers(e.EAX)<<14
			}
		case leafExtTopology:
			if amd {
				e.EAX = uint32(t.ID)
				e.EBX = e.EBX&^0xffff | uint32(t.ID) // core id, one thread per core
				e.ECX = e.ECX &^ 0x7ff               // one node
			}
		}
		entries = append(entries, e)
	}
	entries = append(entries, t.levels(leafTopology)...)
	if maxLeaf >= leafTopologyV2 {
		entries = append(entries, t.levels(leafTopologyV2)...)
	}
	return entries
}

func (t Topology) features(e *kvmapi.CPUIDEntry, tscDeadline bool) {
	// APIC id, count of addressable ids, CLFLUSH size as it was, brand index.
	e.EBX = e.EBX&0xffff | uint32(t.ID)<<24 | min(uint32(1)<<t.idBits(), 255)<<16
	e.ECX |= ecxHypervisor | ecxX2APIC
	e.ECX &^= ecxTSCDeadline
	if tscDeadline {
		e.ECX |= ecxTSCDeadline
	}
	e.EDX &^= edxHTT
	if t.Cores > 1 {
		e.EDX |= edxHTT
	}
}

// cacheSharers gives the field "logical processors that share this cache, less one" of a cache leaf: the third level is
// the socket's, the others each core's.
func (t Topology) cacheSharers(eax uint32) uint32 {
	if level := eax >> 5 & 7; level >= 3 {
		return uint32(1)<<t.idBits() - 1
	}
	return 0
}

// levels gives the sub-leaves of an extended topology leaf: thread, core, end.
func (t Topology) levels(leaf uint32) []kvmapi.CPUIDEntry {
	const thread, core = 1 << 8, 2 << 8
	level := func(index, shift, count, kind uint32) kvmapi.CPUIDEntry {
		return kvmapi.CPUIDEntry{Function: leaf, Index: index, Flags: kvmapi.CPUIDSignificantIndex,
			EAX: shift, EBX: count, ECX: index | kind, EDX: uint32(t.ID)}
	}
	return []kvmapi.CPUIDEntry{
		level(0, 0, 1, thread),
		level(1, t.idBits(), uint32(t.Cores), core),
		level(2, 0, 0, 0),
	}
}

// isAMD says whether the vendor uses AMD's extended leaves.
func isAMD(entries []kvmapi.CPUIDEntry) bool {
	i := slices.IndexFunc(entries, func(e kvmapi.CPUIDEntry) bool { return e.Function == leafVendor })
	if i < 0 {
		return false
	}
	switch entries[i].EBX {
	case 0x68747541, 0x6f677948: // "Auth", "Hygo"
		return true
	}
	return false
}

// PhysicalAddressBits gives the width of guest physical addresses that a set of answers promises.
func PhysicalAddressBits(entries []kvmapi.CPUIDEntry) int {
	for _, e := range entries {
		if e.Function == leafExtSizes {
			if b := int(e.EAX & 0xff); b >= 32 && b <= 52 {
				return b
			}
		}
	}
	return 36
}
