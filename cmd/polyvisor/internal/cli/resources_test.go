package cli_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

func configOf(t *testing.T, uri, name string) *polyvisor.Config {
	t.Helper()
	c, err := polyvisor.ParseConfig([]byte(must(t, "-c", uri, "config", name)))
	require.NoError(t, err)
	return c
}

// steps runs command lines and compares what they print.
func steps(t *testing.T, uri string, list [][2]string) {
	t.Helper()
	for _, s := range list {
		require.Equal(t, s[1]+"\n", must(t, append([]string{"-c", uri}, strings.Fields(s[0])...)...), s[0])
	}
}

// failing runs command lines that fail with one line of error.
func failing(t *testing.T, uri string, list [][2]string) {
	t.Helper()
	for _, s := range list {
		code, out, err := invoke(t, "", append([]string{"-c", uri}, strings.Fields(s[0])...)...)
		require.Equal(t, 1, code, s[0])
		require.Empty(t, out)
		require.Contains(t, err, s[1], s[0])
		require.Equal(t, 1, strings.Count(err, "\n"), "one line: %q", err)
	}
}

func TestXML(t *testing.T) {
	_, uri := host(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "web.xml")
	require.NoError(t, os.WriteFile(file, []byte(`<?xml version='1.0'?>
<domain type='kvm'><name>web</name><memory unit='MiB'>64</memory><vcpu>2</vcpu>
<os><type>hvm</type><kernel>/k</kernel></os></domain>`), 0o600))
	require.Equal(t, "domain \"web\" defined\n", must(t, "-c", uri, "define", file))
	c := configOf(t, uri, "web")
	require.Equal(t, 64*polyvisor.MiB, int(c.Memory))
	require.Equal(t, "/k", c.Boot.Kernel.Path)

	// What dumpxml prints define takes, and it is the same domain.
	dump := must(t, "-c", uri, "dumpxml", "web")
	require.True(t, strings.HasPrefix(dump, "<domain type=\"memtest\">\n"), dump)
	require.True(t, strings.HasSuffix(dump, "</domain>\n"), dump)
	must(t, "-c", uri, "undefine", "web")
	code, _, msg := invoke(t, "\ufeff  "+dump, "-c", uri, "define", "-")
	require.Zero(t, code, msg)
	require.Equal(t, c, configOf(t, uri, "web"))
	must(t, "-c", uri, "undefine", "web")

	// Transient, and by run with flags that change it.
	require.Equal(t, "domain \"web\" created\n", must(t, "-c", uri, "create", "--paused", file))
	require.Contains(t, must(t, "-c", uri, "info", "web"), "State:        paused")
	require.Contains(t, must(t, "-c", uri, "info", "web"), "Persistent:   no")
	must(t, "-c", uri, "destroy", "web")
	code, _, msg = invoke(t, `{"name": "web"}`, "-c", uri, "create", "-")
	require.Zero(t, code, msg)
	require.Contains(t, must(t, "-c", uri, "info", "web"), "State:        running")
	must(t, "-c", uri, "destroy", "web")
	must(t, "-c", uri, "run", "--rm", "--detach", "--vcpus", "2", "--memory", "32MiB", file)
	c = configOf(t, uri, "web")
	require.Equal(t, 32*polyvisor.MiB, int(c.Memory))
	require.Equal(t, polyvisor.ActionDestroy, c.OnReboot)
	must(t, "-c", uri, "destroy", "web")
	code, _, msg = invoke(t, "<domain><name>web</name><devices><sound/></devices></domain>", "-c", uri, "run", "--rm", "-")
	require.Equal(t, 1, code)
	require.Contains(t, msg, "configuration -: domain XML: line 1: domain/devices/sound: is not supported\n")
}

