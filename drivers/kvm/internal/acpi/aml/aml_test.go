package aml

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestEncoding(t *testing.T) {
	for _, tc := range []struct {
		name string
		term Term
		want string
	}{
		{"zero", Integer(0), "\x00"},
		{"one", Integer(1), "\x01"},
		{"byte", Integer(0xff), "\x0a\xff"},
		{"word", Integer(0x100), "\x0b\x00\x01"},
		{"dword", Integer(0x10000), "\x0c\x00\x00\x01\x00"},
		{"qword", Integer(math.MaxUint64), "\x0e\xff\xff\xff\xff\xff\xff\xff\xff"},
		{"string", String("AB"), "\x0dAB\x00"},
		{"EISA id", EISAID("PNP0501"), "\x0c\x41\xd0\x05\x01"},
		{"EISA id with letters", EISAID("PNP0C0F"), "\x0c\x41\xd0\x0c\x0f"},
		{"path", Path("_SB"), "_SB_"},
		{"root", Path(`\`), "\\\x00"},
		{"root path", Path(`\_SB.PWRB`), "\\\x2e_SB_PWRB"},
		{"parents", Path("^^A.B.C"), "^^\x2f\x03A___B___C___"},
		{"parent itself", Path("^"), "^\x00"},
		{"name", Name("X", Integer(1)), "\x08X___\x01"},
		{"package", Package(Integer(5), Integer(0)), "\x12\x05\x02\x0a\x05\x00"},
		{"buffer", Buffer([]byte{1, 2}), "\x11\x05\x0a\x02\x01\x02"},
		{"method", Method("_EVT", 1, true, Return(Arg(0))), "\x14\x08_EVT\x09\xa4\x68"},
		{"field", Field("R", ByteAcc, WriteAsZeros, Skip(4), Bits("F", 8)), "\x5b\x81\x0dR___\x41\x00\x04F___\x08"},
		{"and", And(Local(0), Integer(1)), "\x7b\x60\x01\x00"},
		{"IRQ", ResourceTemplate(IRQ(4, Line{Edge: true})), "\x11\x09\x0a\x06\x23\x10\x00\x01\x79\x00"},
		{"interrupt", ResourceTemplate(Interrupt(9, Line{Low: true, Shared: true})), "\x11\x0e\x0a\x0b\x89\x06\x00\x0d\x01\x09\x00\x00\x00\x79\x00"},
		{"I/O", ResourceTemplate(IO(0x3f8, 8)), "\x11\x0d\x0a\x0a\x47\x01\xf8\x03\xf8\x03\x01\x08\x79\x00"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code, err := tc.term.Bytes()
			require.NoError(t, err)
			require.Equal(t, []byte(tc.want), code)
		})
	}
}

// TestLengths checks every border of the length encoding by decoding it.
func TestLengths(t *testing.T) {
	for _, n := range []int{0, 1, 61, 62, 63, 64, 4092, 4093, 4094, 4095, 1<<20 - 5, 1<<20 - 4, 1<<20 - 3, 1<<20 - 2, 1 << 20} {
		code, err := packaged([]byte{opScope}, Term{code: make([]byte, n)}).Bytes()
		require.NoError(t, err)
		size := 1 + int(code[1]>>6)
		got := int(code[1] & 0x3f)
		if size > 1 {
			require.Zero(t, code[1]&0x30)
			got = int(code[1] & 0xf)
			for i := 1; i < size; i++ {
				got |= int(code[1+i]) << (8*i - 4)
			}
		}
		require.Equal(t, len(code)-1, got, "contents of %d bytes", n)
		require.Equal(t, 1+size+n, len(code))
	}
	_, err := pkgLength(maxPkgLength).Bytes()
	require.ErrorIs(t, err, ErrInvalid)
	_, err = pkgLength(maxPkgLength - 4).Bytes()
	require.NoError(t, err)
}

func TestInvalid(t *testing.T) {
	for _, bad := range []Term{
		Path(""), Path("abc"), Path("ABCDE"), Path("1A"), Path("A..B"), Path("A.B."), Path(`A\B`), Path(`\^A`), Path("A B"),
		Path(strings.Repeat("A.", 200) + "A"),
		EISAID(""), EISAID("PNP05011"), EISAID("pnp0501"), EISAID("PNP050G"), EISAID("PN00501"), EISAID("PNP0c0c"),
		String("a\x00b"), String("ü"),
		Package(make([]Term, 256)...),
		Method("M", 8, false), Method("M", -1, false),
		Local(8), Local(-1), Arg(7), Arg(-1),
		Bits("A.B", 1), Bits("F", -1), Skip(1 << 28),
		ResourceTemplate(IO(0xfffc, 8)), ResourceTemplate(IO(0, 0)), ResourceTemplate(IRQ(16, Line{})),
		ResourceTemplate(Memory32Fixed(0xffffffff, 2)), ResourceTemplate(Memory32Fixed(0, 0)),
		ResourceTemplate(QWordMemory(Window{Base: math.MaxUint64, Size: 2})), ResourceTemplate(QWordMemory(Window{})),
	} {
		_, err := bad.Bytes()
		require.ErrorIs(t, err, ErrInvalid)
		code, err := Scope(`\`, Device("D", If(Integer(1), Store(bad, Local(0))))).Bytes()
		require.ErrorIs(t, err, ErrInvalid, "it comes up through what is built from it")
		require.Nil(t, code)
	}
}

// everything uses every construct of the package at least once.
func everything() Term {
	return Join(
		Name("PKG0", Package(Integer(5), Integer(0), String("text"), Integer(1<<40))),
		Scope(`\_SB`,
			Device("DEV0",
				Name("_HID", EISAID("PNP0A08")),
				Name("_UID", Integer(0x1234)),
				Name("_CRS", ResourceTemplate(
					IO(0x3f8, 8),
					IRQ(4, Line{Edge: true}),
					IRQ(15, Line{Low: true, Shared: true}),
					Interrupt(9, Line{}),
					Interrupt(23, Line{Edge: true}),
					Interrupt(100000, Line{Low: true, Shared: true}),
					Memory32Fixed(0xd0000000, 0x1000),
					QWordMemory(Window{Base: 0x1000000000, Size: 0x1000000000, Producer: true}),
					QWordMemory(Window{Base: 0x100000000, Size: 0x8000000, Cacheable: true}),
				)),
				OperationRegion("REGN", SystemIO, 0x600, 8),
				Field("REGN", ByteAcc, WriteAsZeros, Bits("EVTS", 8), Skip(24), Bits("WIDE", 16), Bits("BIT0", 1)),
				OperationRegion("MEMR", SystemMemory, 0xfee00000, 0x1000),
				Field("MEMR", DWordAcc, Preserve, Skip(0x300), Bits("ICR", 32)),
				Field("MEMR", QWordAcc, WriteAsOnes, Bits("QQQQ", 64)),
				Field("MEMR", WordAcc, Preserve, Skip(100), Bits("WW", 16)),
				Method("_EVT", 1, true,
					Store(Path("EVTS"), Local(0)),
					If(Equal(Arg(0), Integer(9)),
						If(And(Local(0), Integer(1)), Notify("DEV0", 0x80)),
						Store(Buffer([]byte{1, 2, 3}), Local(7)),
					),
				),
				Method("BIG", 0, false,
					If(Integer(1), Store(String(strings.Repeat("0123456789", 19)), Local(1))),
					Return(Path(`\_SB.DEV0._UID`)),
				),
			),
		),
	)
}

// TestAgainstIASL gives the encoding to the reference tools: what iasl
// disassembles and compiles again must be the bytes we wrote.
func TestAgainstIASL(t *testing.T) {
	iasl, err := exec.LookPath("iasl")
	if err != nil {
		t.Skip("needs iasl (Debian package acpica-tools)")
	}
	code, err := everything().Bytes()
	require.NoError(t, err)
	table := make([]byte, 36, 36+len(code))
	copy(table, "SSDT")
	table[8] = 2
	copy(table[10:], "POLYVRTESTTEST")
	copy(table[28:], "TEST")
	table = append(table, code...)
	binary.LittleEndian.PutUint32(table[4:], uint32(len(table)))
	var sum byte
	for _, b := range table {
		sum += b
	}
	table[9] = -sum
	dir := t.TempDir()
	run := func(args ...string) string {
		cmd := exec.Command(iasl, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "iasl %v:\n%s", args, out)
		return string(out)
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ours.aml"), table, 0o600))
	out := run("-d", "ours.aml")
	require.NotRegexp(t, `(?i)error|warning`, strings.ReplaceAll(out, "0 Errors, 0 Warnings", ""))
	out = run("-oa", "-p", "again", "ours.dsl")
	require.Contains(t, out, " 0 Errors,")
	again, err := os.ReadFile(filepath.Join(dir, "again.aml"))
	require.NoError(t, err)
	dsl, err := os.ReadFile(filepath.Join(dir, "ours.dsl"))
	require.NoError(t, err)
	require.True(t, bytes.Equal(code, again[36:]), "differs after a round trip:\nours  % x\nagain % x\n%s", code, again[36:], dsl)
}
