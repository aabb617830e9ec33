package cli_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

func defineAll(t *testing.T, uri string, names ...string) {
	t.Helper()
	for _, name := range names {
		code, _, err := invoke(t, fmt.Sprintf(`{"name": %q, "memory": "64MiB", "vcpus": 2}`, name), "-c", uri, "define", "-")
		require.Zero(t, code, err)
	}
}

func TestLife(t *testing.T) {
	_, uri := host(t)
	defineAll(t, uri, "web")
	state := func() string {
		var v struct{ State string }
		require.NoError(t, json.Unmarshal([]byte(must(t, "-c", uri, "info", "web", "-o", "json")), &v))
		return v.State
	}
	for _, step := range []struct{ cmd, says, state string }{
		{"start", "domain \"web\" started\n", "running"},
		{"suspend", "domain \"web\" suspended\n", "paused"},
		{"resume", "domain \"web\" resumed\n", "running"},
		{"reboot", "domain \"web\" was asked to reboot\n", "running"},
		{"shutdown", "domain \"web\" was asked to shut down\n", "shutoff"},
		{"start", "domain \"web\" started\n", "running"},
		{"destroy", "domain \"web\" destroyed\n", "shutoff"},
	} {
		require.Equal(t, step.says, must(t, "-c", uri, step.cmd, "web"))
		require.Equal(t, step.state, state(), "after %s", step.cmd)
	}
	require.Equal(t, "domain \"web\" undefined\n", must(t, "-c", uri, "undefine", "web"))
	code, out, err := invoke(t, "", "-c", uri, "info", "web")
	require.Equal(t, 1, code)
	require.Empty(t, out)
	require.Equal(t, "polyvisor: memtest: lookup \"web\": not found: no such domain; \"polyvisor list --all\" shows the domains there are\n", err)
}

func TestList(t *testing.T) {
	_, uri := host(t)
	require.Equal(t, "[]\n", must(t, "-c", uri, "list", "-o", "json"))
	defineAll(t, uri, "zebra", "ant", "cow")
	must(t, "-c", uri, "start", "cow")
	const head = "NAME    ID   STATE     VCPUS   MEMORY\n"
	for _, tc := range []struct {
		args []string
		want string
	}{
		{nil, "NAME   ID   STATE     VCPUS   MEMORY\ncow    1    running   2       64MiB\n"},
		{[]string{"--inactive"}, head + "ant     -    shutoff   2       64MiB\nzebra   -    shutoff   2       64MiB\n"},
		{[]string{"--all"}, head + "ant     -    shutoff   2       64MiB\ncow     1    running   2       64MiB\nzebra   -    shutoff   2       64MiB\n"},
	} {
		require.Equal(t, tc.want, must(t, append([]string{"-c", uri, "list"}, tc.args...)...), "%v", tc.args)
	}
	var views []map[string]any
	require.NoError(t, json.Unmarshal([]byte(must(t, "-c", uri, "list", "-a", "-o", "json")), &views))
	require.Len(t, views, 3)
	require.Equal(t, "cow", views[1]["name"])
	require.EqualValues(t, 1, views[1]["id"])
	require.EqualValues(t, -1, views[0]["id"])
}

// One domain that hangs does not hide the others.
func TestListHung(t *testing.T) {
	_, uri := host(t)
	defineAll(t, uri, "ant", "hung", "zebra")
	must(t, "-c", uri, "start", "zebra")
	code, out, err := invoke(t, "", "-c", uri, "list", "--all")
	require.Zero(t, code)
	require.Equal(t, "NAME    ID   STATE      VCPUS   MEMORY\nant     -    shutoff    2       64MiB\nhung    -    no state   0       0B\nzebra   1    running    2       64MiB\n", out)
	require.Contains(t, err, "domain \"hung\" does not tell its state")
	_, out, _ = invoke(t, "", "__complete", "-c", uri, "start", "")
	require.Equal(t, "ant\tshutoff\n:4\n", out)
}

// What a listing leaves out it says, in a line for each, beside what it prints.
func TestListWarnings(t *testing.T) {
	h, uri := host(t)
	defineAll(t, uri, "ant")
	want := [2]string{must(t, "-c", uri, "list", "-a"), must(t, "-c", uri, "list", "-a", "-o", "json")}
	h.damaged = []string{"/x/a.json", "/x/\x1b[31mb.json"}
	for i, format := range []string{"table", "json"} {
		code, out, err := invoke(t, "", "-c", uri, "list", "-a", "-o", format)
		require.Zero(t, code)
		require.Equal(t, want[i], out)
		require.Equal(t, "polyvisor: warning: left out of the list, file: /x/a.json, error: damaged; restore it\n"+
			"polyvisor: warning: left out of the list, file: /x/ [31mb.json, error: damaged; restore it\n", err)
	}
	_, out, err := invoke(t, "", "-v", "-c", uri, "list", "-a")
	require.Equal(t, want[0], out)
	require.Contains(t, err, "level=WARN msg=\"left out of the list\"")
	_, out, err = invoke(t, "", "__complete", "-c", uri, "start", "")
	require.Equal(t, "ant\tshutoff\n:4\n", out)
	require.NotContains(t, err, "damaged")
}

