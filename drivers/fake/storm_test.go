package fake

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

// 64 goroutines on three connections do everything to a few domains. Every
// error has a class, the books agree with the events, and nothing is left.
func TestStorm(t *testing.T) {
	h := New(Options{})
	defer h.Close()
	var conns []*polyvisor.Conn
	for range 3 {
		conn := h.Conn()
		defer conn.Close()
		conns = append(conns, conn)
	}
	sub, err := conns[0].Subscribe(t.Context(), polyvisor.SubscribeOptions{Buffer: 1 << 20})
	require.NoError(t, err)
	defer sub.Close()
	dir := t.TempDir()
	rounds := 300
	if testing.Short() {
		rounds = 30
	}
	var wg sync.WaitGroup
	for n := range 64 {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(n)))
			for round := range rounds {
				conn := conns[random.IntN(len(conns))]
				if err := anything(t, conn, random, fmt.Sprintf("%s/%d-%d", dir, n, round)); err != nil && polyvisor.CodeOf(err) == polyvisor.CodeUnknown {
					t.Errorf("an error without a class: %v", err)
				}
			}
		})
	}
	wg.Wait()
	list, err := conns[0].Domains(t.Context(), polyvisor.DomainFilter{})
	require.NoError(t, err)
	for _, d := range list {
		require.NoError(t, d.Remove(t.Context()))
	}
	h.mu.Lock()
	require.Empty(t, h.byName)
	require.Empty(t, h.byUUID)
	require.Empty(t, h.byID)
	require.Empty(t, h.cids)
	h.unlock()
	require.NoError(t, sub.Close())
	running := make(map[string]bool)
	for {
		e, err := sub.Next(t.Context())
		if errors.Is(err, polyvisor.ErrClosed) {
			break
		}
		require.NoError(t, err)
		id := e.UUID.String()
		switch e.Type {
		case polyvisor.EventGap:
			t.Fatal("a gap, though there was room")
		case polyvisor.EventStarted:
			require.False(t, running[id], "started twice")
			running[id] = true
		case polyvisor.EventStopped:
			require.True(t, running[id], "stopped, and had not started")
			require.NotNil(t, e.Stop)
			delete(running, id)
		case polyvisor.EventSuspended, polyvisor.EventResumed, polyvisor.EventRebooted:
			require.True(t, running[id], "%s, and does not run", e.Type)
		}
	}
	require.Empty(t, running)
}

// anything does one thing at random.
func anything(t *testing.T, conn *polyvisor.Conn, random *rand.Rand, path string) error {
	ctx := t.Context()
	name := fmt.Sprintf("domain-%d", random.IntN(8))
	actions := []polyvisor.Action{polyvisor.ActionDestroy, polyvisor.ActionRestart, polyvisor.ActionPreserve, polyvisor.ActionRenameRestart}
	config := &polyvisor.Config{Name: name, Vsock: &polyvisor.VsockConfig{}, OnCrash: actions[random.IntN(4)], MaxVCPUs: 4, Balloon: true, MaxMemory: polyvisor.GiB}
	d, err := conn.Domain(ctx, name)
	if err != nil {
		if random.IntN(2) == 0 {
			_, err = conn.Create(ctx, config)
		} else {
			_, err = conn.Define(ctx, config)
		}
		return err
	}
	switch random.IntN(16) {
	case 0, 1, 2:
		return d.Start(ctx)
	case 3:
		return d.Destroy(ctx)
	case 4:
		return d.Remove(ctx)
	case 5:
		return d.Suspend(ctx)
	case 6:
		return d.Resume(ctx)
	case 7:
		return d.Shutdown(ctx)
	case 8:
		return d.Reboot(ctx)
	case 9:
		return d.SetVCPUs(ctx, 1+random.IntN(4))
	case 10:
		return d.SetMemory(ctx, polyvisor.Bytes(64+random.IntN(900))*polyvisor.MiB)
	case 11:
		nic := &polyvisor.NIC{MAC: polyvisor.MAC{2, 0, 0, 0, 0, 1}}
		if err := d.AttachDevice(ctx, nic); err != nil {
			return err
		}
		return d.DetachDevice(ctx, nic)
	case 12:
		_, err := conn.Stats(ctx, polyvisor.DomainFilter{})
		return err
	case 13:
		if err := d.Save(ctx, path); err != nil {
			return err
		}
		_, err := conn.Restore(ctx, path)
		return err
	case 14:
		return d.CoreDump(ctx, path+".core")
	}
	con, err := d.Console(ctx, polyvisor.ConsoleOptions{Force: random.IntN(2) == 0})
	if err != nil {
		return err
	}
	defer con.Close()
	if _, err := con.Write([]byte([]string{"crash\r", "poweroff\r", "fill 3 1\r", "reboot\r"}[random.IntN(4)])); errors.Is(err, io.ErrClosedPipe) {
		return nil
	}
	// A guest that somebody else has suspended says nothing, perhaps for ever.
	defer time.AfterFunc(20*time.Millisecond, func() { con.Close() }).Stop()
	_, _ = con.Read(make([]byte, 100))
	return nil
}
