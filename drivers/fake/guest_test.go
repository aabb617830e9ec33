package fake

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

// create starts a transient domain and gives its guest.
func create(t testing.TB, h *Hypervisor, conn *polyvisor.Conn, c *polyvisor.Config) (*polyvisor.Domain, *Guest) {
	t.Helper()
	d, err := conn.Create(t.Context(), c)
	require.NoError(t, err)
	g, err := h.Guest(c.Name)
	require.NoError(t, err)
	return d, g
}

func say(t testing.TB, g *Guest, commands string) string {
	t.Helper()
	out, err := g.Run(commands)
	require.NoError(t, err)
	return out
}

// slowSum is the checksum of the built-in guest of the kvm driver, word by word.
func slowSum(mib, seed uint64, filled func(mib uint64) bool) (sum uint64) {
	for i := range mib {
		for a := mibAddr(i); a < mibAddr(i)+1<<20; a += 8 {
			w := uint64(0)
			if filled(i) {
				w = (a + seed) * mixer
			}
			sum = (sum + w) * mixer
		}
	}
	return sum
}

func TestMemoryIsThatOfTheBuiltinGuest(t *testing.T) {
	h, conn := private(t, Options{})
	d, g := create(t, h, conn, &polyvisor.Config{Name: "m", Memory: 8 * polyvisor.MiB, MaxMemory: 16 * polyvisor.MiB, Balloon: true})
	require.Equal(t, "fill: 3 MiB\n", say(t, g, "fill 3 7"))
	want := slowSum(5, 7, func(i uint64) bool { return i < 3 })
	require.Equal(t, fmt.Sprintf("sum: 5 MiB 0x%016x\n", want), say(t, g, "sum 5"))
	require.Equal(t, "fill: 6 MiB\n", say(t, g, "fill 100 7"), "there is no more")

	// The balloon takes memory with what is in it.
	require.NoError(t, d.SetMemory(t.Context(), 4*polyvisor.MiB))
	require.Contains(t, say(t, g, "mem"), "mem: 2 of 2 MiB above 2 MiB answer")
	require.NoError(t, d.SetMemory(t.Context(), 16*polyvisor.MiB))
	want = slowSum(6, 7, func(i uint64) bool { return i < 2 })
	require.Equal(t, fmt.Sprintf("sum: 6 MiB 0x%016x\n", want), say(t, g, "sum 6"))

	require.Equal(t, "poke: 0x200008\npeek: 0x200008 0x000000000000002a\n", say(t, g, "poke 0x200008 42;peek 0x200008"))
	require.Contains(t, say(t, g, "peek 0x100000000"), "0xffffffffffffffff", "nobody there")
	before := say(t, g, "sum 1")
	say(t, g, "fill 1 7")
	require.NotEqual(t, before, say(t, g, "sum 1"), "a single word counts")
}

func TestMemoryAbove4GiB(t *testing.T) {
	h, conn := private(t, Options{})
	_, g := create(t, h, conn, &polyvisor.Config{Name: "m", Memory: 5 * polyvisor.GiB})
	require.Contains(t, g.Output(), "memory: 5120 MiB in 3 range(s), each answers at its end, nothing beyond 0x0000000180000000")
	require.Equal(t, "fill: 5118 MiB\n", say(t, g, "fill 9999 1"))
	require.Equal(t, fmt.Sprintf("peek: 0x100000000 0x%016x\n", func() uint64 { var a uint64 = 0x100000001; return a * mixer }()), say(t, g, "peek 0x100000000"))
}

