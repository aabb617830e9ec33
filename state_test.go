package polyvisor_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

func TestStates(t *testing.T) {
	for i, tt := range []struct {
		state  polyvisor.State
		word   string
		active bool
	}{
		{polyvisor.NoState, "no state", false},
		{polyvisor.Running, "running", true},
		{polyvisor.Blocked, "blocked", true},
		{polyvisor.Paused, "paused", true},
		{polyvisor.ShuttingDown, "in shutdown", true},
		{polyvisor.Shutoff, "shutoff", false},
		{polyvisor.Crashed, "crashed", false},
	} {
		assert.Equal(t, polyvisor.State(i), tt.state, "libvirt's number")
		assert.Equal(t, tt.state, polyvisor.States()[i])
		assert.Equal(t, tt.word, tt.state.String())
		assert.Equal(t, tt.active, tt.state.Active())
		text, err := json.Marshal(tt.state)
		require.NoError(t, err)
		assert.JSONEq(t, `"`+tt.word+`"`, string(text))
		var back polyvisor.State
		require.NoError(t, json.Unmarshal(text, &back))
		assert.Equal(t, tt.state, back)
	}
	assert.Len(t, polyvisor.States(), 7)
	assert.Equal(t, "state 9", polyvisor.State(9).String())
	assert.EqualError(t, new(polyvisor.State).UnmarshalText([]byte("asleep")), `unknown domain state "asleep"`)
	assert.False(t, polyvisor.Running.Allowed("dance"))
}

func TestTransitionsLeadToKnownStates(t *testing.T) {
	assert.Len(t, polyvisor.Transitions, 16)
	for op, tr := range polyvisor.Transitions {
		assert.NotEmpty(t, tr.From, op)
		for _, s := range polyvisor.States() {
			allowed := false
			for _, from := range tr.From {
				allowed = allowed || from == s
			}
			assert.Equal(t, allowed, s.Allowed(op), "%s when %s", op, s)
		}
		assert.Contains(t, polyvisor.States(), tr.To, op)
	}
}

func TestStateErrorText(t *testing.T) {
	for _, tt := range []struct {
		op    polyvisor.Op
		state polyvisor.State
		want  string
	}{
		{polyvisor.OpStart, polyvisor.Running, "domain is running, start needs it shutoff or crashed; shut it down or destroy it first"},
		{polyvisor.OpRename, polyvisor.Paused, "domain is paused, rename needs it shutoff or crashed; shut it down or destroy it first"},
		{polyvisor.OpStart, polyvisor.Paused, "domain is paused, start needs it shutoff or crashed; resume it"},
		{polyvisor.OpStart, polyvisor.NoState, "domain is in an unknown state, start needs it shutoff or crashed"},
		{polyvisor.OpSuspend, polyvisor.Shutoff, "domain is shutoff, suspend needs it running or blocked; start it first"},
		{polyvisor.OpSuspend, polyvisor.Paused, "domain is paused, suspend needs it running or blocked; resume it first"},
		{polyvisor.OpSuspend, polyvisor.NoState, "domain is in an unknown state, suspend needs it running or blocked"},
		{polyvisor.OpResume, polyvisor.Running, "domain is running, resume needs it paused"},
		{polyvisor.OpResume, polyvisor.Crashed, "domain is crashed, resume needs it paused; start it"},
		{polyvisor.OpShutdown, polyvisor.Paused, "domain is paused, shutdown needs it running or blocked; resume it first"},
		{polyvisor.OpShutdown, polyvisor.ShuttingDown, "domain is in shutdown, shutdown needs it running or blocked"},
		{polyvisor.OpReboot, polyvisor.Crashed, "domain is crashed, reboot needs it running or blocked; start it first"},
		{polyvisor.OpConsole, polyvisor.Shutoff, "domain is shutoff, console needs it running, blocked, paused, in shutdown or crashed; start it first"},
		{polyvisor.OpDestroy, polyvisor.Shutoff, "domain is shutoff, destroy needs it running, blocked, paused, in shutdown or crashed"},
	} {
		err := &polyvisor.StateError{Op: tt.op, State: tt.state, Want: polyvisor.Transitions[tt.op].From}
		assert.EqualError(t, err, tt.want)
		assert.ErrorIs(t, err, polyvisor.ErrInvalidState)
		assert.NotErrorIs(t, err, polyvisor.ErrInvalidConfig)
	}
}

func TestStops(t *testing.T) {
	words := []string{"unrecognised", "service-died", "infrastructure-error", "killed", "unknown", "shutdown",
		"start-failed", "reboot", "crash", "firmware-key-mismatch", "firmware-image-changed", "hangup"}
	require.Len(t, polyvisor.StopReasons(), len(words))
	for i, r := range polyvisor.StopReasons() {
		assert.Equal(t, polyvisor.StopReason(i), r)
		assert.Equal(t, words[i], r.String())
		text, err := json.Marshal(polyvisor.Stop{Reason: r})
		require.NoError(t, err)
		assert.JSONEq(t, `{"reason":"`+words[i]+`"}`, string(text))
		var back polyvisor.Stop
		require.NoError(t, json.Unmarshal(text, &back))
		assert.Equal(t, polyvisor.Stop{Reason: r}, back)
		crashed := r == polyvisor.StopCrash || r == polyvisor.StopServiceDied || r == polyvisor.StopHangup
		assert.Equal(t, crashed, r.State() == polyvisor.Crashed, r)
		assert.False(t, r.State().Active())
	}
	unknown := polyvisor.StopCrash
	require.NoError(t, unknown.UnmarshalText([]byte("abducted")))
	assert.Equal(t, polyvisor.StopUnrecognised, unknown)
	assert.Equal(t, "stop reason -1", polyvisor.StopReason(-1).String())
	assert.Equal(t, "stop reason 12", polyvisor.StopReason(12).String())
	assert.Equal(t, "crash: triple fault", polyvisor.Stop{Reason: polyvisor.StopCrash, Detail: "triple fault"}.String())
	assert.Equal(t, "crash", polyvisor.Stop{Reason: polyvisor.StopCrash}.String())
}
