package conformance_test

import (
	"errors"
	"fmt"

	"github.com/polyvisor/polyvisor"
)

// whileActive does nothing in an operation on an active domain.
func whileActive(op string) func(*call, func() error) error {
	return on(op, func(c *call, next func() error) error {
		if c.active() {
			return nil
		}
		return next()
	})
}

func narrowResourceFaults() []fault {
	return []fault{
		{name: "no memory is as much as before", of: "memory/none", says: "Info tells", op: on("set memory", func(c *call, next func() error) error {
			if *c.memory == 0 {
				return nil
			}
			return next()
		})},
		{name: "the memory of a run does not change", of: "memory/balloon", says: "waited in vain until the guest has", op: whileActive("set memory")},
		{name: "the maximum of a run is what it began with", of: "memory/maximum-config", says: "Info tells", op: func(c *call, next func() error) error {
			if c.op == "start" {
				i, err := c.inst.Info(c.ctx)
				c.d.h.note(int((i.MaxMemory-i.Memory)>>12), "room", c.id())
				return errors.Join(err, next())
			}
			err := next()
			if c.op == "info" && err == nil && c.info.State.Active() && c.d.h.get("room", c.id()) > 0 {
				c.info.MaxMemory = c.info.Memory
			}
			return err
		}},
		{name: "the vCPUs of a run do not change", of: "vcpu/hot-plug", says: "Info tells 1 vCPUs, want 3", op: whileActive("set vcpus")},
	}
}

// ofKind tells whether the operation is about a kind of device.
func (c *call) ofKind(kind string) bool {
	return c.device != nil && fmt.Sprintf("%T", *c.device) == map[string]string{
		"disk": "*polyvisor.Disk", "nic": "*polyvisor.NIC", "share": "*polyvisor.Share", "rng": "*polyvisor.RNG",
	}[kind]
}

func narrowDeviceFaults() []fault {
	var list []fault
	for _, kind := range []string{"disk", "nic", "share", "rng"} {
		drop := func(c *polyvisor.Config) {
			switch kind {
			case "disk":
				c.Disks = nil
			case "nic":
				c.NICs = nil
			case "share":
				c.Shares = nil
			case "rng":
				c.RNG = nil
			}
		}
		list = append(list,
			fault{name: "attach of one kind does nothing: " + kind, of: "device/" + kind + "-inactive", says: "after attach the domain has",
				op: on("attach", func(c *call, next func() error) error {
					if c.ofKind(kind) {
						return nil
					}
					return next()
				})},
			fault{name: "a run keeps what is detached: " + kind, of: "device/" + kind + "-hot-plug", says: "after detach the domain still has",
				op: on("detach", func(c *call, next func() error) error {
					cfg, err := c.inst.Config(c.ctx)
					if err == nil && c.active() && c.ofKind(kind) && len(cfg.Devices()) > 0 {
						return nil
					}
					return next()
				})},
			fault{name: "what is defined is left out: " + kind, of: "device/" + kind + "-config", says: "the domain has",
				op: before("define", func(c *call) { drop(c.config) })})
	}
	return append(list,
		fault{name: "no mode forces", of: "device/modes", says: "a disk of mode", config: func(c *polyvisor.Config) {
			for i := range c.Disks {
				if c.Disks[i].Mode == polyvisor.DeviceReadWriteForce {
					c.Disks[i].Mode = polyvisor.DeviceReadWrite
				}
			}
		}},
		fault{name: "who comes second to a disk is told that it runs", of: "device/disk-in-use", says: "start of a second writer: succeeded",
			op: instead("start", polyvisor.ErrBusy, nil)},
		fault{name: "who looks twice in a row sees another policy", of: "device/refused", says: "changed the definition",
			op: func(c *call, next func() error) error {
				err := next()
				if c.op != "config" {
					c.d.h.add(1, "others")
				} else if c.d.h.add(1, "in a row", fmt.Sprint(c.d.h.get("others")), c.id()) == 2 && err == nil {
					(*c.got).OnCrash = polyvisor.ActionPreserve
				}
				return err
			}},
		fault{name: "an open file that is no kernel is ignored", of: "files/ownership", says: "create with something that is no kernel succeeds",
			op: before("create", func(c *call) {
				if c.config.Boot.Kernel.Open != nil {
					c.config.Boot = polyvisor.Boot{}
				}
			})},
		fault{name: "a run ends with the image that it was given open", of: "files/run-keeps-them", says: "state after the removal",
			op: on("create", func(c *call, next func() error) error {
				given := len(c.config.Disks) > 0 && c.config.Disks[0].Source.Open != nil
				if err := next(); err != nil || !given {
					return err
				}
				return (*c.result).Destroy(c.ctx)
			})},
	)
}
