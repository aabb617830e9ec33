package polyvisor_test

import (
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/hashicorp/go-multierror"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

// fullConfig says something in every field.
func fullConfig() *polyvisor.Config {
	return &polyvisor.Config{
		Name: "web", UUID: uuid.MustParse("1b4e28ba-2fa1-11d2-883f-0016d3cca427"), InstanceID: polyvisor.InstanceID{0: 0xab, 63: 0xcd},
		Title: "the web server", Labels: map[string]string{"team": "a b", "x.org/y": ""}, Autostart: true,
		Memory: 512 * polyvisor.MiB, MaxMemory: polyvisor.GiB, Balloon: true,
		MemoryBacking: []polyvisor.MemoryBacking{{File: polyvisor.Path("/mem"), Start: 0x1000, End: 0x3000}},
		VCPUs:         2, MaxVCPUs: 4, Topology: polyvisor.Topology{Sockets: 1, Cores: 2, Threads: 2},
		VCPU: []polyvisor.VCPUConfig{{Number: 1, Affinity: polyvisor.CPUs(0, 2, 3), Weight: 200}, {Number: 3, Weight: 1}},
		Boot: polyvisor.Boot{Kernel: polyvisor.Path("/boot/vmlinuz"), Initrd: polyvisor.Path("/boot/initrd.img"), CommandLine: "console=ttyS0"},
		Console: polyvisor.ConsoleConfig{
			Virtio: true,
			Log:    "/var/log/web", Out: polyvisor.Path("/out"), In: polyvisor.Path("/in"),
		},
		Log: polyvisor.Path("/hv.log"),
		Disks: []polyvisor.Disk{{
			Target: "vda", Source: polyvisor.Path("/a.qcow2"), Format: polyvisor.FormatQCOW2, Mode: polyvisor.DeviceReadOnly, Serial: "S1",
			Cache: polyvisor.CacheNone, Queues: 2,
		}},
		NICs: []polyvisor.NIC{{
			MAC: polyvisor.MAC{0x52, 0x54, 0, 1, 2, 3}, Network: polyvisor.NetworkBridge, Source: "br0", MTU: 1400, Queues: 2,
		}, {
			MAC: polyvisor.MAC{0x52, 0x54, 0, 1, 2, 4}, Network: polyvisor.NetworkUser,
			Forwards: []polyvisor.PortForward{{Protocol: polyvisor.ProtocolTCP, HostIP: "::1", HostPort: 8080, GuestPort: 80}}, HostLoopback: true,
		}},
		Shares: []polyvisor.Share{{Tag: "home", Source: "/home", Mode: polyvisor.DeviceReadWriteForce}},
		RNG:    &polyvisor.RNG{Source: "/dev/hwrng", BytesPerSecond: 1024},
		Vsock:  &polyvisor.VsockConfig{CID: 5}, Protected: true, HypervisorAuth: true,

		OnPoweroff: polyvisor.ActionRestart, OnReboot: polyvisor.ActionPreserve, OnCrash: polyvisor.ActionRenameRestart,
	}
}

// The tests that use fullConfig cover each field only as long as none is zero
// in it; those of files and of Boot exclude each other.
func TestFullConfigIsFull(t *testing.T) {
	var walk func(name string, v reflect.Value)
	walk = func(name string, v reflect.Value) {
		switch {
		case name == "Config.NICs.Forwards" && v.IsZero(): // is for another network than Source
			walk(name, reflect.ValueOf(fullConfig().NICs[1].Forwards))
			return
		case name == "Config.NICs.HostLoopback" && v.IsZero(): // likewise
			walk(name, reflect.ValueOf(fullConfig().NICs[1].HostLoopback))
			return
		case strings.HasSuffix(name, ".Open") || strings.HasSuffix(name, ".Firmware"):
			return
		case v.Kind() == reflect.Pointer && !v.IsNil():
			walk(name, v.Elem())
			return
		case v.Kind() == reflect.Slice && v.Len() > 0:
			walk(name, v.Index(0))
			return
		case v.Kind() == reflect.Struct && v.Type().PkgPath() == reflect.TypeFor[polyvisor.Config]().PkgPath() && v.Type() != reflect.TypeFor[polyvisor.CPUSet]():
			for i := range v.NumField() {
				walk(name+"."+v.Type().Field(i).Name, v.Field(i))
			}
			return
		}
		assert.False(t, v.IsZero(), name)
	}
	walk("Config", reflect.ValueOf(fullConfig()))
}

func TestConfigJSON(t *testing.T) {
	data, err := json.Marshal(fullConfig())
	require.NoError(t, err)
	assert.JSONEq(t, `{
		"name": "web", "uuid": "1b4e28ba-2fa1-11d2-883f-0016d3cca427", "instance_id": "ab`+strings.Repeat("00", 62)+`cd",
		"title": "the web server", "labels": {"team": "a b", "x.org/y": ""}, "autostart": true,
		"memory": 536870912, "max_memory": 1073741824, "balloon": true,
		"memory_backing": [{"file": "/mem", "start": 4096, "end": 12288}],
		"vcpus": 2, "max_vcpus": 4, "topology": {"sockets": 1, "cores": 2, "threads": 2},
		"vcpu": [{"number": 1, "affinity": "0,2-3", "weight": 200}, {"number": 3, "weight": 1}],
		"boot": {"kernel": "/boot/vmlinuz", "initrd": "/boot/initrd.img", "cmdline": "console=ttyS0"},
		"console": {"virtio": true, "log": "/var/log/web", "out": "/out", "in": "/in"}, "log": "/hv.log",
		"disks": [{"target": "vda", "source": "/a.qcow2", "format": "qcow2", "mode": "ro", "serial": "S1", "cache": "none", "queues": 2}],
		"nics": [{"mac": "52:54:00:01:02:03", "network": "bridge", "source": "br0", "mtu": 1400, "queues": 2},
			{"mac": "52:54:00:01:02:04", "network": "user", "forwards": [{"protocol": "tcp", "host_ip": "::1", "host_port": 8080, "guest_port": 80}], "host_loopback": true}],
		"shares": [{"tag": "home", "source": "/home", "mode": "rw-force"}],
		"rng": {"source": "/dev/hwrng", "bytes_per_second": 1024}, "vsock": {"cid": 5}, "protected": true, "hypervisor_auth": true,
		"on_poweroff": "restart", "on_reboot": "preserve", "on_crash": "rename-restart"
	}`, string(data))
	back, err := polyvisor.ParseConfig(data)
	require.NoError(t, err)
	assert.Equal(t, fullConfig(), back)

	data, err = json.Marshal(&polyvisor.Config{Name: "web"})
	require.NoError(t, err)
	assert.JSONEq(t, `{"name": "web"}`, string(data), "what is zero is left out")
	back, err = polyvisor.ParseConfig([]byte(`{"name": "web", "memory": "1GiB"}`))
	require.NoError(t, err)
	assert.Equal(t, &polyvisor.Config{Name: "web", Memory: polyvisor.GiB}, back)
}

// Nothing in a list and no list are the same: both come back as no list.
func TestEmptyCollections(t *testing.T) {
	want := &polyvisor.Config{Name: "web"}
	back, err := polyvisor.ParseConfig([]byte(`{"name": "web", "labels": {}, "memory_backing": [], "vcpu": [], "disks": [], "nics": [], "shares": []}`))
	require.NoError(t, err)
	assert.Equal(t, want, back)
	empty := &polyvisor.Config{
		Name: "web", UUID: uuid.New(), Labels: map[string]string{}, MemoryBacking: []polyvisor.MemoryBacking{}, VCPU: []polyvisor.VCPUConfig{},
		Disks: []polyvisor.Disk{}, NICs: []polyvisor.NIC{}, Shares: []polyvisor.Share{},
	}
	want.UUID = empty.UUID
	assert.Equal(t, want.WithDefaults(), empty.WithDefaults())
	assert.NotNil(t, empty.Labels, "the caller's stays as it was")
}

// Clone and WithDefaults share nothing with the original.
func TestCloneIsDeep(t *testing.T) {
	for name, clone := range map[string]func(*polyvisor.Config) *polyvisor.Config{"Clone": (*polyvisor.Config).Clone, "WithDefaults": (*polyvisor.Config).WithDefaults} {
		t.Run(name, func(t *testing.T) {
			c := fullConfig()
			d := clone(c)
			require.Equal(t, c, d)
			d.Labels["team"] = "other"
			d.MemoryBacking[0].Start++
			d.VCPU[0].Number++
			d.Disks[0].Target = "x"
			d.NICs[0].MTU++
			d.NICs[1].Forwards[0].HostPort++
			d.Shares[0].Tag = "x"
			d.RNG.Source = "x"
			d.Vsock.CID++
			assert.Equal(t, fullConfig(), c)
		})
	}
}

// Files and Devices point into the Config, so that a driver can change them.
func TestFilesAndDevices(t *testing.T) {
	c := fullConfig()
	c.Boot.Firmware = polyvisor.Path("/fw")
	var fields []string
	for _, f := range c.Files() {
		fields = append(fields, f.Field)
		f.File.Path = "changed"
	}
	assert.Equal(t, []string{"boot.kernel", "boot.initrd", "boot.firmware", "console.out", "console.in", "log", "disks[0].source", "memory_backing[0].file"}, fields)
	assert.Equal(t, "changed", c.Disks[0].Source.Path)
	assert.Empty(t, (&polyvisor.Config{}).Files())
	var ids []string
	for _, d := range c.Devices() {
		ids = append(ids, d.DeviceID())
	}
	assert.Equal(t, []string{"vda", "52:54:00:01:02:03", "52:54:00:01:02:04", "home", "rng"}, ids)
	assert.Empty(t, (&polyvisor.Config{}).Devices())
}

func TestInstanceID(t *testing.T) {
	_, err := polyvisor.NewInstanceID(make([]byte, 63))
	require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
	require.ErrorContains(t, err, "63 bytes, want 64")
	id, err := polyvisor.NewInstanceID(make([]byte, 64))
	require.NoError(t, err)
	assert.True(t, id.IsZero())
	for _, text := range []string{"", "zz", "ab", strings.Repeat("ab", 65)} {
		require.ErrorIs(t, id.UnmarshalText([]byte(text)), polyvisor.ErrInvalidConfig)
	}
}

func TestParseConfigErrors(t *testing.T) {
	for in, want := range map[string]string{
		"":                                      "it is empty",
		" \n":                                   "it is empty",
		"null":                                  "want a JSON object",
		"[]":                                    "have array, want an object",
		`"web"`:                                 "have string, want an object",
		`{"name": "web"`:                        "unexpected EOF",
		`{"name": "web"} {}`:                    "more data after the JSON object",
		`{"name": "web"}}`:                      "more data after the JSON object",
		`{"name": "web", "memroy": 1}`:          `unknown field "memroy"`,
		`{"name": 7}`:                           `field "name": have number, want a string`,
		`{"name": "web", "memory": -1}`:         "want a whole number of bytes",
		`{"name": "web", "memory": "1X"}`:       `size "1X"`,
		`{"name": "web", "vcpus": 1.5}`:         `field "vcpus": have number 1.5, want a whole number`,
		`{"name": "web", "uuid": "x"}`:          "invalid UUID",
		`{"name": "a", "nics": [{"mac": "x"}]}`: `MAC address "x"`,
		`{"boot": {"kernel": {}}}`:              `field "boot.kernel": have object, want a string`,
		`{"boot": {"kernal": "x"}}`:             `unknown field "kernal"`,

		"{\"name\":\"\xff\xfe\"}":                       "byte 0xff at offset 9 is not UTF-8",
		"{\"name\":\"a\",\"labels\":{\"é\xed\":\"b\"}}": "byte 0xed at offset 25 is not UTF-8",
		"{\"name\":\"a\"}\x80":                          "byte 0x80 at offset 12 is not UTF-8",

		`{"name": "a", "name": "b"}`:                                 `field "name" is given twice; keep one`,
		`{"name": "a", "NAME": "b"}`:                                 `unknown field "NAME"; the names of fields are written in lower case`,
		`{"name": "a", "di\u017fks": [], "disks": []}`:               `unknown field "diſks"`,
		`{"boot": {"kernel": "x", "cmdline": "", "kernel": "y"}}`:    `field "boot.kernel" is given twice`,
		`{"disks": [{"target": "a"}, {"target": "b", "target":""}]}`: `field "disks.target" is given twice`,
		`{"labels": {"a": "1", "a": "2"}}`:                           `field "labels.a" is given twice`,
		`{"labels": {"a": "1"}, "Labels": {"b": "2"}}`:               `unknown field "Labels"`,
	} {
		t.Run(in, func(t *testing.T) {
			c, err := polyvisor.ParseConfig([]byte(in))
			require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
			assert.ErrorContains(t, err, want)
			assert.Equal(t, 1, strings.Count(err.Error(), polyvisor.ErrInvalidConfig.Error()), "%v", err)
			assert.Nil(t, c)
		})
	}
}

// What looks like a field that is given twice, and is none.
func TestParseConfigSameWords(t *testing.T) {
	c, err := polyvisor.ParseConfig([]byte(`{"name": "name", "labels": {"name": "name", "NAME": "x", "labels": ""},
		"disks": [{"target": "vda"}, {"target": "vdb"}], "nics": [{}, {}], "boot": {"kernel": "boot"}}`))
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"name": "name", "NAME": "x", "labels": ""}, c.Labels)
	assert.Len(t, c.Disks, 2)
}

