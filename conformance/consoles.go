package conformance

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/polyvisor/polyvisor"
)

func consoleCases() []Case {
	console := []polyvisor.Feature{polyvisor.FeatureConsole}
	return []Case{
		{
			Name: "console/dialogue", Features: console, Talks: true,
			Rule:  "What is typed reaches the guest and what it prints is read, byte for byte and in order.",
			Seeds: []string{"AVirtualMachine_createRaw"},
			Run: func(c *C) {
				t := c.talk(c.started("talking"))
				for _, word := range []string{"first", "second", strings.Repeat("0123456789", 20)} {
					got := t.ask(c.h.Guest.Echo + " " + word)
					c.check(strings.TrimSpace(got) == word, "the guest was to print %q and printed %q", word, got)
				}
			},
		},
		{
			Name: "console/replay", Features: console, Talks: true,
			Rule: "What the guest printed before the console was opened, or between two openings, is read first, the last 4 KiB at least.",
			Run: func(c *C) {
				d := c.started("talking")
				t := c.talk(d)
				t.ask(c.h.Guest.Echo + " remembered")
				t.close()
				again := c.console(d, polyvisor.ConsoleOptions{})
				again.await("\nremembered")
				again.await(c.h.Guest.Prompt)
				got := again.ask(c.h.Guest.Echo + " and more")
				c.check(strings.TrimSpace(got) == "and more", "the second dialogue has %q", got)
			},
		},
		{
			Name: "console/one-owner", Features: console,
			Rule: "A console has one owner: another is refused with ErrBusy, on any connection, until it is closed; with Force it is taken over, and the former owner's Read fails with an error that matches ErrBusy.",
			Run:  consoleOwner,
		},
		{
			Name: "console/ends", Features: console,
			Rule: "Read gives io.EOF when the domain stops; Close ends a Read that is under way, may be called again, and the closing of the connection closes the console too.",
			Run:  consoleEnds,
		},
		{
			Name: "console/log", Features: []polyvisor.Feature{polyvisor.FeatureConsole, polyvisor.FeatureConsoleLog}, Talks: true,
			Rule:  "Everything that the guest prints is appended to the log file, whether or not a console is open; what was in the file stays.",
			Seeds: []string{"AVirtualMachine_createRaw"},
			Run: func(c *C) {
				path := c.file("console.log", []byte("from before\n"))
				d := c.started("logging", func(cfg *polyvisor.Config) { cfg.Console.Log = path })
				t := c.talk(d)
				t.ask(c.h.Guest.Echo + " written down")
				c.ok(d.Destroy(c.ctx), "destroy")
				text := read(c, path)
				c.check(strings.HasPrefix(text, "from before\n"), "the log begins with %q", text[:min(40, len(text))])
				c.check(strings.Contains(text, "\nwritten down"), "the log does not have what the guest printed: %q", tail(text))
			},
		},
		{
			Name: "console/files", Features: []polyvisor.Feature{polyvisor.FeatureConsoleFiles}, Talks: true,
			Rule:  "What the guest prints is written to Console.Out, and Console.In is its input.",
			Seeds: []string{"AVirtualMachine_createRaw", "consoleOutFd", "consoleInFd"},
			Run: func(c *C) {
				in := c.file("in", []byte(c.h.Guest.Echo+" from a file\n"))
				out := c.path("out")
				c.started("piped", func(cfg *polyvisor.Config) {
					cfg.Console.In, cfg.Console.Out = polyvisor.Path(in), polyvisor.Path(out)
				})
				c.eventually("the guest's answer is in the file", func() bool {
					text, err := os.ReadFile(out)
					return err == nil && strings.Contains(strings.ReplaceAll(string(text), "\r", ""), "\nfrom a file")
				})
			},
		},
		{
			Name: "console/size", Features: []polyvisor.Feature{polyvisor.FeatureConsole, polyvisor.FeatureVirtioConsole}, Talks: true, Words: []string{"Size"},
			Rule: "What is typed on a virtio console reaches the guest and what it prints is read; the console is a ConsoleResizer, and the guest sees the size that it sets, also when that changes, and after another has taken the console over, who alone can change it then.",
			Run:  consoleSize,
		},
		{
			Name: "console/hypervisor-log", Features: []polyvisor.Feature{polyvisor.FeatureHypervisorLog},
			Rule:  "The file of Config.Log takes what the hypervisor has to say, at least something for each run; what was in the file stays.",
			Seeds: []string{"AVirtualMachine_createRaw", "logFd"},
			Run: func(c *C) {
				const before = "from before\n"
				path := c.file("hypervisor.log", []byte(before))
				edit := func(cfg *polyvisor.Config) { cfg.Log = polyvisor.Path(path) }
				d := c.started("logged", edit)
				c.ok(d.Destroy(c.ctx), "destroy")
				text := read(c, path)
				c.check(strings.HasPrefix(text, before), "what was in the log is gone")
				c.check(len(text) > len(before), "after a run the log has nothing that the hypervisor says")
				if c.has(polyvisor.FeatureTransient) {
					c.ok(d.Undefine(c.ctx), "undefine")
					c.ok(c.create("logged", edit).Destroy(c.ctx), "destroy")
					c.check(len(read(c, path)) > len(text), "after the run of a transient domain the log has nothing new")
				}
			},
		},
	}
}

