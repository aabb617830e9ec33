package unpack

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/stretchr/testify/require"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/linux"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/linux/imagetest"
)

// branchy returns n bytes made to exercise the x86 filter: dense in call and
// jump opcodes and in the bytes 00 and FF that mark their operands.
func branchy(n int) []byte {
	r := rand.New(rand.NewPCG(7, 11))
	pool := []byte{0xe8, 0xe9, 0x00, 0xff, 0x00, 0x01, 0xfe, 0x90}
	b := make([]byte, n)
	for i := range b {
		if v := r.Uint32(); v&0xf00 == 0 {
			b[i] = byte(v)
		} else {
			b[i] = pool[v&7]
		}
	}
	return b
}

// vmlinux returns a small kernel of at least n bytes with a relocation table.
func vmlinux(n int) []byte {
	return imagetest.ELF{Entry: 0x1000000, Trailer: branchy(100), Segments: []imagetest.Segment{
		{Type: imagetest.Load, VAddr: 0xffffffff81000000, PAddr: 0x1000000, Data: branchy(n)},
	}}.Build()
}

// fixtureSize is the size of the kernel inside the files of testdata.
const fixtureSize = 40000

// fixtures were packed from vmlinux(fixtureSize) with the tools that the
// kernel build uses.
var fixtures = map[string]struct {
	compression Compression
	tool        []string
}{
	"bz2":       {Bzip2, []string{"bzip2", "-9c"}},
	"lzma":      {LZMA, []string{"lzma", "-9c"}},
	"x86.xz":    {XZ, []string{"xz", "--check=crc32", "--x86", "--lzma2=dict=32MiB", "-c"}},
	"plain.xz":  {XZ, []string{"xz", "--check=crc64", "-c"}},
	"offset.xz": {XZ, []string{"xz", "--check=none", "--x86=start=4096", "--lzma2=dict=1MiB", "-c"}},
	"blocks.xz": {XZ, []string{"xz", "--check=sha256", "--x86", "--lzma2=dict=1MiB", "--block-size=7001", "-c"}},
	"lz4":       {LZ4, []string{"lz4", "-l", "-9", "-c"}},
	"zst":       {Zstd, []string{"zstd", "-22", "--ultra", "-c"}},
	"lzo":       {LZO, []string{"lzop", "-9", "-c"}},
	"crc.lzo":   {LZO, []string{"lzop", "-1", "--crc32", "-c"}},
	"gz":        {Gzip, []string{"gzip", "-n", "-9c"}},
}

// fixture returns the payload of a file in testdata as a kernel has it.
func fixture(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "vmlinux."+name))
	require.NoError(t, err)
	return asPayload(fixtures[name].compression, b, len(vmlinux(fixtureSize)))
}

func asPayload(c Compression, packed []byte, unpacked int) []byte {
	if c == Gzip || c == None {
		return packed
	}
	return imagetest.WithSize(packed, unpacked)
}

// pack compresses with the libraries.
func pack(t testing.TB, c Compression, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	var w io.WriteCloser
	var err error
	switch c {
	case None:
		return data
	case Gzip:
		w = gzip.NewWriter(&buf)
	case LZMA:
		w, err = lzma.WriterConfig{EOSMarker: true}.NewWriter(&buf)
	case XZ:
		w, err = xz.WriterConfig{BlockSize: 100 << 10}.NewWriter(&buf)
	case Zstd:
		w, err = zstd.NewWriter(&buf)
	case LZ4:
		buf.Write([]byte{2, 0x21, 0x4c, 0x18})
		for len(data) > 0 {
			n := min(len(data), lz4BlockSize)
			out := make([]byte, lz4.CompressBlockBound(n))
			m, err := lz4.CompressBlock(data[:n], out, nil)
			require.NoError(t, err)
			require.NotZero(t, m)
			buf.Write(binary.LittleEndian.AppendUint32(nil, uint32(m)))
			buf.Write(out[:m])
			data = data[n:]
		}
		return buf.Bytes()
	default:
		t.Fatalf("no writer for %v", c)
	}
	require.NoError(t, err)
	_, err = w.Write(data)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return buf.Bytes()
}

// packWith compresses with a tool, or skips.
func packWith(t testing.TB, data []byte, tool ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath(tool[0]); err != nil {
		t.Skip("needs the " + tool[0] + " tool")
	}
	cmd := exec.Command(tool[0], tool[1:]...)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(data), os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err)
	return out
}

func image(b []byte) linux.Image {
	return linux.Image{R: bytes.NewReader(b), Size: int64(len(b)), Name: "test-kernel"}
}

// bzImage wraps a payload; init_size is generous.
func bzImage(payload []byte) []byte {
	return imagetest.BzImage{Payload: payload, InitSize: 256 << 20}.Build()
}
