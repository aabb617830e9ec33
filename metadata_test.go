package polyvisor_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

// Every way from a state to a state that can be asked for.
func TestSetState(t *testing.T) {
	const no = "no way"
	ways := map[polyvisor.State]map[polyvisor.State]string{
		polyvisor.Running: {
			polyvisor.NoState: no, polyvisor.Running: "", polyvisor.Blocked: "", polyvisor.Paused: "resume", polyvisor.ShuttingDown: no,
			polyvisor.Shutoff: "start", polyvisor.Crashed: "start",
		},
		polyvisor.Paused: {
			polyvisor.NoState: no, polyvisor.Running: "suspend", polyvisor.Blocked: "suspend", polyvisor.Paused: "", polyvisor.ShuttingDown: no,
			polyvisor.Shutoff: "start paused", polyvisor.Crashed: "start paused",
		},
		polyvisor.ShuttingDown: {
			polyvisor.NoState: no, polyvisor.Running: "shutdown", polyvisor.Blocked: "shutdown", polyvisor.Paused: no, polyvisor.ShuttingDown: "",
			polyvisor.Shutoff: no, polyvisor.Crashed: no,
		},
		polyvisor.Shutoff: {
			polyvisor.NoState: no, polyvisor.Running: "destroy", polyvisor.Blocked: "destroy", polyvisor.Paused: "destroy", polyvisor.ShuttingDown: "destroy",
			polyvisor.Shutoff: "", polyvisor.Crashed: "destroy",
		},
	}
	for want, from := range ways {
		require.Len(t, from, len(polyvisor.States()))
		for have, way := range from {
			t.Run(fmt.Sprintf("%s to %s", have, want), func(t *testing.T) {
				dom, r := inState(t, have, nil)
				err := dom.SetState(t.Context(), want)
				calls := onlyCalls(r.log(), "start", "suspend", "resume", "shutdown", "destroy")
				switch way {
				case no:
					require.ErrorIs(t, err, polyvisor.ErrInvalidState)
					assert.Empty(t, calls)
				case "":
					require.NoError(t, err)
					assert.Empty(t, calls)
				case "start paused":
					require.NoError(t, err)
					assert.Equal(t, []string{"start"}, calls)
					assert.True(t, r.started.Paused)
				default:
					require.NoError(t, err)
					assert.Equal(t, []string{way}, calls)
					assert.False(t, r.started.Paused)
				}
			})
		}
	}
	for _, want := range []polyvisor.State{polyvisor.NoState, polyvisor.Blocked, polyvisor.Crashed, 99} {
		dom, r := inState(t, polyvisor.Running, nil)
		require.ErrorIs(t, dom.SetState(t.Context(), want), polyvisor.ErrInvalidConfig)
		assert.Empty(t, r.log())
	}
	t.Run("preserved", func(t *testing.T) {
		dom, r := inState(t, polyvisor.Crashed, nil)
		r.preserve(dom.UUID())
		require.ErrorIs(t, dom.SetState(t.Context(), polyvisor.Running), polyvisor.ErrInvalidState)
		require.NoError(t, dom.SetState(t.Context(), polyvisor.Shutoff))
		require.NoError(t, dom.SetState(t.Context(), polyvisor.Running))
	})
	t.Run("there meanwhile", func(t *testing.T) {
		dom, r := inState(t, polyvisor.Running, nil)
		r.setScript(func(_ context.Context, call string) error {
			if call == "suspend" {
				r.set(dom.UUID(), polyvisor.Paused) // by somebody else
				return polyvisor.ErrInvalidState
			}
			return nil
		})
		require.NoError(t, dom.SetState(t.Context(), polyvisor.Paused))
	})
	t.Run("not known", func(t *testing.T) {
		dom, r := inState(t, polyvisor.Running, nil)
		r.setScript(failOn("state", polyvisor.ErrConnLost))
		require.ErrorIs(t, dom.SetState(t.Context(), polyvisor.Running), polyvisor.ErrConnLost)
	})
	t.Run("without suspend", func(t *testing.T) {
		dom, r := inState(t, polyvisor.Shutoff, without(polyvisor.FeatureSuspend))
		require.ErrorIs(t, dom.SetState(t.Context(), polyvisor.Paused), polyvisor.ErrUnsupported)
		assert.NotContains(t, r.log(), "start")
	})
}

