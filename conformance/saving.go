package conformance

import (
	"debug/elf"
	"os"
	"strings"

	"github.com/polyvisor/polyvisor"
)

func saveCases() []Case {
	save := []polyvisor.Feature{polyvisor.FeatureSave}
	return []Case{
		{
			Name: "save/persistent", Features: save,
			Rule:  "Save writes the run to a new file and leaves the domain inactive; Restore continues it as the same domain, persistent and with the guest where it was: its memory holds what it held and it does not boot again. The file stays.",
			Seeds: []string{"virDomainSave", "virDomainRestore"},
			Run:   savePersistent,
		},
		{
			Name: "save/transient", Features: []polyvisor.Feature{polyvisor.FeatureSave, polyvisor.FeatureTransient},
			Rule:  "A transient domain is gone once it is saved; Restore brings it back with its name, UUID and Config, and the guest where it was.",
			Seeds: []string{"virDomainSave", "virDomainRestore"},
			Run: func(c *C) {
				d := c.create("brief")
				guest := c.trace(d)
				before := c.configOf(d)
				c.ok(d.Save(c.ctx, c.path("saved")), "save")
				c.gone(d, "save")
				e, err := c.conn.Restore(c.ctx, c.path("saved"))
				c.ok(err, "restore")
				c.check(e.Name() == d.Name() && e.UUID() == d.UUID(), "what came back is %q %s, want %q %s", e.Name(), e.UUID(), d.Name(), d.UUID())
				c.check(sameConfig(c.configOf(e), before), "the Config that came back is %+v, want %+v", c.configOf(e), before)
				c.persistent(e, false, "restore of a transient domain")
				c.state(e, polyvisor.Running, "restore")
				guest.goesOn(e)
			},
		},
		{
			Name: "save/paused", Features: []polyvisor.Feature{polyvisor.FeatureSave, polyvisor.FeatureSuspend},
			Rule:  "A paused domain can be saved, and Restore with StartPaused leaves what it continues paused until Resume, which has the guest go on where it was.",
			Seeds: []string{"virDomainSave", "virDomainRestore", "virDomainResume"},
			Run: func(c *C) {
				d := c.started("still")
				guest := c.trace(d)
				c.ok(d.Suspend(c.ctx), "suspend")
				c.ok(d.Save(c.ctx, c.path("saved")), "save a paused domain")
				c.state(d, polyvisor.Shutoff, "save")
				e, err := c.conn.Restore(c.ctx, c.path("saved"), polyvisor.StartPaused())
				c.ok(err, "restore paused")
				c.state(e, polyvisor.Paused, "a paused restore")
				c.ok(e.Resume(c.ctx), "resume")
				c.state(e, polyvisor.Running, "resume")
				guest.goesOn(e)
			},
		},
		{
			Name: "save/undefined-meanwhile", Features: save,
			Rule:  "If the definition of a saved domain is gone by the time it is restored, it comes back with it, and the guest where it was.",
			Seeds: []string{"virDomainRestore"},
			Run: func(c *C) {
				d := c.started("forgotten")
				guest := c.trace(d)
				c.ok(d.Save(c.ctx, c.path("saved")), "save")
				c.ok(d.Undefine(c.ctx), "undefine")
				c.gone(d, "undefine")
				e, err := c.conn.Restore(c.ctx, c.path("saved"))
				c.ok(err, "restore")
				c.check(e.UUID() == d.UUID(), "it came back with UUID %s, want %s", e.UUID(), d.UUID())
				c.persistent(e, true, "restore of what was persistent")
				guest.goesOn(e)
			},
		},
		{
			Name: "save/refused", Features: save,
			Rule:  "Save never overwrites a file, takes an absolute path only, and when it fails the guest goes on as before and there is no file.",
			Seeds: []string{"virDomainSave"},
			Run: func(c *C) {
				d := c.started("going-on")
				taken := c.file("taken", []byte("precious"))
				c.fails(d.Save(c.ctx, taken), "save over a file", polyvisor.CodeExists)
				c.check(read(c, taken) == "precious", "the file that was in the way is changed")
				c.fails(d.Save(c.ctx, "relative"), "save to a relative path", polyvisor.CodeInvalidConfig)
				c.fails(d.Save(c.ctx, ""), "save to no path", polyvisor.CodeInvalidConfig)
				c.fails(d.Save(c.ctx, c.path("no-such-directory/saved")), "save into a directory that is not there", polyvisor.CodeNotFound)
				c.state(d, polyvisor.Running, "saves that were refused")
			},
		},
		{
			Name: "save/broken-file", Features: save,
			Rule:  "Restore of a file that is missing is ErrNotFound; of one that is cut short, changed, empty or something else ErrInvalidConfig; nothing is started.",
			Seeds: []string{"virDomainRestore"},
			Run:   saveBroken,
		},
		{
			Name: "save/name-taken", Features: save,
			Rule:  "Restore is ErrExists while the domain is active, and if its name belongs to another domain by now.",
			Seeds: []string{"virDomainRestore"},
			Run: func(c *C) {
				d := c.started("once")
				c.ok(d.Save(c.ctx, c.path("saved")), "save")
				c.ok(d.Start(c.ctx), "start")
				_, err := c.conn.Restore(c.ctx, c.path("saved"))
				c.fails(err, "restore of an active domain", polyvisor.CodeExists)
				c.ok(d.Remove(c.ctx), "remove")
				other := c.define("once")
				_, err = c.conn.Restore(c.ctx, c.path("saved"))
				c.fails(err, "restore with a name that is taken", polyvisor.CodeExists)
				c.state(other, polyvisor.Shutoff, "a restore that was refused")
			},
		},
		{
			Name: "save/core-dump", Features: []polyvisor.Feature{polyvisor.FeatureCoreDump},
			Rule:  "CoreDump writes a new file, an ELF core (type ET_CORE) with segments of memory (PT_LOAD) for at least that of the domain, which lie within the file, and lets the guest go on in the state it was in; it never overwrites a file.",
			Seeds: []string{"virDomainCoreDump"},
			Run: func(c *C) {
				d := c.started("dumped")
				id := c.info(d).ID
				c.ok(d.CoreDump(c.ctx, c.path("core")), "core dump")
				coreFile(c, c.path("core"), c.info(d).Memory)
				c.state(d, polyvisor.Running, "a core dump")
				c.check(c.info(d).ID == id, "the run was replaced")
				c.fails(d.CoreDump(c.ctx, c.path("core")), "core dump over a file", polyvisor.CodeExists)
				if c.has(polyvisor.FeatureSuspend) {
					c.ok(d.Suspend(c.ctx), "suspend")
					c.ok(d.CoreDump(c.ctx, c.path("core2")), "core dump of a paused domain")
					c.state(d, polyvisor.Paused, "a core dump of a paused domain")
					coreFile(c, c.path("core2"), c.info(d).Memory)
				}
			},
		},
	}
}

