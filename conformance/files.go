package conformance

import (
	"errors"
	"os"

	"github.com/polyvisor/polyvisor"
)

func fileCases() []Case {
	open := []polyvisor.Feature{polyvisor.FeatureTransient, polyvisor.FeatureOpenFiles}
	return []Case{
		{
			Name: "files/ownership", Features: open,
			Rule: "An open file of a Config is closed when the call that it was given to returns, whether that succeeds, is refused for another reason, or fails in the driver.",
			Seeds: []string{"AVirtualMachineRawConfig_setKernel", "AVirtualMachineRawConfig_setInitRd", "AVirtualMachineRawConfig_addDisk",
				"AVirtualMachine_createRaw"},
			Run: filesOwnership,
		},
		{
			Name: "files/run-keeps-them", Features: append([]polyvisor.Feature{polyvisor.FeatureDisks}, open...),
			Rule:  "A domain that was created with an open file runs on with it when the caller's is closed and when its name is gone.",
			Seeds: []string{"AVirtualMachineRawConfig_addDisk"},
			Run: func(c *C) {
				path := c.image("nameless")
				f := openFile(c, path, os.O_RDWR)
				d := c.create("keeping", func(cfg *polyvisor.Config) {
					addDevice(cfg, &polyvisor.Disk{Target: "vdk", Source: polyvisor.OpenFile(f)})
				})
				c.closed(f, "a create that succeeded")
				c.ok(os.Remove(path), "remove the name")
				c.state(d, polyvisor.Running, "the removal of its disk's name")
			},
		},
		{
			Name: "files/writable", Features: append([]polyvisor.Feature{polyvisor.FeatureDisks}, open...),
			Rule:  "A disk that the guest may write to needs an open file that can be written; one that is open for reading is refused with ErrPermission or ErrInvalidConfig, and will do for a read-only disk.",
			Seeds: []string{"AVirtualMachineRawConfig_addDisk"},
			Run: func(c *C) {
				path := c.image("locked")
				disk := &polyvisor.Disk{Target: "vdw", Source: polyvisor.OpenFile(openFile(c, path, os.O_RDONLY))}
				_, err := c.conn.Create(c.ctx, c.Config("writer", func(cfg *polyvisor.Config) { addDevice(cfg, disk) }))
				c.fails(err, "create with a writable disk of a file open for reading", polyvisor.CodePermission, polyvisor.CodeInvalidConfig)
				disk = &polyvisor.Disk{Target: "vdw", Source: polyvisor.OpenFile(openFile(c, path, os.O_RDONLY)), Mode: polyvisor.DeviceReadOnly}
				c.create("reader", func(cfg *polyvisor.Config) { addDevice(cfg, disk) })
			},
		},
	}
}

func openFile(c *C, path string, flag int) *os.File {
	f, err := os.OpenFile(path, flag, 0)
	c.ok(err, "open %s", path)
	c.cleanup("closing a file", func() { _ = f.Close() })
	return f
}

// closed checks that the library has closed a file.
func (c *C) closed(f *os.File, after string) {
	_, err := f.Stat()
	c.check(errors.Is(err, os.ErrClosed), "after %s the open file that was given is still open (%v)", after, err)
}

func filesOwnership(c *C) {
	path := c.file("kernel", []byte("this is no kernel\n"))
	give := func(cfg *polyvisor.Config) *os.File {
		f := openFile(c, path, os.O_RDONLY)
		cfg.Boot = polyvisor.Boot{Kernel: polyvisor.OpenFile(f)}
		return f
	}
	cfg := c.Config("owned")
	f := give(cfg)
	_, err := c.conn.Define(c.ctx, cfg)
	c.check(err != nil, "define takes an open file")
	c.closed(f, "a define that was refused")

	cfg = c.Config("owned", func(cfg *polyvisor.Config) { cfg.VCPUs = -1 })
	f = give(cfg)
	_, err = c.conn.Create(c.ctx, cfg)
	c.fails(err, "create with a wrong Config", polyvisor.CodeInvalidConfig)
	c.closed(f, "a create that was refused")

	cfg = c.Config("owned")
	f = give(cfg)
	_, err = c.conn.Create(ended(c), cfg)
	c.fails(err, "create with an ended context", polyvisor.CodeCanceled)
	c.closed(f, "a create with an ended context")

	cfg = c.Config("owned")
	f = give(cfg)
	_, err = c.conn.Create(c.ctx, cfg)
	c.check(err != nil, "create with something that is no kernel succeeds")
	c.closed(f, "a create that failed")

	ro := c.Open(polyvisor.ReadOnly())
	cfg = c.Config("owned")
	f = give(cfg)
	_, err = ro.Create(c.ctx, cfg)
	c.check(err != nil, "create on a read-only connection succeeds")
	c.closed(f, "a create on a read-only connection")
	c.check(len(c.names(c.conn, polyvisor.DomainFilter{})) == 0, "a create that failed left a domain")
}
