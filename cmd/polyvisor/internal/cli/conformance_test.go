package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/cmd/polyvisor/internal/cli"
	"github.com/polyvisor/polyvisor/conformance"
	"github.com/polyvisor/polyvisor/drivers/fake"
)

// report is what docs/cli.md says of the JSON.
type report struct {
	URI   string `json:"uri"`
	Cases []struct {
		Name    string   `json:"name"`
		Feature string   `json:"feature"`
		Status  string   `json:"status"`
		Reason  string   `json:"reason"`
		Seconds *float64 `json:"seconds"`
	} `json:"cases"`
	Passed  int `json:"passed"`
	Failed  int `json:"failed"`
	Skipped int `json:"skipped"`
}

func parseReport(t *testing.T, text string) report {
	t.Helper()
	var r report
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	require.NoError(t, dec.Decode(&r), text)
	return r
}

func fakeURI(t *testing.T, params string) string {
	t.Cleanup(func() { fake.Forget(t.Name()) })
	return "fake:///" + t.Name() + params
}

// The fake driver passes every case; none is skipped.
func TestConformanceCommand(t *testing.T) {
	// As the program does it: the suite leaves out states that no word brings about.
	cli.Harnesses["fake"] = func(_ *polyvisor.URI, h *conformance.Harness) {
		h.Guest.Block, h.Guest.Linger = "block", "button hold"
	}
	t.Cleanup(func() { delete(cli.Harnesses, "fake") })
	r := parseReport(t, must(t, "conformance", fakeURI(t, ""), "--json"))
	require.Equal(t, fakeURI(t, ""), r.URI)
	require.Len(t, r.Cases, len(conformance.Cases()))
	require.Equal(t, []int{len(r.Cases), 0, 0}, []int{r.Passed, r.Failed, r.Skipped})
	for _, c := range r.Cases {
		require.Equal(t, "passed", c.Status, c.Name)
		require.NotNil(t, c.Seconds)
	}
}

func TestConformanceTable(t *testing.T) {
	out := must(t, "conformance", fakeURI(t, ""), "--run", "^life/(remove|destroy)$")
	require.Regexp(t, `(?m)^passed   life/destroy +[0-9.]+s$`, out)
	require.Contains(t, out, "2 cases run on fake:///TestConformanceTable: 2 passed, 0 failed, 0 skipped\n")
}

// A failure is told with its reason, and by the exit code.
func TestConformanceFailure(t *testing.T) {
	uri := fakeURI(t, "?fault=destroy:1:busy")
	if code, _, err := invoke(t, "", "-c", uri, "list"); code != 0 {
		t.Fatalf("the fault is not understood: %s", err)
	}
	code, out, err := invoke(t, "", "conformance", uri, "--run", "^life/destroy$", "--json")
	require.Equal(t, 1, code, err)
	r := parseReport(t, out)
	require.Equal(t, 1, r.Failed)
	require.Contains(t, r.Cases[0].Reason, "destroy: ")
	require.Contains(t, err, "1 of 1 cases failed")
}

func TestConformanceUsage(t *testing.T) {
	uri := fakeURI(t, "")
	file := filepath.Join(t.TempDir(), "guest.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"memory": "32MiB"}`), 0o600))
	require.Contains(t, must(t, "conformance", uri, "--config", file, "--run", "^life/persistent$"), "1 passed")
	for args, want := range map[string]struct {
		code int
		text string
	}{
		"conformance":                                     {2, "want the URI of a hypervisor"},
		"conformance " + uri + " --run (":                 {2, "--run: "},
		"conformance " + uri + " --run nosuchcase":        {2, "no case has such a name"},
		"conformance " + uri + " --timeout 0s":            {2, "--timeout 0s"},
		"-r conformance " + uri:                           {2, "leave --readonly out"},
		"--early /d conformance " + uri:                   {2, "leave --early out"},
		"conformance --readonly " + uri:                   {2, "leave --readonly out"},
		"conformance nosuch:///x":                         {1, "no driver for nosuch://"},
		"conformance " + uri + " --config " + file + ".x": {1, "no such file"},
	} {
		code, out, err := invoke(t, "", strings.Fields(args)...)
		require.Equal(t, want.code, code, "%s: %s", args, err)
		require.Empty(t, out, args)
		require.Contains(t, err, want.text)
	}
}