func TestOpenFileHasNoJSON(t *testing.T) {
	c := &polyvisor.Config{Name: "web", Boot: polyvisor.Boot{Kernel: polyvisor.OpenFile(os.Stdin)}}
	_, err := json.Marshal(c)
	require.ErrorContains(t, err, "open file /dev/stdin has no JSON form; give its path")
	assert.Equal(t, "/dev/stdin", c.Boot.Kernel.String())
	assert.Equal(t, "/x", polyvisor.Path("/x").String())
}

func TestWithDefaults(t *testing.T) {
	var empty polyvisor.Config
	a, b := empty.WithDefaults(), empty.WithDefaults()
	assert.Equal(t, polyvisor.DefaultMemory, a.Memory)
	assert.Equal(t, polyvisor.DefaultVCPUs, a.VCPUs)
	assert.NotEqual(t, a.UUID, b.UUID)
	assert.Equal(t, polyvisor.Config{}, empty)
	assert.Equal(t, a, a.WithDefaults(), "a second time changes nothing")
	assert.Equal(t, fullConfig(), fullConfig().WithDefaults(), "what is set stays")

	c := polyvisor.Config{
		MaxMemory: 64 * polyvisor.MiB, MaxVCPUs: 4, RNG: &polyvisor.RNG{}, NICs: make([]polyvisor.NIC, 200),
		Disks: make([]polyvisor.Disk, 60),
	}
	c.Disks[7].Target = "vdb"
	d := c.WithDefaults()
	assert.Equal(t, polyvisor.Bytes(64*polyvisor.MiB), d.Memory, "the default never exceeds the maximum")
	assert.Equal(t, 1, d.VCPUs)
	assert.Equal(t, 4, d.MaxVCPUs)
	var targets []string
	for _, disk := range d.Disks {
		assert.Equal(t, polyvisor.FormatRaw, disk.Format)
		targets = append(targets, disk.Target)
	}
	assert.Equal(t, []string{"vda", "vdc", "vdd"}, targets[:3])
	assert.Equal(t, "vdb", targets[7])
	assert.Equal(t, []string{"vdz", "vdaa", "vdab"}, targets[25:28])
	macs := map[polyvisor.MAC]bool{}
	for _, nic := range d.NICs {
		assert.Equal(t, polyvisor.NetworkUser, nic.Network)
		assert.Equal(t, []byte{0x52, 0x54, 0}, nic.MAC[:3])
		macs[nic.MAC] = true
	}
	assert.Len(t, macs, 200, "no two are the same")
	assert.Equal(t, d, d.WithDefaults(), "a second time changes nothing")
	assert.Empty(t, c.Disks[0].Target, "the caller's stays as it was")
}

