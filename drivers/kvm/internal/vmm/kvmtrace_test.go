//go:build linux && amd64

package vmm

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// tracefs is where the kernel's trace is mounted (Documentation/trace/ftrace.rst).
const tracefs = "/sys/kernel/tracing"

// traceKVM records KVM's trace events during a test whose environment has POLYVISOR_TEST_TRACE, and writes the last of them
// to $POLYVISOR_ARTIFACTS/kvm-trace-TEST if the test fails. They tell what the API does not: the kvm_exit of a triple fault
// has the guest's rip also on AMD, where the registers are reset before anybody can read them.
func traceKVM(t *testing.T) {
	t.Helper()
	dir := os.Getenv("POLYVISOR_ARTIFACTS")
	if os.Getenv("POLYVISOR_TEST_TRACE") == "" {
		return
	}
	require.NotEmpty(t, dir, "POLYVISOR_TEST_TRACE needs POLYVISOR_ARTIFACTS, a directory")
	if _, err := os.Stat(tracefs + "/trace"); err != nil {
		require.NoError(t, unix.Mount("tracefs", tracefs, "tracefs", 0, ""), "mount tracefs")
	}
	set := func(file, s string) {
		require.NoError(t, os.WriteFile(filepath.Join(tracefs, file), []byte(s), 0))
	}
	set("buffer_size_kb", "1024")
	set("trace", "")
	events := []string{"kvm_entry", "kvm_exit", "kvm_inj_virq", "kvm_inj_exception", "kvm_page_fault", "kvm_apic_accept_irq"}
	for _, e := range events {
		set("events/kvm/"+e+"/enable", "1")
	}
	set("tracing_on", "1")
	t.Cleanup(func() {
		set("tracing_on", "0")
		for _, e := range events {
			set("events/kvm/"+e+"/enable", "0")
		}
		if !t.Failed() {
			return
		}
		b, err := os.ReadFile(tracefs + "/trace")
		require.NoError(t, err)
		const most = 2 << 20
		if len(b) > most {
			b = b[len(b)-most:]
			b = b[bytes.IndexByte(b, '\n')+1:]
		}
		name := filepath.Join(dir, fmt.Sprintf("kvm-trace-%s", strings.ReplaceAll(t.Name(), "/", "-")))
		require.NoError(t, os.WriteFile(name, b, 0o644))
		t.Logf("KVM's events are in %s", name)
	})
}
