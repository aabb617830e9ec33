//go:build linux

package vmmproc

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/store"
)

// The guest that starts afresh has the files of the one that is kept, and its
// policies.
func TestRenewalInAProcessOfItsOwn(t *testing.T) {
	s := testStore(t)
	path := filepath.Join(t.TempDir(), "kernel")
	require.NoError(t, os.WriteFile(path, []byte("I am the kernel\n"), 0o600))
	f, err := os.Open(path)
	require.NoError(t, err)
	r, err := newRun(s)
	require.NoError(t, err)
	_, err = Spawn(bg, SpawnConfig{Program: selfExe, Run: r, Spec: []byte(`{"cat_file":"kernel"}`), Files: []NamedFile{{"kernel", f}},
		Config: Config{StartPaused: true, OnPoweroff: ActionRenameRestart}})
	f.Close()
	require.NoError(t, err)
	cl := dial(t, s)
	require.NoError(t, cl.Resume(bg))
	require.NoError(t, cl.Shutdown(bg))
	var fresh store.Active
	require.Eventually(t, func() bool {
		active, err := s.Active()
		require.NoError(t, err)
		for _, a := range active {
			if a.Name == "web-1" && a.Started {
				fresh = a
			}
		}
		return fresh.Started
	}, time.Minute, time.Millisecond)
	kept, err := cl.Info(bg)
	require.NoError(t, err)
	require.Equal(t, StateEnded, kept.State)
	require.Equal(t, ReasonShutdown, kept.Ended.Reason)
	require.NotEqual(t, kept.PID, fresh.PID)
	require.ErrorIs(t, cl.Reset(bg), ErrInvalidState)
	require.ErrorIs(t, cl.Shutdown(bg), ErrInvalidState)

	cl2, err := Dial(bg, fresh.Dir)
	require.NoError(t, err)
	defer cl2.Close()
	con, err := cl2.Console(bg, false)
	require.NoError(t, err)
	defer con.Close()
	expect(t, con, "I am the kernel\n")
	st, err := cl2.Info(bg)
	require.NoError(t, err)
	require.Equal(t, StateRunning, st.State)
	stop, err := cl.Destroy(bg)
	require.NoError(t, err)
	require.Equal(t, ReasonShutdown, stop.Reason)
	require.Equal(t, kept.Ended.Time, stop.Time)
	_, err = cl2.Destroy(bg)
	require.NoError(t, err)
	rec, err := s.StopRecord(uuidN(1))
	require.NoError(t, err)
	require.True(t, rec.Cleared)
	require.Eventually(t, func() bool { return !runs(fresh.PID) }, time.Minute, time.Millisecond)
}

func TestNumbered(t *testing.T) {
	require.Equal(t, "web-1", numbered("web", 1))
	long := numbered(strings.Repeat("é", 127)+"x", 12)
	require.LessOrEqual(t, len(long), store.MaxNameLen)
	require.NoError(t, store.ValidateName(long))
	require.True(t, strings.HasSuffix(long, "é-12"))
}

func TestRenamedConfig(t *testing.T) {
	u, err := randomUUID()
	require.NoError(t, err)
	require.Equal(t, byte('4'), u.String()[14])
	got, err := renamed(json.RawMessage(`{"name":"a","uuid":"x","autostart":true,"labels":{"k":"v"},"memory":7}`), "b", u)
	require.NoError(t, err)
	require.JSONEq(t, `{"name":"b","uuid":"`+u.String()+`","labels":{"k":"v"},"memory":7}`, string(got))
	got, err = renamed(json.RawMessage(`null`), "b", u)
	require.NoError(t, err)
	require.JSONEq(t, `{"name":"b","uuid":"`+u.String()+`"}`, string(got))
	for _, bad := range []string{``, `[]`, `7`} {
		_, err = renamed(json.RawMessage(bad), "b", u)
		require.Error(t, err, bad)
	}
}
