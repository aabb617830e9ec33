//go:build linux && amd64

package kvmapi

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func openKVM(t *testing.T) *System {
	t.Helper()
	s, err := Open(DevicePath)
	if err != nil {
		t.Skipf("needs %s: %v", DevicePath, err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	require.NoError(t, os.WriteFile(plain, nil, 0o600))
	for _, c := range []struct {
		path   string
		reason error
	}{
		{filepath.Join(dir, "absent"), ErrNoDevice},
		{plain, ErrNotKVM},
		{dir, ErrNotKVM},
		{"/dev/null", ErrNotKVM},
	} {
		_, err := Open(c.path)
		var oe *OpenError
		require.ErrorAs(t, err, &oe, c.path)
		assert.ErrorIs(t, err, c.reason, c.path)
		assert.Contains(t, err.Error(), c.path)
	}
	assert.ErrorIs(t, openError("/dev/kvm", unix.EACCES), ErrPermission)
	assert.Contains(t, openError("/dev/kvm", unix.EACCES).Error(), "group")
	assert.ErrorIs(t, openError("/dev/kvm", unix.EACCES), os.ErrPermission)
}

func TestSystem(t *testing.T) {
	s := openKVM(t)
	n, err := s.CheckExtension(CapImmediateExit)
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	a, err := s.GetSupportedCPUID()
	require.NoError(t, err)
	require.NotEmpty(t, a)
	want := a[0]
	a[0].EAX ^= 0xffff
	b, err := s.GetSupportedCPUID()
	require.NoError(t, err)
	assert.Equal(t, want, b[0], "the cache is not the caller's slice")
	msrs, err := s.GetMSRIndexList()
	require.NoError(t, err)
	assert.Contains(t, msrs, uint32(0x10), "the time stamp counter")
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	_, err = s.CreateVM()
	assert.ErrorIs(t, err, unix.EBADF, "a closed descriptor's number may be somebody else's by now")
}

// One processor in real mode runs: in al,0x10; inc al; out 0x11,al; hlt.
func TestRunPortLoop(t *testing.T) {
	s := openKVM(t)
	vm, err := s.CreateVM()
	require.NoError(t, err)
	defer vm.Close()
	mem, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	require.NoError(t, err)
	defer unix.Munmap(mem)
	copy(mem, []byte{0xe4, 0x10, 0xfe, 0xc0, 0xe6, 0x11, 0xf4})
	require.NoError(t, vm.SetUserMemoryRegion(MemoryRegion{GuestPhysAddr: 0x1000, Size: 4096, UserspaceAddr: uint64(uintptr(unsafe.Pointer(&mem[0])))}))
	cpu, err := vm.CreateVCPU(0)
	require.NoError(t, err)
	defer cpu.Close()
	sregs, err := cpu.GetSregs()
	require.NoError(t, err)
	sregs.CS.Base, sregs.CS.Selector = 0, 0
	require.NoError(t, cpu.SetSregs(sregs))
	require.NoError(t, cpu.SetRegs(Regs{RIP: 0x1000, RFLAGS: 2}))
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	run := func(want ExitReason) {
		t.Helper()
		for {
			switch errno := cpu.Run(); errno {
			case 0:
				require.Equal(t, want, cpu.Page().ExitReason())
				return
			case syscall.EINTR, syscall.EAGAIN:
			default:
				t.Fatal(errno)
			}
		}
	}
	run(ExitIO)
	io, ok := cpu.Page().IO()
	require.True(t, ok)
	assert.Equal(t, IO{Size: 1, Port: 0x10, Count: 1, Data: io.Data}, io)
	io.Data[0] = 41

	cpu.Page().SetImmediateExit(true)
	assert.Equal(t, syscall.EINTR, cpu.Run())
	cpu.Page().SetImmediateExit(false)
	r, err := cpu.GetRegs()
	require.NoError(t, err)
	assert.EqualValues(t, 41, r.RAX&0xff, "a run that ends at once still finishes the port read")

	run(ExitIO)
	io, ok = cpu.Page().IO()
	require.True(t, ok)
	assert.Equal(t, IO{Write: true, Size: 1, Port: 0x11, Count: 1, Data: []byte{42}}, io)
	run(ExitHLT)
}

func TestVCPUState(t *testing.T) {
	s := openKVM(t)
	vm, err := s.CreateVM()
	require.NoError(t, err)
	defer vm.Close()
	require.NoError(t, vm.SetIdentityMapAddr(0xfffbc000))
	require.NoError(t, vm.SetTSSAddr(0xfffbd000))
	require.NoError(t, vm.CreateIRQChip())
	require.NoError(t, vm.CreatePIT2())
	cpu, err := vm.CreateVCPU(0)
	require.NoError(t, err)
	defer cpu.Close()
	ap, err := vm.CreateVCPU(1)
	require.NoError(t, err)
	defer ap.Close()

	e, err := s.GetSupportedCPUID()
	require.NoError(t, err)
	require.NoError(t, cpu.SetCPUID2(e))
	assert.Error(t, cpu.SetCPUID2(make([]CPUIDEntry, MaxCPUIDEntries+1)))

	msrs := []MSR{{Index: 0x174, Data: 0x1234}, {Index: 0x2ff, Data: 0x806}}
	require.NoError(t, cpu.SetMSRs(msrs))
	got := []MSR{{Index: 0x174}, {Index: 0x2ff}}
	require.NoError(t, cpu.GetMSRs(got))
	assert.Equal(t, msrs, got)
	err = cpu.SetMSRs([]MSR{{Index: 0x174}, {Index: 0xdeadbeef, Data: 1}})
	assert.ErrorContains(t, err, "0xdeadbeef")

	l, err := cpu.GetLapic()
	require.NoError(t, err)
	l.Regs[0x360], l.Regs[0x361] = 0, 4
	require.NoError(t, cpu.SetLapic(&l))
	back, err := cpu.GetLapic()
	require.NoError(t, err)
	assert.Equal(t, l.Regs[0x360:0x364], back.Regs[0x360:0x364])

	fpu := FPU{FCW: 0x27f}
	require.NoError(t, cpu.SetFPU(fpu))
	f, err := cpu.GetFPU()
	require.NoError(t, err)
	assert.Equal(t, fpu.FCW, f.FCW)

	mp, err := ap.GetMPState()
	require.NoError(t, err)
	assert.Equal(t, MPStateUninitialized, mp)
	require.NoError(t, ap.SetMPState(MPStateUninitialized))

	khz, err := cpu.TSCKHz()
	require.NoError(t, err)
	assert.Greater(t, khz, 100_000)
	require.NoError(t, cpu.SetTSCKHz(khz))

	c, err := vm.GetClock()
	require.NoError(t, err)
	require.NoError(t, vm.SetClock(ClockData{Clock: c.Clock + 1e12}))
	c2, err := vm.GetClock()
	require.NoError(t, err)
	assert.GreaterOrEqual(t, c2.Clock, c.Clock+1e12)

	err = cpu.KVMClockCtrl()
	var ie *IoctlError
	require.ErrorAs(t, err, &ie, "no kvmclock page yet")
	assert.ErrorIs(t, err, unix.EINVAL)

	require.NoError(t, vm.IRQLine(4, true))
	require.NoError(t, vm.IRQLine(4, false))
	ev, err := NewEventFD()
	require.NoError(t, err)
	defer ev.Close()
	require.NoError(t, vm.IRQFD(ev, 5))
	require.NoError(t, vm.RemoveIRQFD(ev, 5))
	match := uint64(3)
	for _, x := range []IOEvent{{Addr: 0xd0000000}, {Addr: 0xd0000010, Len: 4, Data: &match}, {Addr: 0x510, Len: 2, PIO: true}} {
		require.NoError(t, vm.IOEventFD(ev, x))
		assert.Error(t, vm.IOEventFD(ev, x), "twice")
		require.NoError(t, vm.RemoveIOEventFD(ev, x))
	}
	require.NoError(t, ev.Signal())
	n, err := ev.Take()
	require.NoError(t, err)
	assert.EqualValues(t, 1, n)
	n, err = ev.Take()
	require.NoError(t, err)
	assert.Zero(t, n)
	if _, err := vm.CreateVCPU(0); !errors.Is(err, unix.EEXIST) {
		t.Errorf("a processor twice: %v", err)
	}
}
