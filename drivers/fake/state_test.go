package fake

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

const stateText = `{"version": 1,
 "node": {"hostname": "h1", "model": "m", "cpus": 16, "memory": 34359738368, "mhz": 1000, "numa_nodes": 1, "sockets": 1, "cores": 16, "threads": 1},
 "domains": [
  {"config": {"name": "web"}, "state": "running"},
  {"config": {"name": "db", "autostart": true}},
  {"config": {"name": "old"}, "state": "crashed"},
  {"config": {"name": "idle"}},
  {"config": {"name": "job"}, "state": "paused", "transient": true}]}`

func TestStateFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	require.NoError(t, os.WriteFile(path, []byte(stateText), 0o600))
	uri := "fake:///" + filepath.Base(t.TempDir()) + t.Name()
	defer Forget(strings.TrimPrefix(uri, "fake:///"))
	conn, err := polyvisor.Open(t.Context(), uri+"?state="+path)
	require.NoError(t, err)
	defer conn.Close()
	states := func(conn *polyvisor.Conn) map[string]polyvisor.State {
		list, err := conn.Domains(t.Context(), polyvisor.DomainFilter{})
		require.NoError(t, err)
		got := make(map[string]polyvisor.State)
		for _, d := range list {
			got[d.Name()], err = d.State(t.Context())
			require.NoError(t, err)
		}
		return got
	}
	want := map[string]polyvisor.State{"web": polyvisor.Running, "db": polyvisor.Running, "old": polyvisor.Crashed, "idle": polyvisor.Shutoff, "job": polyvisor.Paused}
	require.Equal(t, want, states(conn))
	node, err := conn.Node(t.Context())
	require.NoError(t, err)
	require.Equal(t, "h1", node.Hostname)
	again, err := polyvisor.Open(t.Context(), uri)
	require.NoError(t, err)
	defer again.Close()
	require.Equal(t, want, states(again), "the same hypervisor")
	_, err = polyvisor.Open(t.Context(), uri+"?state=/another")
	require.ErrorIs(t, err, polyvisor.ErrBusy)

	h := Named(strings.TrimPrefix(uri, "fake:///"))
	var dump bytes.Buffer
	require.NoError(t, h.Dump(&dump))
	h2, conn2 := private(t, Options{})
	require.NoError(t, h2.Load(bytes.NewReader(dump.Bytes())))
	require.Equal(t, want, states(conn2))

	h.RestartHost()
	delete(want, "job")
	want["web"] = polyvisor.Shutoff
	require.Equal(t, want, states(conn))
}

func TestBadState(t *testing.T) {
	for text, want := range map[string]string{
		``:                    "EOF",
		`null`:                "null",
		`{}`:                  "version 0",
		`{"version":2}`:       "version 2",
		`{"version":1,"x":1}`: "unknown field",
		"{\"version\":1,\"domains\":[{\"config\":{\"name\":\"\xff\"}}]}":         "byte 0xff at offset 43 is not UTF-8",
		`{"version":1,"domains":[{"config":{"name":"a","nics":[{"mac":"x"}]}}]}`: `MAC address "x"`,
		`{"version":1} 2`:                                                           "more data",
		`{"version":1,"domains":[{}]}`:                                              "no config",
		`{"version":1,"node":{}}`:                                                   "node",
		`{"version":1,"domains":[{"config":{"name":"a/b"}}]}`:                       "slash",
		`{"version":1,"domains":[{"config":{"name":"a","memory":4096}}]}`:           "out of bounds",
		`{"version":1,"domains":[{"config":{"name":"a"},"state":"in shutdown"}]}`:   "cannot begin",
		`{"version":1,"domains":[{"config":{"name":"a"},"transient":true}]}`:        "transient",
		`{"version":1,"domains":[{"config":{"name":"a"}},{"config":{"name":"a"}}]}`: "twice",
	} {
		h := New(Options{})
		err := h.Load(strings.NewReader(text))
		require.ErrorIs(t, err, polyvisor.ErrInvalidConfig, text)
		require.ErrorContains(t, err, want, text)
		require.Equal(t, 1, strings.Count(err.Error(), polyvisor.ErrInvalidConfig.Error()), "%v", err)
		require.Empty(t, h.byName)
	}
}

func FuzzState(f *testing.F) {
	f.Add([]byte(stateText))
	f.Add([]byte(`{"version":1,"domains":[{"config":{"name":"a","vcpus":64,"boot":{"cmdline":"auto=crash"},"on_crash":"rename-restart"},"state":"running"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseState(data)
		if err != nil || len(s.Domains) > 50 {
			return
		}
		h := New(Options{})
		defer h.Close()
		for i := range s.Domains {
			if hasFiles(s.Domains[i].Config) {
				return // of this host
			}
		}
		if err := h.Load(bytes.NewReader(data)); err != nil {
			t.Logf("%v", err) // two domains may want the same vsock address
			return
		}
		var dump bytes.Buffer
		require.NoError(t, h.Dump(&dump))
		_, err = parseState(dump.Bytes())
		require.NoError(t, err, fmt.Sprintf("%s", dump.Bytes()))
	})
}
