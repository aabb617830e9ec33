package guest

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// ram is guest memory from address 0.
type ram []byte

func (m ram) Slice(addr, size uint64) ([]byte, error) {
	if addr > uint64(len(m)) || size > uint64(len(m))-addr {
		return nil, fmt.Errorf("%#x bytes at %#x are outside RAM", size, addr)
	}
	return m[addr : addr+size], nil
}

func testConfig() Config {
	h := PC()
	h.SleepPort, h.SleepValue = 0x600, 0x34
	h.ResetPort, h.ResetValue = 0x602, 1
	h.EventPort, h.EventLine, h.EventMask = 0x604, 9, 1
	h.ECAM, h.BARs = 0xe0000000, 0xc0000000
	return Config{CommandLine: "auto=echo hi", CPUs: 3, LowRAM: 8 << 20, HighRAM: 16 << 20, Hardware: h}
}

func TestLoad(t *testing.T) {
	mem := make(ram, 8<<20)
	for i := range mem {
		mem[i] = 0xcc
	}
	entry, err := Load(mem, testConfig())
	require.NoError(t, err)
	assert.Equal(t, Entry{RIP: 0x100000, RSI: 0x108000}, entry)
	assert.Equal(t, image, []byte(mem[entry.RIP:][:len(image)]))
	assert.Equal(t, make([]byte, infoAddr-imageAddr-len(image)), []byte(mem[imageAddr+len(image):infoAddr]), "variables, IDT and stack are cleared")
	assert.Equal(t, make([]byte, memoryEnd-clockAddr), []byte(mem[clockAddr:memoryEnd]), "page tables are cleared")
	assert.Equal(t, byte(0xcc), mem[imageAddr-1])
	assert.Equal(t, byte(0xcc), mem[memoryEnd])

	p, le := mem[entry.RSI:], binary.LittleEndian
	assert.Equal(t, "PVGUEST1", string(p[:8]))
	assert.EqualValues(t, 3, le.Uint32(p[16:]))
	require.EqualValues(t, 3, le.Uint32(p[20:]))
	assert.EqualValues(t, 0x3f8, le.Uint16(p[24:]))
	assert.EqualValues(t, 4, le.Uint32(p[28:]))
	assert.EqualValues(t, 0x600, le.Uint16(p[32:]))
	assert.EqualValues(t, 0x34, p[34])
	assert.EqualValues(t, 0x602, le.Uint16(p[36:]))
	assert.EqualValues(t, 1, p[38])
	assert.EqualValues(t, 0x604, le.Uint16(p[40:]))
	assert.EqualValues(t, 9, le.Uint32(p[44:]))
	assert.EqualValues(t, 1, p[48])
	assert.EqualValues(t, 0xfec00000, le.Uint32(p[52:]))
	assert.EqualValues(t, 0xfee00000, le.Uint32(p[56:]))
	assert.EqualValues(t, 0xe0000000, le.Uint32(p[64:]))
	assert.EqualValues(t, 0xc0000000, le.Uint32(p[68:]))
	cmd := p[le.Uint32(p[60:]):]
	assert.Equal(t, "auto=echo hi", string(cmd[:bytes.IndexByte(cmd, 0)]))
	var got []memRange
	for i := range 3 {
		got = append(got, memRange{le.Uint64(p[128+16*i:]), le.Uint64(p[136+16*i:])})
	}
	assert.Equal(t, []memRange{{0, 0x9fc00}, {1 << 20, 7 << 20}, {4 << 30, 16 << 20}}, got)
}

func TestLoadRefuses(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Config)
		mem    int
		is     error
		says   string
	}{
		{"long command line", func(c *Config) { c.CommandLine = strings.Repeat("x", MaxCommandLine+1) }, 8 << 20, ErrCommandLine, "at most 3071"},
		{"zero byte", func(c *Config) { c.CommandLine = "a\x00b" }, 8 << 20, ErrCommandLine, "zero byte"},
		{"little memory", func(c *Config) { c.LowRAM = 1 << 20 }, 8 << 20, ErrMemory, "2 MiB"},
		{"memory in the hole", func(c *Config) { c.LowRAM = 4 << 30 }, 8 << 20, ErrMemory, "3 GiB"},
		{"memory without end", func(c *Config) { c.HighRAM = 1 << 60 }, 8 << 20, ErrMemory, "above 4 GiB"},
		{"no processor", func(c *Config) { c.CPUs = 0 }, 8 << 20, nil, "0 processors"},
		{"too many processors", func(c *Config) { c.CPUs = 256 }, 8 << 20, nil, "256 processors"},
		{"memory that is not there", func(c *Config) {}, 0x108000, ErrMemory, "outside RAM"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := testConfig()
			tc.change(&cfg)
			_, err := Load(make(ram, tc.mem), cfg)
			require.Error(t, err)
			if tc.is != nil {
				assert.True(t, errors.Is(err, tc.is), "%v", err)
			}
			assert.Contains(t, err.Error(), tc.says)
		})
	}
}

