//go:build linux && amd64

package guest

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/guestmem"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/kvmapi"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/vcpu"
)

// patience bounds every wait for the guest; it is no expectation.
const patience = time.Minute

// board is the hardware around a guest: just enough of a serial port and of
// power management to test the guest alone.
type board struct {
	mu      sync.Mutex
	line    func(gsi uint32, level bool)
	changed chan struct{} // closed and replaced at each change
	out     strings.Builder
	in      []byte
	ier     byte
	dlab    bool
	event   byte
	ended   string
	reads   int
}

func (b *board) change() {
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *board) update() {
	b.line(4, b.ier&1 != 0 && len(b.in) != 0)
	b.line(9, b.event != 0)
}

func (b *board) PortRead(port uint16, p []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reads++
	switch port {
	case 0x3f8:
		p[0] = 0
		if len(b.in) != 0 {
			p[0], b.in = b.in[0], b.in[1:]
		}
	case 0x3fa:
		p[0] = 0xc1
	case 0x3fd:
		p[0] = 0x60
		if len(b.in) != 0 {
			p[0] |= 1
		}
	case 0x604:
		p[0], b.event = b.event, 0
	}
	b.update()
}

func (b *board) PortWrite(port uint16, p []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case port == 0x3fb:
		b.dlab = p[0]&0x80 != 0
	case port == 0x3f8 && !b.dlab:
		b.out.WriteByte(p[0])
	case port == 0x3f9 && !b.dlab:
		b.ier = p[0]
	case port == 0x64 || port == 0x600 || port == 0x602:
		b.ended = fmt.Sprintf("%#x=%#x", port, p[0])
	}
	b.update()
	b.change()
}

func (b *board) MemRead(uint64, []byte)  {}
func (b *board) MemWrite(uint64, []byte) {}

func (b *board) press() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.event |= 1
	b.update()
}

func (b *board) typeIn(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.in = append(b.in, text...)
	b.update()
}

func (b *board) fault(f *vcpu.Fault) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = map[vcpu.FaultKind]string{vcpu.FaultShutdown: "shutdown", vcpu.FaultInternalError: "internal error"}[f.Kind]
	if b.ended == "" {
		b.ended = f.Error()
	}
	b.change()
}

// until waits for a state of the board and returns the output so far.
func (b *board) until(t *testing.T, what string, ok func() bool) string {
	t.Helper()
	limit := time.After(patience)
	for {
		b.mu.Lock()
		done, changed, out := ok(), b.changed, b.out.String()
		b.mu.Unlock()
		if done {
			return out
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("no %s; the guest printed:\n%s", what, out)
		}
	}
}

func (b *board) says(t *testing.T, text string) string {
	t.Helper()
	return b.until(t, fmt.Sprintf("%q", text), func() bool { return strings.Contains(b.out.String(), text) })
}

func (b *board) ends(t *testing.T) (how, output string) {
	t.Helper()
	output = b.until(t, "end", func() bool { return b.ended != "" })
	return b.ended, output
}

