package domainxml_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/domainxml"
)

// foreign is a domain of somebody else, as libvirt tells it of a run.
const foreign = `<domain type='kvm' id='7'>
  <name>desktop</name>
  <uuid>c7a5fdbd-cdaf-9455-926a-d65c16db1809</uuid>
  <metadata><other xmlns="https://example.org/o">theirs</other></metadata>
  <memory unit='KiB'>2097152</memory>
  <currentMemory unit='KiB'>1048576</currentMemory>
  <vcpu placement='static' current='2'>4</vcpu>
  <os firmware='efi'><type arch='x86_64' machine='pc-q35-7.2'>hvm</type><boot dev='hd'/></os>
  <cpu mode='custom' match='exact'><model>qemu64</model></cpu>
  <on_crash>coredump-destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' cache='none' io='native'/>
      <source file='/images/a.qcow2' index='2'/>
      <target dev='sda' bus='sata'/>
      <alias name='sata0-0-0'/>
    </disk>
    <disk type='file' device='cdrom'><target dev='sdb' bus='sata'/><readonly/><alias name='sata0-0-1'/></disk>
    <disk type='network' device='disk'><source protocol='rbd' name='p/i'/><target dev='vda' bus='virtio'/><alias name='virtio-disk0'/></disk>
    <interface type='bridge'>
      <mac address='52:54:00:00:00:01'/><source bridge='br0'/><target dev='vnet3'/><model type='e1000e'/><alias name='net0'/>
    </interface>
    <interface type='hostdev' managed='yes'><mac address='52:54:00:00:00:02'/></interface>
    <graphics type='vnc' port='-1'/>
    <panic model='isa'/>
  </devices>
</domain>`

func TestParseLooseGivesWhatItCan(t *testing.T) {
	c, leftOut, err := domainxml.ParseLoose(foreign)
	require.NoError(t, err)
	assert.Equal(t, "desktop", c.Name)
	assert.Equal(t, "c7a5fdbd-cdaf-9455-926a-d65c16db1809", c.UUID.String())
	assert.Equal(t, 2*polyvisor.GiB, int(c.MaxMemory))
	assert.Equal(t, polyvisor.GiB, int(c.Memory))
	assert.Equal(t, []int{2, 4}, []int{c.VCPUs, c.MaxVCPUs})
	require.Len(t, c.Disks, 1, "a drive without medium and a disk on the network cannot be said")
	assert.Equal(t, polyvisor.Disk{Target: "sda", Source: polyvisor.Path("/images/a.qcow2"), Format: polyvisor.FormatQCOW2, Cache: polyvisor.CacheNone}, c.Disks[0])
	require.Len(t, c.NICs, 1)
	assert.Equal(t, "br0", c.NICs[0].Source)
	assert.NoError(t, c.Validate(), "what is given is a valid Config")
	var told []string
	for _, p := range leftOut {
		told = append(told, p.Path)
	}
	for _, want := range []string{
		"domain/devices/disk[2]", "domain/devices/disk[3]", "domain/devices/interface[2]", "domain/devices/graphics",
		"domain/devices/disk[1]/driver/@io", "domain/on_crash", "domain/metadata/{https://example.org/o}other", "domain/os/@firmware",
	} {
		assert.Contains(t, told, want)
	}
	_, err = domainxml.Parse(foreign)
	assert.ErrorIs(t, err, polyvisor.ErrInvalidConfig, "Parse goes on refusing it")
}

func TestParseLooseRefusesWhatIsNoDomain(t *testing.T) {
	for _, text := range []string{"", "<network/>", "<domain>", "<domain/><domain/>"} {
		_, _, err := domainxml.ParseLoose(text)
		assert.ErrorIs(t, err, polyvisor.ErrInvalidConfig, "%q", text)
	}
}

func TestAliases(t *testing.T) {
	got, err := domainxml.Aliases(foreign)
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"sata0-0-0": "sda", "sata0-0-1": "sdb", "virtio-disk0": "vda", "net0": "52:54:00:00:00:01"}, got)
}

func TestFormatWithDefaultsOfTheHost(t *testing.T) {
	text, err := domainxml.Format(&polyvisor.Config{Name: "a"}, domainxml.Options{Type: "qemu", Arch: "amd64", Machine: "q35", Emulator: "/usr/bin/qemu", Panic: "isa"})
	require.NoError(t, err)
	for _, want := range []string{`<domain type="qemu">`, `machine="q35"`, `<emulator>/usr/bin/qemu</emulator>`, `<panic model="isa"/>`} {
		assert.True(t, strings.Contains(text, want), "%s is not in\n%s", want, text)
	}
	text, err = domainxml.Format(&polyvisor.Config{Name: "a"}, domainxml.Options{})
	require.NoError(t, err)
	assert.NotContains(t, text, "panic")
	assert.NotContains(t, text, "machine")
}
