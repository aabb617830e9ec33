//go:build linux && amd64

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/polyvisor/polyvisor/internal/bench/bare"
	"github.com/polyvisor/polyvisor/internal/testguest"
)

const module = "github.com/polyvisor/polyvisor"

// gokvmModule is the other monitor in Go.
const gokvmModule = "github.com/bobuhiro11/gokvm@latest"

// tools are the programs that are measured or measure, in a directory of their own. The path of one that is not ours is
// empty if it could not be had; faults says why.
type tools struct {
	dir               string
	polyvisor, vmm    string
	usernet           string
	inside, exitbench string
	virtqbench        string
	guestInit         string
	bare, nothing     string
	virtq             string // the reference of virtqbench
	gokvm             string
	faults            map[string]error
}

// buildTools builds what the chosen measurements need.
func buildTools(ctx context.Context, o options, dir string) (*tools, error) {
	t := &tools{dir: dir, faults: map[string]error{}}
	for _, b := range []struct {
		path *string
		name string
		pkg  string
	}{
		{&t.polyvisor, "polyvisor", "/cmd/polyvisor"},
		{&t.vmm, "polyvisor-vmm", "/cmd/polyvisor-vmm"},
		{&t.usernet, "polyvisor-usernet", "/cmd/polyvisor-usernet"},
		{&t.inside, "inside", "/internal/bench/boot/inside"},
		{&t.exitbench, "exitbench", "/drivers/kvm/internal/exitbench"},
		{&t.virtqbench, "virtqbench", "/drivers/kvm/internal/virtqbench"},
	} {
		if !o.needs(b.name) {
			continue
		}
		out := filepath.Join(dir, b.name)
		if err := goTool(ctx, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", out, module+b.pkg); err != nil {
			return nil, err
		}
		*b.path = out
	}
	if o.wants("boot") || o.wants("memory") || o.wants("exit") {
		t.guestInit = filepath.Join(dir, "guest-init")
		if err := testguest.BuildInit(ctx, t.guestInit); err != nil {
			return nil, err
		}
	}
	for _, c := range []struct {
		path *string
		name string
	}{{&t.bare, "bare"}, {&t.nothing, "nothing"}, {&t.virtq, "virtq"}} {
		path, err := bare.Build(ctx, c.name, dir)
		if err != nil {
			t.faults[c.name] = err
			continue
		}
		*c.path = path
	}
	if o.wants("boot") {
		if err := installGokvm(ctx, dir); err != nil {
			t.faults["gokvm"] = err
		} else {
			t.gokvm = filepath.Join(dir, "gokvm")
		}
	}
	return t, ctx.Err()
}

// needs says whether a program of ours is measured or measures. What is not the tool of one part is needed by all that run machines.
func (o options) needs(program string) bool {
	switch program {
	case "virtqbench":
		return o.wants("virtq")
	case "exitbench":
		return o.wants("exit")
	}
	return o.wants("boot") || o.wants("memory") || o.wants("exit") || o.wants("ready")
}

func goTool(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(said.Bytes()))
	}
	return nil
}

// installGokvm gets gokvm. It is no dependency of the module, so it is fetched here.
func installGokvm(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "install", gokvmModule)
	cmd.Dir = dir // outside of the module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOBIN="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go install %s: %w: %s", gokvmModule, err, bytes.TrimSpace(out))
	}
	return nil
}
