package domainxml_test

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/domainxml"
)

// tool runs a program of libvirt's and gives its output.
func tool(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "XDG_CACHE_HOME="+t.TempDir())
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func needTool(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("needs %s (Debian: libvirt-clients, libxml2-utils)", name)
		}
	}
}

// forLibvirt is the Config in words that libvirt's schema admits: its names are
// more than the schema's patterns for paths and titles.
func forLibvirt(r *rand.Rand) *polyvisor.Config {
	c := random(r)
	c.Name, c.Title = "web", "a title"
	for _, f := range c.Files() {
		f.File.Path = "/path/of/" + f.Field
	}
	if c.Console.Log != "" {
		c.Console.Log = "/log"
	}
	for i := range c.Disks {
		c.Disks[i].Serial, c.Disks[i].Target = "SN-1", ""
	}
	for i := range c.NICs {
		if c.NICs[i].Source != "" {
			c.NICs[i].Source = "br0"
		}
	}
	for i := range c.Shares {
		c.Shares[i].Source = "/srv"
	}
	if c.RNG != nil {
		c.RNG.Source = "/dev/random"
		c.RNG.BytesPerSecond %= 1 << 31
	}
	return c
}

// What Format writes is valid by libvirt's schema.
func TestSchema(t *testing.T) {
	needTool(t, "virt-xml-validate", "xmllint")
	dir := t.TempDir()
	check := func(name string, c *polyvisor.Config) {
		text, err := domainxml.Format(c, domainxml.Options{})
		require.NoError(t, err)
		file := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		out, err := tool(t, "virt-xml-validate", file, "domain")
		require.NoError(t, err, "%s\n%s", out, text)
	}
	c := full()
	c.Title = "web"
	check("full.xml", c)
	check("least.xml", &polyvisor.Config{Name: "web"})
	check("rng.xml", &polyvisor.Config{Name: "web", RNG: &polyvisor.RNG{}})
	r := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		check("random.xml", forLibvirt(r))
	}
	file := filepath.Join(dir, "wrong.xml")
	require.NoError(t, os.WriteFile(file, []byte(`<domain type="kvm"><name>web</name><memroy>1</memroy></domain>`), 0o600))
	_, err := tool(t, "virt-xml-validate", file, "domain")
	require.Error(t, err, "the validator tells right from wrong")
}

// libvirt itself, with its driver for tests, reads what Format writes, and what
// it writes then is the same Config with its own additions.
func TestLibvirtKeeps(t *testing.T) {
	needTool(t, "virsh")
	if out, err := tool(t, "virsh", "-c", "test:///default", "version"); err != nil {
		t.Skipf("needs libvirt's test driver: %s", out)
	}
	configs := []*polyvisor.Config{full(), {Name: "least"}}
	// What libvirt once turned into something else, alone and beside what XML cannot hold.
	for _, text := range []string{"a\rb", "\r", "a\r\n\x01\ufffe "} {
		configs = append(configs, &polyvisor.Config{Name: "web", Boot: polyvisor.Boot{Kernel: polyvisor.Path("/kernel"), CommandLine: text}})
	}
	configs = append(configs, &polyvisor.Config{Name: "web", Boot: polyvisor.Boot{Kernel: polyvisor.Path("/kernel")},
		NICs: []polyvisor.NIC{{}, {Queues: 1}, {Queues: 1, HostLoopback: true}, {Network: polyvisor.NetworkBridge, Source: "br0", Queues: 2}}})
	r := rand.New(rand.NewPCG(3, 4))
	for range 10 {
		configs = append(configs, forLibvirt(r))
	}
	for _, c := range configs {
		c = withDefaults(c)
		for i := range c.NICs {
			c.NICs[i].Forwards = nil // not every libvirt of a host knows passt; TestFull has the form
		}
		if c.Memory == 0 {
			continue // libvirt reads it as all of it
		}
		if c.Boot.IsZero() {
			c.Disks = nil // libvirt adds that they boot, and Parse refuses that
		}
		text, err := domainxml.Format(c, domainxml.Options{Type: "test", Arch: "amd64"})
		require.NoError(t, err)
		file := filepath.Join(t.TempDir(), "domain.xml")
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		out, err := tool(t, "virsh", "-q", "-c", "test:///default", "define "+file+"; dumpxml --inactive "+c.UUID.String())
		require.NoError(t, err, "%s\n%s", out, text)
		_, dump, ok := strings.Cut(out, "<domain ")
		require.True(t, ok, out)
		got, err := domainxml.Parse("<domain " + dump)
		require.NoError(t, err, out)
		require.Equal(t, c, got, out)
	}
}
