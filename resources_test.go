package polyvisor_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

func TestSetMemory(t *testing.T) {
	for _, tt := range []struct {
		name   string
		state  polyvisor.State
		setup  func(*recorder)
		memory polyvisor.Bytes
		want   error
		text   string
	}{
		{"inactive", polyvisor.Shutoff, nil, 64 * polyvisor.MiB, nil, ""},
		{"active", polyvisor.Running, nil, 64 * polyvisor.MiB, nil, ""},
		{"to the maximum", polyvisor.Paused, nil, 256 * polyvisor.MiB, nil, ""},
		{"beyond the maximum", polyvisor.Running, nil, 257 * polyvisor.MiB, polyvisor.ErrInvalidConfig, "257MiB is more than the maximum, 256MiB"},
		{"beyond, inactive", polyvisor.Shutoff, nil, 257 * polyvisor.MiB, polyvisor.ErrInvalidConfig, "see SetMaxMemory"},
		{"nothing", polyvisor.Shutoff, nil, 0, nil, ""},
		{"nothing, crashed", polyvisor.Crashed, nil, 0, nil, ""},
		{"nothing, active", polyvisor.Blocked, nil, 0, polyvisor.ErrInvalidConfig, "an active domain needs some"},
		{"less than the host's minimum", polyvisor.Shutoff, nil, 512 * polyvisor.KiB, polyvisor.ErrInvalidConfig, "at least 1MiB"},
		{"more than the host allows", polyvisor.Shutoff, nil, 2 << 40, polyvisor.ErrInvalidConfig, "at most 1TiB"},
		{"odd", polyvisor.Shutoff, nil, polyvisor.MiB + 1, polyvisor.ErrInvalidConfig, "not a multiple of 4KiB"},
		{"no balloon", polyvisor.Running, without(polyvisor.FeatureBalloon), 64 * polyvisor.MiB, polyvisor.ErrUnsupported, "balloon"},
		{"no balloon, inactive", polyvisor.Shutoff, without(polyvisor.FeatureBalloon), 64 * polyvisor.MiB, nil, ""},
		{"info fails", polyvisor.Running, func(r *recorder) { r.script = failOn("info", polyvisor.ErrConnLost) }, 64 * polyvisor.MiB, polyvisor.ErrConnLost, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dom, r := inState(t, tt.state, tt.setup)
			err := dom.SetMemory(t.Context(), tt.memory)
			if tt.want != nil {
				require.ErrorIs(t, err, tt.want)
				require.ErrorContains(t, err, tt.text)
				assert.NotContains(t, r.log(), "set memory")
				return
			}
			require.NoError(t, err)
			info, err := dom.Info(t.Context())
			require.NoError(t, err)
			assert.Equal(t, tt.memory, info.Memory)
		})
	}
}

// What crashed and is preserved is active: its memory is the run's.
func TestSetMemoryOfAPreservedDomain(t *testing.T) {
	dom, r := inState(t, polyvisor.Crashed, nil)
	r.preserve(dom.UUID())
	require.ErrorContains(t, dom.SetMemory(t.Context(), 0), "an active domain needs some")
}

// deallocate_vm_memory: a domain without memory cannot start.
func TestStartWithoutMemory(t *testing.T) {
	dom, r := inState(t, polyvisor.Shutoff, nil)
	require.NoError(t, dom.SetMemory(t.Context(), 0))
	err := dom.Start(t.Context())
	require.ErrorIs(t, err, polyvisor.ErrNoResource)
	require.ErrorContains(t, err, "give it some with SetMemory")
	assert.NotContains(t, r.log(), "start")
	require.NoError(t, dom.SetMemory(t.Context(), 64*polyvisor.MiB))
	r.setScript(failOn("info", polyvisor.ErrConnLost))
	require.ErrorIs(t, dom.Start(t.Context()), polyvisor.ErrConnLost)
	r.setScript(nil)
	require.NoError(t, dom.Start(t.Context()))

	// A driver whose memory cannot be taken away is not asked for it.
	dom, r = inState(t, polyvisor.Shutoff, without(polyvisor.FeatureMemory))
	require.NoError(t, dom.Start(t.Context()))
	assert.Equal(t, []string{"state", "start"}, r.log())
}

