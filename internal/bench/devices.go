//go:build linux && amd64

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/polyvisor/polyvisor/internal/bench/gobench"
	"github.com/polyvisor/polyvisor/internal/bench/stat"
)

// deviceSections measures parts of devices without a guest.
func deviceSections(ctx context.Context, o options, t *tools, progress io.Writer) (all []*section) {
	if o.wants("virtq") {
		fmt.Fprintln(progress, "virtqueues ...")
		all = append(all, virtqSection(ctx, o, t))
	}
	if o.wants("disks") {
		fmt.Fprintln(progress, "block device ...")
		all = append(all, diskSection(ctx))
	}
	if o.wants("nets") {
		fmt.Fprintln(progress, "networks ...")
		all = append(all, netSection(ctx))
	}
	return all
}

const virtqHow = "A driver in the same thread makes a request of one buffer available; it is taken from a split ring of 256 entries, its descriptor read once and " +
	"its address checked, and it is given back. Ours is package virtq as devices use it; the reference does the same in C (gcc -O2). Turns of 131072 requests, which of the two goes " +
	"first alternates; the ratio is the median over the pairs, with its 95 % bootstrap interval, of the processor time of the thread. The driver's part is in both."

// requestPair is what virtqbench prints, in nanoseconds for each request.
type requestPair struct {
	OursWall float64 `json:"ours_wall"`
	OursCPU  float64 `json:"ours_cpu"`
	RefWall  float64 `json:"ref_wall"`
	RefCPU   float64 `json:"ref_cpu"`
}

func virtqSection(ctx context.Context, o options, t *tools) *section {
	s := &section{Title: "A request through a virtqueue against a loop in C", How: virtqHow, Table: [][]string{{"ours/C", "95 %", "ours", "C", "ours at best", "C at best", "pairs"}}}
	if t.virtq == "" {
		s.missing("no reference: %v", t.faults["virtq"])
		return s
	}
	cmd := exec.CommandContext(ctx, t.virtqbench, "-reference", t.virtq, "-pairs", fmt.Sprint(o.pairs))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		s.missing("virtqbench: %v", err)
		return s
	}
	var pairs []requestPair
	if err := json.Unmarshal(out, &pairs); err != nil {
		s.missing("virtqbench printed %q: %v", bytes.TrimSpace(out), err)
		return s
	}
	s.Data = pairs
	var ours, ref []float64
	for _, p := range pairs {
		ours, ref = append(ours, p.OursCPU), append(ref, p.RefCPU)
	}
	r, err := stat.MedianRatio(ours, ref, 0.95, 1)
	if err != nil {
		s.missing("%v", err)
		return s
	}
	ns := func(x float64) string { return fmt.Sprintf("%.1f ns", x) }
	s.row(fmt.Sprintf("%.2f", r.Estimate), span(r), ns(stat.Median(ours)), ns(stat.Median(ref)), ns(stat.Quantile(ours, 0)), ns(stat.Quantile(ref, 0)), fmt.Sprint(r.N))
	s.note("target: 1.5 of C or less, and 10 ns")
	return s
}

// rounds is how many results of a Go benchmark are collected; each has its own turns with the reference.
const benchRounds = 11

const diskHow = "Reads of 4 KiB that are in the page cache, the same blocks into the same memory: bare pread(2) and through the block device on a raw image, in turn, 4096 reads each. \"queue\" is the " +
	"work of the device for a request: ring, parsing, reading, answer, statistics, interrupt. \"woken\" is the device at work with its own goroutine: the driver sleeps until it is told, so that each batch costs two " +
	"wake-ups. Figures are parts of the bare rate, medians with their 95 % bootstrap interval."

func diskSection(ctx context.Context) *section {
	s := &section{Title: "Block device against bare pread", How: diskHow, Table: [][]string{{"requests at a time", "queue, of pread", "95 %", "woken, of pread", "95 %", "pread", "request", "interrupts per request", "rounds"}}}
	results, err := gobench.Run(ctx, gobench.Plan{Package: module + "/drivers/kvm/internal/virtio/blk", Bench: "^BenchmarkRead$", Count: benchRounds, Time: "20x"})
	if err != nil {
		s.missing("%v", err)
		return s
	}
	s.Data = results
	for _, depth := range []string{"1", "32"} {
		r := results["BenchmarkRead/depth="+depth]
		queue, woken := interval(r["of-pread"]), interval(r["of-pread-woken"])
		s.row(depth, ratio(queue.Estimate), span(queue), ratio(woken.Estimate), span(woken), fmt.Sprintf("%.0f ns", stat.Median(r["ns/pread"])),
			fmt.Sprintf("%.0f ns", stat.Median(r["ns/request"])), fmt.Sprintf("%.3f", stat.Median(r["batches/request"])), fmt.Sprint(queue.N))
	}
	s.note("targets: 0.8 of pread with one request at a time, 0.4 with 32; interrupts per request 0.5 or less with 32")
	return s
}

const netHow = "TCP through the helper of network user and without it, in turn, 32 MiB each: from a TCP/IP stack in Go in the place of the guest's, by frames on the helper's socket, to a server on the host's " +
	"loopback. The guest's stack has its share in the figure. Parts of the rate of a connection by loopback, medians with their 95 % bootstrap interval."

func netSection(ctx context.Context) *section {
	s := &section{Title: "Network user against TCP by loopback", How: netHow, Table: [][]string{{"MTU", "of loopback", "95 %", "MB/s of both together", "rounds"}}}
	results, err := gobench.Run(ctx, gobench.Plan{Package: module + "/drivers/kvm/usernet", Bench: "^BenchmarkThroughput$", Count: benchRounds, Time: "1x"})
	if err != nil {
		s.missing("%v", err)
		return s
	}
	s.Data = results
	for _, mtu := range []string{"1500", "9000", "65520"} {
		r := results["BenchmarkThroughput/mtu="+mtu]
		i := interval(r["ratio"])
		s.row(mtu, ratio(i.Estimate), span(i), fmt.Sprintf("%.0f", stat.Median(r["MB/s"])), fmt.Sprint(i.N))
	}
	return s
}

// interval is the median of ratios that were each taken in turns.
func interval(x []float64) stat.Interval {
	i, err := stat.Bootstrap(x, 0.95, 1)
	if err != nil {
		return stat.Interval{}
	}
	return i
}
