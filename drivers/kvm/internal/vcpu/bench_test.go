//go:build linux && amd64

package vcpu

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/vcpu/vcputest"
)

// manual makes a processor whose loop the test itself goes through, on this thread.
func manual(t testing.TB, code []byte) *VCPU {
	t.Helper()
	_, cpus, mem := newVM(t, 1)
	require.NoError(t, mem.WriteAt(code, codeAddr))
	e := Entry{RIP: codeAddr}
	require.NoError(t, e.WriteTables(mem))
	require.NoError(t, e.Apply(cpus[0]))
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	return &VCPU{cfg: Config{CPU: cpus[0], Bus: &testBus{}}}
}

func TestExitAllocatesNothing(t *testing.T) {
	for name, code := range map[string][]byte{"port": vcputest.PortLoop, "mem": vcputest.MemLoop} {
		t.Run(name, func(t *testing.T) {
			v := manual(t, code)
			page := v.cfg.CPU.Page()
			var exits int
			assert.Zero(t, testing.AllocsPerRun(500, func() {
				if v.cfg.CPU.Run() == 0 {
					if !v.dispatch(page) {
						t.Fatal(v.describe(page))
					}
					exits++
				}
			}))
			assert.Greater(t, exits, 400)
		})
	}
}

// BenchmarkExit compares one exit through the whole dispatch with a bare KVM_RUN loop, same guest, interleaved so that
// both see the same machine.
func BenchmarkExit(b *testing.B) {
	for name, code := range map[string][]byte{"port": vcputest.PortLoop, "mem": vcputest.MemLoop} {
		b.Run(name+"/bare", func(b *testing.B) {
			v := manual(b, code)
			for b.Loop() {
				for v.cfg.CPU.Run() != 0 {
				}
			}
		})
		b.Run(name+"/dispatch", func(b *testing.B) {
			v := manual(b, code)
			page := v.cfg.CPU.Page()
			b.ReportAllocs()
			for b.Loop() {
				for v.cfg.CPU.Run() != 0 {
				}
				v.dispatch(page)
			}
		})
	}
}

// BenchmarkDispatch is the part of an exit that is ours alone.
func BenchmarkDispatch(b *testing.B) {
	v := manual(b, vcputest.PortLoop)
	for v.cfg.CPU.Run() != 0 {
	}
	page := v.cfg.CPU.Page()
	b.ReportAllocs()
	for b.Loop() {
		v.dispatch(page)
	}
}

// BenchmarkPauseResume is a suspend and resume of a processor that spins.
func BenchmarkPauseResume(b *testing.B) {
	vs, _ := start(b, 1, Long64, vcputest.Spin, &testBus{})
	for b.Loop() {
		require.NoError(b, Resume(vs...))
		require.NoError(b, Pause(vs...))
	}
}
