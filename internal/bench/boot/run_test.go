//go:build linux

package boot

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func sh(name, script string) Subject {
	return Subject{Name: name, Args: []string{"/bin/sh", "-c", script}, Marker: "HERE", Timeout: 20 * time.Second}
}

func runAll(t *testing.T, p Plan) (rs []Result) {
	t.Helper()
	require.NoError(t, Run(t.Context(), p, func(r Result) error { rs = append(rs, r); return nil }))
	return rs
}

func one(t *testing.T, s Subject) Result {
	t.Helper()
	rs := runAll(t, Plan{Phases: []Phase{{Rounds: 1, Subjects: []Subject{s}}}})
	require.Len(t, rs, 1)
	return rs[0]
}

func TestRunInTurn(t *testing.T) {
	var order []string
	for _, r := range runAll(t, Plan{Phases: []Phase{
		{Name: "x", Rounds: 2, Subjects: []Subject{sh("a", "echo HERE"), sh("b", "echo HERE")}},
		{Name: "y", Rounds: 1, Subjects: []Subject{sh("c", "echo HERE")}},
	}}) {
		assert.Empty(t, r.Error)
		order = append(order, r.Phase+r.Subject)
	}
	assert.Equal(t, []string{"xa", "xb", "xa", "xb", "yc"}, order)
}

func TestMarkerIsBeforeTheEnd(t *testing.T) {
	r := one(t, sh("a", "sleep 0.05; printf 'xHE'; sleep 0.05; echo REx; sleep 0.2"))
	require.Empty(t, r.Error)
	assert.GreaterOrEqual(t, r.Marker, 100*time.Millisecond)
	assert.GreaterOrEqual(t, r.End-r.Marker, 150*time.Millisecond)
	assert.Zero(t, r.Exit)
	assert.False(t, r.Killed)
}

func TestFailures(t *testing.T) {
	for name, c := range map[string]struct {
		s    Subject
		want string
	}{
		"no marker": {sh("a", "echo elsewhere"), "without \"HERE\""},
		"exit code": {sh("a", "echo HERE; exit 3"), "exit status 3"},
		"no program": {Subject{Args: []string{"/no/such/program"}, Marker: "HERE", Timeout: time.Second},
			"no such file"},
		"no arguments": {Subject{Marker: "HERE", Timeout: time.Second}, "needs arguments"},
		"too slow":     {Subject{Args: []string{"/bin/sleep", "100"}, Marker: "HERE", Timeout: 50 * time.Millisecond}, "did not come within"},
		"no end": {Subject{Args: []string{"/bin/sh", "-c", "echo HERE; exec sleep 100"}, Marker: "HERE", Timeout: 100 * time.Millisecond},
			"did not end within"},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Contains(t, one(t, c.s).Error, c.want)
		})
	}
	assert.Contains(t, one(t, sh("a", "echo elsewhere")).Output, "elsewhere")
}

// Also the processes that the command started end, since they hold the machine's time.
func TestKillAtMarker(t *testing.T) {
	s := sh("a", "sleep 100 & echo HERE; wait")
	s.Kill = true
	r := one(t, s)
	assert.Empty(t, r.Error)
	assert.True(t, r.Killed)
	assert.Less(t, r.End, 20*time.Second)
}

func TestInputComesAtTheMarker(t *testing.T) {
	s := sh("a", "echo HERE; read word; test $word = go")
	s.Input = "go\n"
	assert.Empty(t, one(t, s).Error)
	s.Input = "stay\n"
	assert.Contains(t, one(t, s).Error, "exit status 1")
}

func TestContextEnds(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := Run(ctx, Plan{Phases: []Phase{{Rounds: 1000, Subjects: []Subject{sh("a", "sleep 100")}}}}, func(Result) error { return nil })
	assert.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestSamplesAndCollects(t *testing.T) {
	dir := t.TempDir()
	s := sh("a", "sleep 0.3 & echo HERE; wait; echo '{\"n\": 5}' >"+filepath.Join(dir, "stop.json")+"; echo junk >"+filepath.Join(dir, "other.json"))
	sleep, err := filepath.EvalSymlinks("/bin/sleep")
	require.NoError(t, err)
	s.Sample, s.SampleEvery, s.Regions = filepath.Base(sleep), time.Millisecond, []uint64{1 << 40}
	s.Collect = filepath.Join(dir, "*.json")
	r := one(t, s)
	assert.Contains(t, r.Error, "no mapping of guest memory", "a wrong region must not give a figure")
	require.Len(t, r.Files, 1)
	assert.JSONEq(t, `{"n": 5}`, string(r.Files[filepath.Join(dir, "stop.json")]))
	require.NoError(t, os.RemoveAll(dir))
}
