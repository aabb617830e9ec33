package fake

import (
	"context"
	"debug/elf"
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

// saved gives a file of a saved domain.
func saved(t testing.TB) (*polyvisor.Conn, string, string) {
	h, conn := private(t, Options{})
	d, err := conn.Define(t.Context(), &polyvisor.Config{
		Name: "web", Memory: 16 * polyvisor.MiB, Balloon: true, VCPUs: 1, MaxVCPUs: 2, NICs: []polyvisor.NIC{{}}, Boot: polyvisor.Boot{CommandLine: "auto=fill 5 9"},
	})
	require.NoError(t, err)
	require.NoError(t, d.Start(t.Context()))
	require.NoError(t, d.SetVCPUs(t.Context(), 2))
	g, err := h.Guest("web")
	require.NoError(t, err)
	say(t, g, "poke 0x200010 77;send 3")
	sum := say(t, g, "sum 14")
	path := filepath.Join(t.TempDir(), "saved")
	require.NoError(t, d.Save(t.Context(), path))
	return conn, path, sum
}

func TestRestoreElsewhere(t *testing.T) {
	_, path, sum := saved(t)
	h, conn := private(t, Options{})
	d, err := conn.Restore(t.Context(), path)
	require.NoError(t, err)
	g, err := h.Guest("web")
	require.NoError(t, err)
	require.Equal(t, sum, say(t, g, "sum 14"))
	require.Contains(t, say(t, g, "cpus"), "2 came up")
	require.Contains(t, g.Output(), "sum: 14 MiB", "what was printed before is kept")
	i, err := d.Info(t.Context())
	require.NoError(t, err)
	require.True(t, i.Persistent)
	s, err := d.Stats(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 3, s.NICs[0].TXPackets)
	require.NoError(t, d.Destroy(t.Context()))
	c, err := d.Config(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, c.VCPUs, "the definition is as it was, not the run")
}

// A file with one byte changed or cut off anywhere is refused.
func TestDamagedFiles(t *testing.T) {
	_, path, _ := saved(t)
	good, err := os.ReadFile(path)
	require.NoError(t, err)
	_, err = decodeSaved(good)
	require.NoError(t, err)
	for i := range good {
		bad := append([]byte(nil), good...)
		bad[i] ^= 0x10
		_, err := decodeSaved(bad)
		require.Error(t, err, "byte %d changed", i)
		_, err = decodeSaved(good[:i])
		require.Error(t, err, "cut off at %d", i)
	}
	_, conn := private(t, Options{})
	require.NoError(t, os.WriteFile(path, good[:len(good)-1], 0o600))
	_, err = conn.Restore(t.Context(), path)
	require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
}

func TestSaveThatFails(t *testing.T) {
	h, conn := private(t, Options{})
	d, g := create(t, h, conn, &polyvisor.Config{Name: "web"})
	remove, err := h.Fault(Fault{Op: "save", Half: polyvisor.ErrNoResource})
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "saved")
	require.ErrorIs(t, d.Save(t.Context(), path), polyvisor.ErrNoResource)
	require.NoFileExists(t, path)
	require.Equal(t, "hi\n", say(t, g, "echo hi"), "the guest goes on")
	remove()
	require.ErrorIs(t, d.Save(t.Context(), "/no/such/directory/saved"), polyvisor.ErrNotFound)
	require.NoError(t, os.WriteFile(path, []byte("mine"), 0o600))
	require.ErrorIs(t, d.Save(t.Context(), path), polyvisor.ErrExists)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "mine", string(data))
}

func TestProtected(t *testing.T) {
	h, conn := private(t, Options{})
	d, g := create(t, h, conn, &polyvisor.Config{Name: "p", Protected: true, HypervisorAuth: true, InstanceID: polyvisor.InstanceID{1, 63: 2}})
	facts := say(t, g, "facts")
	for _, want := range []string{"fact: protected=true\n", "fact: hypervisor-auth=true\n", "fact: instance-id=0100"} {
		require.Contains(t, facts, want)
	}
	path := filepath.Join(t.TempDir(), "f")
	require.ErrorIs(t, d.Save(t.Context(), path), polyvisor.ErrPermission)
	require.ErrorIs(t, d.CoreDump(t.Context(), path), polyvisor.ErrPermission)
	require.NoFileExists(t, path)
}

