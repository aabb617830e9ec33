package domainxml_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/domainxml"
)

func TestParseMinimal(t *testing.T) {
	c, err := domainxml.Parse(read(t, "testdata/minimal.xml"))
	require.NoError(t, err)
	require.Equal(t, &polyvisor.Config{
		Name: "demo", Memory: 512 * polyvisor.MiB, MaxMemory: 512 * polyvisor.MiB, VCPUs: 2, MaxVCPUs: 2,
		Boot:  polyvisor.Boot{Kernel: polyvisor.Path("/boot/vmlinuz"), Initrd: polyvisor.Path("/boot/initrd.img"), CommandLine: "console=ttyS0"},
		Disks: []polyvisor.Disk{{Target: "vda", Source: polyvisor.Path("/var/lib/demo.img"), Format: polyvisor.FormatRaw}},
		NICs:  []polyvisor.NIC{{Network: polyvisor.NetworkManaged, Source: "default"}},
	}, c)
	require.NoError(t, c.Validate())
	for _, least := range []string{`<domain><name>a</name></domain>`, "\ufeff<?xml version='1.0'?>\n<domain type='x'><name>a</name></domain>\n<!-- end -->\n"} {
		c, err = domainxml.Parse(least)
		require.NoError(t, err)
		require.Equal(t, &polyvisor.Config{Name: "a"}, c)
	}
}

// What libvirt adds to a domain is read over.
func TestParseNoise(t *testing.T) {
	c, err := domainxml.Parse(read(t, "testdata/noise.xml"))
	require.NoError(t, err)
	require.Equal(t, &polyvisor.Config{
		Name: "noisy", UUID: uuid.MustParse("2a2e1b5c-1111-4000-8000-0123456789ab"),
		Memory: 512 * polyvisor.MiB, MaxMemory: polyvisor.GiB, VCPUs: 1, MaxVCPUs: 2, Topology: polyvisor.Topology{Sockets: 1, Cores: 2, Threads: 1},
		VCPU:    []polyvisor.VCPUConfig{{Number: 0, Affinity: polyvisor.CPUs(0, 1, 3)}, {Number: 1, Affinity: polyvisor.CPUs(1)}},
		Boot:    polyvisor.Boot{Firmware: polyvisor.Path("/fw.fd")},
		Console: polyvisor.ConsoleConfig{Log: "/log"},
		Disks:   []polyvisor.Disk{{Target: "vda", Source: polyvisor.Path("/dev/vg/web"), Format: polyvisor.FormatRaw, Mode: polyvisor.DeviceReadOnly}},
		NICs:    []polyvisor.NIC{{MAC: polyvisor.MAC{0x52, 0x54, 0, 0xaa, 0xbb, 1}, Network: polyvisor.NetworkManaged, Source: "default"}},
		Shares:  []polyvisor.Share{{Tag: "srv", Source: "/srv"}},
		RNG:     &polyvisor.RNG{Source: "/dev/urandom", BytesPerSecond: 400}, Vsock: &polyvisor.VsockConfig{}, Balloon: true,
		OnPoweroff: polyvisor.ActionDestroy,
	}, c)
	require.NoError(t, c.Validate())
}

// Everything that a Config cannot say is told at once, with its line and path.
func TestParseRefuses(t *testing.T) {
	_, err := domainxml.Parse(read(t, "testdata/refused.xml"))
	require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
	require.NotContains(t, err.Error(), "\n")
	var e *domainxml.Error
	require.True(t, errors.As(err, &e))
	var b strings.Builder
	for _, p := range e.Problems {
		fmt.Fprintln(&b, p)
	}
	const file = "testdata/refused.txt"
	if update {
		require.NoError(t, os.WriteFile(file, []byte(b.String()), 0o644))
	}
	require.Equal(t, read(t, file), b.String())
}

// domain puts an element into a domain.
func domain(inner string) string { return "<domain type='kvm'><name>a</name>" + inner + "</domain>" }

func devices(inner string) string { return domain("<devices>" + inner + "</devices>") }

func ours(inner string) string {
	return domain("<metadata><p:domain xmlns:p='" + domainxml.Namespace + "'>" + inner + "</p:domain></metadata>")
}

