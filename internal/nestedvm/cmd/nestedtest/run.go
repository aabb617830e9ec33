package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/polyvisor/polyvisor/internal/nestedvm"
	"github.com/polyvisor/polyvisor/internal/testguest"
)

// Places in the machine.
const (
	guestSource    = "/src"
	guestTests     = "/tests"
	guestInit      = guestTests + "/guest-init"
	guestInitrd    = guestTests + "/guest-initrd"
	guestAgent     = guestTests + "/guest-agent-initrd"
	guestCover     = "/var/lib/nestedtest/cover"
	guestArtifacts = "/var/lib/nestedtest/artifacts"
)

// runTests does it all; ok says that nothing failed.
func runTests(ctx context.Context, o *options, out io.Writer) (ok bool, err error) {
	pkgs, err := listPackages(ctx, o)
	if err != nil {
		return false, err
	}
	if len(pkgs) == 0 {
		return false, fmt.Errorf("no tests in %s", strings.Join(o.packages, " "))
	}
	dir, err := os.MkdirTemp("", "nestedtest-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	if err := build(ctx, o, pkgs, dir); err != nil {
		return false, err
	}
	conv, err := buildConverter(ctx, dir)
	if err != nil {
		return false, err
	}
	cfg, err := config(o, pkgs)
	if err != nil {
		return false, err
	}
	if err := addGuest(ctx, &cfg, dir); err != nil {
		return false, err
	}
	rep := newReport(out, o)
	var suites []*suite
	for i, c := range cfg.Commands {
		suites = append(suites, newSuite(pkgs[i], c, rep))
	}
	cfg.Commands = nil
	s := &schedule{cfg: cfg, run: nestedvm.Run, conv: conv, rep: rep, retry: !rep.verbose, limit: o.limit}
	res, err := s.all(ctx, suites)
	if err == nil && !o.json {
		rep.summary(res)
	}
	return !rep.failed(), err
}

// addGuest puts in what tests boot as a guest: an initial RAM disk and the init in it, for tests that make their own, and one
// with the agent. All are built here, since there is no Go tool in the machine.
func addGuest(ctx context.Context, cfg *nestedvm.Config, dir string) error {
	_, release, err := nestedvm.Kernel()
	if err != nil {
		return err
	}
	program := filepath.Join(dir, "guest-init")
	if err := testguest.BuildInit(ctx, program); err != nil {
		return err
	}
	o := testguest.Options{Init: program, Release: release, Modules: testguest.ButtonModules(), DeviceModules: testguest.DeviceModules()}
	initrd, err := testguest.Initramfs(ctx, o)
	if err != nil {
		return err
	}
	withAgent, err := testguest.AgentInitramfs(ctx, dir, o)
	if err != nil {
		return err
	}
	cfg.Files = append(cfg.Files,
		nestedvm.File{Source: program, Path: guestInit, Mode: 0o755},
		nestedvm.File{Data: initrd, Path: guestInitrd},
		nestedvm.File{Data: withAgent, Path: guestAgent})
	// What the caller set comes later and so prevails.
	cfg.Env = append([]string{"POLYVISOR_TEST_INIT=" + guestInit, "POLYVISOR_TEST_INITRD=" + guestInitrd,
		"POLYVISOR_TEST_AGENT_INITRD=" + guestAgent}, cfg.Env...)
	return nil
}

