package conformance

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/polyvisor/polyvisor"
)

// method is a method of Domain as a line of the matrix.
type method struct {
	name string
	need []polyvisor.Feature
	// active is what an active domain needs besides.
	active []polyvisor.Feature
	// changes is set if a read-only connection refuses it.
	changes bool
	// asks is set if the guest is only asked, so that the state follows later.
	asks bool
	// follows is set if it changes the machine of an active domain, for its guest
	// to follow.
	follows bool
	// needIn are features that it needs in some states only.
	needIn func(st matrixState) []polyvisor.Feature
	// op is the row of the transition table that rules it, empty if none does.
	op polyvisor.Op
	// code is what the method gives in a state where the table does not say so.
	code func(st matrixState) polyvisor.Code
	call func(c *C, ctx context.Context, d *polyvisor.Domain) error
}

// okCode stands for success.
const okCode = polyvisor.CodeUnknown

// want is what the method must return, empty if nothing is laid down.
func (m method) want(c *C, st matrixState, mode string) string {
	if mode == modeClosed {
		return polyvisor.CodeClosed.String()
	}
	if !c.has(m.need...) {
		return polyvisor.CodeUnsupported.String()
	}
	if mode == modeRO && m.changes {
		return polyvisor.CodeReadOnly.String()
	}
	if st.gone {
		if m.name == "Wait" {
			return "" // who has waited for it may know its end
		}
		return polyvisor.CodeNotFound.String()
	}
	if st.active && !c.has(m.active...) || m.needIn != nil && !c.has(m.needIn(st)...) {
		return polyvisor.CodeUnsupported.String()
	}
	if m.follows && st.preserved() {
		return "" // whether what belongs to a dead guest can be changed is the driver's choice
	}
	code := okCode
	switch {
	case m.op != "" && !m.legal(st):
		code = polyvisor.CodeInvalidState
	case m.code != nil:
		code = m.code(st)
	}
	if code == okCode {
		return "ok"
	}
	return code.String()
}

// legal tells whether the transition table allows the method. What crashed and is
// preserved is active: what wants an inactive domain has to wait for its end.
func (m method) legal(st matrixState) bool {
	from := polyvisor.Transitions[m.op].From
	if st.preserved() && !slices.Contains(from, polyvisor.Running) {
		return false
	}
	return slices.Contains(from, st.state)
}

// unless gives ErrInvalidState where a condition does not hold.
func unless(cond func(st matrixState) bool) func(st matrixState) polyvisor.Code {
	return func(st matrixState) polyvisor.Code {
		if cond(st) {
			return okCode
		}
		return polyvisor.CodeInvalidState
	}
}

func always(code polyvisor.Code) func(matrixState) polyvisor.Code {
	return func(matrixState) polyvisor.Code { return code }
}

var (
	ifActive     = unless(func(st matrixState) bool { return st.active })
	ifPersistent = unless(func(st matrixState) bool { return st.name != "transient" })
)

func features(list ...polyvisor.Feature) []polyvisor.Feature { return list }

// plain wraps a method that takes nothing but a context.
func plain(f func(*polyvisor.Domain, context.Context) error) func(*C, context.Context, *polyvisor.Domain) error {
	return func(_ *C, ctx context.Context, d *polyvisor.Domain) error { return f(d, ctx) }
}

// reads wraps a method that gives a value.
func reads[T any](f func(*polyvisor.Domain, context.Context) (T, error)) func(*C, context.Context, *polyvisor.Domain) error {
	return func(_ *C, ctx context.Context, d *polyvisor.Domain) error {
		_, err := f(d, ctx)
		return err
	}
}

