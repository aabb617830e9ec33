package domainxml_test

import (
	"math/rand/v2"
	"os"
	"testing"

	"github.com/google/uuid"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// full says everything that a Config can say.
func full() *polyvisor.Config {
	c := &polyvisor.Config{
		Name: "web <&> 1", UUID: uuid.MustParse("2a2e1b5c-1111-4000-8000-0123456789ab"), Title: " the \"web\" server ",
		Labels: map[string]string{"tier": "front", "example.com/owner": "a & b", "empty": ""}, Autostart: true,
		Memory: 512 * polyvisor.MiB, MaxMemory: polyvisor.GiB, Balloon: true,
		MemoryBacking: []polyvisor.MemoryBacking{
			{File: polyvisor.Path("/m/a"), Start: 0x1000, End: 0x3000},
			{File: polyvisor.Path("/m/b"), Start: 0xffff_ffff_ffff_0000, End: 0xffff_ffff_ffff_f000},
		},
		VCPUs: 2, MaxVCPUs: 8, Topology: polyvisor.Topology{Sockets: 2, Cores: 2, Threads: 2},
		VCPU: []polyvisor.VCPUConfig{
			{Number: 0, Affinity: polyvisor.CPUs(0, 1, 2, 7)},
			{Number: 1, Affinity: polyvisor.CPUs(3), Weight: 200},
			{Number: 4, Weight: 10000},
			{Number: 5},
		},
		Boot:    polyvisor.Boot{Kernel: polyvisor.Path("/boot/vmlinuz"), Initrd: polyvisor.Path("/boot/initrd"), CommandLine: "console=ttyS0 x=\"1 <2>\""},
		Console: polyvisor.ConsoleConfig{Log: "/log/web", Out: polyvisor.Path("/log/out"), In: polyvisor.Path("/log/in")},
		Log:     polyvisor.Path("/log/hypervisor"),
		Disks: []polyvisor.Disk{
			{Target: "vda", Source: polyvisor.Path("/d/a"), Format: polyvisor.FormatRaw, Serial: "S-1"},
			{Target: "vdb", Source: polyvisor.Path("/d/b"), Format: polyvisor.FormatQCOW2, Mode: polyvisor.DeviceReadOnly},
			{Target: "vdc", Source: polyvisor.Path("/d/c"), Format: polyvisor.FormatRaw, Mode: polyvisor.DeviceReadWrite},
			{Target: "vdd", Source: polyvisor.Path("/d/d"), Format: polyvisor.FormatRaw, Mode: polyvisor.DeviceReadWriteForce},
		},
		NICs: []polyvisor.NIC{
			{MAC: polyvisor.MAC{0x52, 0x54, 0, 0, 0, 1}, Network: polyvisor.NetworkUser, Forwards: []polyvisor.PortForward{
				{Protocol: polyvisor.ProtocolTCP, HostIP: "127.0.0.1", HostPort: 8080, GuestPort: 80},
				{Protocol: polyvisor.ProtocolUDP, HostIP: "::", HostPort: 53, GuestPort: 53},
			}, HostLoopback: true},
			{MAC: polyvisor.MAC{0x52, 0x54, 0, 0, 0, 2}, Network: polyvisor.NetworkBridge, Source: "br0", MTU: 9000, Queues: 4},
			{MAC: polyvisor.MAC{0x52, 0x54, 0, 0, 0, 3}, Network: polyvisor.NetworkTap, Source: "tap0"},
			{MAC: polyvisor.MAC{0x52, 0x54, 0, 0, 0, 4}, Network: polyvisor.NetworkManaged, Source: "default"},
		},
		Shares: []polyvisor.Share{
			{Tag: "src", Source: "/srv/src"},
			{Tag: "ro", Source: "/srv/ro", Mode: polyvisor.DeviceReadOnly},
			{Tag: "rw", Source: "/srv/rw", Mode: polyvisor.DeviceReadWrite},
			{Tag: "force", Source: "/srv/force", Mode: polyvisor.DeviceReadWriteForce},
		},
		RNG:   &polyvisor.RNG{Source: "/dev/hwrng", BytesPerSecond: 4096},
		Vsock: &polyvisor.VsockConfig{CID: 42}, Protected: true, HypervisorAuth: true,
		OnPoweroff: polyvisor.ActionRestart, OnReboot: polyvisor.ActionRenameRestart, OnCrash: polyvisor.ActionPreserve,
	}
	for i := range c.InstanceID {
		c.InstanceID[i] = byte(i * 7)
	}
	return c
}

// random is a valid Config, with the plain and the strange.
func random(r *rand.Rand) *polyvisor.Config {
	some := func() bool { return r.IntN(2) == 0 }
	letters := []rune("abc 019<>&\"'\\\t\n\r\x01\x1b\x7f\u0085\u2028\ufeff\ufffd\ufffe\uffffäöß漢\U0001f600]]>{}$%-_=/.,")
	word := func(allowed []rune, least, most int) string {
		var s []rune
		for n := least + r.IntN(most-least+1); n > 0; n-- {
			s = append(s, allowed[r.IntN(len(allowed))])
		}
		return string(s)
	}
	text := func(least, most int) string { return word(letters, least, most) }
	line := func(least, most int) string {
		return word([]rune("ab <>&\"'\ufeff\ufffd\ufffe\uffffä漢\U0001f600"), least, most)
	}
	page := func(most uint64) polyvisor.Bytes { return polyvisor.Bytes(1+r.Uint64N(most)) * 4 * polyvisor.KiB }
	c := &polyvisor.Config{Name: "n" + line(0, 20), Title: line(0, 20), Autostart: some(), Balloon: some(), Protected: some(), HypervisorAuth: some()}
	for i := range c.UUID {
		c.UUID[i] = byte(r.Uint32())
	}
	if some() {
		for i := range c.InstanceID {
			c.InstanceID[i] = byte(r.Uint32())
		}
	}
	for range r.IntN(4) {
		if c.Labels == nil {
			c.Labels = map[string]string{}
		}
		c.Labels[word([]rune("abcXYZ019.-_/"), 1, 63)] = line(0, 30)
	}
	if some() {
		c.MaxMemory = page(1 << 40)
		if some() {
			c.Memory = min(page(1<<40), c.MaxMemory)
		}
	}
	start := uint64(0)
	for range r.IntN(3) {
		start += 4096 * (1 + r.Uint64N(1<<20))
		end := start + 4096*(1+r.Uint64N(1<<20))
		c.MemoryBacking = append(c.MemoryBacking, polyvisor.MemoryBacking{File: polyvisor.Path("/" + text(0, 9)), Start: start, End: end})
		start = end
	}
	if some() {
		c.Topology = polyvisor.Topology{Sockets: 1 + r.IntN(3), Cores: 1 + r.IntN(3), Threads: 1 + r.IntN(3)}
		c.MaxVCPUs = c.Topology.Sockets * c.Topology.Cores * c.Topology.Threads
		c.VCPUs = 1 + r.IntN(c.MaxVCPUs)
	} else if some() {
		c.VCPUs = 1 + r.IntN(300)
	}
	for i := range max(c.VCPUs, c.MaxVCPUs, 1) {
		if some() {
			v := polyvisor.VCPUConfig{Number: i}
			for range r.IntN(3) {
				v.Affinity.Use(r.IntN(300))
			}
			if some() {
				v.Weight = 1 + r.IntN(10000)
			}
			c.VCPU = append(c.VCPU, v)
		}
	}
	if some() {
		c.Boot = polyvisor.Boot{Kernel: polyvisor.Path("/" + text(0, 9)), CommandLine: text(0, 40)}
		if some() {
			c.Boot.Initrd.Path = text(1, 9)
		}
	} else if some() {
		c.Boot.Firmware.Path = text(1, 9)
	}
	c.Console.Log, c.Console.Virtio = text(0, 3), c.UUID[1]%2 == 0
	c.Console.In.Path, c.Console.Out.Path, c.Log.Path = text(0, 3), text(0, 3), text(0, 3)
	mode := func() polyvisor.DeviceMode { return polyvisor.DeviceMode(r.IntN(4)) }
	for i := range r.IntN(4) {
		d := polyvisor.Disk{Source: polyvisor.Path(text(1, 9)), Mode: mode(), Serial: word([]rune("!aZ09~<&>'\""), 0, 20)}
		if some() {
			d.Target = "sd" + string(rune('a'+i))
		}
		d.Format = []polyvisor.DiskFormat{"", polyvisor.FormatRaw, polyvisor.FormatQCOW2}[r.IntN(3)]
		d.Cache = []polyvisor.CacheMode{"", polyvisor.CacheWriteback, polyvisor.CacheWritethrough, polyvisor.CacheNone, polyvisor.CacheUnsafe}[r.IntN(5)]
		d.Queues = r.IntN(3) * r.IntN(33)
		c.Disks = append(c.Disks, d)
	}
	for i := range r.IntN(4) {
		n := polyvisor.NIC{MAC: polyvisor.MAC{0x52, byte(r.Uint32()), 1, 2, 3, byte(i)}}
		n.Network = []polyvisor.NetworkKind{"", polyvisor.NetworkUser, polyvisor.NetworkBridge, polyvisor.NetworkTap, polyvisor.NetworkManaged}[r.IntN(5)]
		if n.Network != "" && n.Network != polyvisor.NetworkUser {
			n.Source, n.Queues = line(1, 9), int(n.MAC[1])%65
		} else {
			r := rand.New(rand.NewPCG(uint64(c.UUID[0]), uint64(i)))
			n.HostLoopback = r.IntN(2) == 0
			for range r.IntN(3) {
				n.Forwards = append(n.Forwards, polyvisor.PortForward{
					Protocol: []string{"", polyvisor.ProtocolTCP, polyvisor.ProtocolUDP}[r.IntN(3)], HostIP: []string{"", "127.0.0.1", "::1", "0.0.0.0"}[r.IntN(4)],
					HostPort: uint16(1 + len(c.NICs)*10 + len(n.Forwards)), GuestPort: uint16(r.IntN(1 << 16)),
				})
			}
		}
		if some() {
			n.MTU = 68 + r.IntN(60000)
		}
		c.NICs = append(c.NICs, n)
	}
	for i := range r.IntN(4) {
		c.Shares = append(c.Shares, polyvisor.Share{Tag: string(rune('a'+i)) + line(0, 5), Source: text(1, 9), Mode: mode()})
	}
	if some() {
		c.RNG = &polyvisor.RNG{Source: text(0, 9), BytesPerSecond: polyvisor.Bytes(r.Uint64N(1 << 40))}
	}
	if some() {
		c.Vsock = &polyvisor.VsockConfig{}
		if some() {
			c.Vsock.CID = 3 + r.Uint32N(1<<31)
		}
	}
	action := func() polyvisor.Action {
		return []polyvisor.Action{"", polyvisor.ActionDestroy, polyvisor.ActionRestart, polyvisor.ActionPreserve, polyvisor.ActionRenameRestart}[r.IntN(5)]
	}
	c.OnPoweroff, c.OnReboot, c.OnCrash = action(), action(), action()
	return c
}

// withDefaults is the form in which a Config comes back: with the defaults, but
// memory that was taken away stays away.
func withDefaults(c *polyvisor.Config) *polyvisor.Config {
	d := c.WithDefaults()
	if c.Memory == 0 && c.MaxMemory != 0 {
		d.Memory = 0
	}
	return d
}

func read(t testing.TB, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