func TestDisks(t *testing.T) {
	h, conn := private(t, Options{})
	path := filepath.Join(t.TempDir(), "disk")
	require.NoError(t, os.WriteFile(path, make([]byte, 1<<20), 0o600))
	d, g := create(t, h, conn, &polyvisor.Config{Name: "d"})
	require.Equal(t, "disks: 0\n", say(t, g, "disks"))
	disk := &polyvisor.Disk{Target: "vda", Source: polyvisor.Path(path), Serial: "S1"}
	require.NoError(t, d.AttachDevice(t.Context(), disk))
	require.Equal(t, "disks: 1\ndisk: vda 1048576 bytes raw rw serial=S1\n", say(t, g, "disks"))
	require.Equal(t, "write: vda 5\nflush: vda\n", say(t, g, "write vda 5 hello there;flush vda"))
	require.Contains(t, say(t, g, "read vda 5"), `"hello there"`)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "hello there", string(data[5*512:5*512+11]), "the image itself")
	require.Contains(t, say(t, g, "read vda 2048"), "no such sector")

	_, err = conn.Create(t.Context(), &polyvisor.Config{Name: "other", Disks: []polyvisor.Disk{{Source: polyvisor.Path(path)}}})
	require.ErrorIs(t, err, polyvisor.ErrBusy)
	disk.Mode = polyvisor.DeviceReadOnly
	require.NoError(t, d.UpdateDevice(t.Context(), disk))
	require.Contains(t, say(t, g, "write vda 5 x"), "read-only")
	other, err := conn.Create(t.Context(), &polyvisor.Config{Name: "other", Disks: []polyvisor.Disk{{Source: polyvisor.Path(path)}}})
	require.NoError(t, err, "nobody writes any more")
	require.NoError(t, other.Destroy(t.Context()))

	s, err := d.Stats(t.Context())
	require.NoError(t, err)
	require.Equal(t, []polyvisor.DiskStats{{Target: "vda", ReadRequests: 2, ReadBytes: 512, WriteRequests: 2, WriteBytes: 512, FlushRequests: 1, Errors: 2}}, s.Disks)
	require.NoError(t, d.DetachDevice(t.Context(), disk))
	require.Contains(t, say(t, g, "read vda 5"), "no disk: vda")
}

func TestQCOW2IsRecognised(t *testing.T) {
	h, conn := private(t, Options{})
	path := filepath.Join(t.TempDir(), "disk")
	head := make([]byte, 104)
	copy(head, "QFI\xfb\x00\x00\x00\x03")
	head[29] = 0x10 // of 1 MiB
	require.NoError(t, os.WriteFile(path, head, 0o600))
	disk := polyvisor.Disk{Source: polyvisor.Path(path), Format: polyvisor.FormatQCOW2}
	_, g := create(t, h, conn, &polyvisor.Config{Name: "q", Disks: []polyvisor.Disk{disk}})
	require.Contains(t, say(t, g, "disks"), "disk: vda 1048576 bytes qcow2 rw")
	require.Contains(t, say(t, g, "read vda 0"), "raw images only")
	require.NoError(t, os.WriteFile(path, make([]byte, 512), 0o600))
	_, err := conn.Create(t.Context(), &polyvisor.Config{Name: "r", Disks: []polyvisor.Disk{disk}})
	require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
}

func TestSharesStayInside(t *testing.T) {
	h, conn := private(t, Options{})
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "in"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "secret"), []byte("secret"), 0o600))
	require.NoError(t, os.Symlink("../secret", filepath.Join(dir, "in", "link")))
	_, g := create(t, h, conn, &polyvisor.Config{Name: "s", Shares: []polyvisor.Share{
		{Tag: "rw", Source: filepath.Join(dir, "in")}, {Tag: "ro", Source: filepath.Join(dir, "in"), Mode: polyvisor.DeviceReadOnly},
	}})
	require.Equal(t, "put: 5 bytes\n", say(t, g, "put rw f hello"))
	require.Equal(t, "cat: \"hello\"\n", say(t, g, "cat ro f"))
	require.Contains(t, say(t, g, "put ro f x"), "read-only file system")
	for _, name := range []string{"../secret", "link", filepath.Join(dir, "secret")} {
		require.NotContains(t, say(t, g, "cat rw "+name), "\"secret\"")
	}
	require.Equal(t, "ls: 2\nfile: \"f\"\nfile: \"link\"\n", say(t, g, "ls rw"))
}

func TestMemoryBacking(t *testing.T) {
	h, conn := private(t, Options{})
	path := filepath.Join(t.TempDir(), "backing")
	require.NoError(t, os.WriteFile(path, append([]byte("\x2a\x00\x00\x00\x00\x00\x00\x00"), make([]byte, 4088)...), 0o600))
	_, g := create(t, h, conn, &polyvisor.Config{Name: "b", MemoryBacking: []polyvisor.MemoryBacking{{File: polyvisor.Path(path), Start: 0x400000, End: 0x401000}}})
	require.Equal(t, "peek: 0x400000 0x000000000000002a\n", say(t, g, "peek 0x400000"))
	say(t, g, "poke 0x400008 1")
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, byte(1), data[8])
	_, err = conn.Create(t.Context(), &polyvisor.Config{Name: "c", MemoryBacking: []polyvisor.MemoryBacking{{File: polyvisor.Path(path), Start: 0x400000, End: 0x402000}}})
	require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
}

