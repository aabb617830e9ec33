//go:build linux && amd64

// Command virtqbench measures what it costs to take a request from a virtqueue and to give it back, with a driver of a few lines and
// without a machine. The reference is the same in C (internal/bench/bare), in turn with ours: pair by pair, so that both see the
// same processor and the same load. What it prints is JSON for internal/bench.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
)

// Pair is a turn of ours and one of the reference, next to each other in time, in nanoseconds for each request.
type Pair struct {
	OursWall float64 `json:"ours_wall"`
	OursCPU  float64 `json:"ours_cpu,omitempty"`
	RefWall  float64 `json:"ref_wall"`
	RefCPU   float64 `json:"ref_cpu,omitempty"`
}

func main() {
	program := flag.String("reference", "", "the reference `program`")
	pairs := flag.Int("pairs", 41, "number of pairs")
	requests := flag.Int("requests", 1<<17, "requests in a turn")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *program, *pairs, *requests); err != nil {
		fmt.Fprintln(os.Stderr, "virtqbench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, program string, pairs, requests int) (err error) {
	r, err := newRing()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.mem.Close()) }()
	all, err := againstC(ctx, program, pairs, requests, r.do)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(all)
}