func TestValidate(t *testing.T) {
	valid := func(change func(*polyvisor.Config)) polyvisor.Config {
		c := fullConfig()
		change(c)
		return *c
	}
	for _, tt := range []struct {
		name   string
		config polyvisor.Config
		want   []string // all problems; none: valid
	}{
		{"full", *fullConfig(), nil},
		{"only a name", polyvisor.Config{Name: "web"}, nil},
		{"longest name", polyvisor.Config{Name: strings.Repeat("n", 255)}, nil},
		{"any script", polyvisor.Config{Name: "Рэмо ☃ .x -", Title: "任意"}, nil},
		{"longest title", polyvisor.Config{Name: "a", Title: strings.Repeat("t", 255)}, nil},
		{"empty", polyvisor.Config{}, []string{"name: empty: every domain needs a name"}},
		{"long name", polyvisor.Config{Name: strings.Repeat("n", 256)}, []string{"name: 256 bytes long, at most 255 are allowed"}},
		{"dot", polyvisor.Config{Name: "."}, []string{`name: "." is reserved`}},
		{"dots", polyvisor.Config{Name: ".."}, []string{`name: ".." is reserved`}},
		{"slash", polyvisor.Config{Name: "../x"}, []string{`name: "../x" contains a slash`}},
		{"NUL", polyvisor.Config{Name: "a\x00"}, []string{`name: "a\x00" contains a control character`}},
		{"escape", polyvisor.Config{Name: "a\x1b[2J"}, []string{"contains a control character"}},
		{"C1", polyvisor.Config{Name: "a\u009b"}, []string{"contains a control character"}},
		{"not UTF-8", polyvisor.Config{Name: "a\xff"}, []string{`name: "a\xff" is not UTF-8`}},
		{"long title", polyvisor.Config{Name: "a", Title: strings.Repeat("t", 256)}, []string{"title: want one line"}},
		{"two lines", polyvisor.Config{Name: "a", Title: "a\nb"}, []string{"title: want one line"}},
		{"odd memory", polyvisor.Config{Name: "a", Memory: 4097}, []string{"memory: 4097B is not a multiple of 4KiB"}},
		{"negative", polyvisor.Config{Name: "a", VCPUs: -3}, []string{"vcpus: -3 is negative"}},
		{"initrd alone", valid(func(c *polyvisor.Config) { c.Boot.Kernel = polyvisor.File{} }), []string{"boot.initrd: needs boot.kernel"}},
		{"path and file", valid(func(c *polyvisor.Config) { c.Boot.Kernel.Open = os.Stdin }), []string{"boot.kernel: both a path and an open file"}},
		{"NUL in paths", valid(func(c *polyvisor.Config) {
			c.Boot = polyvisor.Boot{Kernel: polyvisor.Path("a\x00"), Initrd: polyvisor.Path("b\x00"), CommandLine: "c\x00"}
			c.Console.Log = "d\x00"
		}), []string{"boot.kernel: the path contains a NUL", "boot.initrd: the path contains a NUL", "boot.cmdline: contains a NUL", "console.log: the path contains a NUL"}},
		// What JSON cannot carry would come back as another path.
		{"paths not UTF-8", valid(func(c *polyvisor.Config) {
			c.Boot = polyvisor.Boot{Kernel: polyvisor.Path("a\xff"), Initrd: polyvisor.Path("b\xff"), CommandLine: "c\xff"}
			c.Console.Log = "d\xff"
		}), []string{"boot.kernel: the path is not UTF-8", "boot.initrd: the path is not UTF-8", "boot.cmdline: is not UTF-8", "console.log: the path is not UTF-8"}},
		{"actions", polyvisor.Config{Name: "a", OnPoweroff: "x", OnReboot: "y", OnCrash: "z"}, []string{
			`on_poweroff: "x" is not an action; want "destroy", "restart", "preserve" or "rename-restart"`, `on_reboot: "y"`, `on_crash: "z"`}},
		{"everything, resources", polyvisor.Config{Name: "a", Memory: polyvisor.GiB, MaxMemory: polyvisor.MiB + 1, VCPUs: 3, MaxVCPUs: 2}, []string{
			"max_memory: 1048577B is not a multiple of 4KiB", "memory: 1GiB is more than max_memory, 1048577B", "vcpus: 3 is more than max_vcpus, 2"}},
		{"negative maximum", polyvisor.Config{Name: "a", MaxVCPUs: -1}, []string{"max_vcpus: -1 is negative"}},
		{"topology", polyvisor.Config{Name: "a", MaxVCPUs: 8, Topology: polyvisor.Topology{Sockets: 2, Cores: 2, Threads: 1}}, []string{"topology: 2 sockets of 2 cores of 1 threads are not 8 vCPUs"}},
		{"half a topology", polyvisor.Config{Name: "a", Topology: polyvisor.Topology{Sockets: 1}}, []string{"topology: 1 sockets of 0 cores"}},
		// The product of these is 1, but for the overflow.
		{"topology overflows", polyvisor.Config{Name: "a", Topology: polyvisor.Topology{Sockets: 3, Cores: 11, Threads: 1117984489315730401}}, []string{"topology: 3 sockets"}},
		{"topology of the default", polyvisor.Config{Name: "a", Topology: polyvisor.Topology{Sockets: 1, Cores: 1, Threads: 1}}, nil},
		{"vCPU out of range", polyvisor.Config{Name: "a", MaxVCPUs: 2, VCPU: []polyvisor.VCPUConfig{{Number: -1}, {Number: 2, Weight: 10001}}}, []string{
			"vcpu: number -1; the domain has 0 to 1", "vcpu: number 2; the domain has 0 to 1", "vcpu: weight 10001 of vCPU 2"}},
		{"vCPU twice", polyvisor.Config{Name: "a", VCPUs: 2, VCPU: []polyvisor.VCPUConfig{{Number: 1}, {Number: 1}}}, []string{"vcpu: number 1 comes after 1"}},
		{"too many vCPU settings", polyvisor.Config{Name: "a", VCPU: make([]polyvisor.VCPUConfig, 1000)}, []string{"vcpu: settings of 1000 vCPUs, the domain has 1"}},
		{"memory backing", polyvisor.Config{Name: "a", MemoryBacking: []polyvisor.MemoryBacking{
			{Start: 0, End: 0x1000}, {File: polyvisor.Path("/m"), Start: 1, End: 0x2000}, {File: polyvisor.Path("/m"), Start: 0x9000, End: 0x9000},
			{File: polyvisor.Path("/m"), Start: 0x1000, End: 0x3000},
		}}, []string{"memory_backing[0]: no file", "memory_backing[1]: 0x1 to 0x2000 is not a range", "memory_backing[2]: 0x9000 to 0x9000", "memory_backing[1]: overlaps memory_backing[0]", "memory_backing[3]: overlaps memory_backing[1]"}},
		{"neighbours", polyvisor.Config{Name: "a", MemoryBacking: []polyvisor.MemoryBacking{
			{File: polyvisor.Path("/m"), Start: 0x1000, End: 0x2000}, {File: polyvisor.Path("/m"), Start: 0, End: 0x1000}}}, nil},
		{"labels", polyvisor.Config{Name: "a", Labels: map[string]string{"": "x", "b c": "x", "d": "\n", strings.Repeat("k", 64): "", "e": strings.Repeat("v", 4097)}}, []string{
			`labels: key ""`, `labels: key "b c"`, `labels: value of "d"`, `labels: key "kkk`, `labels: value of "e"`}},
		{"too many labels", polyvisor.Config{Name: "a", Labels: manyLabels(65)}, []string{"labels: 65, at most 64 are allowed"}},
		{"firmware and kernel", valid(func(c *polyvisor.Config) { c.Boot.Firmware = polyvisor.Path("/fw") }), []string{"boot.firmware: excludes a kernel"}},
		{"disks", polyvisor.Config{Name: "a", Disks: []polyvisor.Disk{
			{Target: "VDA", Source: polyvisor.Path("/a")}, {Target: "vdb"}, {Source: polyvisor.Path("/c"), Format: "vmdk"},
			{Target: "vdd", Source: polyvisor.Path("/d"), Serial: strings.Repeat("s", 21)}, {Target: "vdd", Source: polyvisor.Path("/d"), Mode: 4},
			{Source: polyvisor.Path("/f"), Serial: "a b"}, {Source: polyvisor.Path("/g"), Cache: "directsync"}, {Source: polyvisor.Path("/h"), Queues: 65},
		}}, []string{`disk "VDA": the target wants`, `disk "vdb": no source`, `disk "": format "vmdk"`, `disk "vdd": serial`, `disk "vdd": unknown device mode 4`,
			`disk "vdd": another disk`, `disk "": serial "a b"`, `disk "": cache "directsync"`, `disk "": 65 queues`}},
		{"NICs", polyvisor.Config{Name: "a", NICs: []polyvisor.NIC{
			{MAC: polyvisor.MAC{1}}, {Source: "br0"}, {Network: polyvisor.NetworkTap}, {Network: "wifi"}, {MTU: 67}, {MTU: 65536}, {Queues: 2},
			{Network: polyvisor.NetworkBridge, Source: "br0", Queues: 65}, {MAC: polyvisor.MAC{2}}, {MAC: polyvisor.MAC{2}},
		}}, []string{"nic 01:00:00:00:00:00: a group address", "network user takes no source", "network tap needs the name", `network "wifi"`, "MTU 67", "MTU 65536",
			"2 queues; network user has one", "65 queues; want 1 to 64",
			`NIC "02:00:00:00:00:00": another NIC`}},
		{"forwards", polyvisor.Config{Name: "a", NICs: []polyvisor.NIC{
			{MAC: polyvisor.MAC{2}, Forwards: []polyvisor.PortForward{{Protocol: "sctp", HostPort: 1}, {}, {HostIP: "localhost", HostPort: 2}, {HostIP: "fe80::1%eth0", HostPort: 3},
				{HostPort: 80}, {HostPort: 80, HostIP: "127.0.0.1", Protocol: "tcp", GuestPort: 8}, {HostPort: 80, Protocol: "udp"}, {HostPort: 80, HostIP: "::1"}}},
			{MAC: polyvisor.MAC{4}, Forwards: []polyvisor.PortForward{{HostPort: 80, Protocol: "udp", GuestPort: 9}}},
			{MAC: polyvisor.MAC{6}, Network: polyvisor.NetworkTap, Source: "tap0", Forwards: []polyvisor.PortForward{{HostPort: 81}}},
			{MAC: polyvisor.MAC{8}, Forwards: make([]polyvisor.PortForward, 257)},
			{MAC: polyvisor.MAC{10}, Network: polyvisor.NetworkBridge, Source: "br0", HostLoopback: true},
		}}, []string{`forwards[0]: protocol "sctp"`, "forwards[1]: no host port", `forwards[2]: host address "localhost"`, `forwards[3]: host address "fe80::1%eth0"`,
			"forwards[5]: tcp port 80 of the host is given twice", "nic 04:00:00:00:00:00: udp port 80 of the host is published by another NIC",
			"nic 06:00:00:00:00:00: ports are forwarded by network user only", "nic 0a:00:00:00:00:00: the host's loopback is reached by network user only", "nic 08:00:00:00:00:00: forwards: 257, at most 256"}},
		{"shares", polyvisor.Config{Name: "a", Shares: []polyvisor.Share{
			{Source: "/a"}, {Tag: strings.Repeat("t", 37), Source: "/a"}, {Tag: "c"}, {Tag: "c", Source: "/\x00", Mode: 9},
		}}, []string{`share: tag ""`, `share: tag "ttt`, `share "c": no source`, `share "c": the path contains a NUL`, `share "c": unknown device mode 9`, `share "c": another share`}},
		{"one name, two kinds", polyvisor.Config{Name: "a", Disks: []polyvisor.Disk{{Target: "rng", Source: polyvisor.Path("/a")}}, Shares: []polyvisor.Share{{Tag: "rng", Source: "/a"}}, RNG: &polyvisor.RNG{}}, nil},
		{"too many devices", polyvisor.Config{Name: "a", Disks: make([]polyvisor.Disk, 257), NICs: make([]polyvisor.NIC, 257), Shares: make([]polyvisor.Share, 1<<20), MemoryBacking: make([]polyvisor.MemoryBacking, 257)}, []string{
			"disks: 257, at most 256", "nics: 257, at most 256", "shares: 1048576, at most 256", "memory_backing: 257, at most 256"}},
		{"RNG path", polyvisor.Config{Name: "a", RNG: &polyvisor.RNG{Source: "\xff"}}, []string{"rng: the path is not UTF-8"}},
		{"vsock", polyvisor.Config{Name: "a", Vsock: &polyvisor.VsockConfig{CID: 2}}, []string{"vsock.cid: 2 is reserved"}},
		{"vsock any", polyvisor.Config{Name: "a", Vsock: &polyvisor.VsockConfig{CID: 1<<32 - 1}}, []string{"vsock.cid: 4294967295 is reserved"}},
		{"everything", polyvisor.Config{Memory: 1, VCPUs: -1, Title: "\n", OnCrash: "z"}, []string{"name: ", "title: ", "memory: ", "vcpus: ", "on_crash: "}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.config.Validate()
			if tt.want == nil {
				require.NoError(t, err)
				data, err := json.Marshal(tt.config)
				require.NoError(t, err)
				back, err := polyvisor.ParseConfig(data)
				require.NoError(t, err)
				assert.Equal(t, tt.config, *back, "a valid Config survives JSON")
				return
			}
			require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
			var all *multierror.Error
			require.True(t, errors.As(err, &all))
			assert.Len(t, all.Errors, len(tt.want))
			for _, want := range tt.want {
				assert.ErrorContains(t, err, want)
			}
			assert.NotContains(t, err.Error(), "\n", "one line")
		})
	}
}

