package conformance_test

import (
	"io"

	"github.com/polyvisor/polyvisor"
)

// narrowGuestFaults are about what a guest does, what its console shows and who
// waits for its end.
func narrowGuestFaults() []fault {
	list := narrowPolicyFaults()
	return append(list, []fault{
		{name: "one may wait at a time", of: "wait/many", says: "wait: ",
			op: on("wait", func(c *call, next func() error) error {
				defer c.d.h.add(-1, "waiting", c.id())
				if c.d.h.add(1, "waiting", c.id()) > 1 {
					return polyvisor.ErrBusy
				}
				return next()
			})},
		{name: "a connection knows no end of before it was opened", of: "wait/afterwards", says: "wait for the stop",
			op: func(c *call, next func() error) error {
				switch c.op {
				case "destroy":
					c.d.h.note(c.d.h.get("connections"), "stopped", c.id())
				case "open":
					c.d.h.note(c.d.n, "connections")
				case "wait":
					if last := c.d.h.get("stopped", c.id()); last > 0 && c.d.n > last && !c.active() {
						return polyvisor.ErrInvalidState
					}
				}
				return next()
			}},
		{name: "Info tells another reason than Wait", of: "wait/reasons", says: "Info.LastStop is",
			info: func(i *polyvisor.Info) {
				if i.LastStop != nil && i.LastStop.Reason == polyvisor.StopShutdown {
					s := *i.LastStop
					s.Reason = polyvisor.StopUnknown
					i.LastStop = &s
				}
			}},
		{name: "long lines are cut", of: "console/dialogue", says: "the guest was to print",
			stream: func(s io.ReadWriteCloser) io.ReadWriteCloser { return cutting{s} }},
	}...)
}

// cutting is a console that takes no more than 100 bytes of a line.
type cutting struct{ io.ReadWriteCloser }

func (s cutting) Write(p []byte) (int, error) {
	line := string(p)
	if len(line) > 100 {
		line = line[:100] + "\n"
	}
	_, err := io.WriteString(s.ReadWriteCloser, line)
	return len(p), err
}

// narrowPolicyFaults do something else than the policy says, and tell that they
// do not.
func narrowPolicyFaults() []fault {
	destroy, restart := polyvisor.ActionDestroy, polyvisor.ActionRestart
	preserve, rename := polyvisor.ActionPreserve, polyvisor.ActionRenameRestart
	reboots := []polyvisor.Feature{polyvisor.FeatureReboot}
	var list []fault
	for _, f := range []struct {
		end           string
		action, wrong polyvisor.Action
		says          string
		without       []polyvisor.Feature
	}{
		// Without Shutdown and Reboot their cases do not see it first.
		{"poweroff", destroy, restart, "wait for the stop", []polyvisor.Feature{polyvisor.FeatureShutdown}},
		{"poweroff", restart, destroy, "the console ended", nil},
		{"poweroff", preserve, destroy, "waited in vain until the domain is preserved", nil},
		{"poweroff", rename, preserve, "waited in vain until the guest runs under a new name", nil},
		{"reboot", destroy, restart, "wait for the stop", nil},
		{"reboot", restart, destroy, "the console ended", reboots},
		{"reboot", preserve, destroy, "waited in vain until the domain is preserved", nil},
		{"reboot", rename, preserve, "waited in vain until the guest runs under a new name", nil},
		{"crash", restart, destroy, "the console ended", nil},
		{"crash", preserve, destroy, "a preserved domain has ID", nil},
		{"crash", rename, preserve, "waited in vain until the guest runs under a new name", nil},
	} {
		list = append(list, fault{
			name: f.end + ": " + string(f.wrong) + " in place of " + string(f.action), of: "policy/" + f.end + "-" + string(f.action), says: f.says,
			without: f.without, op: secretly(f.end, f.action, f.wrong),
		})
	}
	return list
}

// secretly does something else at an end of the guest than the Config says,
// which it tells unchanged.
func secretly(end string, action, wrong polyvisor.Action) func(*call, func() error) error {
	policy := func(c *polyvisor.Config) *polyvisor.Action {
		return map[string]*polyvisor.Action{"poweroff": &c.OnPoweroff, "reboot": &c.OnReboot, "crash": &c.OnCrash}[end]
	}
	return func(c *call, next func() error) error {
		switch {
		case c.op == "define" || c.op == "create":
			c.d.h.note(0, "changed", c.id())
			if p := policy(c.config); *p == action {
				*p = wrong
				c.d.h.note(1, "changed", c.id())
			}
		case c.op == "config":
			err := next()
			if err == nil && c.d.h.get("changed", c.id()) > 0 {
				*policy(*c.got) = action
			}
			return err
		}
		return next()
	}
}