// Many who want the same state all get it, whoever comes first.
func TestSetStateTogether(t *testing.T) {
	dom, _ := inState(t, polyvisor.Shutoff, nil)
	for _, want := range []polyvisor.State{polyvisor.Running, polyvisor.Paused, polyvisor.Running, polyvisor.Shutoff} {
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() { assert.NoError(t, dom.SetState(context.Background(), want)) })
		}
		wg.Wait()
		s, err := dom.State(t.Context())
		require.NoError(t, err)
		assert.Equal(t, want, s)
	}
}

func TestRename(t *testing.T) {
	dom, r := inState(t, polyvisor.Shutoff, nil)
	conn := dom.Conn()
	other, err := conn.DomainByUUID(t.Context(), dom.UUID())
	require.NoError(t, err)
	require.NoError(t, dom.Rename(t.Context(), "new"))
	assert.Equal(t, "new", dom.Name())
	assert.Equal(t, "dom", other.Name(), "another reference keeps what it was found by")
	found, err := conn.Domain(t.Context(), "new")
	require.NoError(t, err)
	assert.Equal(t, dom.UUID(), found.UUID())
	require.NoError(t, other.Start(t.Context()), "which works all the same")
	require.ErrorIs(t, dom.Rename(t.Context(), "x"), polyvisor.ErrInvalidState)
	require.NoError(t, dom.Destroy(t.Context()))

	r.setScript(failOn("rename", polyvisor.ErrExists))
	err = dom.Rename(t.Context(), "x")
	require.ErrorIs(t, err, polyvisor.ErrExists)
	assert.EqualError(t, err, `rec: rename "new": exists already`)
	assert.Equal(t, "new", dom.Name())
	for _, name := range []string{"", "a/b", "a\n", ".."} {
		require.ErrorIs(t, dom.Rename(t.Context(), name), polyvisor.ErrInvalidConfig)
	}
	r.setScript(nil)

	var wg sync.WaitGroup // under the race detector
	for i := range 8 {
		wg.Go(func() {
			assert.NoError(t, dom.Rename(context.Background(), fmt.Sprint("n", i)))
			assert.NotEmpty(t, dom.Name())
		})
	}
	wg.Wait()
	c, err := dom.Config(t.Context())
	require.NoError(t, err)
	assert.Equal(t, c.Name, dom.Name())
}

func TestLabels(t *testing.T) {
	dom, _ := inState(t, polyvisor.Running, nil)
	mine := map[string]string{"team": "a"}
	require.NoError(t, dom.SetLabels(t.Context(), mine))
	mine["team"] = "changed"
	got, err := dom.Labels(t.Context())
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"team": "a"}, got, "the caller's map stays the caller's")
	got["team"] = "changed"
	c, err := dom.Config(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "a", c.Labels["team"], "and what was read is a copy")
	c.Labels["team"] = "changed"
	list, err := dom.Conn().Domains(t.Context(), polyvisor.DomainFilter{Labels: map[string]string{"team": "a"}})
	require.NoError(t, err)
	assert.Len(t, list, 1)
	list, err = dom.Conn().Domains(t.Context(), polyvisor.DomainFilter{Labels: map[string]string{"team": "a", "b": ""}})
	require.NoError(t, err)
	assert.Empty(t, list)
	require.NoError(t, dom.SetLabels(t.Context(), nil))
	got, err = dom.Labels(t.Context())
	require.NoError(t, err)
	assert.Empty(t, got)
	require.ErrorContains(t, dom.SetLabels(t.Context(), map[string]string{"a b": ""}), `key "a b"`)
}

func TestLabelFilterFailure(t *testing.T) {
	dom, r := inState(t, polyvisor.Running, nil)
	r.setScript(failOn("config", polyvisor.ErrConnLost))
	_, err := dom.Conn().Domains(t.Context(), polyvisor.DomainFilter{Labels: map[string]string{"a": ""}})
	require.ErrorIs(t, err, polyvisor.ErrConnLost)
	r.setScript(failOn("config", polyvisor.ErrNotFound))
	list, err := dom.Conn().Domains(t.Context(), polyvisor.DomainFilter{Labels: map[string]string{"a": ""}})
	require.NoError(t, err, "a domain that vanishes is left out")
	assert.Empty(t, list)
}

func TestAutostart(t *testing.T) {
	dom, _ := inState(t, polyvisor.Shutoff, nil)
	for _, on := range []bool{true, false} {
		require.NoError(t, dom.SetAutostart(t.Context(), on))
		got, err := dom.Autostart(t.Context())
		require.NoError(t, err)
		assert.Equal(t, on, got)
	}
	assert.Equal(t, "hvm", dom.OSType())
}
