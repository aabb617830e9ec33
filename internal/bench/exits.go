//go:build linux && amd64

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"

	"github.com/polyvisor/polyvisor/internal/bench/stat"
)

// exitReport is what exitbench prints.
type exitReport struct {
	Pairs []exitPair `json:"pairs,omitempty"`
	Alloc struct {
		Exits, Bytes, Objects uint64
	} `json:"alloc"`
}

// exitPair is nanoseconds per exit.
type exitPair struct {
	OursWall float64 `json:"ours_wall"`
	OursCPU  float64 `json:"ours_cpu"`
	BareWall float64 `json:"bare_wall"`
	BareCPU  float64 `json:"bare_cpu"`
	Exits    uint64  `json:"exits"`
}

func exitCommand(o options, t *tools, dir string) []string {
	args := []string{dir + "/exitbench", "-pairs", fmt.Sprint(o.pairs)}
	if t.bare != "" {
		args = append(args, "-bare", dir+"/bare")
	}
	return args
}

func readExits(b []byte) (*exitReport, error) {
	var r exitReport
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("exitbench printed %q: %w", bytes.TrimSpace(b), err)
	}
	return &r, nil
}

// localExits measures on this machine's own KVM.
func localExits(ctx context.Context, o options, t *tools) (*exitReport, error) {
	if err := localKVM(); err != nil {
		return nil, err
	}
	args := exitCommand(o, t, t.dir)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("exitbench: %w", err)
	}
	return readExits(out)
}

const exitHow = "A guest writes the serial scratch register for ever. Ours is package vmm as it is in production (processor loop, buses, serial port); " +
	"the reference is a C program that runs the same bytes in the same mode with the same interrupt chips and only looks at the exit reason. " +
	"Slices of 60 ms in turn, which of the two goes first alternates; the ratio is the median over the pairs, with its 95 % bootstrap interval. " +
	"CPU is the processor time of the vCPU's thread, which other load disturbs less."

// exitSection shows the cost of an exit and what it allocates, by machine.
func exitSection(t *tools, where []string, reports map[string]*exitReport) (cost, alloc *section) {
	cost = &section{Title: "Port access through the whole dispatch against a bare KVM_RUN loop in C", How: exitHow,
		Table: [][]string{{"", "ours/C, wall", "95 %", "ours/C, CPU", "95 %", "ours", "C", "pairs"}}}
	alloc = &section{Title: "Allocation in the run loop", How: "runtime.MemStats of the whole process before and after 0.4 s of the same guest's exits, the least of five windows; " +
		"the test TestExitAllocatesNothing of package vcpu holds it at 0.", Table: [][]string{{"", "bytes per exit", "bytes", "objects", "exits"}}}
	data := map[string]any{}
	cost.Data, alloc.Data = data, reports
	for _, w := range where {
		r := reports[w]
		if r == nil {
			continue
		}
		if a := r.Alloc; a.Exits > 0 {
			alloc.row(w, fmt.Sprintf("%.4g", float64(a.Bytes)/float64(a.Exits)), fmt.Sprint(a.Bytes), fmt.Sprint(a.Objects), fmt.Sprint(a.Exits))
		}
		if len(r.Pairs) == 0 {
			cost.missing("%s: no reference: %v", w, t.faults["bare"])
			continue
		}
		var ow, oc, bw, bc []float64
		for _, p := range r.Pairs {
			ow, oc, bw, bc = append(ow, p.OursWall), append(oc, p.OursCPU), append(bw, p.BareWall), append(bc, p.BareCPU)
		}
		wall, err := stat.MedianRatio(ow, bw, 0.95, 1)
		if err != nil {
			cost.missing("%s: %v", w, err)
			continue
		}
		cpu, err := stat.MedianRatio(oc, bc, 0.95, 1)
		if err != nil {
			cost.missing("%s: %v", w, err)
			continue
		}
		data[w] = map[string]any{"wall": wall, "cpu": cpu, "ours_ns": stat.Median(ow), "bare_ns": stat.Median(bw)}
		cost.row(w, fmt.Sprintf("%.3f", wall.Estimate), span(wall), fmt.Sprintf("%.3f", cpu.Estimate), span(cpu),
			fmt.Sprintf("%.1f us", stat.Median(ow)/1e3), fmt.Sprintf("%.1f us", stat.Median(bw)/1e3), fmt.Sprint(wall.N))
	}
	cost.note("target: 1.10 or less")
	return cost, alloc
}

func span(i stat.Interval) string { return fmt.Sprintf("%.3f-%.3f", i.Low, i.High) }