func manyLabels(n int) map[string]string {
	labels := make(map[string]string)
	for i := range n {
		labels[strings.Repeat("k", i%60)+string(rune('A'+i/60))] = ""
	}
	return labels
}

// FuzzParseConfig: whatever is read is written and read again as the same,
// and defaults neither mend nor break it.
func FuzzParseConfig(f *testing.F) {
	full, err := json.Marshal(fullConfig())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(full)
	for _, s := range []string{
		`{"name":"web"}`, `{"name":"web","memory":"512MiB"}`, `{"name":"\ud800"}`, `{"NAME":"x","name":"y"}`, `{"Labels":{"a":"","A":""}}`, `null`, `{} {}`, `{"boot":null}`,
		`{"boot":{"kernel":null}}`, `{"uuid":"urn:uuid:1b4e28ba-2fa1-11d2-883f-0016d3cca427"}`, `{"memory":null}`, `{"console":{"log":"\u0000"}}`, `{"vcpus":1e2}`,
		`{"name":"a","max_memory":4096}`, `{"name":"a","labels":{}}`, `{"name":"a","disks":[{},{"target":"vda"}]}`, `{"nics":[{"mac":"00:00:00:00:00:00"}],"rng":{},"vsock":{}}`,
		`{"vcpu":[{"number":0,"affinity":"0-3,^1"}],"topology":{"sockets":1}}`, `{"memory_backing":[{"file":"/m","start":18446744073709551615}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := polyvisor.ParseConfig(data)
		if err != nil {
			if c != nil || polyvisor.CodeOf(err) != polyvisor.CodeInvalidConfig {
				t.Errorf("%v, %v", c, err)
			}
			return
		}
		out, err := json.Marshal(c)
		if err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		again, err := polyvisor.ParseConfig(out)
		if err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		if !reflect.DeepEqual(again, c) {
			t.Errorf("%+v came back as %+v", c, again)
		}
		before := c.Clone()
		if (c.Validate() == nil) != (c.WithDefaults().Validate() == nil) {
			t.Error("defaults change whether it is valid")
		}
		if !reflect.DeepEqual(c, before) {
			t.Error("Validate or WithDefaults changed it")
		}
	})
}
