package conformance

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/polyvisor/polyvisor"
)

// interruption is an operation that the end of its context interrupts, and how
// to see what has come of it.
type interruption struct {
	name string
	need []polyvisor.Feature
	rule string
	// active is set if the domain runs, asks if its guest is only asked, so that the
	// operation may still come true after its error.
	active, asks bool
	// fresh is set if every call needs a new subject.
	fresh bool
	edit  func(c *C, cfg *polyvisor.Config)
	// once prepares what all calls need. ready brings the subject to where the
	// operation begins, whatever is there; it gives the domain, nil if there is to be
	// none.
	once  func(c *C)
	ready func(c *C, d *polyvisor.Domain) *polyvisor.Domain
	call  func(ctx context.Context, c *C, d *polyvisor.Domain) error
	// look tells what is there. was and is are the answers before and after.
	look    func(c *C, d *polyvisor.Domain) string
	was, is string
}

const (
	subject  = "hurried"
	newTitle = "the new one"
)

// interruptions are those of operations without a state of their own; cancelDuring
// has the others.
var interruptions = []interruption{
	{
		name: "define", rule: "a define has either stored the domain or has not",
		ready: func(c *C, _ *polyvisor.Domain) *polyvisor.Domain { removeSubject(c); return nil },
		call: func(ctx context.Context, c *C, _ *polyvisor.Domain) error {
			_, err := c.conn.Define(ctx, c.Config(subject, func(cfg *polyvisor.Config) { cfg.Title = newTitle }))
			return err
		},
		look: lookTitle, was: "no domain", is: "shutoff, " + newTitle,
	},
	{
		name: "redefine", fresh: true, rule: "a redefinition has either replaced the old one or left all of it",
		call: func(ctx context.Context, c *C, d *polyvisor.Domain) error {
			_, err := c.conn.Define(ctx, c.Config(subject, func(cfg *polyvisor.Config) { cfg.UUID, cfg.Title = d.UUID(), newTitle }))
			return err
		},
		look: lookTitle, was: "shutoff, ", is: "shutoff, " + newTitle,
	},
	{
		name: "undefine", rule: "an undefine has either removed the domain or left it as it was",
		call: func(ctx context.Context, _ *C, d *polyvisor.Domain) error { return d.Undefine(ctx) },
		look: lookTitle, was: "shutoff, ", is: "no domain",
	},
	{
		name: "restore", need: features(polyvisor.FeatureSave), rule: "a restore has either continued the run or left no domain; the file stays",
		once: func(c *C) {
			d := c.started(subject)
			c.ok(d.Save(c.ctx, c.path("kept")), "save")
		},
		ready: func(c *C, _ *polyvisor.Domain) *polyvisor.Domain { removeSubject(c); return nil },
		call: func(ctx context.Context, c *C, _ *polyvisor.Domain) error {
			_, err := c.conn.Restore(ctx, c.path("kept"))
			_, gone := os.Stat(c.path("kept"))
			c.check(gone == nil, "after a restore the file is gone: %v", gone)
			return err
		},
		look: lookTitle, was: "no domain", is: "running, ",
	},
	{
		name: "rename", need: features(polyvisor.FeatureRename), rule: "a rename has either given the new name or left the old one, and the domain has one of the two",
		ready: func(c *C, d *polyvisor.Domain) *polyvisor.Domain {
			if d == nil || d.Name() != Prefix+subject {
				if d != nil {
					c.ok(d.Remove(c.ctx), "remove")
				}
				d = c.define(subject)
			}
			return d
		},
		call: func(ctx context.Context, _ *C, d *polyvisor.Domain) error { return d.Rename(ctx, Prefix+"renamed") },
		look: func(c *C, d *polyvisor.Domain) string {
			return fmt.Sprint(d.Name()[len(Prefix):], " of ", c.names(c.conn, polyvisor.DomainFilter{}))
		},
		was: subject + " of [" + subject + "]", is: "renamed of [renamed]",
	},
	{
		name: "labels", need: features(polyvisor.FeatureLabels), rule: "SetLabels has either replaced all labels or none",
		edit: func(_ *C, cfg *polyvisor.Config) { cfg.Labels = map[string]string{"a": "1", "b": "2"} },
		ready: func(c *C, d *polyvisor.Domain) *polyvisor.Domain {
			c.ok(d.SetLabels(c.ctx, map[string]string{"a": "1", "b": "2"}), "set the old labels")
			return d
		},
		call: func(ctx context.Context, _ *C, d *polyvisor.Domain) error {
			return d.SetLabels(ctx, map[string]string{"b": "3", "c": "4"})
		},
		look: func(c *C, d *polyvisor.Domain) string {
			labels, err := d.Labels(c.ctx)
			c.ok(err, "labels")
			text := ""
			for _, k := range slices.Sorted(maps.Keys(labels)) {
				text += k + labels[k]
			}
			return text
		},
		was: "a1b2", is: "b3c4",
	},
	{
		name: "memory", need: features(polyvisor.FeatureMemory), rule: "SetMemory has either changed the definition, all figures of it, or nothing",
		// A balloon, where there is one, keeps memory and maximum apart.
		edit: func(c *C, cfg *polyvisor.Config) { matrixConfig(c)(cfg) },
		ready: func(c *C, d *polyvisor.Domain) *polyvisor.Domain {
			c.ok(d.SetMaxMemory(c.ctx, baseMemory(c)+32*polyvisor.MiB), "set the maximum")
			c.ok(d.SetMemory(c.ctx, baseMemory(c)), "set the old size")
			return d
		},
		call: func(ctx context.Context, c *C, d *polyvisor.Domain) error {
			return d.SetMemory(ctx, baseMemory(c)+16*polyvisor.MiB)
		},
		look: func(c *C, d *polyvisor.Domain) string {
			i, cfg := c.info(d), c.configOf(d)
			return fmt.Sprintf("+%s by Info, +%s by Config", i.Memory-baseMemory(c), cfg.Memory-baseMemory(c))
		},
		was: "+0B by Info, +0B by Config", is: "+16MiB by Info, +16MiB by Config",
	},
	{
		name: "vcpus", need: features(polyvisor.FeatureVCPUs), rule: "SetVCPUs has either changed the definition, all figures of it, or nothing",
		edit: func(_ *C, cfg *polyvisor.Config) { cfg.VCPUs, cfg.MaxVCPUs = 1, 0 },
		ready: func(c *C, d *polyvisor.Domain) *polyvisor.Domain {
			c.ok(d.SetVCPUs(c.ctx, 1), "set the old number")
			return d
		},
		call: func(ctx context.Context, _ *C, d *polyvisor.Domain) error { return d.SetVCPUs(ctx, 2) },
		look: func(c *C, d *polyvisor.Domain) string {
			return fmt.Sprintf("%d by Info, %d by Config", c.info(d).VCPUs, c.configOf(d).VCPUs)
		},
		was: "1 by Info, 1 by Config", is: "2 by Info, 2 by Config",
	},
	{
		name: "attach", need: features(polyvisor.FeatureDevices, polyvisor.FeatureDisks), active: true, rule: "AttachDevice has either attached the device to the run or has not",
		once: func(c *C) { c.image("matrix-disk") }, ready: detached,
		call: func(ctx context.Context, c *C, d *polyvisor.Domain) error { return d.AttachDevice(ctx, extraDisk(c)) },
		look: lookDisks, was: "without it", is: "with it",
	},
	{
		name: "detach", need: features(polyvisor.FeatureDevices, polyvisor.FeatureDisks), active: true, asks: true, rule: "DetachDevice has either detached the device from the run or has not",
		once: func(c *C) { c.image("matrix-disk") },
		ready: func(c *C, d *polyvisor.Domain) *polyvisor.Domain {
			d = detached(c, d) // also if it is still under way
			c.ok(d.AttachDevice(c.ctx, extraDisk(c)), "attach")
			return d
		},
		call: func(ctx context.Context, c *C, d *polyvisor.Domain) error { return d.DetachDevice(ctx, extraDisk(c)) },
		look: lookDisks, was: "with it", is: "without it",
	},
	{
		name: "shutdown", need: features(polyvisor.FeatureShutdown), active: true, asks: true, fresh: true, rule: "Shutdown has either asked the guest, which obeys or not, or the domain runs on",
		call: func(ctx context.Context, _ *C, d *polyvisor.Domain) error { return d.Shutdown(ctx) },
		look: func(c *C, d *polyvisor.Domain) string {
			if s, err := d.State(c.ctx); err != nil || s != polyvisor.ShuttingDown && s != polyvisor.Shutoff && s != polyvisor.Running && s != polyvisor.Blocked {
				return fmt.Sprint(s, " ", err)
			}
			return "asked or not"
		},
		was: "asked or not", is: "asked or not",
	},
	{
		name: "reboot", need: features(polyvisor.FeatureReboot), active: true, asks: true, fresh: true, rule: "Reboot has either asked the guest or has not; the domain stays active, with its ID",
		call: func(ctx context.Context, _ *C, d *polyvisor.Domain) error { return d.Reboot(ctx) },
		look: func(c *C, d *polyvisor.Domain) string {
			i := c.info(d)
			if i.State == polyvisor.Blocked {
				i.State = polyvisor.Running
			}
			return fmt.Sprintf("%s, with an ID: %t", i.State, i.ID > 0)
		},
		was: "running, with an ID: true", is: "running, with an ID: true",
	},
	{
		name: "console", need: features(polyvisor.FeatureConsole), active: true, rule: "a console is either open or free for the next",
		call: func(ctx context.Context, _ *C, d *polyvisor.Domain) error {
			rwc, err := d.Console(ctx, polyvisor.ConsoleOptions{})
			if err == nil {
				err = rwc.Close()
			}
			return err
		},
		look: func(c *C, d *polyvisor.Domain) string {
			var rwc io.ReadWriteCloser
			var err error
			if rwc, err = d.Console(c.ctx, polyvisor.ConsoleOptions{}); err == nil {
				err = rwc.Close()
			}
			if err != nil {
				return err.Error()
			}
			return "free"
		},
		was: "free", is: "free",
	},
}

