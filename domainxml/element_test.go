package domainxml_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/domainxml"
)

func TestMetadataIsTheElementWithoutPrefix(t *testing.T) {
	c := &polyvisor.Config{Name: "a", Labels: map[string]string{"k": `<polyvisor:x> & "`}, Disks: []polyvisor.Disk{{Target: "vda", Source: polyvisor.Path("/a"), Mode: polyvisor.DeviceReadWrite}}}
	got, err := domainxml.Metadata(c)
	require.NoError(t, err)
	assert.Equal(t, `<domain><label key="k">&lt;polyvisor:x&gt; &amp; &#34;</label><device id="vda" mode="rw"/></domain>`, got)
	got, err = domainxml.Metadata(&polyvisor.Config{Name: "a"})
	require.NoError(t, err)
	assert.Empty(t, got)
}

func TestDeviceXML(t *testing.T) {
	for _, tt := range []struct {
		dev  polyvisor.Device
		want string
	}{
		{&polyvisor.Disk{Target: "sdb"}, `<disk type='file' device='cdrom'><target dev='sdb' bus='sata'/><readonly/><alias name='sata0-0-1'/></disk>`},
		{&polyvisor.NIC{MAC: polyvisor.MAC{0x52, 0x54, 0, 0, 0, 2}}, `<interface type='hostdev' managed='yes'><mac address='52:54:00:00:00:02'/></interface>`},
		{&polyvisor.Disk{Target: "sdz"}, ""},
		{&polyvisor.Share{Tag: "sdb"}, ""},
	} {
		got, ok, err := domainxml.DeviceXML(foreign, tt.dev)
		require.NoError(t, err)
		assert.Equal(t, tt.want, got)
		assert.Equal(t, tt.want != "", ok)
	}
	_, _, err := domainxml.DeviceXML("<domain>", &polyvisor.RNG{})
	assert.ErrorIs(t, err, polyvisor.ErrInvalidConfig)
}

func TestAliasTellsTheDevice(t *testing.T) {
	for _, dev := range []polyvisor.Device{&polyvisor.Disk{Target: "vda"}, &polyvisor.NIC{MAC: polyvisor.MAC{1, 2, 3, 4, 5, 6}}, &polyvisor.Share{Tag: "ü /"}, &polyvisor.RNG{}} {
		id, ok := domainxml.AliasID(domainxml.Alias(dev))
		assert.True(t, ok)
		assert.Equal(t, dev.DeviceID(), id)
		assert.Regexp(t, `^ua-[a-zA-Z0-9_-]+$`, domainxml.Alias(dev))
	}
	for _, alias := range []string{"net0", "ua-other", "ua-pv-disk-", "ua-pv-disk-zz", ""} {
		_, ok := domainxml.AliasID(alias)
		assert.False(t, ok, alias)
	}
	c := &polyvisor.Config{Name: "a", Disks: []polyvisor.Disk{{Target: "vda", Source: polyvisor.Path("/a")}}, NICs: []polyvisor.NIC{{MAC: polyvisor.MAC{2, 2, 3, 4, 5, 6}}}, RNG: &polyvisor.RNG{},
		Shares: []polyvisor.Share{{Tag: "t", Source: "/s"}}}
	text, err := domainxml.Format(c, domainxml.Options{Aliases: true})
	require.NoError(t, err)
	got, err := domainxml.Aliases(text)
	require.NoError(t, err)
	assert.Len(t, got, 4)
	for alias, id := range got {
		back, ok := domainxml.AliasID(alias)
		assert.True(t, ok && back == id, "%s is %s", alias, id)
	}
	_, err = domainxml.Parse(text)
	assert.NoError(t, err)
	text, err = domainxml.FormatNamedDevice(&c.Disks[0])
	require.NoError(t, err)
	assert.Contains(t, text, domainxml.Alias(&c.Disks[0]))
}
