//go:build linux && amd64

package vmm

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/linux/imagetest"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio/virtiopci"
)

// kicker is a kernel that writes to a doorbell so many times, then to the serial port's scratch register, and spins.
func kicker(t *testing.T, doorbell uint64, kicks uint32) *os.File {
	t.Helper()
	const at = 0x1000000
	code := []byte{0xbf} // mov edi, doorbell
	code = binary.LittleEndian.AppendUint32(code, uint32(doorbell))
	code = append(code, 0xb9) // mov ecx, kicks
	code = binary.LittleEndian.AppendUint32(code, kicks)
	code = append(code,
		0x31, 0xc0, // xor eax, eax
		0x66, 0x89, 0x07, // 1: mov [rdi], ax
		0xff, 0xc9, // dec ecx
		0x75, 0xf9, // jnz 1b
		0xba, 0xff, 0x03, 0, 0, // mov edx, 0x3ff
		0xee,       // out dx, al
		0xeb, 0xfe, // jmp .
	)
	image := imagetest.ELF{Entry: at, Segments: []imagetest.Segment{{Type: imagetest.Load, VAddr: at, PAddr: at, Data: code, MemSize: 4096, Align: 4096}}}
	f, err := os.Create(filepath.Join(t.TempDir(), "kernel"))
	require.NoError(t, err)
	_, err = f.Write(image.Build())
	require.NoError(t, err)
	return f
}

// A kick is no exit to user space: KVM counts it in the queue's eventfd and goes on with the guest.
func TestKicksAreNoExits(t *testing.T) {
	needKVM(t)
	const kicks = 1000
	spec, files := withDevices(t)
	spec.Boot = Boot{Kind: BootLinux, Entry: "long64"}
	run := func(doorbell uint64, enabled bool) (exits map[string]uint64, rung, counted uint64) {
		m, err := New(t.Context(), spec, Options{Files: files, Kernel: kicker(t, doorbell, kicks)})
		require.NoError(t, err)
		defer func() { require.NoError(t, m.Close()) }()
		m.command(1, enabled)
		before := m.Info().Accesses["vda"]
		require.NoError(t, m.Start())
		require.Eventually(t, func() bool { return m.Info().Exits["io_out"] > 0 }, time.Minute, time.Millisecond)
		n, err := m.pci.devices[0].bells[0].Take()
		require.NoError(t, err)
		return m.Info().Exits, n, m.Info().Accesses["vda"] - before
	}
	exits, rung, accesses := run(virtiopci.Doorbell(barBase, 0), true)
	require.EqualValues(t, kicks, rung)
	require.Zero(t, exits["mmio_write"], "%v", exits)
	require.Zero(t, accesses)
	require.EqualValues(t, 1, exits["io_out"])

	// Were it not for the eventfd, each would be one.
	exits, rung, _ = run(virtiopci.Doorbell(barBase, 0), false)
	require.Zero(t, rung)
	require.EqualValues(t, kicks, exits["mmio_write"], "%v", exits)
}
