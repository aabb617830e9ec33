package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/cmd/polyvisor/internal/cli"
	"github.com/polyvisor/polyvisor/internal/libvirttest"
)

// command runs the command line and gives its exit code and what it prints.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = cli.Main(t.Context(), args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

// The commands work on a libvirt daemon, whose own client sees what they do.
func TestLibvirt(t *testing.T) {
	d := libvirttest.Start(t, libvirttest.Options{})
	uri := d.URI("test", libvirttest.Unix)
	// This hypervisor forgets its domains with the last connection.
	held, err := polyvisor.Open(t.Context(), uri)
	require.NoError(t, err)
	defer held.Close()
	on := func(args ...string) string {
		t.Helper()
		code, out, complaints := command(t, append([]string{"-c", uri}, args...)...)
		require.Zero(t, code, "%q: %s", args, complaints)
		require.Empty(t, complaints, "%q", args)
		return out
	}
	assert.Regexp(t, `(?m)^test +1 +running`, on("list"), "the domain that is always there")
	file := filepath.Join(t.TempDir(), "web.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"name": "web", "memory": "128MiB", "vcpus": 2, "labels": {"tier": "front"}}`), 0o600))
	on("define", file)
	assert.Contains(t, d.Virsh(t, "test", "list", "--all", "--name"), "web")
	assert.NotContains(t, on("list"), "web", "it is not active")
	on("start", "web")
	assert.Equal(t, "running", strings.TrimSpace(d.Virsh(t, "test", "domstate", "web")))
	var info struct {
		Name, State string
		VCPUs       int
		Persistent  bool
		ID          int
		Memory      polyvisor.Bytes
	}
	text := on("info", "web", "-o", "json")
	require.NoError(t, json.Unmarshal([]byte(text), &info), text)
	assert.Equal(t, "web", info.Name)
	assert.Equal(t, "running", info.State)
	assert.Equal(t, 2, info.VCPUs)
	assert.Equal(t, polyvisor.Bytes(128*polyvisor.MiB), info.Memory)
	assert.True(t, info.Persistent)
	assert.Positive(t, info.ID)
	assert.Contains(t, on("list", "--label", "tier=front"), "web")
	assert.Contains(t, on("dumpxml", "web"), "<domain type='test'")
	on("destroy", "web")
	assert.Equal(t, "shut off", strings.TrimSpace(d.Virsh(t, "test", "domstate", "web")))
	code, out, complaints := command(t, "-c", uri, "wait", "web")
	assert.Equal(t, 10+int(polyvisor.StopKilled), code, "%s%s", out, complaints)
	on("undefine", "web")
	assert.NotContains(t, d.Virsh(t, "test", "list", "--all", "--name"), "web")
}

// The suite runs from the command line, and the hypervisor in memory keeps its domains
// from one connection of it to the next.
func TestLibvirtConformance(t *testing.T) {
	d := libvirttest.Start(t, libvirttest.Options{})
	uri := d.URI("test", libvirttest.Unix)
	code, out, complaints := command(t, "conformance", uri, "--json", "--run", "^(connection|lookup|events|xml)/|^life/(persistent|suspend|set)")
	var v struct {
		Cases []struct{ Name, Status, Reason string }
		conformanceCounts
	}
	require.NoError(t, json.Unmarshal([]byte(out), &v), "%s%s", out, complaints)
	assert.Zero(t, code, "%s%s", out, complaints)
	assert.Zero(t, v.Failed)
	assert.Greater(t, v.Passed, 5, out)
}

type conformanceCounts struct{ Passed, Failed, Skipped int }

// Errors are one line that says what to do.
func TestLibvirtErrors(t *testing.T) {
	nowhere := filepath.Join(t.TempDir(), "no-sock")
	for _, tt := range []struct {
		name, uri string
		says      []string
	}{
		{"no socket", "test+unix:///default?socket=" + nowhere, []string{"no socket " + nowhere, "is the daemon running?", "leave it out"}},
		{"nobody listens", "qemu+tcp://127.0.0.1:1/system", []string{"127.0.0.1:1", "listen_tcp = 1"}},
		{"wrong host", "qemu+tcp://no-such-host.invalid/system", []string{"no-such-host.invalid", "is the name right?"}},
		{"unknown parameter", "qemu+unix:///system?sokcet=/x", []string{"unknown parameter sokcet", "knows socket, mode"}},
		{"unknown transport", "qemu+foo:///system", []string{`unknown transport "foo"`, "want unix, tcp, tls, ssh"}},
		{"empty parameter", "qemu+unix:///system?socket=", []string{"parameter socket", "no value"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, out, complaints := command(t, "-c", tt.uri, "list")
			assert.Equal(t, 1, code)
			assert.Empty(t, out)
			assert.Equal(t, 1, strings.Count(complaints, "\n"), complaints)
			for _, s := range tt.says {
				assert.Contains(t, complaints, s)
			}
		})
	}
}
