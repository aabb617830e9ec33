package conformance_test

import (
	"debug/elf"
	"errors"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/conformance"
)

var resourceFaults = []fault{
	{name: "set memory does nothing", of: "memory/inactive", says: "memory is", op: nothing("set memory")},
	{name: "memory cannot be taken away", of: "memory/none", says: "start without memory: succeeded", op: nothing("set memory")},
	{name: "set max memory does nothing", of: "memory/maximum", says: "memory 64MiB of 64MiB", op: nothing("set max memory")},
	{name: "the balloon does nothing", of: "memory/balloon", says: "waited in vain until the guest has", op: nothing("set memory")},
	{name: "a balloon that is not there", of: "memory/without-balloon", says: "succeeded", op: instead("set memory", polyvisor.ErrUnsupported, nil)},
	{name: "the maximum is forgotten", of: "memory/maximum-config", says: "Info tells", info: func(i *polyvisor.Info) { i.MaxMemory = i.Memory }},
	{name: "ranges are forgotten", of: "memory/backing", says: "the ranges are", config: func(c *polyvisor.Config) { c.MemoryBacking = nil }},
	{name: "set vcpus does nothing", of: "vcpu/count", says: "Info tells 1 vCPUs", op: nothing("set vcpus")},
	{name: "hot-plug does nothing", of: "vcpu/hot-plug", says: "Info tells 1 vCPUs, want 3", op: nothing("set vcpus")},
	{name: "the offline ones are left out", of: "vcpu/info", says: "vCPUs are told, want 3",
		vcpus: func(l []polyvisor.VCPU) []polyvisor.VCPU {
			return slices.DeleteFunc(l, func(v polyvisor.VCPU) bool { return v.State == polyvisor.VCPUOffline })
		}},
	{name: "vCPUs take no time", of: "vcpu/info", says: "the time of a busy guest's vCPU has grown", vcpus: eachVCPU(func(v *polyvisor.VCPU) { v.CPUTime = 0 })},
	{name: "vCPUs are nowhere", of: "vcpu/info", says: "told to be on a host CPU", vcpus: eachVCPU(func(v *polyvisor.VCPU) { v.CPU = -1 })},
	{name: "vCPUs never run", of: "vcpu/info", says: "told as running", vcpus: eachVCPU(func(v *polyvisor.VCPU) {
		if v.State == polyvisor.VCPURunning {
			v.State = polyvisor.VCPUBlocked
		}
	})},
	{name: "pin does nothing", of: "vcpu/pin", says: "vCPU 0 may run on", op: nothing("pin vcpu")},
	{name: "configure does nothing", of: "vcpu/configure", says: "the weight in the definition is 0", op: nothing("configure vcpu")},
	{name: "configure forgets the affinity", of: "vcpu/configure", says: "in the definition vCPU 0 may run on", op: on("configure vcpu", func(c *call, next func() error) error {
		if c.vcpu.Weight > 10000 || c.vcpu.Number > 0 || c.vcpu.Affinity.Has(polyvisor.MaxCPU) {
			return next()
		}
		v := *c.vcpu
		v.Affinity = polyvisor.CPUSet{}
		return c.inst.(polyvisor.VCPUConfigurer).ConfigureVCPU(c.ctx, v)
	})},
	{name: "the topology is forgotten", of: "vcpu/topology", says: "the topology is", config: func(c *polyvisor.Config) { c.Topology = polyvisor.Topology{} }},
}

func eachVCPU(change func(*polyvisor.VCPU)) func([]polyvisor.VCPU) []polyvisor.VCPU {
	return func(l []polyvisor.VCPU) []polyvisor.VCPU {
		for i := range l {
			change(&l[i])
		}
		return l
	}
}

func eachDisk(change func(*polyvisor.DiskStats)) func(*polyvisor.Stats) {
	return func(s *polyvisor.Stats) {
		for i := range s.Disks {
			change(&s.Disks[i])
		}
	}
}

func eachNIC(change func(*polyvisor.NICStats)) func(*polyvisor.Stats) {
	return func(s *polyvisor.Stats) {
		for i := range s.NICs {
			change(&s.NICs[i])
		}
	}
}

