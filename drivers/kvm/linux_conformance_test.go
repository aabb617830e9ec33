//go:build linux && amd64

package kvm_test

import (
	"context"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/conformance"
	"github.com/polyvisor/polyvisor/internal/testguest/words"
)

// asked are the cases that do without a guest's word, but ask for it where there is one.
var asked = []string{
	"life/redefine", "life/suspend-resume", "life/start-paused", "memory/inactive", "vcpu/count", "vcpu/info",
	"console/one-owner", "console/ends", "device/rng-config", "device/disk-config", "device/nic-config", "device/modes", "stats/domain",
}

// mute are the cases that want a guest's word, and learn nothing from that of Linux.
var mute = map[string]string{
	"life/guest-states":  "the guest has no word that blocks or lingers",
	"matrix/blocked":     "the guest has no word that blocks",
	"matrix/in-shutdown": "the guest has no word that lingers",
	"matrix/crashed":     "a crash is the same to a hundred methods, each of which would boot a guest",
	// The crash is a triple fault, after one of which in three or so the kernel of an emulated host goes on with the guest's GS.
	"matrix/crashed-preserved": "as matrix/crashed",
}

// several are the cases whose guests have more than one virtual CPU.
var several = []string{"config/guest-sees-it", "vcpu/count", "vcpu/info"}

// The cases of the suite whose truth comes from the guest, with a stock Linux kernel. A
// boot takes seconds, and most cases begin with one. The others never look at the guest:
// for them the built-in one of TestConformance is as good.
func TestLinuxConformance(t *testing.T) {
	l := newLab(t)
	h := harnessOn(t, l.uri())
	h.Timeout = patience
	h.Config = l.config("", 1, 128*polyvisor.MiB, "")
	h.Config.OnReboot, h.Config.Boot.CommandLine = "", words.CommandLine
	h.Guest = words.Guest()
	h.Guest.Crash = "crash" // there is no device that tells of a panic
	watch := l.watch(t)
	caps := l.open(t).Capabilities()

	known := make(map[string]bool)
	for _, c := range conformance.Cases() {
		known[c.Name] = true
		if !c.Talks && !slices.Contains(asked, c.Name) || mute[c.Name] != "" {
			continue
		}
		if slices.ContainsFunc(c.Features, func(f polyvisor.Feature) bool { return !caps.Has(f) }) {
			continue // TestConformance tells of it
		}
		t.Run(c.Name, func(t *testing.T) {
			h := h
			if slices.Contains(c.Words, "Tool") {
				h = l.agentHarness(t, h)
			}
			r := l.check(t, h, c)
			for r.Status == conformance.Failed && slices.Contains(several, c.Name) && watch.lost() && l.lost < maxEmulatorFaults {
				l.lost++
				t.Logf("AGAIN (%d of at most %d): the emulator lost the guest; %s", l.lost, maxEmulatorFaults, r.Reason)
				r = l.check(t, h, c)
			}
			require.Equal(t, conformance.Passed, r.Status, "%s\nthe rule: %s", r.Reason, c.Rule)
		})
	}
	for _, name := range slices.Concat(asked, several) {
		require.True(t, known[name], "%s is no case of the suite", name)
	}
	for name := range mute {
		require.True(t, known[name], "%s is no case of the suite", name)
	}
}

// agentHarness has guests whose first process is the agent, which have no word but the tool.
func (l *lab) agentHarness(t *testing.T, h conformance.Harness) conformance.Harness {
	t.Helper()
	h.Config = l.agentConfig(t, "")
	h.Config.Vsock, h.Config.OnReboot = nil, ""
	h.Guest = &conformance.Guest{Tool: "tool"}
	return h
}

// check runs one case. All consoles have a log, so that a failure shows what the guests
// said.
func (l *lab) check(t *testing.T, h conformance.Harness, c conformance.Case) conformance.Result {
	t.Helper()
	require.NoError(t, os.RemoveAll(l.log))
	results := conformance.Check(t.Context(), h, conformance.Only(func(k conformance.Case) bool { return k.Name == c.Name }))
	require.Len(t, results, 1)
	if r := results[0]; r.Status == conformance.Failed {
		if b, err := os.ReadFile(l.log); err == nil {
			t.Logf("the consoles said:\n%s", b[max(0, len(b)-8192):])
		}
	}
	return results[0]
}

// watcher hears of the stops of all domains.
type watcher struct {
	mu   sync.Mutex
	died bool
}

// watch begins to listen.
func (l *lab) watch(t *testing.T) *watcher {
	t.Helper()
	w := &watcher{}
	sub, err := l.open(t).Subscribe(patiently(t), polyvisor.SubscribeOptions{})
	require.NoError(t, err)
	over := make(chan struct{})
	go func() {
		defer close(over)
		for {
			e, err := sub.Next(context.Background())
			if err != nil {
				return
			}
			if e.Stop != nil && lostGuest(*e.Stop) {
				w.mu.Lock()
				w.died = true
				w.mu.Unlock()
			}
		}
	}()
	t.Cleanup(func() {
		require.NoError(t, sub.Close())
		<-over
	})
	return w
}

// lost reports whether the emulated SVM of the nested machine lost a guest since it was
// asked last; see lostByEmulator.
func (w *watcher) lost() bool {
	if os.Getenv("POLYVISOR_NESTED") != "1" {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	died := w.died
	w.died = false
	return died
}
