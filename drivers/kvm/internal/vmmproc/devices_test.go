//go:build linux

package vmmproc

import (
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/store"
)

// A guest that makes errors as fast as it can is told of once in a while.
func TestDeviceErrorsAreTold(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := testStore(t)
		j, err := s.OpenJournal()
		require.NoError(t, err)
		defer j.Close()
		require.NoError(t, m.start(t, s, fakeSpec{}, Config{}))
		cl := dial(t, s)
		con, err := cl.Console(bg, false)
		require.NoError(t, err)
		defer con.Close()
		_, err = io.WriteString(con, "fail\n")
		require.NoError(t, err)
		var told []store.Event
		for len(told) == 0 || told[len(told)-1].Type != store.EventStopped {
			events, err := j.Next()
			require.NoError(t, err)
			told = append(told, events...)
			if told[len(told)-1].Type == store.EventDeviceError {
				require.NoError(t, cl.Shutdown(bg))
			}
		}
		require.Len(t, told, 3)
		require.Equal(t, store.EventDeviceError, told[1].Type)
		require.Equal(t, "vda", told[1].Device)
		require.Equal(t, "write of 4096 bytes: no space left on device", told[1].Detail)
		require.Equal(t, told[0].Run, told[1].Run)
	})
}

func TestDeviceErrorsAreBounded(t *testing.T) {
	var d deviceErrors
	now := time.Now()
	skipped, ok := d.due("vda", now)
	require.True(t, ok)
	require.Zero(t, skipped)
	for range 9 {
		_, ok = d.due("vda", now.Add(errorPause-1))
		require.False(t, ok)
	}
	_, ok = d.due("vdb", now)
	require.True(t, ok, "another device has a count of its own")
	skipped, ok = d.due("vda", now.Add(errorPause))
	require.True(t, ok)
	require.Equal(t, 9, skipped)
}

// What devices count is summed up over the reboots of a run.
func TestDeviceCountersOverReboots(t *testing.T) {
	s := testStore(t)
	require.NoError(t, modes[1].start(t, s, fakeSpec{}, Config{}))
	cl := dial(t, s)
	for reboots := range 3 {
		var st Status
		require.Eventually(t, func() bool {
			var err error
			st, err = cl.Info(bg)
			return err == nil && st.Reboots == reboots
		}, 10*time.Second, time.Millisecond)
		n := uint64(reboots + 1)
		require.Equal(t, []Disk{{Name: "vda", ReadRequests: n, ReadBytes: 512 * n, Errors: 2 * n, Latency: []uint64{0, n}}}, st.Disks)
		require.Equal(t, []NIC{{Name: "52:54:00:00:00:01", RXPackets: 3 * n, TXDropped: 4 * n}}, st.NICs)
		require.NoError(t, cl.Reset(bg))
	}
	// Never twice, also while the machine is replaced.
	for before := uint64(0); before < 40; {
		st, err := cl.Info(bg)
		require.NoError(t, err)
		require.GreaterOrEqual(t, st.Disks[0].ReadRequests, before)
		require.LessOrEqual(t, st.Disks[0].ReadRequests, uint64(st.Reboots+1))
		if before = st.Disks[0].ReadRequests; before == uint64(st.Reboots+1) {
			require.NoError(t, cl.Reset(bg))
		}
	}
}
