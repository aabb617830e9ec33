package acpi

import (
	"encoding/binary"
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func machine(vcpus int) Config {
	return Config{
		Base: WindowBase, Size: WindowSize, VCPUs: vcpus, IOBase: IOBase, EventGSI: EventGSI, TimerGSI: 2,
		Serial: []SerialPort{{Base: 0x3f8, IRQ: 4}},
	}
}

// guest reads tables as an operating system does: by address.
type guest struct {
	t    *testing.T
	base uint64
	mem  []byte
}

func (g guest) bytes(addr, n uint64) []byte {
	require.True(g.t, addr >= g.base && addr+n <= g.base+uint64(len(g.mem)), "address %#x is outside the image", addr)
	return g.mem[addr-g.base:][:n]
}

// table checks a header and returns the whole table.
func (g guest) table(addr uint64, signature string, revision byte) []byte {
	require.Zero(g.t, addr%4)
	head := g.bytes(addr, headerSize)
	require.Equal(g.t, signature, string(head[:4]))
	t := g.bytes(addr, uint64(binary.LittleEndian.Uint32(head[4:])))
	require.Zero(g.t, sum(t), "checksum of %s", signature)
	require.Equal(g.t, revision, t[8])
	require.Equal(g.t, "POLYVRPOLYVISR", string(t[10:24]))
	require.Equal(g.t, "PLYV", string(t[28:32]))
	return t
}

type found struct{ fadt, madt, dsdt []byte }

// find follows the pointers from the RSDP.
func find(t *testing.T, c Config, tables *Tables) found {
	le := binary.LittleEndian
	g := guest{t, c.Base, tables.Image}
	require.LessOrEqual(t, uint64(len(tables.Image)), c.Size)
	require.Equal(t, c.Base, tables.RSDP)
	p := g.bytes(tables.RSDP, rsdpSize)
	require.Equal(t, "RSD PTR ", string(p[:8]))
	require.Zero(t, sum(p[:20]))
	require.Zero(t, sum(p))
	require.EqualValues(t, 2, p[15])
	require.Zero(t, le.Uint32(p[16:]), "no RSDT")
	require.EqualValues(t, rsdpSize, le.Uint32(p[20:]))
	x := g.table(le.Uint64(p[24:]), "XSDT", 1)
	require.Len(t, x, headerSize+2*8)
	f := g.table(le.Uint64(x[36:]), "FACP", 6)
	require.Len(t, f, 276)
	m := g.table(le.Uint64(x[44:]), "APIC", 5)
	require.Equal(t, uint64(le.Uint32(f[40:])), le.Uint64(f[140:]))
	d := g.table(le.Uint64(f[140:]), "DSDT", 2)
	var end uint64
	for _, e := range tables.Entries {
		require.GreaterOrEqual(t, e.Addr, end, "%s overlaps", e.Signature)
		end = e.Addr + e.Size
	}
	require.Equal(t, c.Base+uint64(len(tables.Image)), end)
	return found{f, m, d}
}

func TestFADT(t *testing.T) {
	c := machine(1)
	tables, err := Build(c)
	require.NoError(t, err)
	f, le := find(t, c, tables).fadt, binary.LittleEndian
	require.EqualValues(t, 0x24, le.Uint16(f[109:]), "boot flags: no VGA, no CMOS clock")
	require.EqualValues(t, 1<<20|1<<10|0x75, le.Uint32(f[112:]))
	require.EqualValues(t, 4, f[131])
	for off, port := range map[int]uint64{116: 0x602, 244: 0x600, 256: 0x601} {
		require.Equal(t, []byte{1, 8, 0, 1}, f[off:off+4], "an I/O port of 8 bits")
		require.Equal(t, port, le.Uint64(f[off+4:]))
	}
	require.EqualValues(t, resetValue, f[128])
	for _, zero := range [][2]int{{36, 40}, {48, 96}, {132, 140}, {148, 244}, {268, 276}} {
		for i := zero[0]; i < zero[1]; i++ {
			require.Zero(t, f[i], "offset %d: there is no such hardware", i)
		}
	}
}

func TestMADT(t *testing.T) {
	le := binary.LittleEndian
	for _, tc := range []struct {
		vcpus            int
		event, timer     uint32
		override, noPins []string
	}{
		{1, 9, 2, []string{"0->2 5", "9->9 13"}, nil},
		{2, 9, 0, []string{"9->9 13"}, nil},
		{64, 20, 0, nil, nil},
		{255, 23, 2, []string{"0->2 5"}, nil},
	} {
		c := machine(tc.vcpus)
		c.EventGSI, c.TimerGSI = tc.event, tc.timer
		tables, err := Build(c)
		require.NoError(t, err)
		m := find(t, c, tables).madt
		require.EqualValues(t, 0xfee00000, le.Uint32(m[36:]))
		require.EqualValues(t, 1, le.Uint32(m[40:]))
		var apics int
		var ioapics, nmis, overrides []string
		for p := m[44:]; len(p) > 0; p = p[p[1]:] {
			require.GreaterOrEqual(t, len(p), 2)
			require.GreaterOrEqual(t, p[1], byte(2))
			require.LessOrEqual(t, int(p[1]), len(p))
			switch p[0] {
			case 0:
				require.Equal(t, []byte{0, 8, byte(apics), byte(apics), 1, 0, 0, 0}, p[:8])
				apics++
			case 1:
				ioapics = append(ioapics, fmt.Sprintf("id %d at %#x from %d", p[2], le.Uint32(p[4:]), le.Uint32(p[8:])))
			case 2:
				require.EqualValues(t, 10, p[1])
				require.Zero(t, p[2])
				overrides = append(overrides, fmt.Sprintf("%d->%d %d", p[3], le.Uint32(p[4:]), le.Uint16(p[8:])))
			case 4:
				nmis = append(nmis, fmt.Sprintf("uid %d flags %d lint %d", p[2], le.Uint16(p[3:]), p[5]))
			default:
				t.Fatalf("entry of type %d", p[0])
			}
		}
		require.Equal(t, tc.vcpus, apics)
		require.Equal(t, []string{"id 0 at 0xfec00000 from 0"}, ioapics)
		require.Equal(t, []string{"uid 255 flags 0 lint 1"}, nmis)
		require.Equal(t, tc.override, overrides)
	}
}

func TestBuildRefuses(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no vCPU":             func(c *Config) { c.VCPUs = 0 },
		"too many vCPUs":      func(c *Config) { c.VCPUs = MaxVCPUs + 1 },
		"base not aligned":    func(c *Config) { c.Base++ },
		"base too high":       func(c *Config) { c.Base = 1 << 32 },
		"end too high":        func(c *Config) { c.Base, c.Size = 1<<32-0x1000, 0x2000 },
		"size overflows":      func(c *Config) { c.Size = math.MaxUint64 },
		"no room":             func(c *Config) { c.Size = 256 },
		"no I/O base":         func(c *Config) { c.IOBase = 0 },
		"I/O base too high":   func(c *Config) { c.IOBase = 0xfff9 },
		"timer input":         func(c *Config) { c.TimerGSI = 3 },
		"event on the timer":  func(c *Config) { c.EventGSI = 2 },
		"event input":         func(c *Config) { c.EventGSI = 24 },
		"event on COM1":       func(c *Config) { c.EventGSI = 4 },
		"serial interrupt":    func(c *Config) { c.Serial[0].IRQ = 16 },
		"serial cascade":      func(c *Config) { c.Serial[0].IRQ = 2 },
		"serial base":         func(c *Config) { c.Serial[0].Base = 0xfff9 },
		"too many serial":     func(c *Config) { c.Serial = make([]SerialPort, 5) },
		"serial without base": func(c *Config) { c.Serial[0].Base = 0 },
	} {
		c := machine(1)
		change(&c)
		tables, err := Build(c)
		require.ErrorIs(t, err, ErrConfig, name)
		require.Nil(t, tables, name)
		t.Logf("%s: %v", name, err)
	}
}

func TestBuildDoesNotShare(t *testing.T) {
	a, err := Build(machine(2))
	require.NoError(t, err)
	clear(a.Image)
	b, err := Build(machine(2))
	require.NoError(t, err)
	find(t, machine(2), b)
}