func TestDevices(t *testing.T) {
	_, uri := host(t)
	defineAll(t, uri, "web")
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	disk := file("disk.xml", "<disk type='file'><source file='/a'/><target dev='vda'/></disk>")
	readOnly := file("ro.xml", "<disk type='file'><source file='/b'/><target dev='vda'/><readonly/></disk>")
	share := file("share.json", `{"share": {"tag": "src", "source": "src"}}`)
	relative := file("disk.json", `{"disk": {"target": "vdb", "source": "b.img", "format": "qcow2"}}`)
	nic := file("nic.json", `{"nic": {"mac": "52:54:00:00:00:01"}}`)
	rng := file("rng.json", `{"rng": {}}`)
	steps(t, uri, [][2]string{
		{"attach-device web " + disk, "domain \"web\" has its device attached"},
		{"attach-device web " + share, "domain \"web\" has its device attached"},
		{"attach-device web " + relative, "domain \"web\" has its device attached"},
		{"attach-device web " + nic, "domain \"web\" has its device attached"},
		{"attach-device web " + rng, "domain \"web\" has its device attached"},
		{"update-device web " + readOnly, "domain \"web\" has its device updated"},
	})
	failing(t, uri, [][2]string{
		{"attach-device web " + disk, "exists already: device vda; \"polyvisor update-device\" changes the one there is"},
		{"attach-device web " + file("a.json", "{}"), "want one device, such as"},
		{"attach-device web " + file("b.json", `{"rng": {}, "nic": {}}`), "want one device, such as"},
		{"attach-device web " + file("c.json", `{"sound": {}}`), `unknown field "sound"`},
		{"attach-device web " + file("d.json", `{"rng": {}} 1`), "more data after"},
		{"attach-device web " + file("g.json", `{"nic": {"mac": "x"}}`), "g.json: invalid configuration: MAC address \"x\""},
		{"attach-device web " + file("h.json", "{\"rng\": {\"source\": \"\xff\"}}"), "h.json: invalid configuration: byte 0xff at offset 20 is not UTF-8"},
		{"define " + file("i.json", "{\"name\":\"\xff\xfe\"}"), "i.json: invalid configuration: byte 0xff at offset 9 is not UTF-8"},
		{"attach-device web " + file("a.xml", "<sound/>"), "sound: is not supported; disk, interface"},
		{"attach-device web " + filepath.Join(dir, "none"), "no such file"},
		{"detach-device web " + file("e.json", `{"disk": {"source": "x"}}`), "which one? name it by its target"},
		{"detach-device web " + file("f.json", `{"disk": {"target": "vdz", "source": "x"}}`), "not found: device vdz"},
	})
	c := configOf(t, uri, "web")
	require.Equal(t, []polyvisor.Disk{
		{Target: "vda", Source: polyvisor.Path("/b"), Format: polyvisor.FormatRaw, Mode: polyvisor.DeviceReadOnly},
		{Target: "vdb", Source: polyvisor.Path(filepath.Join(dir, "b.img")), Format: polyvisor.FormatQCOW2},
	}, c.Disks)
	require.Equal(t, []polyvisor.Share{{Tag: "src", Source: filepath.Join(dir, "src")}}, c.Shares)
	require.Equal(t, "52:54:00:00:00:01", c.NICs[0].MAC.String())
	require.NotNil(t, c.RNG)
	for _, f := range []string{disk, share, relative, nic, rng} {
		must(t, "-c", uri, "detach-device", "web", f)
	}
	require.Empty(t, configOf(t, uri, "web").Devices())
}

func TestResources(t *testing.T) {
	_, uri := host(t)
	defineAll(t, uri, "web")
	steps(t, uri, [][2]string{
		{"setmaxmem web 1GiB", `domain "web" has its maximum of memory set to 1GiB`},
		{"setmem web 512MiB", `domain "web" has its memory set to 512MiB`},
		{"setvcpus web 4", `domain "web" has its vCPUs set to 4`},
		{"vcpupin web 1 0-3,^2", `domain "web" has vCPU 1 bound to CPUs 0-1,3`},
		{"vcpuconfig web 1 --weight 200", `domain "web" has vCPU 1 configured`},
		{"vcpuconfig web 0 --affinity 5", `domain "web" has vCPU 0 configured`},
		{"autostart web", `domain "web" is started with the host`},
		{"labels web tier=front owner=me", `domain "web" labelled`},
		{"labels web owner- empty=", `domain "web" labelled`},
	})
	c := configOf(t, uri, "web")
	require.Equal(t, polyvisor.Bytes(512*polyvisor.MiB), c.Memory)
	require.Equal(t, polyvisor.Bytes(polyvisor.GiB), c.MaxMemory)
	require.Equal(t, 4, c.VCPUs)
	require.Equal(t, []polyvisor.VCPUConfig{
		{Number: 0, Affinity: polyvisor.CPUs(5)}, {Number: 1, Affinity: polyvisor.CPUs(0, 1, 3), Weight: 200}}, c.VCPU)
	require.True(t, c.Autostart)
	require.Equal(t, map[string]string{"tier": "front", "empty": ""}, c.Labels)
	require.Equal(t, "LABEL   VALUE\nempty   \ntier    front\n", must(t, "-c", uri, "labels", "web"))
	require.JSONEq(t, `{"empty": "", "tier": "front"}`, must(t, "-c", uri, "labels", "web", "-o", "json"))

	defineAll(t, uri, "other")
	require.Equal(t, "{}\n", must(t, "-c", uri, "labels", "other", "-o", "json"))
	require.NotContains(t, must(t, "-c", uri, "list", "--all", "--label", "tier=front"), "other")
	require.Contains(t, must(t, "-c", uri, "list", "--all", "--label", "tier=front"), "web")
	failing(t, uri, [][2]string{
		{"setmem web 2GiB", "memory: 2GiB is more than the maximum, 1GiB"},
		{"setvcpus web 9", "vcpus: 9, the host allows at most 8"},
		{"vcpupin web 4 0", "the domain has 0 to 3"},
		{"domrename web other", "exists already: domain \"other\"; choose another name"},
		{"labels web a=b ?=c", "labels: key \"?\""},
	})
	steps(t, uri, [][2]string{
		{"autostart --disable web", `domain "web" is not started with the host`},
		{"domrename web www", `domain "web" renamed to "www"`},
		{"setmem www 0", `domain "www" has its memory set to 0B`},
	})
	failing(t, uri, [][2]string{{"start www", "the domain has no memory"}})
	must(t, "-c", uri, "setmem", "www", "64MiB")

	require.Equal(t, "VCPU   STATE     CPU TIME   CPU   AFFINITY\n0      offline   0s         -     5\n1      offline   0s         -     0-1,3\n"+
		"2      offline   0s         -     all\n3      offline   0s         -     all\n", must(t, "-c", uri, "vcpuinfo", "www"))
	must(t, "-c", uri, "start", "--paused", "www")
	require.Contains(t, must(t, "-c", uri, "info", "www"), "State:        paused")
	failing(t, uri, [][2]string{{"setmaxmem www 2GiB", "set max memory needs it shutoff"}, {"domrename www web", "rename needs it shutoff"}})
	var vcpus []polyvisor.VCPU
	require.NoError(t, json.Unmarshal([]byte(must(t, "-c", uri, "vcpuinfo", "www", "-o", "json")), &vcpus))
	require.Equal(t, polyvisor.VCPURunning, vcpus[3].State)
	require.Equal(t, polyvisor.CPUs(5), vcpus[0].Affinity)
}