func TestParseWrongValues(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"", "there is no element"},
		{"<domain type='lxc'><name>a</name></domain>", "line 1: domain/@type: \"lxc\" is not supported: it is a container"},
		{"  \n", "there is no element"},
		{"{}", "text outside of the document's element"},
		{"<domain>", "line 1: not well-formed: unexpected EOF"},
		{"<domain>\n<a></b></domain>", "line 2: not well-formed: element <a> closed by </b>"},
		{"<domain/><domain/>", "a second document"},
		{"<domain/>x", "text outside"},
		{"<domain a='1' a='2'/>", "attribute a twice"},
		{"<network/>", "network: the document is not a domain"},
		{"<domain xmlns='http://example.com/'/>", "{http://example.com/}domain: the document is not a domain"},
		{"<!DOCTYPE domain [<!ENTITY a 'b'>]><domain>&a;</domain>", "document types and entities are not read"},
		{domain("&nbsp;"), "invalid character entity &nbsp;"},
		{domain("\x01"), "illegal character code U+0001"},
		{domain("\xff"), "invalid UTF-8"},
		{"<?xml version='1.0' encoding='latin1'?><domain/>", "not well-formed: xml: encoding \"latin1\""},
		{strings.Repeat("<domain>", 65), "nested deeper than 64"},
		{strings.Repeat("<domain>", 65) + strings.Repeat("</domain>", 65), "nested deeper than 64"},
		{"<domain>" + strings.Repeat("<a/>", 100_000) + "</domain>", "more than 100000 elements and attributes"},
		{strings.Repeat(" ", domainxml.MaxSize+1), "at most 4194304 are read"},
		{domain("<name>b</name>"), "domain/name[2]: there is one before; give it once"},
		{domain("<uuid>x</uuid>"), `domain/uuid: "x" is not a UUID`},
		{domain("<uuid>00000000-0000-0000-0000-000000000000</uuid>"), "UUID of zeros"},
		{domain("<uuid>{2a2e1b5c-1111-4000-8000-0123456789ab}</uuid>"), "is not a UUID"},
		{domain("<memory>-1</memory>"), `domain/memory: "-1" is not a number`},
		{domain("<memory>1.5</memory>"), "is not a number"},
		{domain("<memory/>"), `"" is not a number`},
		{domain("<memory unit='parsec'>1</memory>"), "domain/memory/@unit: \"parsec\" is not a unit"},
		{domain("<memory unit=''>1</memory>"), "is not a unit"},
		{domain("<memory unit='EiB'>16</memory>"), "do not fit 64 bits"},
		{domain("<memory>18446744073709551615</memory>"), "do not fit 64 bits"},
		{domain("<memory>18446744073709551616</memory>"), "is not a number"},
		{domain("<currentMemory>4</currentMemory>"), "needs <memory>"},
		{domain("<vcpu>two</vcpu>"), `"two" is not a number`},
		{domain("<vcpu>4294967296</vcpu>"), "is not a number from 0 to 2147483647"},
		{domain("<vcpu current='x'>1</vcpu>"), "domain/vcpu/@current: \"x\""},
		{domain("<cpu><topology cores='1' threads='1'/></cpu>"), "topology/@sockets: is missing"},
		{domain("<cpu><topology sockets='1' dies='2' cores='1' threads='1'/></cpu>"), "@dies: \"2\" is not supported; 1 is"},
		{domain("<cputune><vcpupin vcpu='0' cpuset='a'/></cputune>"), `@cpuset: "a" is not a set of CPUs`},
		{domain("<cputune><vcpupin vcpu='0' cpuset='1,^1'/></cputune>"), "has no CPU"},
		{domain("<cputune><vcpupin vcpu='0'/></cputune>"), "@cpuset: is missing"},
		{domain("<cputune><vcpupin vcpu='0' cpuset='1'/><vcpupin vcpu='0' cpuset='2'/></cputune>"), "vcpupin[2]/@vcpu: vCPU 0 was pinned before"},
		{domain("<os><type>xen</type></os>"), `domain/os/type: "xen" is not supported; hvm is`},
		{domain("<os><boot/></os>"), "domain/os/boot/@dev: is missing"},
		{domain("<on_reboot>later</on_reboot>"), `"later" is not supported; destroy, restart`},
		{domain("<features>x</features>"), `domain/features: the text "x" has no meaning here`},
		{devices("<disk/>"), "disk/@type: is missing"},
		{devices("<disk type='file'/>"), "disk/source: is missing"},
		{devices("<disk type='file'><source/></disk>"), "disk/source/@file: is missing"},
		{devices("<disk type='file'><source file='a'/><boot order='1'/></disk>"), "disk/boot: is not supported"},
		{devices("<disk type='file'><source file='a'/></disk>") + " ", ""},
		{devices("<interface type='user'><mac address='5'/></interface>"), "is not the address of an interface"},
		{devices("<interface type='user'><mac address='52-54-00-00-00-01'/></interface>"), ""},
		{devices("<interface type='user'><mac address='00:00:00:00:00:00'/></interface>"), "is not the address of an interface"},
		{devices("<interface type='user'><mtu size='0'/></interface>"), "0 is no MTU"},
		{devices("<interface type='bridge'><source bridge='b'/><driver queues='0'/></interface>"), "0 queues; leave it out"},
		{devices("<interface type='bridge'><source bridge='b'/><driver name='vhost' queues='2'/></interface>"), "interface/driver/@name: is not supported"},
		{devices("<interface type='user'><portForward proto='tcp'><range start='1'/></portForward></interface>"), "needs <backend type='passt'/>"},
		{devices("<interface type='user'><backend type='passt'/></interface>"), "interface/backend: is not supported"},
		{devices("<interface type='user'><backend type='slirp'/><portForward proto='tcp'><range start='1'/></portForward></interface>"), `"slirp" is not supported`},
		{devices("<interface type='user'><backend type='passt'/><portForward proto='sctp'><range start='1'/></portForward></interface>"), `"sctp" is not supported`},
		{devices("<interface type='user'><backend type='passt'/><portForward proto='tcp'/></interface>"), "portForward/range: is missing"},
		{devices("<interface type='user'><backend type='passt'/><portForward proto='tcp'><range start='1' end='9'/></portForward></interface>"), "a range of several ports"},
		{devices("<interface type='user'><backend type='passt'/><portForward proto='tcp'><range start='0'/></portForward></interface>"), "0 is no port"},
		{devices("<interface type='user'><backend type='passt'/><portForward proto='tcp' address='home'><range start='1'/></portForward></interface>"), "is not an IP address"},
		{devices("<interface type='user'><backend type='passt'/><portForward proto='tcp' dev='eth0'><range start='1'/></portForward></interface>"), "portForward/@dev: is not supported"},
		{devices("<interface type='bridge'><source bridge='b'/><backend type='passt'/><portForward proto='tcp'><range start='1'/></portForward></interface>"), "portForward: is not supported"},
		{devices("<interface/>"), "interface/@type: is missing"},
		{devices("<interface type='bridge'/>"), "interface/source/@bridge: is missing"},
		{devices("<interface type='ethernet'/>"), "the name of the tap device"},
		{devices("<interface type='ethernet'><target dev='t' managed='yes'/></interface>"), `@managed: "yes" is not supported; no is`},
		{devices("<filesystem><source dir='/a'/></filesystem>"), "the tag that the guest mounts"},
		{devices("<rng/><rng/>"), "rng[2]: there is one before"},
		{devices("<rng><rate bytes='1' period='3000'/></rng>"), "only whole bytes in a second"},
		{devices("<rng><rate bytes='0'/></rng>"), "leave it out for no bound"},
		{devices("<rng><backend model='egd'/></rng>"), `"egd" is not supported; random is`},
		{devices("<vsock><cid/></vsock>"), "needs auto=\"yes\" or an address"},
		{devices("<vsock><cid address='4294967296'/></vsock>"), "is not a number from 0 to 4294967295"},
		{devices("<vsock><cid address='0'/></vsock>"), "0 is no address"},
		{devices("<memballoon/>"), "memballoon/@model: is missing"},
		{devices("<serial type='tcp'/>"), `"tcp" is not supported; pty is`},
		{devices("<serial><log file='/a' append='off'/></serial>"), `@append: "off" is not supported; on is`},
		{devices("<serial><log file='/a'/></serial><console><log file='/b'/></console>"), `the serial port has "/a"`},
		{devices("<console><target type='virtio'/></console>"), ""},
		{devices("<console><target type='xen'/></console>"), `"xen" is not supported; serial or virtio`},
		{devices("<serial/><console><target type='virtio'/></console>"), `"virtio" is not supported; serial is`},
		{ours("<p:interface number='0' hostLoopback='yes'/>"), "there is no interface 0"},
		{ours("<p:interface hostLoopback='yes'/>"), "interface/@number: is missing"},
		{ours("<p:interface number='0'/>"), "interface/@hostLoopback: is missing"},
		{ours("<p:interface number='0' queues='2'/>"), `"2" is not supported; 1 is`},
		{ours("<p:interface number='0' hostLoopback='on'/>"), `"on" is not supported; yes is`},
		{ours("<p:new/>"), "domain/metadata/polyvisor:domain/polyvisor:new: is not supported"},
		{ours("<new/>"), "polyvisor:domain/new: is not supported"},
		{ours("<p:instanceId>00</p:instanceId>"), "is not 128 hexadecimal digits"},
		{ours("<p:vcpu number='0'/><p:vcpu number='0'/>"), "vCPU 0 was given before"},
		{ours("<p:memory file='/a' start='x' end='0x1000'/>"), `@start: "x" is not an address`},
		{ours("<p:label key='a'/><p:label key='a'/>"), `label "a" was given before`},
		{ours("<p:label>x</p:label>"), "@key: is missing"},
		{ours("<p:device id='vda' mode='rw'/>"), "there is no disk or filesystem \"vda\""},
		{ours("<p:device id='vda' mode='wo'/>"), `unknown device mode "wo"`},
		{ours("<p:exact field='name'>YQ==</p:exact>"), "does not belong to the text of name, which was changed"},
		{ours("<p:exact field='name'>!</p:exact>"), "is not base64"},
		{ours("<p:exact field='nome'>YQ==</p:exact>"), `there is no text "nome"`},
	} {
		name := tc.text
		if len(name) > 80 {
			name = name[:80]
		}
		t.Run(name, func(t *testing.T) {
			_, err := domainxml.Parse(tc.text)
			if tc.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
			require.ErrorContains(t, err, tc.want)
			var e *domainxml.Error
			require.True(t, errors.As(err, &e))
			require.NotEmpty(t, e.Problems)
		})
	}
}

