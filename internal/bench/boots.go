//go:build linux && amd64

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/polyvisor/polyvisor/internal/bench/boot"
	"github.com/polyvisor/polyvisor/internal/bench/stat"
)

// bootSection compares the times to the guest's first line.
func bootSection(o options, t *tools, n *nestedResult) *section {
	s := &section{
		Title: "Boot of a stock kernel: exec of the command to the first line of the guest's init",
		How: fmt.Sprintf("In the nested machine (QEMU TCG with AMD SVM, 2 CPUs; only ratios mean something), one run, in turn %s, %d rounds. "+
			"Linux %s (bzImage), the same initrd of one static init, %d MiB, 1 vCPU, quiet. "+
			"A line is noted when it arrives on the command's standard output. Ours is \"polyvisor run --rm\" with polyvisor-vmm beside it and the kernel's cache warm.",
			strings.Join([]string{ours, qemu, gokvm}, ", "), o.rounds, n.kernel, guestMiB),
		Table: [][]string{{"", "median", "rounds", "CPU of the command", "ours/it, median of pairs"}},
	}
	data := map[string]any{}
	s.Data = data
	us := times(n.of(phaseBoot, ours))
	for _, name := range []string{ours, qemu, gokvm} {
		rs := n.of(phaseBoot, name)
		for _, r := range rs {
			if r.Error != "" {
				s.missing("%s, round %d: %s", name, r.Round+1, r.Error)
			}
		}
		d := times(rs)
		if len(d) == 0 {
			s.missing("%s: %v", name, whyNot(t, name))
			continue
		}
		data[name] = d
		var each []string
		for _, x := range d {
			each = append(each, fmt.Sprintf("%.2f", x))
		}
		against := "1"
		if name != ours {
			against = "-"
			if r, err := stat.MedianRatio(us, d, 0.95, 1); err == nil {
				against = ratio(r.Estimate)
				data["ratio to "+name] = r
				data["ratio of medians to "+name] = stat.Median(us) / stat.Median(d)
			}
		}
		s.row(name, fmt.Sprintf("%.2f s", stat.Median(d)), strings.Join(each, " "), seconds(cpuOf(rs)), against)
	}
	for _, r := range n.of(phaseFirst, ours) {
		if r.Error != "" {
			s.missing("ours with a cold kernel cache: %s", r.Error)
			continue
		}
		s.note("cold kernel cache (the bzImage is unpacked first, once for each kernel): %s", seconds(r.Marker))
		data["cold"] = r.Marker.Seconds()
		if e := exitsOf(r); len(e) > 0 {
			data["exits"] = e
			s.note("our exits to user space by kind, from start to power-off: %s", counts(e))
		}
	}
	if d := times(n.of(phaseSmall, builtin)); len(d) > 0 {
		s.note("the same command with the built-in guest, to its prompt: %.2f s; so much of ours is not Linux", stat.Median(d))
		data[builtin] = d
	}
	s.note("target: ours at 0.5 of QEMU q35 or less")
	return s
}

// times gives seconds, of the rounds without fault.
func times(rs []boot.Result) (out []float64) {
	for _, r := range rs {
		if r.Error == "" {
			out = append(out, r.Marker.Seconds())
		}
	}
	return out
}

func cpuOf(rs []boot.Result) time.Duration {
	var all []float64
	for _, r := range rs {
		if r.Error == "" {
			all = append(all, float64(r.User+r.System))
		}
	}
	return time.Duration(stat.Median(all))
}

func whyNot(t *tools, name string) error {
	if err := t.faults[name]; err != nil {
		return err
	}
	return fmt.Errorf("no round succeeded")
}

// exitsOf gives the counts in the record of a domain's stop.
func exitsOf(r boot.Result) map[string]uint64 {
	for _, f := range r.Files {
		var rec struct {
			Exits map[string]uint64 `json:"exits"`
		}
		if json.Unmarshal(f, &rec) == nil && len(rec.Exits) > 0 {
			return rec.Exits
		}
	}
	return nil
}

// counts writes the largest first.
func counts(m map[string]uint64) string {
	keys := slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		if m[a] != m[b] {
			return int(int64(m[b]) - int64(m[a]))
		}
		return strings.Compare(a, b)
	})
	var total uint64
	var parts []string
	for _, k := range keys {
		total += m[k]
		parts = append(parts, fmt.Sprintf("%s %d", k, m[k]))
	}
	return fmt.Sprintf("%s; %d in all", strings.Join(parts, ", "), total)
}
