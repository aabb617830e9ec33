//go:build linux && amd64

package vcpu

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/guestmem"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/kvmapi"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/vcpu/vcputest"
)

// testBus counts accesses and keeps what was written; reads give answer.
type testBus struct {
	n      atomic.Int64
	mu     sync.Mutex
	wrote  []string
	answer []byte
	keep   bool
}

func (b *testBus) write(kind string, addr uint64, p []byte) {
	b.n.Add(1)
	if b.keep {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.wrote = append(b.wrote, fmt.Sprintf("%s %#x %x", kind, addr, p))
	}
}

func (b *testBus) PortRead(port uint16, p []byte)  { copy(p, b.answer) }
func (b *testBus) PortWrite(port uint16, p []byte) { b.write("port", uint64(port), p) }
func (b *testBus) MemRead(addr uint64, p []byte)   { copy(p, b.answer) }
func (b *testBus) MemWrite(addr uint64, p []byte)  { b.write("mem", addr, p) }
func (b *testBus) written() []string               { b.mu.Lock(); defer b.mu.Unlock(); return b.wrote }
func (b *testBus) waitFor(t testing.TB, n int64) {
	t.Helper()
	eventually(t, func() bool { return b.n.Load() >= n })
}
func eventually(t testing.TB, f func() bool) {
	t.Helper()
	require.Eventually(t, f, 20*time.Second, time.Millisecond)
}
func newVM(t testing.TB, n int) (*kvmapi.VM, []*kvmapi.VCPU, *guestmem.Memory) {
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
	mem, err := guestmem.New(4 << 20)
	require.NoError(t, err)
	t.Cleanup(func() { mem.Close() })
	for i, r := range mem.Regions() {
		require.NoError(t, vm.SetUserMemoryRegion(kvmapi.MemoryRegion{Slot: uint32(i), GuestPhysAddr: r.GuestAddr, Size: r.Size, UserspaceAddr: uint64(r.HostAddr)}))
	}
	supported, err := sys.GetSupportedCPUID()
	require.NoError(t, err)
	cpus := make([]*kvmapi.VCPU, n)
	for i := range cpus {
		cpus[i], err = vm.CreateVCPU(i)
		require.NoError(t, err)
		t.Cleanup(func() { cpus[i].Close() })
		require.NoError(t, Setup(cpus[i], Long64, Topology{ID: i, Cores: n}, supported, true))
	}
	return vm, cpus, mem
}

const codeAddr = 0x100000

// start makes a machine whose processors all begin with the same code, paused.
func start(t testing.TB, n int, mode Mode, code []byte, bus Bus) ([]*VCPU, <-chan *Fault) {
	t.Helper()
	_, cpus, mem := newVM(t, n)
	require.NoError(t, mem.WriteAt(code, codeAddr))
	e := Entry{Mode: mode, RIP: codeAddr, RSP: 0x8000}
	require.NoError(t, e.WriteTables(mem))
	faults := make(chan *Fault, n)
	var vs []*VCPU
	for i, c := range cpus {
		require.NoError(t, e.Apply(c))
		require.NoError(t, c.SetMPState(kvmapi.MPStateRunnable))
		v, err := New(Config{ID: i, CPU: c, Bus: bus, Memory: mem, OnFault: func(f *Fault) { faults <- f }})
		require.NoError(t, err)
		vs = append(vs, v)
		t.Cleanup(func() { Stop(v) })
	}
	return vs, faults
}

func threads(t testing.TB) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/task")
	require.NoError(t, err)
	return len(d)
}

// Every kind of guest can be paused, resumed, looked at and stopped, many times over.
func TestControl(t *testing.T) {
	for name, code := range map[string][]byte{"spin": vcputest.Spin, "halt deaf": vcputest.HaltDeaf, "port": vcputest.PortLoop, "mem": vcputest.MemLoop} {
		t.Run(name, func(t *testing.T) {
			vs, faults := start(t, 2, Long64, code, &testBus{})
			for i := range 50 {
				require.NoError(t, Resume(vs...))
				if i%5 == 0 {
					time.Sleep(time.Millisecond)
				}
				require.NoError(t, vs[1].Do(func(c *kvmapi.VCPU) error {
					r, err := c.GetRegs()
					assert.GreaterOrEqual(t, r.RIP, uint64(codeAddr))
					assert.LessOrEqual(t, r.RIP, uint64(codeAddr+len(code)))
					return err
				}))
				require.NoError(t, Pause(vs...))
			}
			before := vs[0].Exits()
			time.Sleep(5 * time.Millisecond)
			assert.Equal(t, before, vs[0].Exits(), "a paused processor does nothing")
			require.NoError(t, Resume(vs...))
			Stop(vs...)
			Stop(vs...)
			assert.ErrorIs(t, vs[0].Do(func(*kvmapi.VCPU) error { return nil }), ErrStopped)
			assert.ErrorIs(t, Pause(vs...), ErrStopped)
			assert.Positive(t, vs[0].CPUTime())
			select {
			case f := <-faults:
				t.Fatal(f)
			default:
			}
		})
	}
}

