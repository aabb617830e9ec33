//go:build linux && amd64

package vcpu

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/guestmem"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/kvmapi"
)

func leaf(t *testing.T, entries []kvmapi.CPUIDEntry, function, index uint32) kvmapi.CPUIDEntry {
	t.Helper()
	for _, e := range entries {
		if e.Function == function && e.Index == index {
			return e
		}
	}
	t.Fatalf("no leaf %#x.%d", function, index)
	return kvmapi.CPUIDEntry{}
}

func hostLeaves(ebxVendor uint32) []kvmapi.CPUIDEntry {
	return []kvmapi.CPUIDEntry{
		{Function: 0, EAX: 0xd, EBX: ebxVendor},
		{Function: 1, EBX: 0x0310_0800, ECX: ecxTSCDeadline | 1, EDX: edxHTT | 1},
		{Function: 4, Index: 0, Flags: 1, EAX: 0xfc004121},
		{Function: 4, Index: 3, Flags: 1, EAX: 0xfc004163},
		{Function: 4, Index: 4, Flags: 1},
		{Function: 0xa, EAX: 0x07300402},
		{Function: 0xb, Index: 0, Flags: 1, EAX: 1, EBX: 2},
		{Function: 0x40000000, EAX: 0x40000001, EBX: 0x4b4d564b},
		{Function: 0x80000001, ECX: ecxTopoExt},
		{Function: 0x80000008, EAX: 0x3030, ECX: 0x701f},
		{Function: 0x8000001d, Index: 0, Flags: 1, EAX: 0x4121},
		{Function: 0x8000001d, Index: 3, Flags: 1, EAX: 0x1c163},
		{Function: 0x8000001e, EAX: 7, EBX: 0x103, ECX: 0x101},
	}
}

const intel, amd = 0x756e6547, 0x68747541

func TestCPUIDTopology(t *testing.T) {
	for _, c := range []struct{ cores, bits int }{{1, 0}, {2, 1}, {3, 2}, {4, 2}, {8, 3}, {33, 6}, {64, 6}} {
		for _, vendor := range []uint32{intel, amd} {
			id := c.cores - 1
			e := CPUID(hostLeaves(vendor), Topology{ID: id, Cores: c.cores}, true)
			one := leaf(t, e, 1, 0)
			assert.EqualValues(t, id, one.EBX>>24)
			assert.EqualValues(t, 1<<c.bits, one.EBX>>16&0xff)
			assert.EqualValues(t, 0x0800, one.EBX&0xffff, "as the host says")
			assert.EqualValues(t, ecxHypervisor|ecxX2APIC|ecxTSCDeadline|1, one.ECX)
			assert.Equal(t, c.cores > 1, one.EDX&edxHTT != 0)
			smt, core, end := leaf(t, e, 0xb, 0), leaf(t, e, 0xb, 1), leaf(t, e, 0xb, 2)
			assert.EqualValues(t, []uint32{0, 1, 0x100, uint32(id)}, []uint32{smt.EAX, smt.EBX, smt.ECX, smt.EDX})
			assert.EqualValues(t, []uint32{uint32(c.bits), uint32(c.cores), 0x201, uint32(id)}, []uint32{core.EAX, core.EBX, core.ECX, core.EDX})
			assert.EqualValues(t, []uint32{0, 0, 2}, []uint32{end.EAX, end.EBX, end.ECX})
			l1, l3 := leaf(t, e, 4, 0), leaf(t, e, 4, 3)
			assert.Zero(t, l1.EAX>>14&0xfff, "a core's own")
			assert.EqualValues(t, 1<<c.bits-1, l3.EAX>>14&0xfff, "the socket's")
			assert.EqualValues(t, 1<<c.bits-1, l1.EAX>>26)
			assert.Zero(t, leaf(t, e, 4, 4).EAX)
			assert.Zero(t, leaf(t, e, 0xa, 0).EAX)
			if vendor == amd {
				assert.EqualValues(t, uint32(c.cores-1)|uint32(c.bits)<<12, leaf(t, e, 0x80000008, 0).ECX&0xf0ff)
				assert.EqualValues(t, id, leaf(t, e, 0x8000001e, 0).EAX)
				assert.EqualValues(t, id, leaf(t, e, 0x8000001e, 0).EBX&0xffff)
				assert.Equal(t, c.cores > 1, leaf(t, e, 0x80000001, 0).ECX&ecxCmpLegacy != 0)
				assert.EqualValues(t, 1<<c.bits-1, leaf(t, e, 0x8000001d, 3).EAX>>14&0xfff)
			} else {
				assert.EqualValues(t, 0x701f, leaf(t, e, 0x80000008, 0).ECX)
			}
			assert.Equal(t, leaf(t, hostLeaves(vendor), 0x40000000, 0), leaf(t, e, 0x40000000, 0), "KVM's own leaves")
		}
	}
	e := CPUID(hostLeaves(intel), Topology{Cores: 1}, false)
	assert.Zero(t, leaf(t, e, 1, 0).ECX&ecxTSCDeadline)
	small := hostLeaves(intel)
	small[0].EAX = 4
	assert.EqualValues(t, 0xb, leaf(t, CPUID(small, Topology{Cores: 1}, false), 0, 0).EAX, "the topology leaf can be reached")
	big := hostLeaves(intel)
	big[0].EAX = 0x20
	assert.EqualValues(t, 2, leaf(t, CPUID(big, Topology{Cores: 2}, false), 0x1f, 1).EBX)
}

