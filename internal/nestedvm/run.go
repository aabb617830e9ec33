//go:build linux

package nestedvm

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/polyvisor/polyvisor/internal/nestedvm/wire"
)

func run(ctx context.Context, cfg Config) (Result, error) {
	cfg.Memory = cmp.Or(cfg.Memory, DefaultMemory)
	cfg.CPUs = cmp.Or(cfg.CPUs, DefaultCPUs)
	if err := checkConfig(cfg); err != nil {
		return Result{}, err
	}
	h, err := findHost()
	if err != nil {
		return Result{}, err
	}
	bin, err := buildInit(ctx)
	if err != nil {
		return Result{}, err
	}
	image, err := makeImage(h, cfg, bin)
	if err != nil {
		return Result{}, err
	}
	defer image.Close()
	if err := ctx.Err(); err != nil {
		return Result{}, err
	}
	e, err := startEmulator(h, cfg, image)
	if err != nil {
		return Result{}, err
	}
	s := &session{cfg: cfg, start: time.Now(), emulator: e}
	unwatch := context.AfterFunc(ctx, e.kill)
	s.boot = &silence{emulator: e, cpus: cfg.CPUs, limit: bootLimit}
	s.silence = &silence{emulator: e, cpus: cfg.CPUs, limit: silenceLimit}
	s.boot.begin()
	err = s.serve()
	s.boot.stop()
	s.boot.end()
	s.silence.end()
	unwatch()
	e.stop()
	s.result.Console = e.console.String()
	if ctx.Err() != nil && err != nil {
		killed := e.faultOf(fmt.Sprintf("the nested machine was killed during %s: %v", s.phase(), context.Cause(ctx)))
		return s.result, errors.Join(context.Cause(ctx), errors.New(killed.Error()))
	}
	return s.result, err
}

func checkConfig(cfg Config) error {
	if len(cfg.Commands) == 0 {
		return errors.New("nested machine: no command to run")
	}
	for i, c := range cfg.Commands {
		if len(c.Args) == 0 {
			return fmt.Errorf("nested machine: command %d is empty", i)
		}
	}
	if cfg.Memory < 256 || cfg.CPUs < 1 || cfg.CPUs > 64 {
		return fmt.Errorf("nested machine: %d MiB and %d CPUs; 256 MiB or more and 1 to 64 CPUs are possible", cfg.Memory, cfg.CPUs)
	}
	return nil
}

// session is the talk with one machine.
type session struct {
	cfg      Config
	start    time.Time
	emulator *emulator
	boot     *silence // ends a machine that does not get ready
	silence  *silence // ends a machine that was ready and hangs
	result   Result
	ready    bool
	current  int // command that runs, or -1
}

func (s *session) phase() string {
	switch {
	case !s.ready:
		return fmt.Sprintf("its boot, for which it has %s", bootLimit)
	case s.current >= 0:
		return fmt.Sprintf("command %v", s.cfg.Commands[s.current].Args)
	default:
		return "the copying of artifacts"
	}
}

func (s *session) spec() wire.Spec {
	spec := wire.Spec{
		Now: time.Now(),
		Env: append([]string{
			"PATH=/bin:/usr/bin", "HOME=/root", "TMPDIR=/tmp", "XDG_RUNTIME_DIR=" + wire.RuntimeDir, "LANG=C.UTF-8",
		}, s.cfg.Env...),
		Artifacts: artifactPaths(s.cfg.Artifacts),
	}
	for _, c := range s.cfg.Commands {
		spec.Commands = append(spec.Commands, wire.Command{
			Args: c.Args, Env: c.Env, Dir: cmp.Or(c.Dir, "/"), Timeout: c.Timeout, Grace: cmp.Or(c.Grace, DefaultGrace),
		})
	}
	return spec
}

