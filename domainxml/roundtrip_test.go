package domainxml_test

import (
	"math/rand/v2"
	"os"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"libvirt.org/go/libvirtxml"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/domainxml"
)

func roundTrip(t *testing.T, c *polyvisor.Config) string {
	t.Helper()
	require.NoError(t, c.Validate(), "the test's own Config")
	before := c.Clone()
	text, err := domainxml.Format(c, domainxml.Options{Arch: "amd64"})
	require.NoError(t, err)
	require.Equal(t, before, c, "Format leaves its argument alone")
	got, err := domainxml.Parse(text)
	require.NoError(t, err, text)
	require.Equal(t, withDefaults(c), got, text)
	return text
}

// update writes the expected files anew: UPDATE=1 go test ./domainxml.
var update = os.Getenv("UPDATE") != ""

func TestFull(t *testing.T) {
	text := roundTrip(t, full())
	const file = "testdata/full.xml"
	if update {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
	}
	require.Equal(t, read(t, file), text)
}

func TestRoundTrip(t *testing.T) {
	id := uuid.MustParse("2a2e1b5c-1111-4000-8000-0123456789ab")
	for name, c := range map[string]polyvisor.Config{
		"least":         {},
		"firmware":      {Boot: polyvisor.Boot{Firmware: polyvisor.Path("/fw")}},
		"cmdline alone": {Boot: polyvisor.Boot{CommandLine: "auto=poweroff"}},
		"no memory":     {MaxMemory: polyvisor.GiB},
		"odd memory":    {Memory: 1028 * polyvisor.KiB},
		"huge memory":   {Memory: 1<<64 - 4096},
		"vsock of any":  {Vsock: &polyvisor.VsockConfig{}},
		"plain rng":     {RNG: &polyvisor.RNG{}},
		"white space":   {Title: "  a ", Boot: polyvisor.Boot{Kernel: polyvisor.Path(" /k\n"), CommandLine: "\r\n\ta\r"}, Labels: map[string]string{"a": "  ", "b": ""}},
		"unholdable": {Title: "\ufffe", Boot: polyvisor.Boot{Kernel: polyvisor.Path("/k\x01"), CommandLine: "esc \x1b[0m \ufffd"},
			Labels: map[string]string{"l": "\uffff"}, Shares: []polyvisor.Share{
				{Tag: "\ufffe", Source: "/a\x02", Mode: polyvisor.DeviceReadWrite}, {Tag: "\uffff", Source: "/b", Mode: polyvisor.DeviceReadWriteForce}}},
	} {
		t.Run(name, func(t *testing.T) {
			c.Name, c.UUID = "web", id
			roundTrip(t, &c)
		})
	}
}

// What is random is not made up by Format.
func TestFormatNothingRandom(t *testing.T) {
	c := &polyvisor.Config{Name: "web", NICs: []polyvisor.NIC{{}}}
	text, err := domainxml.Format(c, domainxml.Options{Type: "test"})
	require.NoError(t, err)
	require.Contains(t, text, `<domain type="test">`)
	require.NotContains(t, text, "<uuid>")
	require.NotContains(t, text, "<mac")
}

func TestFormatRefuses(t *testing.T) {
	f, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer f.Close()
	for want, c := range map[string]*polyvisor.Config{
		"boot.kernel: open file /dev/null has no form in XML": {Name: "web", Boot: polyvisor.Boot{Kernel: polyvisor.OpenFile(f)}},
		"vcpus: -1 is negative":                               {Name: "web", VCPUs: -1},
		"every domain needs a name":                           {},
	} {
		_, err := domainxml.Format(c, domainxml.Options{})
		require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
		require.ErrorContains(t, err, want)
	}
}