func TestStats(t *testing.T) {
	_, uri := host(t)
	require.Equal(t, "[]\n", must(t, "-c", uri, "domstats", "-o", "json"))
	defineAll(t, uri, "ant")
	code, _, msg := invoke(t, `{"name": "bee", "memory": "64MiB", "labels": {"a": "b"}, "disks": [{"source": "/d"}]}`, "-c", uri, "define", "-")
	require.Zero(t, code, msg)
	must(t, "-c", uri, "start", "bee")
	const head = "NAME   STATE     VCPUS   CPU TIME   MEMORY   DISK READ   DISK WRITTEN   RECEIVED   SENT\n"
	const bee = "bee    running   1       1.5s       64MiB    4KiB        1MiB           0B         0B\n"
	const ant = "ant    shutoff   2       1.5s       64MiB    0B          0B             0B         0B\n"
	for args, want := range map[string]string{"": bee, "--all": ant + bee, "--all --label a=b": bee, "ant": ant, "bee ant": bee + ant} {
		require.Equal(t, head+want, must(t, append([]string{"-c", uri, "domstats"}, strings.Fields(args)...)...), args)
	}
	var list []polyvisor.Stats
	require.NoError(t, json.Unmarshal([]byte(must(t, "-c", uri, "domstats", "-o", "json")), &list))
	require.Len(t, list, 1)
	require.Equal(t, "vda", list[0].Disks[0].Target)
	failing(t, uri, [][2]string{{"domstats nosuch", "not found"}})
}

func TestSaved(t *testing.T) {
	h, uri := host(t)
	dir := t.TempDir()
	t.Chdir(dir)
	defineAll(t, uri, "web")
	failing(t, uri, [][2]string{{"save web a", "save needs it running"}})
	must(t, "-c", uri, "start", "web")
	saved, core := filepath.Join(dir, "web.saved"), filepath.Join(dir, "web.core")
	steps(t, uri, [][2]string{
		{"dump web web.core", fmt.Sprintf("domain \"web\" dumped to %s", core)},
		{"save web web.saved", fmt.Sprintf("domain \"web\" saved to %s", saved)},
	})
	require.FileExists(t, core)
	require.Equal(t, polyvisor.Shutoff, only(h).now())
	steps(t, uri, [][2]string{{"restore --paused web.saved", "domain \"web\" restored"}})
	require.Equal(t, polyvisor.Paused, only(h).now())
	failing(t, uri, [][2]string{
		{"save web web.saved", "file exists; choose another file"},
		{"dump web web.core", "file exists; choose another file"},
		{"restore none", "not found"},
	})
}

func TestEvent(t *testing.T) {
	_, uri := host(t)
	defineAll(t, uri, "web", "other")
	one := begin(t, "-c", uri, "event", "web", "--count", "2", "-o", "json")
	all := begin(t, "-c", uri, "event")
	one.err.expect(t, "following events")
	all.err.expect(t, "following events")
	must(t, "-c", uri, "start", "other")
	must(t, "-c", uri, "start", "web")
	must(t, "-c", uri, "destroy", "web")
	require.Zero(t, one.end())
	dec := json.NewDecoder(strings.NewReader(one.out.String()))
	var started, stopped polyvisor.Event
	require.NoError(t, dec.Decode(&started))
	require.NoError(t, dec.Decode(&stopped))
	require.Equal(t, polyvisor.EventStarted, started.Type)
	require.Equal(t, "web", started.Name)
	require.Equal(t, polyvisor.EventStopped, stopped.Type)
	require.Equal(t, polyvisor.StopKilled, stopped.Stop.Reason)
	all.out.expect(t, " started \"other\" running\n")
	all.out.expect(t, " stopped \"web\" shutoff: killed\n")
	code, out, err := invoke(t, "", "-c", uri, "event", "--timeout", "20ms")
	require.Equal(t, 124, code)
	require.Empty(t, out)
	require.Contains(t, err, "0 events within 20ms")
}
