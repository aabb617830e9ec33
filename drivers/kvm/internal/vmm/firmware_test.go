//go:build linux && amd64

package vmm

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/guestmem"
)

// rom makes an image of 64 KiB that has code where processors begin, in real mode: at its start, where a jump at the reset
// vector leads.
func rom(t *testing.T, code ...byte) *os.File {
	t.Helper()
	const size = 64 << 10
	b := make([]byte, size)
	copy(b, append(code, 0xf4, 0xeb, 0xfd)) // hlt, and again
	copy(b[size-16:], []byte{0xe9, 0x0d, 0x00})
	f, err := os.Create(filepath.Join(t.TempDir(), "rom"))
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	_, err = f.Write(b)
	require.NoError(t, err)
	return f
}

func firmwareSpec() Spec {
	return Spec{Memory: 64 << 20, VCPUs: 1, Boot: Boot{Kind: BootFirmware, Firmware: "rom"}}
}

// Firmware starts at the reset vector, finds QEMU's configuration device and the chip set, and ends the machine by both of its registers.
func TestFirmwareROM(t *testing.T) {
	needKVM(t)
	for name, c := range map[string]struct {
		code []byte
		says string
		want StopReason
	}{
		"configuration device, power-off": {[]byte{
			0xba, 0x10, 0x05, 0x31, 0xc0, 0xef, // mov dx, 0x510; xor ax, ax; out dx, ax
			0xb9, 0x04, 0x00, // mov cx, 4
			0xba, 0x11, 0x05, 0xec, // mov dx, 0x511; in al, dx
			0xba, 0xf8, 0x03, 0xee, // mov dx, 0x3f8; out dx, al
			0xe2, 0xf6, // loop
			0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, // mov dx, 0x604; mov ax, 0x2000; out dx, ax
		}, "QEMU", StopShutdown},
		"host bridge, reset": {[]byte{
			0xba, 0xf8, 0x0c, 0x66, 0xb8, 0x00, 0x00, 0x00, 0x80, 0x66, 0xef, // mov dx, 0xcf8; mov eax, 0x80000000; out dx, eax
			0xba, 0xfe, 0x0c, 0xec, // mov dx, 0xcfe; in al, dx
			0x34, 0x80, // xor al, 0x80
			0xba, 0xf8, 0x03, 0xee, // mov dx, 0x3f8; out dx, al
			0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee, // mov dx, 0xcf9; mov al, 6; out dx, al
		}, "@", StopReboot},
		"an image cannot be written": {[]byte{
			0x2e, 0xc6, 0x06, 0x00, 0x80, 0x41, // mov byte cs:[0x8000], 'A'
			0x2e, 0xa0, 0x00, 0x80, // mov al, cs:[0x8000]
			0x04, 0x42, // add al, 'B'
			0xba, 0xf8, 0x03, 0xee,
			0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef,
		}, "B", StopShutdown},
	} {
		t.Run(name, func(t *testing.T) {
			out := &console{}
			m, err := New(t.Context(), firmwareSpec(), Options{Console: out, Files: map[string]*os.File{"rom": rom(t, c.code...)}})
			require.NoError(t, err)
			defer m.Close()
			require.NoError(t, m.Start())
			stop, err := m.Wait(t.Context())
			require.NoError(t, err)
			require.Equal(t, c.want, stop.Reason, stop)
			require.Equal(t, c.says, out.String())
			require.NoError(t, m.Close())
		})
	}
}

func TestFirmwareRefused(t *testing.T) {
	needKVM(t)
	_, err := New(t.Context(), firmwareSpec(), Options{})
	require.ErrorIs(t, err, ErrSpec)
	for _, size := range []int64{0, minFirmware - guestmem.PageSize, minFirmware + 1, maxFirmware + guestmem.PageSize} {
		f := rom(t)
		require.NoError(t, f.Truncate(size))
		_, err := New(t.Context(), firmwareSpec(), Options{Files: map[string]*os.File{"rom": f}})
		require.ErrorIs(t, err, ErrSpec, size)
		require.ErrorContains(t, err, "OVMF_CODE_4M.fd")
	}
	s := firmwareSpec()
	s.Boot.Kernel, s.Boot.CommandLine = "/vmlinuz", "quiet"
	require.ErrorContains(t, s.Validate(), "firmware takes no kernel")
}