func TestInfo(t *testing.T) {
	_, uri := host(t)
	defineAll(t, uri, "web")
	id := uuid.MustParse(func() string {
		var c polyvisor.Config
		require.NoError(t, json.Unmarshal([]byte(must(t, "-c", uri, "config", "web")), &c))
		return c.UUID.String()
	}())
	must(t, "-c", uri, "start", "web")

	// One domain by its name, its UUID and its ID.
	byName := must(t, "-c", uri, "info", "web", "-o", "json")
	require.Equal(t, byName, must(t, "-c", uri, "info", id.String(), "-o", "json"))
	require.Equal(t, byName, must(t, "-c", uri, "info", "1", "-o", "json"))
	var running map[string]any
	require.NoError(t, json.Unmarshal([]byte(byName), &running))
	require.Equal(t, map[string]any{
		"name": "web", "uuid": id.String(), "state": "running", "id": 1., "persistent": true,
		"max_memory": 67108864., "memory": 67108864., "vcpus": 2., "cpu_time_ns": 1.5e9,
	}, running)

	must(t, "-c", uri, "destroy", "web")
	var stopped struct {
		State    string
		ID       int
		LastStop polyvisor.Stop `json:"last_stop"`
	}
	require.NoError(t, json.Unmarshal([]byte(must(t, "-c", uri, "info", "web", "-o", "json")), &stopped))
	require.Equal(t, "shutoff", stopped.State)
	require.Equal(t, polyvisor.StopKilled, stopped.LastStop.Reason)
	table := must(t, "-c", uri, "info", "web")
	for _, line := range []string{"Name:         web\n", "State:        shutoff\n", "Persistent:   yes\n", "Memory:       64MiB\n", "Last stop:    killed ("} {
		require.Contains(t, table, line)
	}
}

// A name comes before a number or a UUID that reads the same.
func TestNameBeforeID(t *testing.T) {
	_, uri := host(t)
	defineAll(t, uri, "first", "1")
	must(t, "-c", uri, "start", "first")
	require.Contains(t, must(t, "-c", uri, "info", "1"), "State:        shutoff")
}

func TestDefine(t *testing.T) {
	_, uri := host(t)
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	good := file("good.json", `{"name": "good", "boot": {"kernel": "vmlinuz", "initrd": "/abs/initrd"}, "console": {"log": "../log"}}`)
	require.Equal(t, "domain \"good\" defined\n", must(t, "-c", uri, "define", good))
	printed := must(t, "-c", uri, "config", "good")
	config, err := polyvisor.ParseConfig([]byte(printed))
	require.NoError(t, err)
	require.Equal(t, filepath.Join(dir, "vmlinuz"), config.Boot.Kernel.Path, "relative to the file")
	require.Equal(t, "/abs/initrd", config.Boot.Initrd.Path)
	require.Equal(t, filepath.Join(filepath.Dir(dir), "log"), config.Console.Log)
	require.Equal(t, printed, must(t, "-c", uri, "dumpconfig", "good"))

	// What config prints define takes, also over itself.
	require.NoError(t, os.WriteFile(good, []byte(printed), 0o600))
	must(t, "-c", uri, "define", good)
	require.Equal(t, printed, must(t, "-c", uri, "config", "good"))

	for _, tc := range []struct{ name, file, want string }{
		{"missing", filepath.Join(dir, "none.json"), "none.json: no such file or directory; name a file in JSON or XML, or - for standard input; "},
		{"neither JSON nor XML", file("a.json", "name: x"), "invalid character 'a'"},
		{"XML without a name", file("a.xml", "<domain/>"), "every domain needs a name"},
		{"unknown element", file("b.xml", "<domain><name>x</name>\n<devices><sound/></devices></domain>"), "line 2: domain/devices/sound: is not supported"},
		{"broken XML", file("c.xml", "\n<domain>"), "line 2: not well-formed"},
		{"unknown field", file("b.json", `{"name": "x", "memry": 1}`), `unknown field "memry"`},
		{"two objects", file("c.json", `{"name": "x"}{}`), "more data after"},
		{"all problems at once", file("d.json", `{"name": "a/b", "vcpus": -1}`), "slash; vcpus: -1 is negative"},
		{"too many vCPUs", file("e.json", `{"name": "x", "vcpus": 9}`), "vcpus: 9, the host allows at most 8"},
		{"too big", file("f.json", strings.Repeat(" ", 4<<20)+`{"name": "x"}`), "more than 4MiB; is it the right file?"},
		{"a directory", dir, "is a directory; name a file in JSON or XML"},
		{"name taken", file("g.json", `{"name": "good"}`), "exists already: domain \"good\"; choose another name, or remove"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code, out, err := invoke(t, "", "-c", uri, "define", tc.file)
			require.Equal(t, 1, code)
			require.Empty(t, out)
			require.Contains(t, err, tc.want)
			require.Equal(t, 1, strings.Count(err, "\n"), "one line: %q", err)
		})
	}
	require.Equal(t, printed, must(t, "-c", uri, "config", "good"), "nothing was changed")
}

