//go:build linux && amd64

package vmm

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/kvmapi"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio/virtiopci"
)

// newTestPCI makes a machine with every device that does not run, and tells what was said about its devices.
func newTestPCI(t *testing.T) (*Machine, *[]string) {
	t.Helper()
	needKVM(t)
	spec, files := withDevices(t)
	var said []string
	m, err := New(t.Context(), spec, Options{Files: files, OnDeviceError: func(device, detail string) { said = append(said, device+": "+detail) }})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	return m, &said
}

// command is the command register of the device in a slot, which lets its BAR answer or not.
func (m *Machine) command(slot int, on bool) {
	var b [2]byte
	if on {
		b[0] = 6
	}
	m.MemWrite(ecamBase+uint64(slot)<<15+4, b[:])
}

// The BARs lie where the builder has put them, side by side, and only while the guest lets them.
func TestBARsAnswerWhereTheGuestPutsThem(t *testing.T) {
	m, said := newTestPCI(t)
	ranges := func() map[string]uint64 {
		at := map[string]uint64{}
		for _, r := range m.platform.mem.Ranges() {
			at[r.Name] = r.Base
		}
		return at
	}
	require.Equal(t, map[string]uint64{"pci": ecamBase}, ranges())
	want := map[string]uint64{"pci": ecamBase}
	for i, d := range m.pci.devices {
		m.command(1+i, true)
		want[d.name] = barBase + uint64(i)*virtiopci.BARSize
	}
	require.Equal(t, want, ranges())

	// Over another device and outside of the window it answers nowhere, and at a good place again.
	bar := func(v uint32) {
		m.MemWrite(ecamBase+1<<15+0x10, []byte{byte(v), byte(v >> 8), byte(v >> 16), byte(v >> 24)})
	}
	for _, bad := range []uint32{barBase + virtiopci.BARSize, ecamBase, 0xfee00000, 0x100000, 0} {
		bar(bad)
		require.NotContains(t, ranges(), "vda", "%#x", bad)
	}
	bar(barEnd - virtiopci.BARSize)
	require.EqualValues(t, barEnd-virtiopci.BARSize, ranges()["vda"])
	for i := range m.pci.devices {
		m.command(1+i, false)
	}
	require.Equal(t, map[string]uint64{"pci": ecamBase}, ranges())
	require.Empty(t, *said, "what a guest does wrong is not the host's failure")
}

// A doorbell that KVM has no room for keeps the BAR from answering, leaves no other doorbell, and is told.
func TestDoorbellsThatCannotBe(t *testing.T) {
	m, said := newTestPCI(t)
	d := m.pci.devices[1] // of two queues
	require.Len(t, d.bells, 2)
	e, err := kvmapi.NewEventFD()
	require.NoError(t, err)
	defer e.Close()
	taken := kvmapi.IOEvent{Addr: virtiopci.Doorbell(barBase+virtiopci.BARSize, 1)}
	require.NoError(t, m.vm.IOEventFD(e, taken))
	m.command(2, true)
	require.Len(t, m.platform.mem.Ranges(), 1)
	require.Len(t, *said, 1)
	require.Contains(t, (*said)[0], "vdb: the doorbell of queue 1: ")
	m.command(2, false)
	require.NoError(t, m.vm.RemoveIOEventFD(e, taken))
	m.command(2, true)
	require.Len(t, m.platform.mem.Ranges(), 2)
	require.Len(t, *said, 1)
}

// Probing a bus costs a boot hundreds of exits.
func TestMachinesWithoutDevicesHaveNoPCI(t *testing.T) {
	needKVM(t)
	m, err := New(t.Context(), guestSpec(""), Options{})
	require.NoError(t, err)
	require.Empty(t, m.platform.mem.Ranges())
	require.NoError(t, m.Close())
}