// config lays out the machine.
func config(o *options, pkgs []*testPackage) (nestedvm.Config, error) {
	kernel, release, err := nestedvm.Kernel()
	if err != nil {
		return nestedvm.Config{}, err
	}
	cfg := nestedvm.Config{
		Memory: o.memory, CPUs: o.cpus,
		Files: []nestedvm.File{{Source: kernel, Path: kernel}},
		Env: append([]string{
			"POLYVISOR_NESTED=1",
			"POLYVISOR_TEST_KERNEL=" + kernel,
			"POLYVISOR_TEST_MODULES=" + path.Join("/lib/modules", release),
			"POLYVISOR_ARTIFACTS=" + guestArtifacts,
			"XDG_DATA_HOME=/root/.local/share", "XDG_STATE_HOME=/root/.local/state", "XDG_CACHE_HOME=/root/.cache", "XDG_CONFIG_HOME=/root/.config",
		}, o.env...),
		Artifacts: map[string]string{},
	}
	if o.modules != "" {
		cfg.Modules = strings.Split(o.modules, ",")
	}
	for _, spec := range o.files {
		f, err := fileFlag(spec)
		if err != nil {
			return cfg, err
		}
		cfg.Files = append(cfg.Files, f)
	}
	if o.artifacts != "" {
		cfg.Artifacts[guestArtifacts] = o.artifacts
	}
	if o.cover != "" {
		cfg.Artifacts[guestCover] = o.cover
		cfg.Env = append(cfg.Env, "GOCOVERDIR="+guestCover)
		cfg.Files = append(cfg.Files, nestedvm.File{Data: []byte("raw coverage data\n"), Path: guestCover + "/README"})
	}
	cfg.Files = append(cfg.Files, nestedvm.File{Data: []byte("what tests leave for the host\n"), Path: guestArtifacts + "/README"})
	for _, p := range pkgs {
		c, files, err := command(o, p)
		if err != nil {
			return cfg, err
		}
		cfg.Commands = append(cfg.Commands, c)
		cfg.Files = append(cfg.Files, files...)
	}
	return cfg, nil
}

// command is the run of one package's tests, with the files that it needs.
func command(o *options, p *testPackage) (nestedvm.Command, []nestedvm.File, error) {
	binary := path.Join(guestTests, filepath.Base(p.binary))
	dir, err := guestDir(p)
	if err != nil {
		return nestedvm.Command{}, nil, err
	}
	files := []nestedvm.File{{Source: p.binary, Path: binary, Mode: 0o755}}
	entries, err := os.ReadDir(p.Dir)
	if err != nil {
		return nestedvm.Command{}, nil, err
	}
	for _, e := range entries {
		if e.Type().IsRegular() || e.IsDir() && e.Name() == "testdata" {
			files = append(files, nestedvm.File{Source: filepath.Join(p.Dir, e.Name()), Path: path.Join(dir, e.Name())})
		}
	}
	args := []string{
		binary, "-test.v=test2json", "-test.paniconexit0", "-test.timeout=" + o.timeout.String(), "-test.count=" + strconv.Itoa(o.count),
	}
	for name, value := range map[string]string{"run": o.run, "skip": o.skip, "bench": o.bench, "benchtime": o.benchtime} {
		if value != "" {
			args = append(args, "-test."+name+"="+value)
		}
	}
	if o.short {
		args = append(args, "-test.short")
	}
	if o.cover != "" {
		args = append(args, "-test.gocoverdir="+guestCover)
	}
	// The test binary ends itself with a message when its time is over; the machine's own limit is for one that cannot.
	return nestedvm.Command{Args: args, Dir: dir, Timeout: o.timeout + time.Minute}, files, nil
}

// guestDir is where the package lies in the machine: as in its module, below /src.
func guestDir(p *testPackage) (string, error) {
	if p.Module == nil {
		return "", fmt.Errorf("%s is in no module", p.ImportPath)
	}
	rel, err := filepath.Rel(p.Module.Dir, p.Dir)
	if err != nil {
		return "", err
	}
	return path.Join(guestSource, filepath.ToSlash(rel)), nil
}

// fileFlag reads SRC[:DST].
func fileFlag(spec string) (nestedvm.File, error) {
	src, dst, given := strings.Cut(spec, ":")
	src, err := filepath.Abs(src)
	if err != nil {
		return nestedvm.File{}, err
	}
	if !given {
		dst = src
	}
	if !path.IsAbs(dst) {
		return nestedvm.File{}, fmt.Errorf("-file %s: %q is not an absolute path", spec, dst)
	}
	return nestedvm.File{Source: src, Path: dst}, nil
}
