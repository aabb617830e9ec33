// Command nestedtest runs Go tests in the nested machine (package nestedvm), where /dev/kvm has its real meaning.
//
//	nestedtest [flags] PACKAGES
//
// It builds the test binary of each package without cgo, puts all of them with the files and the testdata of
// their packages into one machine, runs them there one after the other in directories that lie to each other as
// in the module (below /src), and ends with a line that counts the tests, each subtest as one. The exit code is 1 if a
// test failed or a process was left behind, 2 if the tests could not be run, 3 if the machine is not to be had here.
//
// The tests find in their environment
//
//	POLYVISOR_NESTED=1
//	POLYVISOR_TEST_KERNEL   a stock bzImage
//	POLYVISOR_TEST_MODULES  its /lib/modules directory, with what -modules names
//	POLYVISOR_TEST_INITRD   an initial RAM disk of package testguest, with the modules of the power button
//	POLYVISOR_TEST_INIT     the init in it, for testguest.Options.Init
//	POLYVISOR_TEST_AGENT_INITRD   one whose first process is the agent of guests (testguest.AgentInitramfs)
//	POLYVISOR_ARTIFACTS     a directory to write into, which -artifacts brings back
//
// and HOME, TMPDIR and the XDG directories. There is no Go tool and no shell in the machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/polyvisor/polyvisor/internal/nestedvm"
)

type options struct {
	memory, cpus  int
	run, skip     string
	verbose, json bool
	short         bool
	count         int
	cover, pkgs   string
	artifacts     string
	timeout       time.Duration
	limit         time.Duration
	tags, modules string
	files, env    list
	packages      []string
	bench         string
	benchtime     string
}

// list is a flag that may be given several times.
type list []string

func (l *list) String() string { return strings.Join(*l, " ") }

func (l *list) Set(s string) error {
	*l = append(*l, s)
	return nil
}

// guestModules are those that a guest in the machine has a use for.
const guestModules = "virtio_pci,virtio_mmio,virtio_blk,virtio_net,virtio_console,virtio-rng,virtio_balloon,virtio_mem,virtiofs," +
	"vmw_vsock_virtio_transport"

func parse(args []string) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("nestedtest", flag.ContinueOnError)
	f.IntVar(&o.memory, "m", nestedvm.DefaultMemory, "memory of the machine in `MiB`")
	f.IntVar(&o.cpus, "smp", nestedvm.DefaultCPUs, "CPUs of the machine")
	f.StringVar(&o.run, "run", "", "run only the tests that match `RE`")
	f.StringVar(&o.skip, "skip", "", "do not run the tests that match `RE`")
	f.StringVar(&o.bench, "bench", "", "run the benchmarks that match `RE`")
	f.StringVar(&o.benchtime, "benchtime", "", "run each benchmark for this `time` or Nx")
	f.BoolVar(&o.verbose, "v", false, "print the output of tests that pass, too")
	f.BoolVar(&o.json, "json", false, "print events as go test -json does, and nothing else on standard output")
	f.BoolVar(&o.short, "short", false, "tell the tests to be short")
	f.IntVar(&o.count, "count", 1, "run each test this often")
	f.StringVar(&o.cover, "cover", "", "collect coverage, also of processes that tests start, as raw data into `DIR` (see go tool covdata)")
	f.StringVar(&o.pkgs, "coverpkg", "./...", "packages to measure the coverage of")
	f.StringVar(&o.artifacts, "artifacts", "", "copy what tests wrote to $POLYVISOR_ARTIFACTS into `DIR`")
	f.DurationVar(&o.timeout, "timeout", 10*time.Minute, "time of each package's tests")
	f.DurationVar(&o.limit, "limit", 30*time.Minute, "start no further machine after this `time`, however many hung")
	f.StringVar(&o.tags, "tags", "", "build tags")
	f.StringVar(&o.modules, "modules", guestModules, "kernel modules to have in $POLYVISOR_TEST_MODULES")
	f.Var(&o.files, "file", "put `SRC[:DST]` into the machine, DST being SRC if not given; may be repeated")
	f.Var(&o.env, "env", "set `NAME=VALUE` for the tests; may be repeated")
	f.Usage = func() {
		fmt.Fprintln(f.Output(), "usage: nestedtest [flags] packages")
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	o.packages = f.Args()
	if len(o.packages) == 0 {
		o.packages = []string{"."}
	}
	return o, nil
}

func main() {
	o, err := parse(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		os.Exit(2)
	}
	if err := nestedvm.Available(); err != nil {
		fmt.Fprintln(os.Stderr, "nestedtest:", err)
		os.Exit(3)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ok, err := runTests(ctx, o, os.Stdout)
	stop()
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "nestedtest:", err)
		os.Exit(2)
	case !ok:
		os.Exit(1)
	}
}