func TestPhysicalAddressBits(t *testing.T) {
	assert.Equal(t, 48, PhysicalAddressBits(hostLeaves(amd)))
	assert.Equal(t, 36, PhysicalAddressBits(nil))
	for _, m := range MSRs(48) {
		if m.Index == msrMTRRPhysMask0 {
			assert.EqualValues(t, uint64(0xffffc0000800), m.Data)
		}
	}
}

func TestEntryTables(t *testing.T) {
	mem, err := guestmem.New(1 << 20)
	require.NoError(t, err)
	defer mem.Close()
	require.NoError(t, Entry{Mode: Long64}.WriteTables(mem))
	read := func(addr uint64) uint64 {
		b, err := mem.Slice(addr, 8)
		require.NoError(t, err)
		return binary.LittleEndian.Uint64(b)
	}
	assert.EqualValues(t, uint64(0x00af9b000000ffff), read(GDTAddr+0x10))
	assert.EqualValues(t, uint64(0x00cf93000000ffff), read(GDTAddr+0x18))
	assert.EqualValues(t, uint64(0x00008b0000000067), read(GDTAddr+0x20))
	// Walk the page tables as the processor does.
	for _, va := range []uint64{0, 0x200000, 1<<30 + 5<<21, 4<<30 - 1<<21} {
		pdpt := read(PML4Addr+va>>39&0x1ff*8) &^ 0xfff
		pd := read(pdpt+va>>30&0x1ff*8) &^ 0xfff
		pde := read(pd + va>>21&0x1ff*8)
		assert.Equal(t, va|0x83, pde)
	}
	require.NoError(t, Entry{Mode: PVH}.WriteTables(mem))
	assert.EqualValues(t, uint64(0x00cf9b000000ffff), read(GDTAddr+0x10))

	tiny, err := guestmem.New(4096)
	require.NoError(t, err)
	defer tiny.Close()
	assert.ErrorContains(t, Entry{Mode: Long64}.WriteTables(tiny), "page tables")
}

func TestSetupRefusesBadTopology(t *testing.T) {
	for _, c := range []Topology{{0, 0}, {1, 1}, {-1, 2}, {0, 65}} {
		assert.Error(t, Setup(nil, Long64, c, nil, false), c)
	}
}
