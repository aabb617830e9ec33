//go:build linux && amd64 && !race

package kvmapi

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Kicks and interrupts come with every request. The race detector has allocations of its own.
func TestKicksAndInterruptsDoNotAllocate(t *testing.T) {
	ev, err := NewEventFD()
	require.NoError(t, err)
	defer ev.Close()
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		if ev.Signal() != nil || ev.Wait() != nil {
			t.Fatal("no signal")
		}
	}))
	vm, err := openKVM(t).CreateVM()
	require.NoError(t, err)
	defer vm.Close()
	require.NoError(t, vm.CreateIRQChip())
	cpu, err := vm.CreateVCPU(0)
	require.NoError(t, err)
	defer cpu.Close()
	require.NoError(t, vm.SignalMSI(0xfee00000, 0x41))
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		if err := vm.SignalMSI(0xfee00000, 0x41); err != nil {
			t.Fatal(err)
		}
	}))
}