// The list of problems is bounded.
func TestParseManyProblems(t *testing.T) {
	_, err := domainxml.Parse("<domain>" + strings.Repeat("<a/>", 99_000) + "</domain>")
	var e *domainxml.Error
	require.True(t, errors.As(err, &e))
	require.Len(t, e.Problems, 200)
	require.Equal(t, 98_800, e.More)
	require.Contains(t, err.Error(), "domain/a[200]: is not supported; and 98800 more")
}

// The most that fits MaxSize is read in a time that does not grow beyond it.
func TestParseLarge(t *testing.T) {
	for _, tc := range []struct{ name, element, before, after string }{
		{"pins", "<vcpupin vcpu='%d' cpuset='0-65535'/>", "<domain><cputune>", "</cputune></domain>"},
		{"disks", "<disk type='file'><source file='%d'/></disk>", "<domain><devices>", "</devices></domain>"},
		{"labels", "<p:label key='%d'/>", "<domain><metadata><p:domain xmlns:p='" + domainxml.Namespace + "'>", "</p:domain></metadata></domain>"},
		{"exact", "<p:exact field='%d'/>", "<domain><metadata><p:domain xmlns:p='" + domainxml.Namespace + "'>", "</p:domain></metadata></domain>"},
		{"one set", "0-65535,^%d,", "<domain><cputune><vcpupin vcpu='0' cpuset='", "0'/></cputune></domain>"},
		{"text", "<!-- --> %d", "<domain><name>", "</name></domain>"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var b strings.Builder
			b.WriteString(tc.before)
			items := 25_000
			if tc.name == "one set" || tc.name == "text" {
				items = 200_000
			}
			for i := range items {
				fmt.Fprintf(&b, tc.element, i%60_000)
			}
			_, err := domainxml.Parse(b.String() + tc.after)
			if err != nil {
				require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
			}
		})
	}
}