func TestUndefineDestroy(t *testing.T) {
	h, uri := host(t)
	defineAll(t, uri, "web")
	must(t, "-c", uri, "start", "web")
	must(t, "-c", uri, "undefine", "web")
	require.Contains(t, must(t, "-c", uri, "info", "web"), "Persistent:   no", "it runs on as a transient one")
	require.Equal(t, "domain \"web\" removed\n", must(t, "-c", uri, "undefine", "--destroy", "web"))
	require.Empty(t, h.domains)
}

func TestWait(t *testing.T) {
	h, uri := host(t)
	defineAll(t, uri, "web")
	code, _, err := invoke(t, "", "-c", uri, "wait", "web")
	require.Equal(t, 1, code)
	require.Contains(t, err, "never run")

	for _, tc := range []struct {
		reason polyvisor.StopReason
		code   int
	}{
		{polyvisor.StopShutdown, 0}, {polyvisor.StopUnrecognised, 10}, {polyvisor.StopServiceDied, 11},
		{polyvisor.StopInfrastructureError, 12}, {polyvisor.StopKilled, 13}, {polyvisor.StopUnknown, 14},
		{polyvisor.StopStartFailed, 16}, {polyvisor.StopReboot, 17}, {polyvisor.StopCrash, 18},
		{polyvisor.StopFirmwareKeyMismatch, 19}, {polyvisor.StopFirmwareImageChanged, 20}, {polyvisor.StopHangup, 21},
		{polyvisor.StopReason(99), 10},
	} {
		must(t, "-c", uri, "start", "web")
		dom := only(h)
		waiter := begin(t, "-c", uri, "wait", "web")
		dom.finish(dom.current(), tc.reason, "because")
		require.Equal(t, tc.code, waiter.end(), tc.reason)
		require.Equal(t, tc.reason.String()+": because\n", waiter.out.String())
		// Those who come late are told the same.
		code, out, _ := invoke(t, "", "-c", uri, "wait", "-o", "json", "web")
		require.Equal(t, tc.code, code)
		var stop struct{ Reason, Detail string }
		if tc.reason < 99 {
			require.NoError(t, json.Unmarshal([]byte(out), &stop))
			require.Equal(t, tc.reason.String(), stop.Reason)
		}
	}
}

func only(h *memHost) *memDomain {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range h.domains {
		return d
	}
	return nil
}

func TestTimeouts(t *testing.T) {
	_, uri := host(t)
	code, _, _ := invoke(t, `{"name": "web", "boot": {"kernel": "/k", "cmdline": "stubborn"}}`, "-c", uri, "define", "-")
	require.Zero(t, code)
	must(t, "-c", uri, "start", "web")
	code, _, err := invoke(t, "", "-c", uri, "wait", "--timeout", "20ms", "web")
	require.Equal(t, 124, code)
	require.Equal(t, "polyvisor: domain \"web\" has not stopped within 20ms\n", err)
	code, _, err = invoke(t, "", "-c", uri, "shutdown", "--timeout", "20ms", "web")
	require.Equal(t, 124, code)
	require.Equal(t, "polyvisor: domain \"web\" has not stopped within 20ms; \"polyvisor destroy web\" insists\n", err)
	code, _, err = invoke(t, "", "-c", uri, "wait", "--timeout", "-1s", "web")
	require.Equal(t, 2, code)
	require.Contains(t, err, "negative")
}

func TestShutdownWait(t *testing.T) {
	h, uri := host(t)
	defineAll(t, uri, "web")
	must(t, "-c", uri, "start", "web")
	require.Equal(t, "shutdown\n", must(t, "-c", uri, "shutdown", "--wait", "web"))
	require.EqualValues(t, 1, only(h).current().asked.Load())
}

// A transient domain is gone with its end: who asks afterwards learns nothing.
func TestShutdownWaitsFromBefore(t *testing.T) {
	h, uri := host(t)
	h.waiting = make(chan struct{}, 1)
	must(t, "-c", uri, "run", "--rm", "--detach", "--name", "web")
	require.Equal(t, "shutdown\n", must(t, "-c", uri, "shutdown", "--wait", "web"))
	require.Empty(t, h.domains)

	// Nothing is left waiting when the guest could not be asked.
	h.waiting = nil
	defineAll(t, uri, "off")
	code, out, err := invoke(t, "", "-c", uri, "shutdown", "--wait", "off")
	require.Equal(t, 1, code)
	require.Empty(t, out)
	require.Contains(t, err, "start it first")
}
