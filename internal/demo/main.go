// Command demo boots a stock Debian kernel to userspace in a virtual machine of
// this project's own engine, through the public API, prints what the guest says
// about itself, shuts it down and prints the times. Where this host's KVM cannot
// run a stock kernel it does so inside the nested machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/polyvisor/polyvisor/internal/doctor"
	"github.com/polyvisor/polyvisor/internal/nestedvm"
	"github.com/polyvisor/polyvisor/internal/testguest"
)

// Where things are in the nested machine.
const (
	innerDemo   = "/demo/demo"
	innerVMM    = "/demo/polyvisor-vmm"
	innerKernel = "/demo/vmlinuz"
	innerInitrd = "/demo/initrd"
)

func main() {
	var d demo
	flag.StringVar(&d.kernel, "kernel", "", "boot this kernel instead of the newest in /boot")
	flag.StringVar(&d.initrd, "initrd", "", "boot with this initial RAM disk of the test guest; it is built if empty")
	flag.IntVar(&d.vcpus, "vcpus", 2, "virtual CPUs of the guest")
	nested := flag.String("nested", "auto", "run inside the nested machine: yes, no, or auto: if this host's KVM cannot run a stock kernel")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, d, *nested)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, d demo, nested string) error {
	reason := ""
	switch nested {
	case "yes":
		reason = "as asked for"
	case "auto":
		reason = noStockKernel()
	case "no":
	default:
		return fmt.Errorf("-nested %q: want yes, no or auto", nested)
	}
	if d.kernel == "" {
		path, _, err := testguest.FindKernel()
		if err != nil {
			return err
		}
		d.kernel = path
	}
	tmp, err := os.MkdirTemp("", "polyvisor-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if d.initrd == "" {
		if d.initrd, err = buildInitrd(ctx, tmp, d.kernel); err != nil {
			return err
		}
	}
	if reason == "" {
		d.dir = tmp
		return d.boot(ctx)
	}
	fmt.Printf("This host's KVM is not used: %s.\nThe demonstration runs inside the nested machine: QEMU emulates a CPU with SVM, "+
		"and our engine runs on the KVM of the Debian kernel in it.\nTimes inside are many times longer than on hardware.\n\n", reason)
	return runNested(ctx, d, tmp)
}

// noStockKernel says why this host's KVM cannot run a stock kernel; empty if it
// can.
func noStockKernel() string {
	for _, c := range (doctor.Host{}).Checks() {
		if (c.Name == "kvm device" || c.Name == "kvm kind") && c.Status != doctor.OK {
			return c.Detail
		}
	}
	return ""
}

// buildInitrd makes the test guest's initial RAM disk, with the modules of the
// power button if they are installed.
func buildInitrd(ctx context.Context, dir, kernel string) (string, error) {
	o := testguest.Options{}
	if _, release, err := testguest.FindKernel(); err == nil && filepath.Base(kernel) == "vmlinuz-"+release {
		o.Release, o.Modules = release, testguest.ButtonModules()
	}
	return testguest.WriteInitramfs(ctx, dir, o)
}

// runNested runs this program again inside the nested machine.
func runNested(ctx context.Context, d demo, tmp string) error {
	if err := nestedvm.Available(); err != nil {
		return err
	}
	for _, pkg := range []string{"demo", "polyvisor-vmm"} {
		path := map[string]string{"demo": "./internal/demo", "polyvisor-vmm": "./cmd/polyvisor-vmm"}[pkg]
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(tmp, pkg), path)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return fmt.Errorf("build %s: %w", path, err)
		}
	}
	res, err := nestedvm.Run(ctx, nestedvm.Config{
		Files: []nestedvm.File{
			{Source: filepath.Join(tmp, "demo"), Path: innerDemo, Mode: 0o755},
			{Source: filepath.Join(tmp, "polyvisor-vmm"), Path: innerVMM, Mode: 0o755},
			{Source: d.kernel, Path: innerKernel},
			{Source: d.initrd, Path: innerInitrd},
		},
		Commands: []nestedvm.Command{{
			Args: []string{innerDemo, "-nested=no", "-kernel=" + innerKernel, "-initrd=" + innerInitrd,
				fmt.Sprintf("-vcpus=%d", d.vcpus)},
			Timeout: 4 * time.Minute,
		}},
		Stdout: os.Stdout, Stderr: os.Stderr,
	})
	if err != nil {
		return err
	}
	if res.ExitCode() != 0 {
		return errors.New("it failed inside the nested machine, see above")
	}
	return nil
}