func TestSetMaxMemory(t *testing.T) {
	dom, _ := inState(t, polyvisor.Shutoff, nil)
	require.NoError(t, dom.SetMaxMemory(t.Context(), 64*polyvisor.MiB))
	info, err := dom.Info(t.Context())
	require.NoError(t, err)
	assert.Equal(t, polyvisor.Bytes(64*polyvisor.MiB), info.Memory, "lowered")
	require.NoError(t, dom.SetMaxMemory(t.Context(), polyvisor.GiB))
	require.NoError(t, dom.SetMemory(t.Context(), polyvisor.GiB))
	for n, text := range map[polyvisor.Bytes]string{0: "SetMemory takes", 1: "multiple of 4KiB", 4096: "at least 1MiB"} {
		require.ErrorContains(t, dom.SetMaxMemory(t.Context(), n), text)
	}
}

func TestSetVCPUs(t *testing.T) {
	topology := func(r *recorder, id *polyvisor.Domain) {
		r.mu.Lock()
		defer r.mu.Unlock()
		c := r.domains[id.UUID()].config
		c.MaxVCPUs, c.Topology = 4, polyvisor.Topology{Sockets: 2, Cores: 2, Threads: 1}
	}
	for _, tt := range []struct {
		name  string
		state polyvisor.State
		setup func(*recorder)
		edit  func(*recorder, *polyvisor.Domain)
		n     int
		want  error
		text  string
	}{
		{"inactive", polyvisor.Shutoff, nil, nil, 8, nil, ""},
		{"inactive, no hot-plug", polyvisor.Shutoff, without(polyvisor.FeatureMaxVCPUs), nil, 8, nil, ""},
		{"active", polyvisor.Running, nil, nil, 1, nil, ""},
		{"active, beyond its room", polyvisor.Running, nil, nil, 2, polyvisor.ErrInvalidConfig, "room for 1"},
		{"active, no hot-plug", polyvisor.Running, without(polyvisor.FeatureMaxVCPUs), nil, 1, polyvisor.ErrUnsupported, "max-vcpus"},
		{"none", polyvisor.Shutoff, nil, nil, 0, polyvisor.ErrInvalidConfig, "at least one"},
		{"beyond the host", polyvisor.Shutoff, nil, nil, 65, polyvisor.ErrInvalidConfig, "at most 64"},
		{"host not known", polyvisor.Shutoff, func(r *recorder) { r.caps.MaxVCPUs = 0 }, nil, 500, nil, ""},
		{"within the topology", polyvisor.Shutoff, nil, topology, 4, nil, ""},
		{"beyond the topology", polyvisor.Shutoff, nil, topology, 5, polyvisor.ErrInvalidConfig, "topology has room for 4"},
		{"config fails", polyvisor.Shutoff, func(r *recorder) { r.script = failOn("config", polyvisor.ErrConnLost) }, nil, 1, polyvisor.ErrConnLost, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dom, r := inState(t, tt.state, tt.setup)
			if tt.edit != nil {
				tt.edit(r, dom)
			}
			err := dom.SetVCPUs(t.Context(), tt.n)
			if tt.want != nil {
				require.ErrorIs(t, err, tt.want)
				require.ErrorContains(t, err, tt.text)
				assert.NotContains(t, r.log(), "set vcpus")
				return
			}
			require.NoError(t, err)
			c, err := dom.Config(t.Context())
			require.NoError(t, err)
			assert.Equal(t, tt.n, c.VCPUs)
			require.NoError(t, c.Validate())
		})
	}
}

