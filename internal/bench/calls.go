//go:build linux && amd64

package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/polyvisor/polyvisor"
	_ "github.com/polyvisor/polyvisor/drivers/libvirt"
	"github.com/polyvisor/polyvisor/internal/bench/gobench"
	"github.com/polyvisor/polyvisor/internal/bench/libvirt"
	"github.com/polyvisor/polyvisor/internal/bench/stat"
	"github.com/polyvisor/polyvisor/internal/libvirttest"
)

// maxRequests is how many calls of one client the daemon works on at a time.
const maxRequests = 50

// goClient is a client that is measured beside the C library. open connects to a daemon that has test:///default and
// gives its calls on the domain "test"; close ends the connection.
type goClient struct {
	name string
	open func(ctx context.Context, d *libvirttest.Daemon) (calls libvirt.Funcs, close func() error, err error)
}

// goClients are those that there are.
var goClients = []goClient{{name: "polyvisor", open: openPolyvisor}}

// openPolyvisor has the calls as programs make them, through the root package.
func openPolyvisor(ctx context.Context, d *libvirttest.Daemon) (libvirt.Funcs, func() error, error) {
	conn, err := polyvisor.Open(ctx, d.URI("test", libvirttest.Unix))
	if err != nil {
		return nil, nil, err
	}
	dom, err := conn.Domain(ctx, "test")
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return libvirt.Funcs{
		libvirt.State:  func(ctx context.Context) error { _, err := dom.State(ctx); return err },
		libvirt.Info:   func(ctx context.Context) error { _, err := dom.Info(ctx); return err },
		libvirt.Lookup: func(ctx context.Context) error { _, err := conn.Domain(ctx, "test"); return err },
	}, conn.Close, nil
}

// cLibrary is the name of the reference.
const cLibrary = "libvirt.so"

// callsSection measures calls a second on a libvirt daemon of our own.
func callsSection(ctx context.Context, dir string) *section {
	p := libvirt.DefaultPlan()
	s := &section{Title: "Calls to a libvirt daemon", How: fmt.Sprintf("A private libvirtd with test:///default on a unix socket (max_client_requests=%d). "+
		"The clients have one connection each and take turns of about %v in the same run, %d each; threads share their client's connection. Ratios are "+
		"of neighbouring turns, their median with its 95 %% interval; allocations are all that the client's program makes.", maxRequests, p.Turn, p.Pairs)}
	if err := measureCalls(ctx, dir, p, s); err != nil {
		s.missing("%v", err)
	}
	if err := measureAnswers(ctx, s); err != nil {
		s.missing("%v", err)
	}
	s.note("target: 0.95 of %s or more with one thread; 2.5 times the rate of one thread with 16; 4 allocations a call or fewer", cLibrary)
	return s
}

// measureAnswers tells what the client can do where the daemon is not the limit: against a process that only answers.
func measureAnswers(ctx context.Context, s *section) error {
	results, err := gobench.Run(ctx, gobench.Plan{Package: module + "/drivers/libvirt/internal/rpc", Bench: "^Benchmark(Floor|Serial|Concurrent16)$",
		Count: benchRounds, Time: "10000x"})
	if err != nil {
		return err
	}
	call := func(name string) float64 { return stat.Median(results["Benchmark"+name]["ns/op"]) / 1000 }
	s.note("against a process that only answers, a state takes %.1f us with one goroutine and %.1f us with 16, %.1f times as many a second; "+
		"writing and reading the same bytes on a bare net.Conn takes %.1f us", call("Serial"), call("Concurrent16"), call("Serial")/call("Concurrent16"), call("Floor"))
	return nil
}

func measureCalls(ctx context.Context, dir string, p libvirt.Plan, s *section) (err error) {
	program, err := libvirt.Build(ctx, dir)
	if err != nil {
		return err
	}
	d, err := libvirttest.Run(ctx, libvirttest.Options{Settings: map[string]string{"max_client_requests": strconv.Itoa(maxRequests)}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	c, err := libvirt.StartC(ctx, program, d.URI("test", libvirttest.Unix), "test")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	var subjects []libvirt.Subject
	allocations := map[string]map[libvirt.Op]float64{}
	for _, g := range goClients {
		calls, closeClient, fault := g.open(ctx, d)
		if fault != nil {
			s.missing("%s: %v", g.name, fault)
			continue
		}
		defer func() { err = errors.Join(err, closeClient()) }()
		subjects = append(subjects, libvirt.Subject{Name: g.name, Caller: calls})
		allocations[g.name] = map[libvirt.Op]float64{}
		for _, op := range p.Ops {
			if allocations[g.name][op], err = calls.Allocations(ctx, op); err != nil {
				return err
			}
		}
	}
	figures, err := libvirt.Measure(ctx, p, libvirt.Subject{Name: cLibrary, Caller: c}, subjects...)
	s.Data = figures
	callRows(s, figures, allocations)
	return err
}

func callRows(s *section, figures []libvirt.Figure, allocations map[string]map[libvirt.Op]float64) {
	type key struct {
		subject string
		op      libvirt.Op
	}
	serial := map[key]float64{}
	s.row("call", "threads", "client", "calls/s", "to "+cLibrary, "to one thread", "allocations a call")
	for _, f := range figures {
		k := key{f.Subject, f.Op}
		toC, toSerial, allocated := "", "", ""
		if f.Ratio != nil {
			toC = fmt.Sprintf("%.2f (%.2f to %.2f)", f.Ratio.Estimate, f.Ratio.Low, f.Ratio.High)
		}
		if f.Threads == 1 {
			serial[k] = f.Rate()
			if a, ok := allocations[f.Subject][f.Op]; ok {
				allocated = fmt.Sprintf("%.1f", a)
			}
		} else if serial[k] > 0 {
			toSerial = ratio(f.Rate() / serial[k])
		}
		s.row(string(f.Op), strconv.Itoa(f.Threads), f.Subject, fmt.Sprintf("%.0f", f.Rate()), toC, toSerial, allocated)
	}
}
