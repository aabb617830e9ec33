package acpi

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// linkTables does what firmware does with the files: puts them somewhere and carries out the commands.
func linkTables(t *testing.T, f *Files, where map[string]uint64) map[string][]byte {
	le := binary.LittleEndian
	mem := map[string][]byte{FileRSDP: bytes.Clone(f.RSDP), FileTables: bytes.Clone(f.Tables)}
	placed := map[string]bool{}
	require.Zero(t, len(f.Loader)%loaderSize)
	for c := f.Loader; len(c) > 0; c = c[loaderSize:] {
		name := func(i int) string { return strings.TrimRight(string(c[4+i*loaderName:][:loaderName]), "\x00") }
		switch le.Uint32(c) {
		case loaderAllocate:
			require.Zero(t, where[name(0)]%uint64(le.Uint32(c[60:])))
			placed[name(0)] = true
		case loaderPointer:
			dst, args := mem[name(0)], c[4+2*loaderName:]
			require.True(t, placed[name(0)] && placed[name(1)])
			at := le.Uint32(args)
			if args[4] == 4 {
				le.PutUint32(dst[at:], le.Uint32(dst[at:])+uint32(where[name(1)]))
			} else {
				require.EqualValues(t, 8, args[4])
				le.PutUint64(dst[at:], le.Uint64(dst[at:])+where[name(1)])
			}
		case loaderChecksum:
			dst, args := mem[name(0)], c[4+loaderName:]
			at, from, n := le.Uint32(args), le.Uint32(args[4:]), le.Uint32(args[8:])
			dst[at] = -sum(dst[from : from+n])
		default:
			t.Fatalf("command %d", le.Uint32(c))
		}
	}
	return mem
}

// The firmware arrives at the tables that Build makes for the same place.
func TestFiles(t *testing.T) {
	c := machine(3)
	c.PCI = &PCI{ECAM: 0xb0000000, WindowBase: 0x80000000, WindowSize: 0x30000000, More: []Window{{0xc0000000, 0x3c000000}}}
	f, err := BuildFiles(c)
	require.NoError(t, err)
	c.Base, c.Size = 0x7f000010, 0x10000 // the first table at a multiple of 64
	want, err := Build(c)
	require.NoError(t, err)
	first := want.Entries[1].Addr
	got := linkTables(t, f, map[string]uint64{FileRSDP: 0xf0000, FileTables: first})
	require.Equal(t, want.Image[:rsdpSize], got[FileRSDP])
	require.Equal(t, want.Image[first-c.Base:], got[FileTables])

	// Elsewhere all is right, too, and where configuration space lies changes no size.
	c.PCI.ECAM = 0xe0000000
	other, err := BuildFiles(c)
	require.NoError(t, err)
	require.Len(t, other.Tables, len(f.Tables))
	require.Equal(t, f.Loader, other.Loader)
	const base = 0x12340000
	got = linkTables(t, other, map[string]uint64{FileRSDP: 0xf0000, FileTables: base})
	g := guest{t, base, got[FileTables]}
	xsdt := g.table(binary.LittleEndian.Uint64(got[FileRSDP][24:]), "XSDT", 1)
	require.Zero(t, sum(got[FileRSDP][:20]))
	require.Zero(t, sum(got[FileRSDP]))
	fadt := g.table(binary.LittleEndian.Uint64(xsdt[headerSize:]), "FACP", 6)
	g.table(binary.LittleEndian.Uint64(fadt[140:]), "DSDT", 2)
	g.table(uint64(binary.LittleEndian.Uint32(fadt[40:])), "DSDT", 2)
	mcfg := g.table(binary.LittleEndian.Uint64(xsdt[headerSize+16:]), "MCFG", 1)
	require.EqualValues(t, 0xe0000000, binary.LittleEndian.Uint64(mcfg[44:]))

	c.VCPUs = 0
	_, err = BuildFiles(c)
	require.ErrorIs(t, err, ErrConfig)
}