func TestConsoleEditsAndEchoes(t *testing.T) {
	h, conn := private(t, Options{})
	d, _ := create(t, h, conn, &polyvisor.Config{Name: "c", Boot: polyvisor.Boot{CommandLine: `quiet auto="echo one;echo two" noirq`}})
	con, err := d.Console(t.Context(), polyvisor.ConsoleOptions{})
	require.NoError(t, err)
	defer con.Close()
	_, err = io.WriteString(con, "ecgo\b\bho  three\x15echo fo\x7fo ur\r\npoweroff\r")
	require.NoError(t, err)
	all, err := io.ReadAll(bufio.NewReader(con))
	require.NoError(t, err)
	text := string(all)
	require.True(t, strings.HasPrefix(text, "\r\n"+Banner+"\r\nmemory: 256 MiB"), text)
	require.Contains(t, text, "one\r\ntwo\r\ntype help for the commands\r\npv> ")
	require.Contains(t, text, "\r\nfo ur\r\n", "the edited line")
	require.True(t, strings.HasSuffix(text, "pv> poweroff\r\npowering off\r\n"), text)
	_, err = con.Write([]byte("x"))
	require.ErrorIs(t, err, io.ErrClosedPipe)
}

// What nobody reads is bounded, and the last of it is there.
func TestOutputIsBounded(t *testing.T) {
	h, conn := private(t, Options{})
	d, g := create(t, h, conn, &polyvisor.Config{Name: "o"})
	line := strings.Repeat("x", 200)
	for i := range 1000 {
		say(t, g, fmt.Sprintf("echo %d %s", i, line))
	}
	require.Less(t, len(g.Output()), 2*replay+1024)
	require.Contains(t, g.Output(), "999 "+line)
	con, err := d.Console(t.Context(), polyvisor.ConsoleOptions{})
	require.NoError(t, err)
	defer con.Close()
	for i := range 2000 {
		say(t, g, fmt.Sprintf("echo %d %s", i, line))
	}
	var text strings.Builder
	p := make([]byte, 1<<16)
	for !strings.Contains(text.String(), "1999 "+line) {
		n, err := con.Read(p)
		require.NoError(t, err)
		text.Write(p[:n])
	}
	for i := range 2000 {
		require.Contains(t, text.String(), fmt.Sprintf("\n%d x", i), "an owner misses nothing for a while")
	}
}

func FuzzConsole(f *testing.F) {
	for _, c := range commands {
		f.Add([]byte(c.usage + "\r"))
	}
	f.Add([]byte("fill 3 1;sum 18446744073709551615;peek -1\rrandom 99\rread vda 99999999999\r\x15\b\x7f\x00\xff\n"))
	f.Add([]byte("fill 99999999999 1\rsum 1000\rpoke 0xfffffffffffffff8 1\rblock\rx\rreboot\rhelp\rbutton hold\r"))
	path := filepath.Join(f.TempDir(), "disk")
	if err := os.WriteFile(path, make([]byte, 4096), 0o600); err != nil {
		f.Fatal(err)
	}
	h := New(Options{})
	conn := h.Conn()
	defer conn.Close()
	n := 0
	f.Fuzz(func(t *testing.T, input []byte) {
		n++
		name := fmt.Sprint("f", n)
		_, err := conn.Create(t.Context(), &polyvisor.Config{
			Name: name, Memory: minMemory, Disks: []polyvisor.Disk{{Source: polyvisor.Path(path), Mode: polyvisor.DeviceReadWriteForce}},
			NICs: []polyvisor.NIC{{}}, RNG: &polyvisor.RNG{BytesPerSecond: 10}, OnCrash: polyvisor.ActionPreserve,
		})
		require.NoError(t, err)
		h.mu.Lock()
		d := h.byName[name]
		r := d.run
		r.guestLocked().inputLocked(input)
		require.LessOrEqual(t, len(r.guest.out.data), 2*replay+1<<16)
		require.LessOrEqual(t, len(r.guest.pending), maxPending)
		if d.run != nil {
			d.destroyLocked()
		}
		h.unlock()
	})
}