// run starts the guest on real hardware or what the host has in its place.
// What change does to the configuration need not be true.
func run(t *testing.T, cpus int, mib uint64, commandLine string, change func(*Config)) *board {
	t.Helper()
	sys, err := kvmapi.Open(kvmapi.DevicePath)
	if err != nil {
		t.Skipf("needs /dev/kvm: %v", err)
	}
	defer sys.Close()
	vm, err := sys.CreateVM()
	require.NoError(t, err)
	t.Cleanup(func() { vm.Close() })
	require.NoError(t, vm.SetIdentityMapAddr(0xfffbc000))
	require.NoError(t, vm.SetTSSAddr(0xfffbd000))
	require.NoError(t, vm.CreateIRQChip())
	mem, err := guestmem.New(mib << 20)
	require.NoError(t, err)
	t.Cleanup(func() { mem.Close() })
	cfg := testConfig()
	cfg.CommandLine, cfg.CPUs, cfg.LowRAM, cfg.HighRAM = commandLine, cpus, 0, 0
	for i, r := range mem.Regions() {
		require.NoError(t, vm.SetUserMemoryRegion(kvmapi.MemoryRegion{Slot: uint32(i), GuestPhysAddr: r.GuestAddr, Size: r.Size, UserspaceAddr: uint64(r.HostAddr)}))
		if r.GuestAddr == 0 {
			cfg.LowRAM = r.Size
		} else {
			cfg.HighRAM = r.Size
		}
	}
	if change != nil {
		change(&cfg)
	}
	entry, err := Load(mem, cfg)
	require.NoError(t, err)
	start := vcpu.Entry{Mode: vcpu.Long64, RIP: entry.RIP, RSI: entry.RSI}
	require.NoError(t, start.WriteTables(mem))

	supported, err := sys.GetSupportedCPUID()
	require.NoError(t, err)
	b := &board{changed: make(chan struct{})}
	b.line = func(gsi uint32, level bool) { assert.NoError(t, vm.IRQLine(gsi, level)) }
	var all []*vcpu.VCPU
	for i := range cpus {
		c, err := vm.CreateVCPU(i)
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
		require.NoError(t, vcpu.Setup(c, vcpu.Long64, vcpu.Topology{ID: i, Cores: cpus}, supported, true))
		if i == 0 {
			require.NoError(t, start.Apply(c))
		}
		v, err := vcpu.New(vcpu.Config{ID: i, CPU: c, Bus: b, OnFault: b.fault})
		require.NoError(t, err)
		t.Cleanup(func() { vcpu.Stop(v) })
		all = append(all, v)
	}
	require.NoError(t, vcpu.Resume(all...))
	return b
}

const off = "powering off\r\n"

func TestExecFindsItsMachine(t *testing.T) {
	for _, tc := range []struct {
		cpus int
		mib  uint64
	}{{1, 32}, {2, 128}, {4, 3072}, {8, 5120}} {
		t.Run(fmt.Sprintf("%d processors, %d MiB", tc.cpus, tc.mib), func(t *testing.T) {
			how, out := run(t, tc.cpus, tc.mib, "auto=mem;cpus;poweroff", nil).ends(t)
			assert.Equal(t, "0x600=0x34", how)
			assert.Contains(t, out, "\r\n"+Banner+"\r\n")
			assert.Equal(t, 2, strings.Count(out, fmt.Sprintf("memory: %d MiB in ", tc.mib)), out)
			assert.Equal(t, 2, strings.Count(out, "each answers at its end, nothing beyond"), out)
			assert.Equal(t, 2, strings.Count(out, fmt.Sprintf("cpus: %d came up, %d stated\r\n", tc.cpus, tc.cpus)), out)
			assert.Contains(t, out, fmt.Sprintf("mem: %d of %d MiB above 2 MiB answer\r\n", tc.mib-2, tc.mib-2))
			assert.True(t, strings.HasSuffix(out, off), out)
		})
	}
}

// A guest that is told something else than what there is must find out.
func TestExecFindsOutLies(t *testing.T) {
	how, out := run(t, 2, 64, "auto=mem;poweroff", func(c *Config) { c.LowRAM = 80 << 20 }).ends(t)
	assert.Equal(t, "0x600=0x34", how)
	assert.Contains(t, out, "memory: 80 MiB in 2 range(s), 1 without memory at the end, nothing beyond")
	assert.Contains(t, out, "mem: 62 of 78 MiB above 2 MiB answer")

	_, out = run(t, 1, 64, "auto=poweroff", func(c *Config) { c.LowRAM, c.CPUs = 32<<20, 3 }).ends(t)
	assert.Contains(t, out, "memory: 32 MiB in 2 range(s), each answers at its end, MEMORY beyond 0x0000000002000000")
	assert.Contains(t, out, "cpus: 1 came up, 3 stated")
}

