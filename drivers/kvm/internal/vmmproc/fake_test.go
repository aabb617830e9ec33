//go:build linux

package vmmproc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"
)

// fakeSpec says how a fakeMachine behaves.
type fakeSpec struct {
	BuildDelay   time.Duration `json:"build_delay,omitempty"` // obeys ctx
	BuildHang    time.Duration `json:"build_hang,omitempty"`  // does not
	BuildPanic   bool          `json:"build_panic,omitempty"`
	BuildExit    bool          `json:"build_exit,omitempty"` // a crash of the process
	BuildError   string        `json:"build_error,omitempty"`
	BuildCode    Code          `json:"build_code,omitempty"`
	StartError   string        `json:"start_error,omitempty"`
	RebuildError string        `json:"rebuild_error,omitempty"`
	Deaf         bool          `json:"deaf,omitempty"`   // takes no input
	Greedy       bool          `json:"greedy,omitempty"` // takes any input and drops it
	NoSize       bool          `json:"no_size,omitempty"`
	IgnoreButton bool          `json:"ignore_button,omitempty"`
	SlowSuspend  time.Duration `json:"slow_suspend,omitempty"`
	CrashOnBoot  bool          `json:"crash_on_boot,omitempty"`
	OffOnBoot    bool          `json:"off_on_boot,omitempty"`
	Unkillable   bool          `json:"unkillable,omitempty"`
	CatFile      string        `json:"cat_file,omitempty"`  // prints a file of Env at boot
	PIDFile      string        `json:"pid_file,omitempty"`  // written before anything else
	Exclusive    string        `json:"exclusive,omitempty"` // a file that only one machine may have
}

// fakeMachine has a guest that obeys lines on its console:
//
//	echo TEXT | off | reset | crash | flood N | info | size
type fakeMachine struct {
	spec fakeSpec
	env  Env

	mu      sync.Mutex
	line    []byte
	started bool
	paused  bool
	closed  bool
	exit    *Exit
	ended   chan struct{}
	taken   uint64
	size    [2]uint16
}

func fakeFactory(ctx context.Context, raw json.RawMessage, env Env) (Machine, error) {
	m := &fakeMachine{env: env, ended: make(chan struct{})}
	if err := json.Unmarshal(raw, &m.spec); err != nil {
		return nil, &Error{CodeInvalidArgument, "spec: " + err.Error()}
	}
	sp := &m.spec
	if sp.PIDFile != "" {
		if err := os.WriteFile(sp.PIDFile, []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
			return nil, err
		}
	}
	time.Sleep(sp.BuildHang)
	if sp.BuildDelay > 0 {
		if err := pause(ctx, sp.BuildDelay); err != nil {
			return nil, err
		}
	}
	switch {
	case sp.BuildPanic:
		panic("the factory is broken")
	case sp.BuildExit:
		go func() { panic("crash of the VMM") }()
		select {}
	case sp.BuildError != "":
		return nil, fmt.Errorf("build: %w", &Error{sp.BuildCode, sp.BuildError})
	case sp.RebuildError != "" && env.Rebuild > 0:
		return nil, errors.New(sp.RebuildError)
	}
	if sp.Exclusive != "" {
		f, err := os.OpenFile(sp.Exclusive, os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return nil, fmt.Errorf("the domain runs twice: %w", err)
		}
		f.Close()
	}
	return m, nil
}

func (m *fakeMachine) StartPaused() error {
	m.mu.Lock()
	m.paused = true
	m.mu.Unlock()
	return m.Start()
}

func (m *fakeMachine) Start() error {
	if m.spec.StartError != "" {
		return errors.New(m.spec.StartError)
	}
	m.mu.Lock()
	m.started = true
	m.mu.Unlock()
	fmt.Fprintf(m.env.Console, "boot %d\n", m.env.Rebuild)
	if f := m.env.Files[m.spec.CatFile]; f != nil {
		_, _ = io.Copy(m.env.Console, io.NewSectionReader(f, 0, 1<<20))
	}
	if m.spec.CrashOnBoot {
		m.end(ReasonCrash, "triple fault")
	}
	if m.spec.OffOnBoot {
		m.end(ReasonShutdown, "")
	}
	return nil
}

func (m *fakeMachine) end(r Reason, detail string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.exit == nil {
		m.exit = &Exit{r, detail}
		close(m.ended)
	}
}