// methods are all methods of Domain that can fail.
var methods = []method{
	{name: "State", call: reads((*polyvisor.Domain).State)},
	{name: "Info", call: reads((*polyvisor.Domain).Info)},
	{name: "ID", code: ifActive, call: reads((*polyvisor.Domain).ID)},
	{name: "Config", call: reads((*polyvisor.Domain).Config)},
	{name: "Labels", call: reads((*polyvisor.Domain).Labels)},
	{name: "Autostart", call: reads((*polyvisor.Domain).Autostart)},
	{name: "XML", need: features(polyvisor.FeatureXML), call: reads((*polyvisor.Domain).XML)},
	{name: "Stats", need: features(polyvisor.FeatureStats), call: reads((*polyvisor.Domain).Stats)},
	{name: "VCPUs", need: features(polyvisor.FeatureVCPUInfo), call: reads((*polyvisor.Domain).VCPUs)},
	{name: "Wait", call: shortWait, code: func(st matrixState) polyvisor.Code {
		switch {
		case st.active:
			return polyvisor.CodeCanceled
		case st.state == polyvisor.Crashed:
			return okCode
		}
		return polyvisor.CodeInvalidState
	}},
	{name: "Start", changes: true, op: polyvisor.OpStart,
		call: func(_ *C, ctx context.Context, d *polyvisor.Domain) error { return d.Start(ctx) }},
	{name: "Suspend", need: features(polyvisor.FeatureSuspend), changes: true, op: polyvisor.OpSuspend, call: plain((*polyvisor.Domain).Suspend)},
	{name: "Resume", need: features(polyvisor.FeatureSuspend), changes: true, op: polyvisor.OpResume, call: plain((*polyvisor.Domain).Resume)},
	{name: "Shutdown", need: features(polyvisor.FeatureShutdown), changes: true, asks: true, op: polyvisor.OpShutdown, call: plain((*polyvisor.Domain).Shutdown)},
	{name: "Reboot", need: features(polyvisor.FeatureReboot), changes: true, asks: true, op: polyvisor.OpReboot, call: plain((*polyvisor.Domain).Reboot)},
	{name: "Destroy", changes: true, op: polyvisor.OpDestroy, call: plain((*polyvisor.Domain).Destroy)},
	{name: "Undefine", changes: true, op: polyvisor.OpUndefine, code: ifPersistent, call: plain((*polyvisor.Domain).Undefine)},
	{name: "Remove", changes: true, call: plain((*polyvisor.Domain).Remove)},
	{name: "SetState shutoff", changes: true,
		call: func(_ *C, ctx context.Context, d *polyvisor.Domain) error { return d.SetState(ctx, polyvisor.Shutoff) }},
	{name: "SetState running", changes: true,
		// From there the way would be Resume.
		needIn: func(st matrixState) []polyvisor.Feature {
			if st.state == polyvisor.ShuttingDown {
				return features(polyvisor.FeatureSuspend)
			}
			return nil
		},
		code: unless(func(st matrixState) bool {
			return st.state != polyvisor.ShuttingDown && !st.preserved()
		}),
		call: func(_ *C, ctx context.Context, d *polyvisor.Domain) error { return d.SetState(ctx, polyvisor.Running) }},
	// The guest of an inactive crashed domain has neither console nor memory.
	{name: "Console", need: features(polyvisor.FeatureConsole), changes: true, op: polyvisor.OpConsole, code: ifActive,
		call: func(_ *C, ctx context.Context, d *polyvisor.Domain) error {
			rwc, err := d.Console(ctx, polyvisor.ConsoleOptions{})
			if err == nil {
				err = rwc.Close()
			}
			return err
		}},
	// The domains of the matrix have no socket device.
	{name: "DialVsock", need: features(polyvisor.FeatureVsockStreams), changes: true, op: polyvisor.OpDialVsock, code: always(polyvisor.CodeInvalidConfig),
		call: func(_ *C, ctx context.Context, d *polyvisor.Domain) error {
			_, err := d.DialVsock(ctx, vsockPort)
			return err
		}},
	{name: "ListenVsock", need: features(polyvisor.FeatureVsockStreams), changes: true, op: polyvisor.OpListenVsock, code: always(polyvisor.CodeInvalidConfig),
		call: func(_ *C, ctx context.Context, d *polyvisor.Domain) error {
			_, err := d.ListenVsock(ctx, vsockPort)
			return err
		}},
	{name: "WaitReady", need: features(polyvisor.FeatureExec), changes: true, op: polyvisor.OpWaitReady, code: always(polyvisor.CodeInvalidConfig),
		call: func(_ *C, ctx context.Context, d *polyvisor.Domain) error { return d.WaitReady(ctx) }},
	{name: "Exec", need: features(polyvisor.FeatureExec), changes: true, op: polyvisor.OpExec, code: always(polyvisor.CodeInvalidConfig),
		call: func(_ *C, ctx context.Context, d *polyvisor.Domain) error {
			return d.Exec(ctx, polyvisor.Cmd{Args: []string{"true"}})
		}},
	{name: "ExecOutput", need: features(polyvisor.FeatureExec), changes: true, op: polyvisor.OpExec, code: always(polyvisor.CodeInvalidConfig),
		call: func(_ *C, ctx context.Context, d *polyvisor.Domain) error {
			_, err := d.ExecOutput(ctx, polyvisor.Cmd{Args: []string{"true"}})
			return err
		}},
	{name: "StartExec", need: features(polyvisor.FeatureExec), changes: true, op: polyvisor.OpExec, code: always(polyvisor.CodeInvalidConfig),
		call: func(_ *C, ctx context.Context, d *polyvisor.Domain) error {
			p, err := d.StartExec(ctx, polyvisor.Cmd{Args: []string{"true"}})
			if err == nil {
				err = p.Close()
			}
			return err
		}},
	{name: "Save", need: features(polyvisor.FeatureSave), changes: true, op: polyvisor.OpSave,
		call: func(c *C, ctx context.Context, d *polyvisor.Domain) error { return d.Save(ctx, c.path("saved")) }},
	{name: "CoreDump", need: features(polyvisor.FeatureCoreDump), changes: true, op: polyvisor.OpCoreDump, code: ifActive,
		call: func(c *C, ctx context.Context, d *polyvisor.Domain) error { return d.CoreDump(ctx, c.path("core")) }},
	{name: "SetMemory", need: features(polyvisor.FeatureMemory), active: features(polyvisor.FeatureBalloon), changes: true, follows: true,
		call: func(c *C, ctx context.Context, d *polyvisor.Domain) error {
			return d.SetMemory(ctx, c.h.Config.WithDefaults().Memory)
		}},
	{name: "SetMaxMemory", need: features(polyvisor.FeatureMemory), changes: true, op: polyvisor.OpSetMaxMemory,
		call: func(c *C, ctx context.Context, d *polyvisor.Domain) error {
			return d.SetMaxMemory(ctx, c.h.Config.WithDefaults().Memory)
		}},
	{name: "SetVCPUs", need: features(polyvisor.FeatureVCPUs), active: features(polyvisor.FeatureMaxVCPUs), changes: true, follows: true,
		call: func(c *C, ctx context.Context, d *polyvisor.Domain) error {
			return d.SetVCPUs(ctx, c.h.Config.WithDefaults().VCPUs)
		}},
	{name: "PinVCPU", need: features(polyvisor.FeatureVCPUPin), changes: true, follows: true,
		call: func(_ *C, ctx context.Context, d *polyvisor.Domain) error {
			return d.PinVCPU(ctx, 0, polyvisor.CPUs(0))
		}},
	{name: "ConfigureVCPU", need: features(polyvisor.FeatureVCPUConfig), changes: true, follows: true,
		call: func(_ *C, ctx context.Context, d *polyvisor.Domain) error {
			return d.ConfigureVCPU(ctx, polyvisor.VCPUConfig{Weight: 100})
		}},
	{name: "AttachDevice", need: features(polyvisor.FeatureDevices, polyvisor.FeatureDisks), changes: true, follows: true,
		call: func(c *C, ctx context.Context, d *polyvisor.Domain) error { return d.AttachDevice(ctx, matrixDisk(c)) }},
	{name: "DetachDevice", need: features(polyvisor.FeatureDevices, polyvisor.FeatureDisks), changes: true, follows: true, code: always(polyvisor.CodeNotFound),
		call: func(c *C, ctx context.Context, d *polyvisor.Domain) error { return d.DetachDevice(ctx, matrixDisk(c)) }},
	{name: "UpdateDevice", need: features(polyvisor.FeatureDevices, polyvisor.FeatureDisks), changes: true, follows: true, code: always(polyvisor.CodeNotFound),
		call: func(c *C, ctx context.Context, d *polyvisor.Domain) error { return d.UpdateDevice(ctx, matrixDisk(c)) }},
	{name: "AttachDeviceXML", need: features(polyvisor.FeatureXML, polyvisor.FeatureDevices, polyvisor.FeatureDisks), changes: true, follows: true,
		call: func(c *C, ctx context.Context, d *polyvisor.Domain) error {
			return d.AttachDeviceXML(ctx, matrixDiskXML(c))
		}},
	{name: "DetachDeviceXML", need: features(polyvisor.FeatureXML, polyvisor.FeatureDevices, polyvisor.FeatureDisks), changes: true, follows: true, code: always(polyvisor.CodeNotFound),
		call: func(c *C, ctx context.Context, d *polyvisor.Domain) error {
			return d.DetachDeviceXML(ctx, matrixDiskXML(c))
		}},
	{name: "UpdateDeviceXML", need: features(polyvisor.FeatureXML, polyvisor.FeatureDevices, polyvisor.FeatureDisks), changes: true, follows: true, code: always(polyvisor.CodeNotFound),
		call: func(c *C, ctx context.Context, d *polyvisor.Domain) error {
			return d.UpdateDeviceXML(ctx, matrixDiskXML(c))
		}},
	{name: "SetLabels", need: features(polyvisor.FeatureLabels), changes: true,
		call: func(_ *C, ctx context.Context, d *polyvisor.Domain) error {
			return d.SetLabels(ctx, map[string]string{"a": "b"})
		}},
	{name: "SetAutostart", need: features(polyvisor.FeatureAutostart), changes: true, code: ifPersistent,
		call: func(_ *C, ctx context.Context, d *polyvisor.Domain) error { return d.SetAutostart(ctx, true) }},
	{name: "Rename", need: features(polyvisor.FeatureRename), changes: true, op: polyvisor.OpRename,
		call: func(_ *C, ctx context.Context, d *polyvisor.Domain) error { return d.Rename(ctx, Prefix+"renamed") }},
}

func shortWait(_ *C, ctx context.Context, d *polyvisor.Domain) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Millisecond)
	defer cancel()
	_, err := d.Wait(ctx)
	return err
}

func matrixDisk(c *C) *polyvisor.Disk {
	return &polyvisor.Disk{Target: "vdz", Source: polyvisor.Path(c.image("matrix-disk"))}
}

func matrixDiskXML(c *C) string {
	return fmt.Sprintf("<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='%s'/><target dev='vdz' bus='virtio'/></disk>", c.image("matrix-disk"))
}