func TestDevices(t *testing.T) {
	for _, d := range full().Devices() {
		t.Run(d.DeviceID(), func(t *testing.T) {
			text, err := domainxml.FormatDevice(d)
			require.NoError(t, err)
			got, err := domainxml.ParseDevice(text)
			require.NoError(t, err, text)
			require.Equal(t, d, got, text)
		})
	}
	f, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer f.Close()
	for want, d := range map[string]polyvisor.Device{
		"no device":                          nil,
		"invalid configuration: no device":   (*polyvisor.NIC)(nil),
		"character that XML cannot hold":     &polyvisor.Share{Tag: "t", Source: "/\x1b"},
		"disk vda: open file /dev/null has":  &polyvisor.Disk{Target: "vda", Source: polyvisor.OpenFile(f)},
		"shares[0].tag has a character that": &polyvisor.Share{Tag: "\ufffe", Source: "/"},
	} {
		_, err := domainxml.FormatDevice(d)
		require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
		require.ErrorContains(t, err, want)
	}
}

// libvirtxml reads what it wrote: nothing is in a place that it does not know.
func TestLibvirtXMLReads(t *testing.T) {
	text := roundTrip(t, full())
	var d libvirtxml.Domain
	require.NoError(t, d.Unmarshal(text))
	again, err := d.Marshal()
	require.NoError(t, err)
	c, err := domainxml.Parse(again)
	require.NoError(t, err)
	require.Equal(t, full(), c)
}

func FuzzRoundTrip(f *testing.F) {
	for i := range uint64(20) {
		f.Add(i, i*i)
	}
	f.Fuzz(func(t *testing.T, a, b uint64) { roundTrip(t, random(rand.New(rand.NewPCG(a, b)))) })
}

// FuzzText puts one text into every place that takes one.
func FuzzText(f *testing.F) {
	for _, s := range []string{"", " ", "]]>", "&lt;", "<!--", "\x00", "\ufffe\uffff", "\r\n", "\x1b", "a\x80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c := full()
		c.Title, c.Boot.CommandLine, c.Console.Log, c.Boot.Kernel.Path, c.Boot.Initrd.Path = s, s, s, s, s
		c.Labels["l"], c.Disks[0].Source.Path, c.NICs[1].Source, c.Shares[0].Source, c.RNG.Source = s, s, s, s, s
		if c.Validate() != nil {
			_, err := domainxml.Format(c, domainxml.Options{})
			require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
			return
		}
		roundTrip(t, c)
	})
}

func FuzzParse(f *testing.F) {
	f.Add(read(f, "testdata/full.xml"))
	f.Add(read(f, "testdata/minimal.xml"))
	f.Add(read(f, "testdata/noise.xml"))
	f.Add(read(f, "testdata/refused.xml"))
	f.Fuzz(func(t *testing.T, text string) {
		for _, parse := range []func(string) error{
			func(s string) error { _, err := domainxml.Parse(s); return err },
			func(s string) error { _, err := domainxml.ParseDevice(s); return err },
		} {
			if err := parse(text); err != nil {
				require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
				require.NotEmpty(t, err.Error())
				require.Less(t, len(err.Error()), 1<<20)
			}
		}
		c, err := domainxml.Parse(text)
		if err != nil || c.Validate() != nil {
			return
		}
		if c.UUID == uuid.Nil || hasRandomMAC(c) {
			return
		}
		roundTrip(t, c)
	})
}

func hasRandomMAC(c *polyvisor.Config) bool {
	for _, n := range c.NICs {
		if n.MAC.IsZero() {
			return true
		}
	}
	return false
}

func FuzzParseDevice(f *testing.F) {
	for _, d := range full().Devices() {
		text, err := domainxml.FormatDevice(d)
		require.NoError(f, err)
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := domainxml.ParseDevice(text)
		if err != nil {
			require.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
			return
		}
		if nic, ok := d.(*polyvisor.NIC); ok && nic.Network == "" {
			nic.Network = polyvisor.NetworkUser // what Format takes it for
		}
		again, err := domainxml.FormatDevice(d)
		require.NoError(t, err)
		got, err := domainxml.ParseDevice(again)
		require.NoError(t, err, again)
		require.Equal(t, d, got)
	})
}