func deviceFaults() []fault {
	var list []fault
	for kind, drop := range map[string]func(*polyvisor.Config){
		"disk": func(c *polyvisor.Config) { c.Disks = nil }, "nic": func(c *polyvisor.Config) { c.NICs = nil },
		"share": func(c *polyvisor.Config) { c.Shares = nil }, "rng": func(c *polyvisor.Config) { c.RNG = nil },
	} {
		list = append(list,
			fault{name: "attach does nothing: " + kind, of: "device/" + kind + "-inactive", says: "after attach the domain has", op: nothing("attach")},
			fault{name: "update does nothing: " + kind, of: "device/" + kind + "-inactive", says: "update what is not there: succeeded", op: nothing("update")},
			fault{name: "detach does nothing: " + kind, of: "device/" + kind + "-hot-plug", says: "after detach the domain still has", op: on("detach", func(c *call, next func() error) error {
				if c.d.h.count("detach") == 1 { // of what is not there
					return next()
				}
				return nil
			})},
			fault{name: "the device is left out: " + kind, of: "device/" + kind + "-config", says: "the domain has", config: drop})
	}
	return append(list,
		fault{name: "disks in the wrong order", of: "device/many", says: "the disks are", config: func(c *polyvisor.Config) { slices.Reverse(c.Disks) }},
		fault{name: "every disk is writable", of: "device/modes", says: "a disk of mode", config: func(c *polyvisor.Config) {
			for i := range c.Disks {
				c.Disks[i].Mode = polyvisor.DeviceReadWrite
			}
		}},
		fault{name: "two may write", of: "device/disk-in-use", says: "start of a second writer: succeeded", op: before("define", func(c *call) {
			for i := range c.config.Disks {
				c.config.Disks[i].Mode = polyvisor.DeviceReadWriteForce
			}
		})},
		fault{name: "the definition changes by itself", of: "device/refused", says: "changed the definition", config: retitle()},
		fault{name: "a kernel that is none is ignored", of: "files/ownership", says: "create with something that is no kernel succeeds",
			op: before("create", func(c *call) { c.config.Boot = polyvisor.Boot{} })},
		fault{name: "a run ends with the file that it was given", of: "files/run-keeps-them", says: "state after the removal",
			op: after("create", func(c *call) error { return (*c.result).Destroy(c.ctx) })},
		fault{name: "what cannot be written is read-only", of: "files/writable", says: "succeeded", op: before("create", func(c *call) {
			for i := range c.config.Disks {
				c.config.Disks[i].Mode = polyvisor.DeviceReadOnly
			}
		})},
	)
}

// overwrite changes a byte of a file.
func overwrite(path string, at int64, b byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte{b}, at)
	return errors.Join(err, f.Close())
}

func retitle() func(*polyvisor.Config) {
	var n atomic.Int32
	return func(c *polyvisor.Config) { c.Title = string(rune('a' + n.Add(1))) }
}