func consoleSize(c *C) {
	d := c.started("sized", func(cfg *polyvisor.Config) { cfg.Console.Virtio = true })
	t := c.talk(d)
	sees := func(cols, rows int) {
		want := fmt.Sprintf("%d %d", cols, rows)
		c.eventually("the guest sees a terminal of "+want, func() bool {
			return strings.TrimSpace(t.ask(c.h.Guest.Size)) == want
		})
	}
	resize := func(cols, rows uint16) {
		r, ok := t.rwc.(polyvisor.ConsoleResizer)
		if !ok {
			c.Fatalf("the console is no ConsoleResizer")
		}
		c.ok(r.Resize(c.ctx, cols, rows), "resize")
	}
	sees(0, 0)
	resize(132, 43)
	sees(132, 43)
	resize(80, 24)
	sees(80, 24)
	t.ask(c.h.Guest.Echo + " before the end")
	old := t
	taken := c.console(d, polyvisor.ConsoleOptions{Force: true})
	c.check(errors.Is(old.ended(), polyvisor.ErrBusy), "the console was taken over")
	c.fails(old.rwc.(polyvisor.ConsoleResizer).Resize(c.ctx, 1, 1), "resize of a console that was taken over", polyvisor.CodeBusy)
	t = taken
	t.await("\nbefore the end")
	t.await(c.h.Guest.Prompt)
	sees(80, 24)
	resize(81, 25)
	sees(81, 25)
	plain := c.console(c.started("plain"), polyvisor.ConsoleOptions{})
	_, ok := plain.rwc.(polyvisor.ConsoleResizer)
	c.check(!ok, "the console of a domain without a virtio console is a ConsoleResizer")
}

func read(c *C, path string) string {
	text, err := os.ReadFile(path)
	c.ok(err, "read %s", path)
	return strings.ReplaceAll(string(text), "\r", "")
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func consoleOwner(c *C) {
	d := c.started("wanted")
	first := c.console(d, polyvisor.ConsoleOptions{})
	same, err := c.Open().Domain(c.ctx, d.Name())
	c.ok(err, "lookup on another connection")
	for _, dom := range []*polyvisor.Domain{d, same} {
		_, err = dom.Console(c.ctx, polyvisor.ConsoleOptions{})
		c.fails(err, "a second owner", polyvisor.CodeBusy)
	}
	second := c.console(same, polyvisor.ConsoleOptions{Force: true})
	err = first.ended()
	c.check(errors.Is(err, polyvisor.ErrBusy), "Read of the console that was taken over fails with %v, want a match of ErrBusy", err)
	second.close()
	first.close()
	c.eventually("the console is free", func() bool {
		rwc, err := d.Console(c.ctx, polyvisor.ConsoleOptions{})
		if err != nil {
			c.check(errors.Is(err, polyvisor.ErrBusy), "open after close: %v", err)
			return false
		}
		return rwc.Close() == nil
	})
}

func consoleEnds(c *C) {
	d := c.started("ending")
	t := c.console(d, polyvisor.ConsoleOptions{})
	c.ok(d.Destroy(c.ctx), "destroy")
	err := t.ended()
	c.check(errors.Is(err, io.EOF), "Read at the end of the domain fails with %v, want io.EOF", err)

	c.ok(d.Start(c.ctx), "start")
	t = c.console(d, polyvisor.ConsoleOptions{})
	c.ok(t.rwc.Close(), "close")
	c.check(t.ended() != nil, "Read of a closed console does not fail")
	c.check(t.rwc.Close() == nil, "a second Close fails")

	other := c.Open()
	same, err := other.Domain(c.ctx, d.Name())
	c.ok(err, "lookup on another connection")
	t = nil
	c.eventually("the console is free", func() bool {
		rwc, err := same.Console(c.ctx, polyvisor.ConsoleOptions{})
		if err != nil {
			return false
		}
		t = &talk{c: c, rwc: rwc, changed: make(chan struct{}, 1), over: make(chan struct{})}
		go t.read()
		return true
	})
	c.ok(other.Close(), "close the connection")
	c.check(t.ended() != nil, "Read does not fail after the closing of the connection")
	c.state(d, polyvisor.Running, "the closing of its console")
}
