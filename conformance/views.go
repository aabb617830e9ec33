package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/polyvisor/polyvisor"
)

// What a guest finds of a device. A NIC is told with its MTU and else as there.
const (
	viewNone     = "nothing"
	viewThere    = "one"
	viewReadOnly = "one to read"
	viewWritable = "one to read and write"
)

// view is how a guest finds out about the devices of a kind.
type view struct {
	// words are the fields of Guest that it takes.
	words []string
	// found is what the guest finds of a device, want what it should if it is there.
	found func(t *talk, dev polyvisor.Device) string
	want  func(dev polyvisor.Device) string
}

// views have an entry for each of deviceKinds.
var views = map[string]view{
	"disk":  {[]string{"Read", "Write", "Flush"}, foundDisk, func(dev polyvisor.Device) string { return byMode(dev.(*polyvisor.Disk).Mode) }},
	"nic":   {[]string{"NICs"}, foundNIC, wantNIC},
	"share": {[]string{"Put", "Cat"}, foundShare, func(dev polyvisor.Device) string { return byMode(dev.(*polyvisor.Share).Mode) }},
	"rng":   {[]string{"Random"}, foundRNG, func(polyvisor.Device) string { return viewThere }},
}

func byMode(m polyvisor.DeviceMode) string {
	if m.Writable() {
		return viewWritable
	}
	return viewReadOnly
}

// viewer opens the console to the guest of an active domain. It gives nil if the
// guest has no words for devices of that kind.
func (c *C) viewer(kind string, d *polyvisor.Domain) *talk {
	if !c.has(polyvisor.FeatureConsole) || slices.ContainsFunc(views[kind].words, func(w string) bool { return !c.h.Guest.knows(w) }) {
		return nil
	}
	return c.talk(d)
}

// finds waits until the guest finds the device as it is, as it may take a while
// to take notice of it. It does nothing for a talk that is nil.
func (t *talk) finds(kind string, dev polyvisor.Device, when string) {
	t.findsAs(kind, dev, views[kind].want(dev), when)
}

// misses waits until the guest finds no such device.
func (t *talk) misses(kind string, dev polyvisor.Device, when string) {
	t.findsAs(kind, dev, viewNone, when)
}

func (t *talk) findsAs(kind string, dev polyvisor.Device, want, when string) {
	if t == nil {
		return
	}
	what := fmt.Sprintf("%s the guest finds %s in place of the %s %s", when, want, kind, dev.DeviceID())
	t.c.eventually(what, func() bool { return views[kind].found(t, dev) == want })
}

// foundDisk has the guest read a sector that was written into the image, and
// write another. What it answers to the writing does not count, but what is in
// the image then.
func foundDisk(t *talk, dev polyvisor.Device) string {
	const sector, reads, writes = 512, 4, 3
	c, g, disk := t.c, t.c.h.Guest, dev.(*polyvisor.Disk)
	seen, written := c.mark(), c.mark()
	f, err := os.OpenFile(disk.Source.Path, os.O_RDWR, 0)
	c.ok(err, "open the image of a disk")
	defer f.Close()
	_, err = f.WriteAt([]byte(seen+"\x00"), reads*sector)
	c.ok(err, "write into the image of a disk")
	answer := t.ask(fmt.Sprintf("%s %s %d", g.Read, disk.Target, reads))
	t.ask(fmt.Sprintf("%s %s %d %s", g.Write, disk.Target, writes, written))
	t.ask(g.Flush + " " + disk.Target)
	there := make([]byte, len(written))
	_, err = f.ReadAt(there, writes*sector)
	c.ok(err, "read the image of a disk")
	return access(strings.Contains(answer, seen), string(there) == written)
}

// foundShare does the same with files in the shared directory.
func foundShare(t *talk, dev polyvisor.Device) string {
	c, g, share := t.c, t.c.h.Guest, dev.(*polyvisor.Share)
	seen, written := c.mark(), c.mark()
	in, out := filepath.Join(share.Source, seen), filepath.Join(share.Source, written)
	c.ok(os.WriteFile(in, []byte("text of "+seen), 0o600), "write a file into the directory that is shared")
	answer := t.ask(g.Cat + " " + share.Tag + " " + seen)
	t.ask(g.Put + " " + share.Tag + " " + written + " " + written)
	there, _ := os.ReadFile(out) // or there is none
	return access(strings.Contains(answer, "text of "+seen), strings.TrimSpace(string(there)) == written)
}

func access(reads, writes bool) string {
	switch {
	case reads && writes:
		return viewWritable
	case reads:
		return viewReadOnly
	case writes:
		return "one to write"
	}
	return viewNone
}

func wantNIC(dev polyvisor.Device) string {
	if mtu := dev.(*polyvisor.NIC).MTU; mtu > 0 {
		return fmt.Sprintf("one with MTU %d", mtu)
	}
	return viewThere
}

func foundNIC(t *talk, dev polyvisor.Device) string {
	nic := dev.(*polyvisor.NIC)
	for line := range strings.Lines(t.ask(t.c.h.Guest.NICs)) {
		if !strings.Contains(line, nic.MAC.String()) {
			continue
		}
		if nic.MTU > 0 && slices.Contains(strings.Fields(line), strconv.Itoa(nic.MTU)) {
			return wantNIC(nic)
		}
		return viewThere
	}
	return viewNone
}

func foundRNG(t *talk, _ polyvisor.Device) string {
	if ask := t.c.h.Guest.Random + " 16"; t.ask(ask) != t.ask(ask) {
		return viewThere
	}
	return viewNone
}

// mark gives a word that the case has not used yet.
func (c *C) mark() string {
	c.marks++
	return fmt.Sprintf("mark-%d-of-the-host", c.marks)
}