func TestLongestCommandLineFits(t *testing.T) {
	cfg := testConfig()
	cfg.CommandLine = strings.Repeat("x", MaxCommandLine)
	mem := make(ram, 8<<20)
	entry, err := Load(mem, cfg)
	require.NoError(t, err)
	p := mem[entry.RSI+commandLineOffset:]
	assert.Equal(t, cfg.CommandLine, string(p[:MaxCommandLine]))
	assert.Zero(t, p[MaxCommandLine])
}

func TestImageSize(t *testing.T) {
	assert.LessOrEqual(t, len(image), varsAddr-imageAddr, "the image runs into its variables")
	assert.Less(t, len(image), 12<<10, "the guest is meant to be small")
	assert.Contains(t, string(image), Banner)
	assert.Contains(t, string(image), Prompt)
	assert.LessOrEqual(t, tableAddr+5*4096, memoryEnd)
}

// TestLayout compares the addresses in the source with those of the loader.
func TestLayout(t *testing.T) {
	src, err := os.ReadFile("guest.S")
	require.NoError(t, err)
	set := map[string]uint64{}
	for _, m := range regexp.MustCompile(`(?m)^\t\.set\s+(\w+),\s*(0x[0-9a-f]+|\d+)\s*(?:#.*)?$`).FindAllStringSubmatch(string(src), -1) {
		set[m[1]], err = strconv.ParseUint(m[2], 0, 64)
		require.NoError(t, err)
	}
	for name, want := range map[string]uint64{
		"IMAGE": imageAddr, "VARS": varsAddr, "IDT": idtAddr, "STACK_TOP": stackTop,
		"KVMCLOCK": clockAddr, "PML4": tableAddr, "PD3": memoryEnd - 0x1000, "FREE": freeAddr,
		"I_CPUS": 16, "I_RANGES": 20, "I_SERIAL": 24, "I_CMDLINE": 60, "I_ECAM": 64, "I_BARS": 68, "DEVICES": devicesAddr, "I_RANGE": 128,
	} {
		got, ok := set[name]
		assert.True(t, ok, "guest.S does not set %s", name)
		assert.Equal(t, want, got, name)
	}
	var magic [8]byte
	m := regexp.MustCompile(`0x(\w{16})\s+# "PVGUEST1"`).FindSubmatch(src)
	require.NotNil(t, m)
	v, err := strconv.ParseUint(string(m[1]), 16, 64)
	require.NoError(t, err)
	binary.LittleEndian.PutUint64(magic[:], v)
	assert.Equal(t, infoMagic, string(magic[:]))
}

// sources are what the guest is made of. They are in the test, which also runs where the tree is not.
//
//go:embed guest.S guest.bin guest.sum devices
var sources embed.FS

// TestCurrent proves that guest.bin is what guest.S assembles to: by the
// recorded hashes everywhere, by assembling it where binutils are installed.
func TestCurrent(t *testing.T) {
	const remedy = "guest.S was changed without `go generate`; run it in this directory"
	var want strings.Builder
	for _, name := range []string{"guest.S", "devices/devices.c", "devices/devices.s", "guest.bin"} {
		b, err := sources.ReadFile(name)
		require.NoError(t, err)
		fmt.Fprintf(&want, "%x  %s\n", sha256.Sum256(b), name)
	}
	sums, err := sources.ReadFile("guest.sum")
	require.NoError(t, err)
	assert.Equal(t, want.String(), string(sums), remedy)

	for _, tool := range []string{"as", "ld", "objcopy"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("only the hashes were compared: %v; install binutils", err)
		}
	}
	if out, err := exec.Command("as", "--64", "-o", os.DevNull, os.DevNull).CombinedOutput(); err != nil {
		t.Skipf("only the hashes were compared: as is not for x86-64: %s", out)
	}
	dir := t.TempDir()
	obj, drivers, elf, bin := filepath.Join(dir, "guest.o"), filepath.Join(dir, "devices.o"), filepath.Join(dir, "guest.elf"), filepath.Join(dir, "guest.bin")
	for _, args := range [][]string{
		{"as", "--64", "-o", obj, "guest.S"},
		{"as", "--64", "-o", drivers, "devices/devices.s"},
		{"ld", "-N", "-Ttext=0x100000", "-e", "start", "-o", elf, obj, drivers},
		{"objcopy", "-O", "binary", "-j", ".text", "-j", ".rodata", elf, bin},
	} {
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	got, err := os.ReadFile(bin)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(image, got), remedy)
}

func TestChecksum(t *testing.T) {
	cfg := testConfig()
	// Printed by the guest for "fill 2 7;sum 2".
	sum, done := Checksum(cfg, 2, 7)
	assert.EqualValues(t, 2, done)
	assert.EqualValues(t, uint64(0x8118fd0c77d40000), sum)
	// 6 MiB above the first 2, 16 above 4 GiB.
	_, done = Checksum(cfg, 1000, 0)
	assert.EqualValues(t, 22, done)
}
