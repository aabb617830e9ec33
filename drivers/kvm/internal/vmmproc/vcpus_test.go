//go:build linux

package vmmproc

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/store"
)

// threadedMachine is a fakeMachine with two virtual CPUs that are bound on paper.
type threadedMachine struct {
	*fakeMachine
	pins [2][]byte
	dump func(ctx context.Context, f *os.File) error
}

func (m *threadedMachine) VCPUs() []VCPU {
	return []VCPU{{Running: true, CPU: 3, Time: time.Second, Affinity: m.pins[0]}, {CPU: -1, Affinity: m.pins[1]}}
}

func (m *threadedMachine) Pin(number int, cpus []byte) error {
	if number < 0 || number > 1 || len(cpus) == 0 {
		return &Error{CodeInvalidArgument, "no such vCPU or CPU"}
	}
	m.pins[number] = cpus
	return nil
}

func (m *threadedMachine) Info() Info {
	i := m.fakeMachine.Info()
	i.VCPUTime = []time.Duration{time.Second, 0}
	return i
}

func (m *threadedMachine) CoreDump(ctx context.Context, f *os.File) error { return m.dump(ctx, f) }

func serveThreaded(t *testing.T, s *store.Store, cfg Config, dump func(context.Context, *os.File) error) error {
	t.Helper()
	run, err := newRun(s)
	require.NoError(t, err)
	srv, err := Serve(bg, ServeConfig{Run: run, Spec: json.RawMessage("{}"), Config: cfg}, func(ctx context.Context, spec json.RawMessage, env Env) (Machine, error) {
		m, err := fakeFactory(ctx, spec, env)
		if err != nil {
			return nil, err
		}
		return &threadedMachine{fakeMachine: m.(*fakeMachine), dump: dump}, nil
	})
	if err == nil {
		t.Cleanup(func() { require.NoError(t, srv.Close()) })
	}
	return err
}

func TestPinsOutliveReboots(t *testing.T) {
	s := testStore(t)
	j, err := s.OpenJournal()
	require.NoError(t, err)
	defer j.Close()
	require.NoError(t, serveThreaded(t, s, Config{Pins: map[int][]byte{0: {1}, 1: {2}}}, nil))
	cl := dial(t, s)
	list, err := cl.VCPUs(bg)
	require.NoError(t, err)
	require.Equal(t, []VCPU{{Running: true, CPU: 3, Time: time.Second, Affinity: []byte{1}}, {CPU: -1, Affinity: []byte{2}}}, list)
	require.NoError(t, cl.Pin(bg, 1, []byte{4}))
	require.ErrorIs(t, cl.Pin(bg, 2, []byte{4}), ErrInvalidArgument)
	require.ErrorIs(t, cl.Pin(bg, 0, nil), ErrInvalidArgument)
	require.NoError(t, cl.Reset(bg))
	var events []store.EventType
	for len(events) < 2 {
		more, err := j.Next()
		require.NoError(t, err)
		for _, e := range more {
			events = append(events, e.Type)
		}
	}
	require.Equal(t, []store.EventType{store.EventStarted, store.EventRebooted}, events)
	list, err = cl.VCPUs(bg)
	require.NoError(t, err)
	require.Equal(t, []VCPU{{Running: true, CPU: 3, Time: 2 * time.Second, Affinity: []byte{1}}, {CPU: -1, Affinity: []byte{4}}}, list)
}

func TestPinThatFailsTheStart(t *testing.T) {
	s := testStore(t)
	require.ErrorIs(t, serveThreaded(t, s, Config{Pins: map[int][]byte{7: {1}}}, nil), ErrInvalidArgument)
	requireTidy(t, s)
}

func TestMachineWithoutThreads(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := testStore(t)
		require.NoError(t, m.start(t, s, fakeSpec{}, Config{}))
		cl := dial(t, s)
		_, err := cl.VCPUs(bg)
		require.ErrorIs(t, err, ErrUnsupported)
		require.ErrorIs(t, cl.Pin(bg, 0, []byte{1}), ErrUnsupported)
		require.ErrorIs(t, cl.CoreDump(bg, "/nonexistent/core"), ErrUnsupported)
		_, err = cl.Destroy(bg)
		require.NoError(t, err)
		require.Error(t, m.start(t, s, fakeSpec{}, Config{Pins: map[int][]byte{0: {1}}}))
	})
}

func TestCoreDumpFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "core")
	fail := errors.New("half way")
	hang, late := false, false
	began := make(chan struct{}, 1)
	s := testStore(t)
	require.NoError(t, serveThreaded(t, s, Config{}, func(ctx context.Context, f *os.File) error {
		_, _ = f.WriteString("half")
		if hang {
			began <- struct{}{}
			<-ctx.Done()
			if !late {
				return ctx.Err()
			}
		}
		return fail
	}))
	cl := dial(t, s)
	require.ErrorContains(t, cl.CoreDump(bg, path), "half way")
	require.ErrorIs(t, cl.CoreDump(bg, "core"), ErrInvalidArgument)
	require.ErrorIs(t, cl.CoreDump(bg, dir+"/no/core"), ErrNotFound)
	fail = nil
	require.NoError(t, cl.CoreDump(bg, path))
	require.ErrorIs(t, cl.CoreDump(bg, path), &Error{Code: CodeExists})
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "half", string(b))

	// Who gives up leaves nothing.
	hang = true
	ctx, cancel := context.WithCancel(bg)
	go func() { <-began; cancel() }()
	require.ErrorIs(t, cl.CoreDump(ctx, path+"2"), context.Canceled)
	require.NoError(t, cl.Suspend(bg), "the next operation follows when the dump has ended")
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, files, 1)

	// Unless the file is complete by then, of which the caller hears.
	late = true
	ctx, cancel = context.WithCancel(bg)
	go func() { <-began; cancel() }()
	require.NoError(t, cl.CoreDump(ctx, path+"2"))
	require.FileExists(t, path+"2")
}
