package polyvisor_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

func TestSaveAndRestore(t *testing.T) {
	dom, r := inState(t, polyvisor.Running, nil)
	conn := dom.Conn()
	require.NoError(t, dom.Save(t.Context(), "/saved"))
	s, err := dom.State(t.Context())
	require.NoError(t, err)
	assert.Equal(t, polyvisor.Shutoff, s)
	back, err := conn.Restore(t.Context(), "/saved", polyvisor.StartPaused())
	require.NoError(t, err)
	assert.Equal(t, dom.UUID(), back.UUID())
	s, err = back.State(t.Context())
	require.NoError(t, err)
	assert.Equal(t, polyvisor.Paused, s)
	_, err = conn.Restore(t.Context(), "/other")
	require.ErrorIs(t, err, polyvisor.ErrNotFound)
	assert.False(t, r.started.Paused)

	conn, _ = connect(t, without(polyvisor.FeatureSuspend))
	_, err = conn.Restore(t.Context(), "/saved", polyvisor.StartPaused())
	require.ErrorIs(t, err, polyvisor.ErrUnsupported)
}

func TestStartPaused(t *testing.T) {
	dom, r := inState(t, polyvisor.Shutoff, nil)
	require.NoError(t, dom.Start(t.Context(), polyvisor.StartPaused()))
	s, err := dom.State(t.Context())
	require.NoError(t, err)
	assert.Equal(t, polyvisor.Paused, s)
	_, err = dom.Conn().Create(t.Context(), &polyvisor.Config{Name: "a"}, polyvisor.StartPaused())
	require.NoError(t, err)
	assert.True(t, r.started.Paused)

	dom, r = inState(t, polyvisor.Shutoff, without(polyvisor.FeatureSuspend))
	require.ErrorIs(t, dom.Start(t.Context(), polyvisor.StartPaused()), polyvisor.ErrUnsupported)
	_, err = dom.Conn().Create(t.Context(), &polyvisor.Config{Name: "a"}, polyvisor.StartPaused())
	require.ErrorIs(t, err, polyvisor.ErrUnsupported)
	assert.Empty(t, r.log())
}

func TestPathsOfTheHypervisorsHost(t *testing.T) {
	dom, r := inState(t, polyvisor.Running, nil)
	for path, want := range map[string]string{
		"": "no path", "a": "is relative", "./a": "is relative", `C:\a`: "is relative", "/a\x00": "NUL byte", "/a\xff": "not UTF-8",
	} {
		for _, err := range []error{dom.Save(t.Context(), path), dom.CoreDump(t.Context(), path), second(dom.Conn().Restore(t.Context(), path))} {
			require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
			require.ErrorContains(t, err, want)
		}
	}
	assert.Empty(t, r.log())
}