// A processor that waits for start-up sleeps in the kernel as an uninitialized one.
func TestWaitingForStartup(t *testing.T) {
	_, cpus, _ := newVM(t, 2)
	v, err := New(Config{ID: 1, CPU: cpus[1], Bus: &testBus{}})
	require.NoError(t, err)
	for range 10 {
		require.NoError(t, Resume(v))
		require.NoError(t, v.Do(func(*kvmapi.VCPU) error { return nil }))
		require.NoError(t, Pause(v))
	}
	require.NoError(t, Resume(v))
	Stop(v)
}

// The threads of stopped processors end, also when they were in the guest. (A machine may have a kernel thread in our
// process, so the machines are closed too before threads are counted.)
func TestStopLeavesNoThread(t *testing.T) {
	round := func(t *testing.T) {
		vs, _ := start(t, 4, Long64, vcputest.Spin, &testBus{})
		require.NoError(t, Resume(vs...))
		Stop(vs...)
		for _, v := range vs {
			v.mu.Lock()
			assert.Zero(t, v.tid)
			v.mu.Unlock()
		}
	}
	t.Run("first", round)
	before := threads(t)
	for range 8 {
		t.Run("more", round)
	}
	// The runtime keeps a few idle threads of its own; 32 processors' would show.
	eventually(t, func() bool { return threads(t) <= before+4 })
}

// Signals that mean nothing, as the scheduler's own, neither pause a processor nor end it.
func TestStraySignals(t *testing.T) {
	bus := &testBus{}
	vs, faults := start(t, 1, Long64, vcputest.PortLoop, bus)
	require.NoError(t, Resume(vs...))
	for range 200 {
		vs[0].mu.Lock()
		tid := vs[0].tid
		vs[0].mu.Unlock()
		_ = syscall.Tgkill(os.Getpid(), tid, syscall.SIGURG)
		_ = syscall.Tgkill(os.Getpid(), tid, KickSignal)
	}
	runtime.GC()
	bus.waitFor(t, bus.n.Load()+10)
	require.NoError(t, Pause(vs...))
	assert.Empty(t, faults)
}

// A program that takes all signals for itself does not lose a kick.
func TestKickDespiteNotify(t *testing.T) {
	c := make(chan os.Signal, 16)
	signal.Notify(c)
	defer signal.Stop(c)
	vs, _ := start(t, 1, Long64, vcputest.HaltDeaf, &testBus{})
	for range 10 {
		require.NoError(t, Resume(vs...))
		require.NoError(t, Pause(vs...))
	}
}

// Many senders at once each get their answer.
func TestConcurrentOperations(t *testing.T) {
	vs, _ := start(t, 1, Long64, vcputest.Spin, &testBus{})
	require.NoError(t, Resume(vs...))
	var wg sync.WaitGroup
	var n atomic.Int64
	for range 8 {
		wg.Go(func() {
			for range 25 {
				assert.NoError(t, vs[0].Do(func(*kvmapi.VCPU) error { n.Add(1); return nil }))
			}
		})
	}
	wg.Wait()
	assert.EqualValues(t, 200, n.Load())
	for range 4 {
		wg.Go(func() { Stop(vs...) })
		wg.Go(func() { _ = vs[0].Do(func(*kvmapi.VCPU) error { return nil }) })
	}
	wg.Wait()
}

func TestAccesses(t *testing.T) {
	for _, c := range []struct {
		name   string
		mode   Mode
		code   []byte
		answer []byte
		want   []string
		exits  ExitKind
	}{
		{"port read", Long64, vcputest.PortRead, []byte{1, 2, 3, 4}, []string{"port 0x510 01020304"}, ExitIOIn},
		{"port read, nobody", Long64, vcputest.PortRead, nil, []string{"port 0x510 ffffffff"}, ExitIOIn},
		{"port read, PVH", PVH, vcputest.PortRead, []byte{1, 2, 3, 4}, []string{"port 0x510 01020304"}, ExitIOIn},
		{"memory read", Long64, vcputest.MemRead, []byte{9, 8, 7, 6, 5}, []string{"port 0x510 09080706"}, ExitMMIORead},
		{"memory read, nobody", Long64, vcputest.MemRead, nil, []string{"port 0x510 ffffffff"}, ExitMMIORead},
		{"string", Long64, vcputest.StringOut, nil, []string{"port 0x510 68", "port 0x510 65", "port 0x510 6c", "port 0x510 6c", "port 0x510 6f"}, ExitIOOut},
	} {
		t.Run(c.name, func(t *testing.T) {
			bus := &testBus{keep: true, answer: c.answer}
			vs, _ := start(t, 1, c.mode, c.code, bus)
			require.NoError(t, Resume(vs...))
			bus.waitFor(t, int64(len(c.want)))
			require.NoError(t, Pause(vs...))
			assert.Equal(t, c.want, bus.written())
			assert.Positive(t, vs[0].Exits()[c.exits])
		})
	}
}