// A core file holds the guest's memory, as any ELF reader finds it.
func TestCoreFile(t *testing.T) {
	h, conn := private(t, Options{})
	d, g := create(t, h, conn, &polyvisor.Config{Name: "web", Memory: 16 * polyvisor.MiB, VCPUs: 3})
	say(t, g, "fill 2 11;poke 0x600000 99")
	path := filepath.Join(t.TempDir(), "core")
	require.NoError(t, d.CoreDump(t.Context(), path))
	f, err := elf.Open(path)
	require.NoError(t, err)
	defer f.Close()
	require.Equal(t, elf.ET_CORE, f.Type)
	require.Equal(t, elf.EM_X86_64, f.Machine)
	word := func(addr uint64) uint64 {
		for _, p := range f.Progs {
			if p.Type == elf.PT_LOAD && addr >= p.Vaddr && addr+8 <= p.Vaddr+p.Memsz {
				if p.Filesz == 0 {
					return 0
				}
				var b [8]byte
				_, err := p.ReadAt(b[:], int64(addr-p.Vaddr))
				require.NoError(t, err)
				return binary.LittleEndian.Uint64(b[:])
			}
		}
		t.Fatalf("nothing at %#x", addr)
		return 0
	}
	factor := uint64(mixer)
	require.Equal(t, (uint64(0x200000)+11)*factor, word(0x200000))
	require.Equal(t, (uint64(0x3ffff8)+11)*factor, word(0x3ffff8))
	require.Equal(t, uint64(99), word(0x600000))
	require.Zero(t, word(0x400000))
	require.Zero(t, word(0xfffff8))
	statuses := 0
	for _, p := range f.Progs {
		if p.Type == elf.PT_NOTE {
			data, err := io.ReadAll(p.Open())
			require.NoError(t, err)
			for len(data) >= 12 {
				name, desc, typ := le.Uint32(data), le.Uint32(data[4:]), le.Uint32(data[8:])
				at := 12 + int(name+3)&^3
				if string(data[12:12+name-1]) == "CORE" && typ == 1 {
					statuses++
				}
				data = data[at+int(desc+3)&^3:]
			}
			require.Empty(t, data)
		}
	}
	require.Equal(t, 3, statuses, "one status for each processor")
	if readelf, err := exec.LookPath("readelf"); err == nil {
		out, err := exec.Command(readelf, "-W", "-h", "-l", "-n", path).CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Contains(t, string(out), "CORE (Core file)")
		require.NotContains(t, string(out), "arning")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, d.CoreDump(ctx, path+"2"), context.Canceled)
	require.NoFileExists(t, path+"2")
}

// Whatever a file says that has the right checksum, the driver refuses it or can
// run it.
func FuzzSaved(f *testing.F) {
	_, path, _ := saved(f)
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good[saveHead : len(good)-4])
	f.Add([]byte(`{"config":{"name":"a"},"guest":{"booted":true,"stuck":true,"memory":{"fills":[{"end":3,"seed":1}]}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		b := append([]byte(saveMagic), 1, 0, 0, 0)
		b = le.AppendUint32(b, uint32(len(text)))
		b = append(b, text...)
		s, err := decodeSaved(le.AppendUint32(b, crcOf(b)))
		if err != nil {
			return
		}
		h := New(Options{})
		defer h.Close()
		h.mu.Lock()
		defer h.unlock()
		d, err := h.restoreLocked(s, polyvisor.StartOptions{}, nil)
		if err != nil || d.run == nil {
			return
		}
		g := d.run.guestLocked()
		g.inputLocked([]byte("mem\rsum 3\rcpus\rfacts\r"))
		if d.run != nil {
			d.statsLocked(s.Saved)
			d.run.coreLocked()
		}
	})
}