func TestUnits(t *testing.T) {
	for unit, want := range map[string]polyvisor.Bytes{
		"b": 1, "bytes": 1, "KB": 1000, "k": 1024, "K": 1024, "KiB": 1024, "kib": 1024, "MB": 1e6, "M": polyvisor.MiB, "MiB": polyvisor.MiB,
		"GB": 1e9, "G": polyvisor.GiB, "GiB": polyvisor.GiB, "TB": 1e12, "T": polyvisor.TiB, "TiB": polyvisor.TiB, "PiB": 1 << 50, "EiB": 1 << 60, "PB": 1e15,
	} {
		c, err := domainxml.Parse(domain("<memory unit='" + unit + "'>3</memory>"))
		require.NoError(t, err)
		require.Equal(t, 3*want, c.Memory, unit)
	}
	for _, unit := range []string{"x", "Kx", "KiBi", "iB", "mib ibs"} {
		_, err := domainxml.Parse(domain("<memory unit='" + unit + "'>3</memory>"))
		require.ErrorContains(t, err, "is not a unit", unit)
	}
}

func TestParseDeviceRefuses(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"<sound model='ich9'/>", "sound: is not supported; disk, interface, filesystem and rng are"},
		{"<disk type='file'><source file='a'/><iotune/></disk>", "disk/iotune: is not supported"},
		{"<disk xmlns:p='" + domainxml.Namespace + "' p:mode='x' type='file'><source file='a'/></disk>", `unknown device mode "x"`},
		{"<disk xmlns:p='" + domainxml.Namespace + "' p:mode='rw' type='file'><source file='a'/><readonly/></disk>", "contradicts <readonly>"},
		{"<interface xmlns:p='" + domainxml.Namespace + "' p:hostLoopback='no' type='user'/>", `"no" is not supported; yes is`},
		{"<interface xmlns:p='" + domainxml.Namespace + "' p:hostLoopback='yes' type='bridge'><source bridge='b'/></interface>", "interface/@polyvisor:hostLoopback: is not supported"},
		{"<disk p:mode='rw' type='file'><source file='a'/></disk>", "disk/@{p}mode: is not supported"},
		{"", "there is no element"},
	} {
		_, err := domainxml.ParseDevice(tc.text)
		require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
		require.ErrorContains(t, err, tc.want)
	}
	d, err := domainxml.ParseDevice("<rng model='virtio'><backend model='random'>/dev/random</backend></rng>")
	require.NoError(t, err)
	require.Equal(t, &polyvisor.RNG{Source: "/dev/random"}, d)
	for text, want := range map[string]polyvisor.Device{
		"<disk><target dev='vda'/></disk>":                           &polyvisor.Disk{Target: "vda", Format: polyvisor.FormatRaw},
		"<interface><mac address='52:54:00:00:00:01'/></interface>":  &polyvisor.NIC{MAC: polyvisor.MAC{0x52, 0x54, 0, 0, 0, 1}},
		"<interface type='bridge'><target dev='vnet0'/></interface>": &polyvisor.NIC{Network: polyvisor.NetworkBridge},
		"<filesystem><target dir='src'/></filesystem>":               &polyvisor.Share{Tag: "src"},
		"<rng/>":                       &polyvisor.RNG{},
		"<interface type='ethernet'/>": &polyvisor.NIC{Network: polyvisor.NetworkTap},
		"<disk type='block'><source dev='/dev/sda'/><readonly/></disk>": &polyvisor.Disk{Source: polyvisor.Path("/dev/sda"), Format: polyvisor.FormatRaw, Mode: polyvisor.DeviceReadOnly},
	} {
		d, err := domainxml.ParseDevice(text)
		require.NoError(t, err)
		require.Equal(t, want, d, text)
	}
}