func savePersistent(c *C) {
	d := c.started("saved")
	guest := c.trace(d)
	before := c.configOf(d)
	c.ok(d.Save(c.ctx, c.path("saved")), "save")
	c.state(d, polyvisor.Shutoff, "save")
	c.persistent(d, true, "save")
	s, err := d.Wait(c.ctx)
	c.ok(err, "wait after save")
	c.check(s.Reason == polyvisor.StopKilled && strings.Contains(s.Detail, "saved"), "the stop is told as %q", s)
	for range 2 {
		e, err := c.conn.Restore(c.ctx, c.path("saved"))
		c.ok(err, "restore")
		c.check(e.UUID() == d.UUID() && e.Name() == d.Name(), "what came back is %q %s", e.Name(), e.UUID())
		c.state(d, polyvisor.Running, "restore")
		c.persistent(e, true, "restore")
		c.check(sameConfig(before, c.configOf(e)), "the Config of the run is %+v, want %+v", c.configOf(e), before)
		guest.goesOn(e)
		c.ok(d.Destroy(c.ctx), "destroy")
		c.check(exists(c.path("saved")), "the file is gone")
	}
}

// coreFile checks that a file is an ELF core of a guest with so much memory.
// Memory without contents needs no place in the file.
func coreFile(c *C, path string, memory polyvisor.Bytes) {
	st, err := os.Stat(path)
	c.ok(err, "the dump")
	f, err := elf.Open(path)
	if err != nil {
		c.Errorf("the dump of %d bytes is no ELF file: %v", st.Size(), err)
		return
	}
	defer f.Close()
	c.check(f.Type == elf.ET_CORE, "the dump is an ELF file of type %s, want ET_CORE", f.Type)
	var held polyvisor.Bytes
	for i, p := range f.Progs {
		c.check(p.Filesz == 0 || p.Off+p.Filesz >= p.Off && p.Off+p.Filesz <= uint64(st.Size()), "segment %d of the dump lies beyond the end of the file", i)
		if p.Type == elf.PT_LOAD {
			held += polyvisor.Bytes(p.Memsz)
		}
	}
	c.check(held >= memory-min(memory, 16*polyvisor.MiB), "the dump has segments for %s of memory, the domain has %s", held, memory)
}

func saveBroken(c *C) {
	d := c.started("whole")
	c.ok(d.Save(c.ctx, c.path("saved")), "save")
	whole, err := os.ReadFile(c.path("saved"))
	c.ok(err, "read the file")
	if len(whole) < 16 {
		c.Fatalf("the file has %d bytes", len(whole))
	}
	flip := func(at int) []byte {
		b := append([]byte(nil), whole...)
		b[at] ^= 0x55
		return b
	}
	for name, content := range map[string][]byte{
		"empty": nil, "cut-in-half": whole[:len(whole)/2], "cut-at-the-end": whole[:len(whole)-1], "changed-head": flip(0),
		"changed-middle": flip(len(whole) / 2), "text": []byte(strings.Repeat("no saved domain\n", 1000)),
	} {
		_, err := c.conn.Restore(c.ctx, c.file("broken-"+name, content))
		c.fails(err, "restore of a file that is broken ("+name+")", polyvisor.CodeInvalidConfig)
	}
	_, err = c.conn.Restore(c.ctx, c.path("missing"))
	c.fails(err, "restore of a file that is missing", polyvisor.CodeNotFound)
	c.state(d, polyvisor.Shutoff, "restores that failed")
	_, err = c.conn.Restore(c.ctx, c.path("saved"))
	c.ok(err, "restore of the whole file")
}
