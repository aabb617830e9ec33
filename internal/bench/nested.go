//go:build linux && amd64

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/polyvisor/polyvisor/internal/bench/boot"
	"github.com/polyvisor/polyvisor/internal/nestedvm"
	"github.com/polyvisor/polyvisor/internal/testguest"
)

// Phases of the plan.
const (
	phaseFirst  = "first"  // cold cache of unpacked kernels
	phaseBoot   = "boot"   // timed, in turn
	phaseSmall  = "small"  // without a kernel
	phaseMemory = "memory" // sampled, not timed
)

const sampleEvery = 10 * time.Millisecond

// nestedResult is what came out of the nested machine.
type nestedResult struct {
	boots  []boot.Result
	exits  *exitReport
	exitOf error // why there is none
	took   time.Duration
	kernel string
}

// of gives the results of a phase and subject.
func (r *nestedResult) of(phase, subject string) (out []boot.Result) {
	for _, b := range r.boots {
		if b.Phase == phase && b.Subject == subject {
			out = append(out, b)
		}
	}
	return out
}

// runNested does in one nested machine all that needs true KVM.
func runNested(ctx context.Context, o options, t *tools, progress io.Writer) (*nestedResult, error) {
	kernel, release, err := nestedvm.Kernel()
	if err != nil {
		return nil, err
	}
	initrd, err := testguest.WriteInitramfs(ctx, t.dir, testguest.Options{Init: t.guestInit})
	if err != nil {
		return nil, err
	}
	drivers, err := testguest.WriteInitramfs(ctx, t.dir, testguest.Options{Init: t.guestInit, Release: release, DeviceModules: testguest.DeviceModules()})
	if err != nil {
		return nil, err
	}
	plan := makePlan(o, t, kernel)
	planJSON, err := json.Marshal(plan)
	if err != nil {
		return nil, err
	}
	cfg := nestedvm.Config{
		Memory: 3072, CPUs: map[bool]int{true: 1, false: 2}[o.count], Stderr: progress, Instructions: o.count,
		Files: []nestedvm.File{
			{Source: kernel, Path: kernel},
			{Source: initrd, Path: insideInitrd},
			{Source: drivers, Path: insideDrivers},
			{Data: make([]byte, diskSize), Path: insideDisk},
			{Data: planJSON, Path: insidePlan},
			{Source: t.inside, Path: insideBin + "/inside", Mode: 0o755},
		},
	}
	for _, p := range []string{t.polyvisor, t.vmm, t.usernet, t.gokvm, t.exitbench, t.bare} {
		if p != "" {
			cfg.Files = append(cfg.Files, nestedvm.File{Source: p, Path: insideBin + "/" + filepath.Base(p), Mode: 0o755})
		}
	}
	if o.wants("boot") || o.wants("memory") {
		files, err := qemuFiles(ctx)
		if err != nil {
			return nil, err
		}
		cfg.Files = append(cfg.Files, files...)
	}

	r := &nestedResult{kernel: release}
	results := newLines(func(line []byte) error {
		var b boot.Result
		if err := json.Unmarshal(line, &b); err != nil {
			return fmt.Errorf("a result of the nested machine: %w: %q", err, line)
		}
		r.boots = append(r.boots, b)
		fmt.Fprintf(progress, "  nested: %-7s %-10s %s\n", b.Phase, b.Subject, outcome(b))
		return nil
	})
	var exits bytes.Buffer
	if len(plan.Phases) > 0 {
		cfg.Commands = append(cfg.Commands, nestedvm.Command{Args: []string{insideBin + "/inside", insidePlan}, Stdout: results})
	}
	if o.wants("exit") {
		cfg.Commands = append(cfg.Commands, nestedvm.Command{Args: exitCommand(o, t, insideBin), Stdout: &exits, Timeout: limit})
	}
	if len(cfg.Commands) == 0 {
		return r, nil
	}
	start := time.Now()
	res, err := nestedvm.Run(ctx, cfg)
	r.took = time.Since(start)
	if err != nil {
		return r, err
	}
	for i, c := range res.Commands {
		if c.Fault != "" || c.ExitCode != 0 {
			err = errors.Join(err, fmt.Errorf("in the nested machine %s ended with exit code %d %s", cfg.Commands[i].Args[0], c.ExitCode, c.Fault))
		}
	}
	if o.wants("exit") {
		r.exits, r.exitOf = readExits(exits.Bytes())
	}
	return r, err
}

// makePlan says what is booted. What is missing is left out.
func makePlan(o options, t *tools, kernel string) boot.Plan {
	var p boot.Plan
	us, q, g := ourSubject(kernel), qemuSubject(kernel), gokvmSubject(kernel)
	if o.wants("boot") || o.wants("memory") {
		// Not transient, so that the record of its stop remains, which has the exits.
		first := us
		first.Args = append(without(us.Args, "--rm"), "--name", "first")
		first.Collect = insideState + "/polyvisor/domains/*/stop.json"
		p.Phases = append(p.Phases, boot.Phase{Name: phaseFirst, Rounds: 1, Subjects: []boot.Subject{first}})
	}
	if o.wants("boot") {
		ph := boot.Phase{Name: phaseBoot, Rounds: o.rounds, Subjects: []boot.Subject{us, q}}
		if t.gokvm != "" {
			ph.Subjects = append(ph.Subjects, g)
		}
		p.Phases = append(p.Phases, ph, boot.Phase{Name: phaseSmall, Rounds: o.rounds, Subjects: []boot.Subject{smallSubject()}})
	}
	if o.wants("memory") {
		ph := boot.Phase{Name: phaseMemory, Rounds: 1}
		sampled := func(s boot.Subject, program string) {
			s.Sample, s.SampleEvery = program, sampleEvery
			ph.Subjects = append(ph.Subjects, s)
		}
		sampled(idleSubject(kernel), "polyvisor-vmm")
		sampled(devicesSubject(kernel), "polyvisor-vmm")
		sampled(q, filepath.Base(qemuProgram))
		p.Phases = append(p.Phases, ph)
	}
	return p
}

func without(args []string, drop string) (out []string) {
	for _, a := range args {
		if a != drop {
			out = append(out, a)
		}
	}
	return out
}

func outcome(b boot.Result) string {
	if b.Error != "" {
		return "failed: " + b.Error + "\n" + b.Output
	}
	return seconds(b.Marker)
}

// lines is an io.Writer that hands out whole lines.
type lines struct {
	rest []byte
	f    func([]byte) error
}

func newLines(f func([]byte) error) *lines { return &lines{f: f} }

func (l *lines) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		i := bytes.IndexByte(l.rest, '\n')
		if i < 0 {
			return len(p), nil
		}
		line := l.rest[:i]
		l.rest = l.rest[i+1:]
		if err := l.f(line); err != nil {
			return 0, err
		}
	}
}

// localKVM says why the tests of a small guest cannot run on this machine's own KVM, or nil.
func localKVM() error {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("needs /dev/kvm: %w", err)
	}
	return f.Close()
}