func TestVCPUSettings(t *testing.T) {
	dom, r := inState(t, polyvisor.Shutoff, nil)
	require.NoError(t, dom.SetVCPUs(t.Context(), 2))
	require.NoError(t, dom.PinVCPU(t.Context(), 1, polyvisor.CPUs(3)))
	list, err := dom.VCPUs(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 2)
	assert.True(t, list[0].Affinity.IsZero())
	assert.Equal(t, polyvisor.CPUs(3), list[1].Affinity)
	require.NoError(t, dom.ConfigureVCPU(t.Context(), polyvisor.VCPUConfig{Number: 0, Weight: 10, Affinity: polyvisor.CPUs(1)}))
	r.log()
	for _, f := range []func(int) error{
		func(n int) error { return dom.PinVCPU(t.Context(), n, polyvisor.CPUs(0)) },
		func(n int) error { return dom.ConfigureVCPU(t.Context(), polyvisor.VCPUConfig{Number: n}) },
	} {
		for _, n := range []int{-1, 2} {
			err := f(n)
			require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
			require.ErrorContains(t, err, "the domain has 0 to 1")
		}
		r.setScript(failOn("config", polyvisor.ErrConnLost))
		require.ErrorIs(t, f(0), polyvisor.ErrConnLost)
		r.setScript(nil)
	}
	assert.Empty(t, onlyCalls(r.log(), "pin vcpu", "configure vcpu"))
	require.ErrorContains(t, dom.ConfigureVCPU(t.Context(), polyvisor.VCPUConfig{Weight: 10001}), "weight 10001")

	dom, _ = inState(t, polyvisor.Shutoff, without(polyvisor.FeatureVCPUPin))
	require.NoError(t, dom.ConfigureVCPU(t.Context(), polyvisor.VCPUConfig{Weight: 1}))
	require.ErrorIs(t, dom.ConfigureVCPU(t.Context(), polyvisor.VCPUConfig{Affinity: polyvisor.CPUs(0)}), polyvisor.ErrUnsupported)
}

// A crashed domain is active if it is preserved; the table alone cannot say.
func TestCrashedDomains(t *testing.T) {
	for _, m := range operations() {
		from := polyvisor.Transitions[polyvisor.Op(m.name)].From
		if !polyvisor.Crashed.Allowed(polyvisor.Op(m.name)) {
			continue
		}
		wantsKept, wantsGone := !slices.Contains(from, polyvisor.Shutoff), !slices.Contains(from, polyvisor.Running)
		for _, kept := range []bool{true, false} {
			t.Run(m.fn, func(t *testing.T) {
				dom, r := inState(t, polyvisor.Crashed, nil)
				if kept {
					r.preserve(dom.UUID())
				}
				err := m.call(t.Context(), dom.Conn(), dom)
				switch {
				case kept && wantsGone:
					require.ErrorIs(t, err, polyvisor.ErrInvalidState)
					require.ErrorContains(t, err, "destroy the domain first")
				case !kept && wantsKept && m.name != string(polyvisor.OpDestroy):
					require.ErrorIs(t, err, polyvisor.ErrInvalidState)
					require.ErrorContains(t, err, "nothing of it is kept")
				default:
					require.NoError(t, err)
				}
			})
		}
	}
	dom, r := inState(t, polyvisor.Crashed, nil)
	conn := dom.Conn()
	count := func() (active, inactive, listed int) {
		active, inactive, err := conn.CountDomains(t.Context())
		require.NoError(t, err)
		list, err := conn.Domains(t.Context(), polyvisor.DomainFilter{Active: true})
		require.NoError(t, err)
		return active, inactive, len(list)
	}
	active, inactive, listed := count()
	assert.Equal(t, []int{0, 1, 0}, []int{active, inactive, listed})
	_, err := dom.ID(t.Context())
	require.ErrorIs(t, err, polyvisor.ErrInvalidState)
	r.preserve(dom.UUID())
	active, inactive, listed = count()
	assert.Equal(t, []int{1, 0, 1}, []int{active, inactive, listed})
	id, err := dom.ID(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 1, id)

	r.setScript(failOn("info", errors.New("what?")))
	require.ErrorContains(t, dom.CoreDump(t.Context(), "/core"), "what?")
	_, _, err = conn.CountDomains(t.Context())
	require.ErrorContains(t, err, "what?")
	r.setScript(failOn("state", context.Canceled))
	_, err = conn.Domains(t.Context(), polyvisor.DomainFilter{Active: true})
	require.ErrorIs(t, err, context.Canceled)
}
