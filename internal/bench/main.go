//go:build linux && amd64

// Command bench measures polyvisor's kvm engine against references in the same run, and prints each figure with how it was
// measured. Nothing is asserted: a time depends on the machine; what carries over from one to another are ratios, counts
// and sizes. docs/performance.md has the method and the figures.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/polyvisor/polyvisor/internal/bench/smaps"
)

// parts are what can be measured, in order.
var parts = []string{"boot", "memory", "exit", "ready", "calls", "virtq", "disks", "nets"}

type options struct {
	json   string
	only   []string
	rounds int
	pairs  int
	nested bool
	count  bool
}

func (o options) wants(part string) bool { return len(o.only) == 0 || slices.Contains(o.only, part) }

func main() {
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		err = run(ctx, o, os.Stdout, os.Stderr)
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&o.json, "json", "", "also write all figures as JSON to this `file`")
	only := f.String("only", "", "measure only these, of "+strings.Join(parts, ","))
	f.IntVar(&o.rounds, "rounds", 5, "rounds of boots")
	f.IntVar(&o.pairs, "pairs", 41, "pairs of slices for the cost of an exit, 15 or more")
	f.BoolVar(&o.count, "count", false, "count")
	f.BoolVar(&o.nested, "nested", true, "use the nested machine")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	for _, p := range o.only {
		if !slices.Contains(parts, p) {
			return o, fmt.Errorf("-only: no part %q; there are %s", p, strings.Join(parts, ", "))
		}
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case o.rounds < 1 || o.rounds > 100:
		return o, fmt.Errorf("-rounds %d: 1 to 100 are possible", o.rounds)
	case o.pairs < 15 || o.pairs > 10000:
		return o, fmt.Errorf("-pairs %d: 15 to 10000 are possible", o.pairs)
	}
	return o, nil
}

func run(ctx context.Context, o options, out, progress io.Writer) (err error) {
	r := &report{Start: time.Now(), Environment: lookAround()}
	r.Environment.print(out)
	dir, err := os.MkdirTemp("", "polyvisor-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	fmt.Fprintln(progress, "building ...")
	t, err := buildTools(ctx, o, dir)
	if err != nil {
		return err
	}
	show := func(s *section) {
		r.Sections = append(r.Sections, s)
		s.print(out)
	}
	m := &measurer{o: o, t: t, progress: progress}
	m.local(ctx)
	if err := ctx.Err(); err != nil {
		return err
	}
	m.inNested(ctx)
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, s := range m.sections() {
		show(s)
	}
	if t.polyvisor != "" {
		show(sizeSection(t))
	}
	r.Took = time.Since(r.Start)
	after := firstLine("/proc/loadavg")
	fmt.Fprintf(out, "\ntook %v; load at the end: %s\n", r.Took.Round(time.Second), after)
	if o.json == "" {
		return nil
	}
	return r.writeJSON(o.json)
}

// Names of where something was measured.
const (
	hereKVM   = "this machine's KVM"
	nestedKVM = "nested machine"

	withDevices = " with devices"
)

// measurer collects what the sections show.
type measurer struct {
	o        options
	t        *tools
	progress io.Writer

	ready       *section
	memory      map[string]*smaps.Series
	memoryOrder []string
	memoryFault []error
	exits       map[string]*exitReport
	exitFault   []error
	calls       *section
	devices     []*section // parts of devices, without a guest
	nested      *nestedResult
	nestedFault error
}

// local does what this machine's own KVM can do: small guests.
func (m *measurer) local(ctx context.Context) {
	if m.o.wants("calls") {
		fmt.Fprintln(m.progress, "calls to a libvirt daemon ...")
		m.calls = callsSection(ctx, m.t.dir)
	}
	m.devices = deviceSections(ctx, m.o, m.t, m.progress)
	m.memory, m.exits = map[string]*smaps.Series{}, map[string]*exitReport{}
	if m.o.wants("exit") {
		fmt.Fprintln(m.progress, "cost of an exit here ...")
		r, err := localExits(ctx, m.o, m.t)
		if err != nil {
			m.exitFault = append(m.exitFault, fmt.Errorf("%s: %w", hereKVM, err))
		} else {
			m.exits[hereKVM] = r
		}
	}
	if !m.o.wants("ready") && !m.o.wants("memory") {
		return
	}
	s, err := openSmall(ctx, m.t)
	if err != nil {
		m.ready = &section{Title: "Readiness of a VM process"}
		m.ready.missing("%v", err)
		m.memoryFault = append(m.memoryFault, err)
		return
	}
	defer func() {
		if err := s.close(); err != nil {
			fmt.Fprintln(m.progress, "bench:", err)
		}
	}()
	if m.o.wants("memory") {
		fmt.Fprintln(m.progress, "memory of a VM process here ...")
		for _, with := range []string{"", withDevices} {
			series, err := s.memory(ctx, with != "")
			if err != nil {
				m.memoryFault = append(m.memoryFault, fmt.Errorf("built-in guest%s, %s: %w", with, hereKVM, err))
			} else {
				m.addMemory("built-in guest"+with+", "+hereKVM, series)
			}
		}
	}
	if m.o.wants("ready") {
		fmt.Fprintln(m.progress, "readiness of a VM process here ...")
		m.ready = readySection(ctx, s)
	}
}

func (m *measurer) addMemory(name string, s *smaps.Series) {
	m.memory[name] = s
	m.memoryOrder = append(m.memoryOrder, name)
}

// inNested does what needs true KVM.
func (m *measurer) inNested(ctx context.Context) {
	if !m.o.wants("boot") && !m.o.wants("memory") && !m.o.wants("exit") {
		return
	}
	if !m.o.nested {
		m.nestedFault = errors.New("the nested machine was not wanted (-nested=false)")
		return
	}
	fmt.Fprintln(m.progress, "nested machine; this takes minutes ...")
	m.nested, m.nestedFault = runNested(ctx, m.o, m.t, m.progress)
	if m.nested == nil {
		return
	}
	if m.nested.exits != nil {
		m.exits[nestedKVM] = m.nested.exits
	} else if m.nested.exitOf != nil {
		m.exitFault = append(m.exitFault, fmt.Errorf("%s: %w", nestedKVM, m.nested.exitOf))
	}
	for _, name := range []string{ours, oursWithDevices, qemu} {
		for _, b := range m.nested.of(phaseMemory, name) {
			if b.Error != "" {
				m.memoryFault = append(m.memoryFault, fmt.Errorf("%s in the nested machine: %s", name, b.Error))
			}
			if b.Memory != nil {
				m.addMemory(name+" boots Linux, "+nestedKVM, b.Memory)
			}
		}
	}
}

func (m *measurer) sections() (all []*section) {
	if m.o.wants("boot") {
		s := &section{Title: "Boot of a stock kernel"}
		if m.nested != nil {
			s = bootSection(m.o, m.t, m.nested)
		}
		if m.nestedFault != nil {
			s.missing("%v", m.nestedFault)
		}
		all = append(all, s)
	}
	if m.o.wants("memory") {
		s := memorySection(m.memoryOrder, m.memory)
		for _, err := range m.memoryFault {
			s.missing("%v", err)
		}
		all = append(all, s)
	}
	if m.o.wants("exit") {
		cost, alloc := exitSection(m.t, []string{hereKVM, nestedKVM}, m.exits)
		for _, err := range m.exitFault {
			cost.missing("%v", err)
		}
		all = append(all, alloc, cost)
	}
	if m.ready != nil && m.o.wants("ready") {
		all = append(all, m.ready)
	}
	if m.calls != nil {
		all = append(all, m.calls)
	}
	return append(all, m.devices...)
}