func baseMemory(c *C) polyvisor.Bytes { return c.h.Config.WithDefaults().Memory }

func extraDisk(c *C) *polyvisor.Disk {
	return &polyvisor.Disk{Target: "vdz", Source: polyvisor.Path(c.path("matrix-disk"))}
}

// removeSubject removes the domain that may be there.
func removeSubject(c *C) {
	d, err := c.conn.Domain(c.ctx, Prefix+subject)
	if polyvisor.CodeOf(err) == polyvisor.CodeNotFound {
		return
	}
	c.ok(err, "lookup")
	c.ok(d.Remove(c.ctx), "remove")
}

// detached makes sure that the domain does not have the disk.
func detached(c *C, d *polyvisor.Domain) *polyvisor.Domain {
	if lookDisks(c, d) == "with it" {
		if err := d.DetachDevice(c.ctx, extraDisk(c)); polyvisor.CodeOf(err) != polyvisor.CodeNotFound {
			c.ok(err, "detach")
		}
	}
	return d
}

func lookDisks(c *C, d *polyvisor.Domain) string {
	if slices.ContainsFunc(c.configOf(d).Disks, func(o polyvisor.Disk) bool { return o.Target == "vdz" }) {
		return "with it"
	}
	return "without it"
}

// lookTitle tells the state of the domain and its title.
func lookTitle(c *C, _ *polyvisor.Domain) string {
	d, err := c.conn.Domain(c.ctx, Prefix+subject)
	if polyvisor.CodeOf(err) == polyvisor.CodeNotFound {
		return "no domain"
	}
	c.ok(err, "lookup")
	i := c.info(d)
	if i.State == polyvisor.Blocked {
		i.State = polyvisor.Running
	}
	return fmt.Sprintf("%s, %s", i.State, c.configOf(d).Title)
}