func artifactPaths(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// serve sends the work and takes what comes until the machine is done.
func (s *session) serve() error {
	s.current = -1
	sent := make(chan error, 1)
	go func() { sent <- wire.NewWriter(s.emulator.port).JSON(wire.KindSpec, s.spec()) }()
	err := s.receive()
	if err != nil {
		// The machine may not have taken the work: nothing is to be waited for.
		s.emulator.kill()
	}
	if e := <-sent; err == nil && e != nil {
		err = fmt.Errorf("send the work to the nested machine: %w", e)
	}
	return err
}

func (s *session) receive() error {
	unpack := newUnpacker(s.cfg.Artifacts)
	r := wire.NewReader(s.emulator.port)
	for {
		k, p, err := s.next(r)
		if err != nil {
			unpack.abort(err)
			return s.lost(err)
		}
		done, err := s.frame(k, p, unpack)
		if err != nil {
			unpack.abort(err)
			return err
		}
		if done {
			return unpack.finish()
		}
	}
}

// next waits for a frame, but not for ever once the machine is up.
func (s *session) next(r *wire.Reader) (wire.Kind, []byte, error) {
	if s.ready {
		s.silence.begin()
		defer s.silence.stop()
	}
	return r.Next()
}

// lost says how the machine went away.
func (s *session) lost(err error) error {
	s.emulator.kill()
	<-s.emulator.ended
	s.boot.stop()
	for _, w := range []*silence{s.boot, s.silence} {
		if hung, registers := w.end(); hung {
			h := s.emulator.faultOf(fmt.Sprintf("the nested machine gave no sign of life for %s during %s and was killed", w.limit, s.phase()))
			h.Registers = registers
			return h
		}
	}
	what := fmt.Sprintf("the nested machine died during %s", s.phase())
	if !errors.Is(err, io.EOF) {
		what += fmt.Sprintf(" (%v)", err)
	}
	if s.ready && s.current >= 0 || !s.ready && !s.emulator.complained() {
		return s.emulator.faultOf(what)
	}
	return errors.New(s.emulator.faultOf(what).Error()) // another try would end likewise
}

func (s *session) frame(k wire.Kind, p []byte, unpack *unpacker) (done bool, err error) {
	switch k {
	case wire.KindReady:
		var m wire.Ready
		if err := json.Unmarshal(p, &m); err != nil {
			return false, fmt.Errorf("nested machine: %w", err)
		}
		s.boot.stop()
		s.ready, s.result.Kernel, s.result.Boot = true, m.Kernel, time.Since(s.start)
		if m.Fault != "" {
			return false, errors.New(s.emulator.faultOf("nested machine: " + m.Fault).Error())
		}
	case wire.KindStart:
		var m wire.Start
		if err := json.Unmarshal(p, &m); err != nil {
			return false, fmt.Errorf("nested machine: %w", err)
		}
		if m.Index != len(s.result.Commands) || m.Index >= len(s.cfg.Commands) {
			return false, fmt.Errorf("nested machine: it starts command %d, expected %d", m.Index, len(s.result.Commands))
		}
		s.current = m.Index
	case wire.KindStdout, wire.KindStderr:
		return false, s.output(k, p)
	case wire.KindExit:
		var m wire.Exit
		if err := json.Unmarshal(p, &m); err != nil {
			return false, fmt.Errorf("nested machine: %w", err)
		}
		if s.current < 0 || m.Index != s.current {
			return false, fmt.Errorf("nested machine: the end of command %d while no command runs or another one", m.Index)
		}
		r := CommandResult{ExitCode: m.Code, TimedOut: m.TimedOut, Elapsed: m.Elapsed, Fault: m.Fault, Left: m.Left}
		s.result.Commands = append(s.result.Commands, r)
		if f := s.cfg.Commands[s.current].Ended; f != nil {
			f(r)
		}
		s.current = -1
	case wire.KindAlive:
	case wire.KindTar:
		unpack.write(p)
	case wire.KindDone:
		var m wire.Done
		if err := json.Unmarshal(p, &m); err != nil {
			return false, fmt.Errorf("nested machine: %w", err)
		}
		if m.Fault != "" {
			return false, fmt.Errorf("nested machine: %s", m.Fault)
		}
		if n := len(s.result.Commands); n != len(s.cfg.Commands) {
			return false, fmt.Errorf("nested machine: done after %d of %d commands", n, len(s.cfg.Commands))
		}
		return true, nil
	default:
		return false, fmt.Errorf("nested machine: unexpected frame kind %d", k)
	}
	return false, nil
}

func (s *session) output(k wire.Kind, p []byte) error {
	if s.current < 0 {
		return errors.New("nested machine: output while no command runs")
	}
	c := s.cfg.Commands[s.current]
	w := cmp.Or(c.Stdout, s.cfg.Stdout)
	if k == wire.KindStderr {
		w = cmp.Or(c.Stderr, s.cfg.Stderr)
	}
	if w == nil {
		return nil
	}
	if _, err := w.Write(p); err != nil {
		return fmt.Errorf("output of the nested machine: %w", err)
	}
	return nil
}