var storedFaults = []fault{
	{name: "what is saved runs on", of: "save/persistent", says: "after save the domain is running", op: after("save", func(c *call) error {
		_, err := c.d.Driver.(polyvisor.Restorer).Restore(c.ctx, c.path, polyvisor.StartOptions{})
		return err
	})},
	{name: "what is restored is defined", of: "save/transient", says: "Info.Persistent is not false", op: after("restore", func(c *call) error {
		cfg, err := (*c.result).Config(c.ctx)
		if err == nil {
			_, err = c.d.Driver.Define(c.ctx, cfg)
		}
		return err
	})},
	{name: "a paused restore runs", of: "save/paused", says: "after a paused restore the domain is running", op: on("restore", func(c *call, _ func() error) (err error) {
		*c.result, err = c.d.Driver.(polyvisor.Restorer).Restore(c.ctx, c.path, polyvisor.StartOptions{})
		return err
	})},
	{name: "the definition is not restored", of: "save/undefined-meanwhile", says: "Info.Persistent is not true",
		op: after("restore", func(c *call) error { return (*c.result).Undefine(c.ctx) })},
	{name: "a file is overwritten", of: "save/refused", says: "save over a file: succeeded", op: before("save", func(c *call) { _ = os.Remove(c.path) })},
	{name: "a broken file is told as missing", of: "save/broken-file", says: `want "invalid configuration"`, op: instead("restore", polyvisor.ErrInvalidConfig, polyvisor.ErrNotFound)},
	{name: "a name that is taken is told as a wrong state", of: "save/name-taken", says: `want "exists already"`, op: instead("restore", polyvisor.ErrExists, polyvisor.ErrInvalidState)},
	{name: "a core dump leaves the guest paused", of: "save/core-dump", says: "after a core dump the domain is paused", op: after("core dump", suspend)},
	{name: "a core dump that is empty", of: "save/core-dump", says: "the dump of 0 bytes is no ELF file", op: after("core dump", func(c *call) error { return os.Truncate(c.path, 0) })},
	{name: "a core dump of text", of: "save/core-dump", says: "is no ELF file", op: after("core dump", func(c *call) error {
		return os.WriteFile(c.path, []byte(strings.Repeat("memory\n", 1000)), 0o600)
	})},
	{name: "a core dump that is an executable", of: "save/core-dump", says: "of type ET_EXEC, want ET_CORE", op: after("core dump", func(c *call) error {
		return overwrite(c.path, 16, byte(elf.ET_EXEC))
	})},
	{name: "a core dump that is cut short", of: "save/core-dump", says: "beyond the end of the file", op: after("core dump", func(c *call) error {
		st, err := os.Stat(c.path)
		if err != nil {
			return err
		}
		return os.Truncate(c.path, st.Size()-1)
	})},
	{name: "XML without the title", of: "xml/round-trip", says: "the domain made of the XML is", op: before("xml", func(c *call) { c.config.Title = "" })},
	{name: "XML of a run without the title", of: "xml/create", says: "the domain made of the XML is", op: before("xml", func(c *call) { c.config.Title = "" })},
	{name: "anything is domain XML", of: "xml/refused", says: "succeeded", op: on("parse xml", func(c *call, next func() error) error {
		if next() != nil {
			c.config = &polyvisor.Config{Name: conformance.Prefix + "guess"}
		}
		return nil
	})},
	{name: "device XML is misread", of: "xml/device", says: "the disk is", op: after("parse device", func(c *call) error {
		(*c.device).(*polyvisor.Disk).Target = "vdmisread"
		return nil
	})},
	{name: "early domains are not kept", of: "xml/early", says: "lookup of an early domain", op: after("define", func(c *call) error {
		if c.d.h.count("define") == 2 {
			return (*c.result).Undefine(c.ctx)
		}
		return nil
	})},
	{name: "set labels does nothing", of: "labels/kept", says: "after set labels the labels are", op: nothing("set labels")},
	{name: "set autostart does nothing", of: "autostart/kept", says: "after switching it on autostart is false", op: nothing("set autostart")},
	{name: "rename does nothing", of: "rename/inactive", says: "lookup by the new name", op: nothing("rename")},
	{name: "no disks are counted", of: "stats/domain", says: "disks and", stats: func(s *polyvisor.Stats) { s.Disks = nil }},
	{name: "reads of disks are not counted", of: "stats/domain", says: "after 2 writes, a flush and 3 reads", stats: eachDisk(func(d *polyvisor.DiskStats) { d.ReadRequests, d.ReadBytes = 0, 0 })},
	{name: "writes to disks are not counted", of: "stats/domain", says: "after 2 writes, a flush and 3 reads", stats: eachDisk(func(d *polyvisor.DiskStats) { d.WriteRequests, d.WriteBytes = 0, 0 })},
	{name: "flushes of disks are not counted", of: "stats/domain", says: "after 2 writes, a flush and 3 reads", stats: eachDisk(func(d *polyvisor.DiskStats) { d.FlushRequests = 0 })},
	{name: "bytes of disks are told as sectors", of: "stats/domain", says: "after 2 writes, a flush and 3 reads", stats: eachDisk(func(d *polyvisor.DiskStats) { d.ReadBytes /= 512 })},
	{name: "all disks have the counters of the first", of: "stats/domain", says: "that the guest leaves alone", stats: func(s *polyvisor.Stats) {
		for i := range s.Disks {
			target := s.Disks[i].Target
			s.Disks[i] = s.Disks[0]
			s.Disks[i].Target = target
		}
	}},
	{name: "received frames are not counted", of: "stats/domain", says: "waited in vain until all frames have come back", stats: eachNIC(func(n *polyvisor.NICStats) { n.RXPackets, n.RXBytes = 0, 0 })},
	{name: "sent frames are not counted", of: "stats/domain", says: "after 5 frames that came back", stats: eachNIC(func(n *polyvisor.NICStats) { n.TXPackets = 0 })},
	{name: "bytes of NICs are not counted", of: "stats/domain", says: "are told as 0 bytes received", stats: eachNIC(func(n *polyvisor.NICStats) { n.RXBytes = 0 })},
	{name: "statistics in the wrong order", of: "stats/bulk", says: `statistics of "cba"`, op: on("bulk stats", func(*call, func() error) error { return errPlain })},
}

// losing loses the events of a type.
func losing(t polyvisor.EventType) func(polyvisor.Event) []polyvisor.Event {
	return func(e polyvisor.Event) []polyvisor.Event {
		if e.Type == t {
			return nil
		}
		return []polyvisor.Event{e}
	}
}

func changing(f func(*polyvisor.Event)) func(polyvisor.Event) []polyvisor.Event {
	return func(e polyvisor.Event) []polyvisor.Event { f(&e); return []polyvisor.Event{e} }
}

func twice(e polyvisor.Event) []polyvisor.Event { return []polyvisor.Event{e, e} }

var eventFaults = []fault{
	{name: "suspends are not told", of: "events/order", says: "the events are", event: losing(polyvisor.EventSuspended)},
	{name: "a stop without its reason", of: "events/order", says: "has the stop", event: changing(func(e *polyvisor.Event) { e.Stop = nil })},
	{name: "starts are not told", of: "events/others", says: "the events are", event: losing(polyvisor.EventStarted)},
	{name: "stops are not told", of: "events/slow-reader", says: "events were lost, want 6", event: func(e polyvisor.Event) []polyvisor.Event {
		if e.Type == polyvisor.EventUndefined {
			return []polyvisor.Event{e, e}
		}
		return []polyvisor.Event{e}
	}},
	{name: "events of one domain come twice", of: "events/one-domain", says: "the events are", event: twice},
	{name: "events of many domains come twice", of: "events/concurrent", says: "the events of", event: twice},
	{name: "events of the wrong type", of: "events/end", says: "the events are", event: changing(func(e *polyvisor.Event) { e.Type = polyvisor.EventStarted })},
	{name: "devices without names", of: "events/changes", says: "names the device", event: changing(func(e *polyvisor.Event) { e.Device = "" })},
	{name: "reboots are not told", of: "events/guest", says: "the events are", event: losing(polyvisor.EventRebooted)},
}