func (i interruption) testCase() Case {
	return Case{
		Name: "cancel/" + i.name, Features: i.need,
		Rule:  fmt.Sprintf("When its context ends meanwhile, %s: never something between. A call with a context that has ended does nothing. With time the operation works afterwards.", i.rule),
		Seeds: []string{"thread safety"},
		Run:   i.run,
	}
}

// subject gives the domain as the operation finds it; d is what it left before.
func (i interruption) subject(c *C, d *polyvisor.Domain) *polyvisor.Domain {
	if i.was != "no domain" {
		if d == nil || i.fresh || lookTitle(c, d) == "no domain" && d.Name() == Prefix+subject {
			removeSubject(c)
			d = c.define(subject, func(cfg *polyvisor.Config) {
				if i.edit != nil {
					i.edit(c, cfg)
				}
			})
		}
		want := polyvisor.Shutoff
		if i.active {
			want = polyvisor.Running
		}
		bring(c, d, want)
	}
	if i.ready != nil {
		d = i.ready(c, d)
	}
	return d
}

func (i interruption) run(c *C) {
	if i.once != nil {
		i.once(c)
	}
	d := i.subject(c, nil)
	c.fails(i.call(ended(c), c, d), i.name+" with an ended context", polyvisor.CodeCanceled)
	if got := i.look(c, d); got != i.was {
		c.Errorf("after %s with an ended context: %s; want %s", i.name, got, i.was)
	}
	for _, delay := range delays {
		d = i.subject(c, d)
		ctx, cancel := context.WithTimeout(c.ctx, delay)
		err := i.call(ctx, c, d)
		cancel()
		allowed := []string{i.is}
		if err != nil {
			c.fails(err, fmt.Sprintf("%s with %s of time", i.name, delay), polyvisor.CodeCanceled)
			allowed = []string{i.was}
			if i.asks {
				allowed = append(allowed, i.is)
			}
		}
		if got := i.look(c, d); !slices.Contains(allowed, got) {
			c.Errorf("%s with %s of time gave %v and left: %s; want %s", i.name, delay, err, got, allowed[0])
		}
	}
	d = i.subject(c, d)
	c.ok(i.call(c.ctx, c, d), "%s after all that", i.name)
	if got := i.look(c, d); got != i.is {
		c.Errorf("after %s with time: %s; want %s", i.name, got, i.is)
	}
}