func TestExecCommands(t *testing.T) {
	b := run(t, 2, 32, `x auto="echo one;  echo two ; bogus;time" auto=poweroff`, nil)
	out := b.says(t, Prompt)
	assert.Contains(t, out, "\r\none\r\ntwo \r\nunknown command: bogus; type help\r\ntime: uptime_ns=")
	assert.Regexp(t, `time: uptime_ns=\d+ kvmclock_ns=\d+ tsc=\d+\r\n`, out)

	for _, tc := range []struct{ typed, want string }{
		{"echo hello\r\n", "echo hello\r\nhello\r\n"},
		{"\n\r", Prompt + "\r\n" + Prompt + "\r\n" + Prompt},
		{"ecto\b\bho x\x7fy\r", "\b \bho x\b \by\r\ny\r\n"},
		{"poweroff\x15echo still here\r", "\r\nstill here\r\n"},
		{"echo " + strings.Repeat("x", 300) + "\r", "\a\r\n" + strings.Repeat("x", 250) + "\r\n"},
		{"help\r", "\r\nkbdreset       reset by the keyboard controller\r\n"},
		{"echo a;echo b;;echo c\r", "\r\na\r\nb\r\nc\r\n"},
		{"\x01\x02echo\r", "echo\r\n\r\n"},
	} {
		b.typeIn(tc.typed)
		b.says(t, tc.want)
	}
	sum, done := Checksum(Config{LowRAM: 32 << 20}, 1, 99)
	require.EqualValues(t, 1, done)
	b.typeIn("fill 1 99;sum 1\r")
	b.says(t, fmt.Sprintf("fill: 1 MiB\r\nsum: 1 MiB %#016x\r\n", sum))
	b.typeIn("poweroff\r")
	how, _ := b.ends(t)
	assert.Equal(t, "0x600=0x34", how)
}

// An idle guest sleeps: it makes no accesses until something happens.
func TestExecIdle(t *testing.T) {
	b := run(t, 1, 32, "", nil)
	b.says(t, Prompt)
	asleep := func() bool {
		b.mu.Lock()
		before := b.reads
		b.mu.Unlock()
		time.Sleep(50 * time.Millisecond)
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.reads == before
	}
	for range 20 {
		require.Eventually(t, asleep, patience, time.Millisecond)
		b.typeIn("echo awake\r")
		b.says(t, "\r\nawake\r\n"+Prompt)
		b.mu.Lock()
		b.out.Reset()
		b.mu.Unlock()
	}
	b.press()
	how, out := b.ends(t)
	assert.Equal(t, "0x600=0x34", how)
	assert.Equal(t, "\r\npower button\r\n"+off, out)
}

func TestExecPolls(t *testing.T) {
	b := run(t, 1, 32, "noirq", nil)
	b.says(t, Prompt)
	b.typeIn("echo awake\r")
	b.says(t, "\r\nawake\r\n"+Prompt)
	b.press()
	how, _ := b.ends(t)
	assert.Equal(t, "0x600=0x34", how)
}

func TestExecEndings(t *testing.T) {
	for _, tc := range []struct{ cmd, says, how string }{
		{"poweroff", off, "0x600=0x34"},
		{"reboot", "rebooting\r\n", "0x602=0x1"},
		{"kbdreset", "keyboard reset\r\n", "0x64=0xfe"},
		{"triple", "triple fault\r\n", "shutdown"},
		{"crash", "crashing\r\n", "internal error"},
	} {
		t.Run(tc.cmd, func(t *testing.T) {
			how, out := run(t, 2, 32, "auto="+tc.cmd, nil).ends(t)
			assert.Equal(t, tc.how, how)
			assert.True(t, strings.HasSuffix(out, tc.says), out)
		})
	}
}

// A guest that no longer listens can be stopped; the clean-up of run does it.
func TestExecDeaf(t *testing.T) {
	for cmd, says := range map[string]string{"halt": "halted\r\n", "spin": "spinning\r\n", "spin all": "cpus: 2 came up, 2 stated\r\nspinning\r\n"} {
		t.Run(cmd, func(t *testing.T) {
			b := run(t, 2, 32, "auto="+cmd, nil)
			b.says(t, says)
			b.press()
			b.typeIn("poweroff\r")
			time.Sleep(20 * time.Millisecond)
			b.mu.Lock()
			defer b.mu.Unlock()
			assert.Empty(t, b.ended)
			assert.True(t, strings.HasSuffix(b.out.String(), says))
		})
	}
}

// A map that reaches beyond the addresses of the processor makes the guest
// fault; it says where, and ends.
func TestExecException(t *testing.T) {
	how, out := run(t, 1, 32, "", func(c *Config) { c.HighRAM = highRAMMax }).ends(t)
	assert.Equal(t, "shutdown", how)
	assert.Regexp(t, `\r\nexception 14 at 0x000000000010[0-9a-f]{4}\r\n$`, out)
}
