//go:build linux && amd64

package vmm

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/guest"
)

func TestCoreDump(t *testing.T) {
	spec := guestSpec("")
	spec.VCPUs = 2
	m, con := newMachine(t, spec)
	require.NoError(t, m.Start())
	con.waitFor(t, guest.Prompt)
	_, err := m.Input(t.Context(), []byte("fill 8 7\n"))
	require.NoError(t, err)
	con.waitFor(t, "fill 8 7")
	_, err = m.Input(t.Context(), []byte("sum 8\n"))
	require.NoError(t, err)
	con.waitFor(t, "sum 8")

	dump := func(name string) *elf.File {
		path := filepath.Join(t.TempDir(), name)
		f, err := os.Create(path)
		require.NoError(t, err)
		defer f.Close()
		require.NoError(t, m.CoreDump(t.Context(), f))
		var st unix.Stat_t
		require.NoError(t, unix.Stat(path, &st))
		require.Greater(t, st.Size, int64(spec.Memory))
		require.Less(t, st.Blocks*512, int64(spec.Memory/2), "it has holes where memory is zero")
		core, err := elf.Open(path)
		require.NoError(t, err)
		t.Cleanup(func() { core.Close() })
		require.Equal(t, elf.ET_CORE, core.Type)
		require.Equal(t, elf.EM_X86_64, core.Machine)
		return core
	}
	check := func(core *elf.File) {
		var notes []byte
		total := uint64(0)
		for _, p := range core.Progs {
			switch p.Type {
			case elf.PT_NOTE:
				notes = make([]byte, p.Filesz)
				_, err := p.ReadAt(notes, 0)
				require.NoError(t, err)
			case elf.PT_LOAD:
				want, err := m.mem.Slice(p.Paddr, p.Filesz)
				require.NoError(t, err)
				got, err := io.ReadAll(p.Open())
				require.NoError(t, err)
				require.True(t, bytes.Equal(want, got), "memory at %#x", p.Paddr)
				total += p.Memsz
			}
		}
		require.Equal(t, spec.Memory, total)
		le := binary.LittleEndian
		for pid := uint32(1); pid <= 2; pid++ {
			require.Equal(t, uint32(5), le.Uint32(notes))
			require.Equal(t, uint32(336), le.Uint32(notes[4:]))
			require.Equal(t, uint32(1), le.Uint32(notes[8:]))
			require.Equal(t, "CORE\x00\x00\x00\x00", string(notes[12:20]))
			status := notes[20:356]
			require.Equal(t, pid, le.Uint32(status[32:]))
			if pid == 1 {
				regs, err := m.cpus[0].GetRegs()
				require.NoError(t, err)
				require.Equal(t, regs.RIP, le.Uint64(status[112+8*16:]))
				require.Equal(t, regs.RSP, le.Uint64(status[112+8*19:]))
			}
			notes = notes[356:]
			require.Equal(t, "polyvisor\x00\x00\x00", string(notes[12:24]))
			require.Equal(t, uint32(48), le.Uint32(notes[4:]))
			cr0, efer := le.Uint64(notes[24:]), le.Uint64(notes[64:])
			if pid == 1 {
				require.NotZero(t, cr0&(1<<31), "paging is on")
				require.NotZero(t, efer&(1<<10), "long mode")
			}
			notes = notes[72:]
		}
		require.Empty(t, notes)
	}

	require.NoError(t, m.Suspend(t.Context()))
	check(dump("paused"))
	require.Equal(t, StatePaused, m.Info().State)
	require.NoError(t, m.Resume())
	dump("running") // it may change as soon as it goes on
	require.Equal(t, StateRunning, m.Info().State)
	_, err = m.Input(t.Context(), []byte("echo still here\n"))
	require.NoError(t, err)
	con.waitFor(t, "\nstill here")
	require.NoError(t, m.Kill())
	check(dump("stopped"))
	require.NoError(t, m.Close())
	var se *StateError
	require.ErrorAs(t, m.CoreDump(t.Context(), nil), &se)
}

// badFile fails at the n-th write.
type badFile struct{ n int }

var errBadFile = errors.New("no space")

func (f *badFile) Truncate(int64) error { return nil }
func (f *badFile) WriteAt(p []byte, _ int64) (int, error) {
	if f.n--; f.n < 0 {
		return 0, errBadFile
	}
	return len(p), nil
}

func TestCoreDumpFails(t *testing.T) {
	m, con := newMachine(t, guestSpec(""))
	require.NoError(t, m.Start())
	con.waitFor(t, guest.Prompt)
	for n := range 2 {
		require.ErrorIs(t, m.CoreDump(t.Context(), &badFile{n}), errBadFile)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, m.CoreDump(ctx, &badFile{1 << 30}), context.Canceled)
	_, err := m.Input(t.Context(), []byte("echo still here\n"))
	require.NoError(t, err)
	con.waitFor(t, "\nstill here")
}
