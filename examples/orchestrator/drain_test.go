package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/fake"
)

// domain looks a domain up that there must be.
func (s *stage) domain(name string) *polyvisor.Domain {
	s.t.Helper()
	dom, err := s.conn.Domain(s.t.Context(), name)
	require.NoError(s.t, err)
	return dom
}

func (s *stage) suspend(name string) {
	s.t.Helper()
	require.NoError(s.t, s.domain(name).Suspend(s.t.Context()))
}

// last is why an inactive domain's last run ended.
func (s *stage) last(name string) polyvisor.StopReason {
	s.t.Helper()
	info, err := s.domain(name).Info(s.t.Context())
	require.NoError(s.t, err)
	require.Less(s.t, info.ID, 1, "%s is %s", name, info.State)
	require.NotNil(s.t, info.LastStop)
	return info.LastStop.Reason
}

func TestRestarts(t *testing.T) {
	want := map[polyvisor.StopReason][2]bool{ // with crash, with always
		polyvisor.StopUnrecognised:        {false, true},
		polyvisor.StopServiceDied:         {true, true},
		polyvisor.StopInfrastructureError: {true, true},
		polyvisor.StopUnknown:             {false, true},
		polyvisor.StopShutdown:            {false, true},
		polyvisor.StopStartFailed:         {true, true},
		polyvisor.StopReboot:              {false, true},
		polyvisor.StopCrash:               {true, true},
		polyvisor.StopHangup:              {true, true},
	} // the others never
	for _, r := range polyvisor.StopReasons() {
		for i, policy := range []string{"crash", "always"} {
			require.Equal(t, want[r][i], (&Spec{Restart: policy}).restarts(r), "%s with %s", r, policy)
		}
	}
}

func TestStartsAgain(t *testing.T) {
	h, conn := hypervisor(t)
	always := spec("unknown", "failed")
	always.Restart = "always"
	s := begin(t, conn, always)
	for name, reason := range map[string]polyvisor.StopReason{
		"unknown": polyvisor.StopUnknown, "failed": polyvisor.StopInfrastructureError,
	} {
		first := s.running(name, -1)
		require.NoError(t, guest(t, h, name).End(reason, ""))
		s.running(name, first)
	}
	require.NoError(t, s.end())
}

func TestDrainsPaused(t *testing.T) {
	h, conn := hypervisor(t)
	s := begin(t, conn, spec("obeys", "hangs"))
	s.running("obeys", -1)
	s.running("hangs", -1)
	require.NoError(t, guest(t, h, "hangs").Hang())
	s.suspend("obeys")
	s.suspend("hangs")
	require.NoError(t, s.end())
	require.Equal(t, polyvisor.StopShutdown, s.last("obeys"))
	require.Equal(t, polyvisor.StopKilled, s.last("hangs"))
}

// What crashed and is preserved is active, too.
func TestDrainsPreserved(t *testing.T) {
	h, conn := hypervisor(t)
	kept := spec("a")
	kept.Domains[0].OnCrash = polyvisor.ActionPreserve
	s := begin(t, conn, kept)
	s.running("a", -1)
	require.NoError(t, guest(t, h, "a").Crash("triple fault"))
	s.eventually("a has crashed", func() bool { return s.state("a") == polyvisor.Crashed })
	require.NoError(t, s.end())
	info, err := s.domain("a").Info(t.Context())
	require.NoError(t, err)
	require.Less(t, info.ID, 1)
}

// A domain that is left alone is drained if somebody else has started it.
func TestDrainsWhatOthersStarted(t *testing.T) {
	_, conn := hypervisor(t)
	s := begin(t, conn, spec("a"))
	first := s.running("a", -1)
	require.NoError(t, s.domain("a").Destroy(t.Context()))
	require.NoError(t, s.domain("a").Start(t.Context()))
	s.running("a", first)
	require.NoError(t, s.end())
	require.Equal(t, polyvisor.StopShutdown, s.last("a"))
}

// That a domain cannot be brought down is an error that names it.
func TestDrainFails(t *testing.T) {
	for name, fault := range map[string]fake.Fault{
		"refused":  {Op: "destroy", Domain: "b", Err: polyvisor.ErrBusy},
		"no state": {Op: "info", Domain: "b", Err: polyvisor.ErrBusy},
	} {
		t.Run(name, func(t *testing.T) {
			h, conn := hypervisor(t)
			s := begin(t, conn, spec("a", "b"))
			s.running("a", -1)
			s.running("b", -1)
			require.NoError(t, guest(t, h, "b").Hang())
			s.suspend("b")
			remove, err := h.Fault(fault)
			require.NoError(t, err)
			defer remove()
			err = s.end()
			require.ErrorIs(t, err, polyvisor.ErrBusy)
			require.ErrorContains(t, err, `domain "b" may still be active`)
			require.NotContains(t, err.Error(), `"a"`)
		})
	}
}
