//go:build linux && amd64

package vcpu

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/kvmapi"
)

func TestPin(t *testing.T) {
	var own unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &own))
	first := 0
	for !own.IsSet(first) {
		first++
	}
	m := make([]byte, first/8+1)
	m[first/8] = 1 << (first % 8)

	sys, err := kvmapi.Open(kvmapi.DevicePath)
	if err != nil {
		t.Skipf("needs /dev/kvm: %v", err)
	}
	defer sys.Close()
	vm, err := sys.CreateVM()
	require.NoError(t, err)
	defer vm.Close()
	cpu, err := vm.CreateVCPU(0)
	require.NoError(t, err)
	defer cpu.Close()
	v, err := New(Config{ID: 0, CPU: cpu, Bus: &testBus{}})
	require.NoError(t, err)

	before := v.Thread()
	require.GreaterOrEqual(t, before.CPU, 0)
	require.NoError(t, v.Pin(m))
	require.Equal(t, m, v.Thread().Affinity)
	// Of a set that the host has in part, that part counts.
	require.NoError(t, v.Pin(append(append([]byte(nil), m...), make([]byte, 127-len(m))...)))
	big := make([]byte, 8192)
	copy(big, m)
	big[127], big[8191] = 0x80, 0xff
	if !own.IsSet(1023) {
		require.NoError(t, v.Pin(big))
		require.Equal(t, m, v.Thread().Affinity)
		require.ErrorIs(t, v.Pin(big[100:]), ErrNoCPU)
	}
	require.ErrorIs(t, v.Pin(nil), ErrNoCPU)
	require.Equal(t, m, v.Thread().Affinity, "what failed has changed nothing")

	// The other threads of the process are as they were.
	var now unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(unix.Getpid(), &now))
	require.Equal(t, own, now)

	Stop(v)
	require.ErrorIs(t, v.Pin(m), ErrStopped)
	end := v.Thread()
	require.Equal(t, -1, end.CPU)
	require.False(t, end.Running)
	require.Nil(t, end.Affinity)
}