func TestTripleFault(t *testing.T) {
	vs, faults := start(t, 1, Long64, vcputest.TripleFault, &testBus{})
	require.NoError(t, Resume(vs...))
	f := <-faults
	assert.Equal(t, FaultShutdown, f.Kind)
	assert.Contains(t, f.Error(), "triple fault")
	assert.True(t, f.KnowRegs)
	if f.RegsLost { // AMD
		assert.Empty(t, f.Code)
		assert.Contains(t, f.Error(), "registers were reset")
	} else {
		assert.EqualValues(t, codeAddr, f.RIP)
		assert.EqualValues(t, PML4Addr, f.CR3)
		require.Len(t, f.Code, codeBytes)
		assert.Equal(t, vcputest.TripleFault, f.Code[:len(vcputest.TripleFault)])
	}
	require.NoError(t, Resume(vs...), "a faulted processor stays where it is")
	require.NoError(t, vs[0].Do(func(*kvmapi.VCPU) error { return nil }))
	assert.EqualValues(t, 1, vs[0].Exits()[ExitShutdown])
}

func TestFaultText(t *testing.T) {
	f := &Fault{VCPU: 3, Kind: FaultInternalError, SubError: 1, Code: []byte{0x0f, 0x0b}, KnowRegs: true, RIP: 0x1234}
	for _, want := range []string{"vCPU 3", "sub-error 1 (emulation failure)", "0f 0b", "rip=0x1234"} {
		assert.Contains(t, f.Error(), want)
	}
	assert.ErrorIs(t, &Fault{Kind: FaultRun, Err: syscall.EFAULT}, syscall.EFAULT)
	assert.Contains(t, (&Fault{Kind: FaultFailEntry, Reason: 0x80000021}).Error(), "0x80000021")
}

func TestCPUTime(t *testing.T) {
	vs, _ := start(t, 2, Long64, vcputest.Spin, &testBus{})
	require.NoError(t, Resume(vs[0]))
	eventually(t, func() bool { return vs[0].CPUTime() > 20*time.Millisecond })
	// What the paused one took to be made and to fall asleep is any time on a busy host; once it sleeps it uses none.
	idle := false
	for range 100 {
		from, before := vs[0].CPUTime(), vs[1].CPUTime()
		eventually(t, func() bool { return vs[0].CPUTime() > from+20*time.Millisecond })
		if idle = vs[1].CPUTime() == before; idle {
			break
		}
	}
	assert.True(t, idle, "the paused one uses processor time while the other one does")
	Stop(vs...)
	end := vs[0].CPUTime()
	assert.GreaterOrEqual(t, end, 20*time.Millisecond)
	assert.Equal(t, end, vs[0].CPUTime())
}

func TestExitsText(t *testing.T) {
	var e Exits
	e[ExitIOIn], e[ExitShutdown] = 3, 1
	e.Add(e)
	assert.Equal(t, map[string]uint64{"io_in": 6, "shutdown": 2}, e.Map())
	assert.Equal(t, "io_in=6 shutdown=2 total=8", e.String())
	for k := range NumExitKinds {
		assert.NotEmpty(t, k.String())
		assert.False(t, strings.HasPrefix(k.String(), "ExitKind"))
	}
}

// freezeBus freezes the processors at the first write.
type freezeBus struct {
	testBus
	vs atomic.Pointer[[]*VCPU]
}

func (b *freezeBus) PortWrite(port uint16, p []byte) {
	b.n.Add(1)
	Freeze(*b.vs.Load()...)
}

// A device stops the machine from within an access: the processor that made the access does not go on.
func TestFreezeFromWithin(t *testing.T) {
	bus := &freezeBus{}
	vs, _ := start(t, 1, Long64, vcputest.PortLoop, bus)
	bus.vs.Store(&vs)
	for i := range int64(20) {
		require.NoError(t, Resume(vs...))
		bus.waitFor(t, i+1)
		require.NoError(t, Pause(vs...))
		assert.Equal(t, i+1, bus.n.Load())
	}
}
