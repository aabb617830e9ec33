//go:build linux && amd64

package kvm_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/conformance"
	"github.com/polyvisor/polyvisor/conformance/testkernel"
	"github.com/polyvisor/polyvisor/drivers/kvm"
)

// The whole suite, with the built-in guest on this host's /dev/kvm.
func TestConformance(t *testing.T) {
	if f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0); err != nil {
		t.Skipf("needs /dev/kvm: %v", err)
	} else {
		f.Close()
	}
	conformance.Run(t, conformanceHarness)
}

func conformanceHarness(t *testing.T) conformance.Harness {
	// Not t.TempDir: the path of a socket has at most 107 bytes.
	dir, err := os.MkdirTemp("", "pv")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if strings.HasSuffix(t.Name(), "/list/while-busy") {
		kvm.ShortenPatience(t) // with the process that the case stops
	}
	q := url.Values{}
	for _, name := range []string{"state", "run", "cache"} {
		q.Set(name, filepath.Join(dir, name))
	}
	uri := "kvm:///session?" + q.Encode()
	return conformance.Harness{
		Open: func(ctx context.Context, opts ...polyvisor.Option) (*polyvisor.Conn, error) {
			return polyvisor.Open(ctx, uri, opts...)
		},
		Config: &polyvisor.Config{Memory: 64 * polyvisor.MiB},
		Guest:  conformance.BuiltinGuest(),
		Kernel: testkernel.ELF(),
		Dir:    t.TempDir(),
		Hang: func(_ context.Context, name string) (func(), error) {
			fd, err := processOf(dir, name)
			if err != nil {
				return nil, err
			}
			// A run that has ended needs no signal.
			return func() { _ = unix.PidfdSendSignal(fd, unix.SIGCONT, nil, 0); unix.Close(fd) }, unix.PidfdSendSignal(fd, unix.SIGSTOP, nil, 0)
		},
		End: func(_ context.Context, name string, reason polyvisor.StopReason) error {
			if reason != polyvisor.StopServiceDied {
				return polyvisor.ErrUnsupported
			}
			fd, err := processOf(dir, name)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		},
	}
}

// processOf gives a descriptor of the process that runs a domain.
func processOf(dir, name string) (int, error) {
	files, err := filepath.Glob(filepath.Join(dir, "run", "*", "run.json"))
	if err != nil {
		return -1, err
	}
	for _, f := range files {
		var run struct {
			PID  int
			Name string
		}
		text, err := os.ReadFile(f)
		if err == nil && json.Unmarshal(text, &run) == nil && run.Name == name {
			return unix.PidfdOpen(run.PID, 0)
		}
	}
	return -1, fmt.Errorf("%w: no run of a domain named %q", polyvisor.ErrNotFound, name)
}