func (m *fakeMachine) setPaused(ctx context.Context, p bool) error {
	if p {
		if err := pause(ctx, m.spec.SlowSuspend); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.exit != nil || m.paused == p {
		return &Error{CodeInvalidState, fmt.Sprintf("paused is %v already, or the machine has ended", m.paused)}
	}
	m.paused = p
	return nil
}

func (m *fakeMachine) ResizeConsole(cols, rows uint16) error {
	if m.spec.NoSize {
		return &Error{CodeUnsupported, "no size"}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.size = [2]uint16{cols, rows}
	return nil
}

func (m *fakeMachine) Suspend(ctx context.Context) error { return m.setPaused(ctx, true) }
func (m *fakeMachine) Resume(ctx context.Context) error  { return m.setPaused(ctx, false) }

func (m *fakeMachine) PowerButton() error {
	if !m.spec.IgnoreButton {
		m.end(ReasonShutdown, "power button")
	}
	return nil
}

func (m *fakeMachine) Reset() error { m.end(ReasonReset, ""); return nil }
func (m *fakeMachine) Kill() {
	if !m.spec.Unkillable {
		m.end(ReasonKilled, "")
	}
}

func (m *fakeMachine) Wait(ctx context.Context) (Exit, error) {
	select {
	case <-m.ended:
		return *m.exit, nil
	case <-ctx.Done():
		return Exit{}, ctx.Err()
	}
}

func (m *fakeMachine) Info() Info {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := Info{State: StateRunning, VCPUs: 1, Memory: 1 << 20, MaxMemory: 1 << 20, CPUTime: time.Second, Exits: map[string]uint64{"io": 1}}
	i.Disks = []Disk{{Name: "vda", ReadRequests: 1, ReadBytes: 512, Errors: 2, Latency: []uint64{0, 1}}}
	i.NICs = []NIC{{Name: "52:54:00:00:00:01", RXPackets: 3, TXDropped: 4}}
	if m.paused {
		i.State = StatePaused
	}
	return i
}

func (m *fakeMachine) Input(ctx context.Context, p []byte) (int, error) {
	if m.spec.Greedy {
		return len(p), nil
	}
	if m.spec.Deaf {
		select {
		case <-m.ended:
			return 0, ErrMachineEnded
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	m.mu.Lock()
	if m.exit != nil {
		m.mu.Unlock()
		return 0, ErrMachineEnded
	}
	n := min(len(p), 16) // as a FIFO would
	m.taken += uint64(n)
	var lines [][]byte
	for _, b := range p[:n] {
		if b != '\n' {
			if len(m.line) < 1024 {
				m.line = append(m.line, b)
			}
			continue
		}
		lines = append(lines, bytes.Clone(m.line))
		m.line = m.line[:0]
	}
	m.mu.Unlock()
	for _, l := range lines {
		m.obey(string(l))
	}
	return n, nil
}

func (m *fakeMachine) obey(line string) {
	var n int
	switch {
	case line == "off":
		fmt.Fprintln(m.env.Console, "bye")
		m.end(ReasonShutdown, "the guest powered off")
	case line == "reset":
		m.end(ReasonReboot, "")
	case line == "crash":
		m.end(ReasonCrash, "triple fault")
	case line == "fail":
		for range 100 {
			m.env.DeviceError("vda", "write of 4096 bytes: no space left on device")
		}
		fmt.Fprintln(m.env.Console, "failed")
	case line == "taken":
		fmt.Fprintf(m.env.Console, "taken %d\n", m.taken)
	case line == "size":
		m.mu.Lock()
		cols, rows := m.size[0], m.size[1]
		m.mu.Unlock()
		fmt.Fprintf(m.env.Console, "size %d %d\n", cols, rows)
	case len(line) > 5 && line[:5] == "echo ":
		fmt.Fprintln(m.env.Console, line[5:])
	default:
		if _, err := fmt.Sscanf(line, "flood %d", &n); err == nil {
			chunk := bytes.Repeat([]byte("x"), 4096)
			for ; n > 0; n -= len(chunk) {
				_, _ = m.env.Console.Write(chunk[:min(n, len(chunk))])
			}
			fmt.Fprintln(m.env.Console, "\nflooded")
		}
	}
}

func (m *fakeMachine) Close() error {
	m.end(ReasonKilled, "")
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return errors.New("closed twice")
	}
	m.closed = true
	if m.spec.Exclusive != "" {
		return os.Remove(m.spec.Exclusive)
	}
	return nil
}

var _ Machine = (*fakeMachine)(nil)
