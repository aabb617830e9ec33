package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

func TestNodeInfo(t *testing.T) {
	_, uri := host(t)
	require.Equal(t, `Hostname:           memhost
CPU model:          a model
CPUs:               11
CPU frequency:      1800 MHz
NUMA cells:         1
Sockets per cell:   2
Cores per socket:   3
Threads per core:   2
Memory:             4GiB
`, must(t, "-c", uri, "nodeinfo"))
	require.JSONEq(t, `{"hostname": "memhost", "model": "a model", "memory": 4294967296, "cpus": 11, "mhz": 1800,
		"numa_nodes": 1, "sockets": 2, "cores": 3, "threads": 2}`, must(t, "-c", uri, "nodeinfo", "-o", "json"))
	require.Equal(t, "memhost\n", must(t, "-c", uri, "hostname"))
	require.JSONEq(t, `{"hostname": "memhost"}`, must(t, "-c", uri, "hostname", "-o", "json"))
}

func TestIdentity(t *testing.T) {
	_, uri := host(t)
	defineAll(t, uri, "other", "web")
	var c polyvisor.Config
	require.NoError(t, json.Unmarshal([]byte(must(t, "-c", uri, "config", "web")), &c))
	id := c.UUID.String()
	check := func(verb, name, text, json string) {
		t.Helper()
		require.Equal(t, text+"\n", must(t, "-c", uri, verb, name), verb)
		require.JSONEq(t, json, must(t, "-c", uri, verb, name, "-o", "json"), verb)
	}
	check("domid", "web", "-", `{"id": -1}`)
	check("domstate", "web", "shutoff", `{"state": "shutoff"}`)
	check("domuuid", "web", id, `{"uuid": "`+id+`"}`)
	must(t, "-c", uri, "start", "web")
	check("domid", id, "1", `{"id": 1}`)
	check("domstate", "1", "running", `{"state": "running"}`)
	check("domname", id, "web", `{"name": "web"}`)
	check("domname", "1", "web", `{"name": "web"}`)
	must(t, "-c", uri, "suspend", "web")
	check("domstate", "web", "paused", `{"state": "paused"}`)
	require.Equal(t, must(t, "-c", uri, "info", "web"), must(t, "-c", uri, "dominfo", "web"))
	for _, verb := range []string{"domid", "domname", "domstate", "domuuid"} {
		failing(t, uri, [][2]string{{verb + " nosuch", "not found"}})
	}
}

func TestEarly(t *testing.T) {
	h, uri := host(t)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "net.xml"), []byte("<domain><name>net</name></domain>"), 0o600))
	defineAll(t, uri, "other")

	// A shell that completes names defines nothing.
	_, out, _ := invoke(t, "", "__complete", "-c", uri, "--early", dir, "start", "")
	require.Equal(t, "other\tshutoff\n:4\n", out)
	require.Len(t, h.domains, 1)
	_, out, _ = invoke(t, "", "__complete", "--early", "")
	require.Equal(t, ":16\n", out, "directories")

	require.Equal(t, "domain \"net\" started\n", must(t, "-c", uri, "--early", dir, "start", "net"))
	require.Equal(t, "running\n", must(t, "-c", uri, "domstate", "net"))
	for args, want := range map[string]string{
		"undefine net": "an early connection runs the domains of its directory, as they are described there, and changes nothing else; use another connection; leave --early out\n",
		"start other":  "leave --early out\n",
	} {
		failing(t, uri, [][2]string{{"--early " + dir + " " + args, want}})
	}
	require.Equal(t, "shutoff\n", must(t, "-c", uri, "domstate", "other"))
	require.Equal(t, "domain \"net\" destroyed\n", must(t, "-c", uri, "--early", dir, "destroy", "net"))
	failing(t, uri, [][2]string{{"--early " + dir + "/none list", "directory of early domains"}})
}
