package polyvisor_test

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

// method is one method of Conn or Domain.
type method struct {
	fn   string // "Domain.Start"
	name string // as in Error.Op
	call methodCall
	// bad is call with an argument that no driver can make sense of; nil if there
	// is no such argument.
	bad    methodCall
	driver string // the driver call it leads to
	state  polyvisor.State
	// changes says that the method changes something.
	changes bool
	// need is the feature without which it is refused.
	need polyvisor.Feature
	// by says who has the ability: an Instance or a Driver; empty if every
	// driver has it.
	by string
}

type methodCall = func(ctx context.Context, conn *polyvisor.Conn, dom *polyvisor.Domain) error

const (
	byInstance = "instance"
	byDriver   = "driver"
)

// ruled gives the method for an operation of the table.
func ruled(fn string, op polyvisor.Op, need polyvisor.Feature, f func(*polyvisor.Domain, context.Context) error) method {
	m := method{fn: "Domain." + fn, name: string(op), driver: string(op), state: polyvisor.Transitions[op].From[0], changes: true, need: need, call: onDomain(f)}
	if need != "" {
		m.by = byInstance
	}
	return m
}

// change gives a method that is legal in every state.
func change(fn, name string, need polyvisor.Feature, f func(*polyvisor.Domain, context.Context) error) method {
	return method{fn: "Domain." + fn, name: name, driver: name, state: polyvisor.Shutoff, changes: true, need: need, by: byInstance, call: onDomain(f)}
}

// read gives a method of Domain that changes nothing.
func read(fn, driver string, f func(*polyvisor.Domain, context.Context) error) method {
	return method{fn: "Domain." + fn, name: driver, driver: driver, state: polyvisor.Shutoff, call: onDomain(f)}
}

// connMethod gives a method of Conn that changes nothing.
func connMethod(fn, name, driver string, f func(*polyvisor.Conn, context.Context) error) method {
	return method{fn: "Conn." + fn, name: name, driver: driver, state: polyvisor.Running, call: onConn(f)}
}

func onDomain(f func(*polyvisor.Domain, context.Context) error) methodCall {
	return func(ctx context.Context, _ *polyvisor.Conn, dom *polyvisor.Domain) error { return f(dom, ctx) }
}

func onConn(f func(*polyvisor.Conn, context.Context) error) methodCall {
	return func(ctx context.Context, conn *polyvisor.Conn, _ *polyvisor.Domain) error { return f(conn, ctx) }
}

func (m method) with(edit func(m *method)) method {
	edit(&m)
	return m
}

// or adds the call with a bad argument.
func (m method) or(f func(*polyvisor.Domain, context.Context) error) method {
	m.bad = onDomain(f)
	return m
}

// second drops the first result of a call.
func second[T any](_ T, err error) error { return err }

var (
	disk    = polyvisor.Disk{Target: "vdb", Source: polyvisor.Path("/b.img")}
	diskXML = `<disk target="vdb" source="/b.img"/>`
	rng     = polyvisor.RNG{} // prepared domains have one
)

// methods lists every method of Conn and Domain that can reach the driver.
func methods() []method {
	return slices.Concat(connMethods(), reads(), operations(), changes())
}

func connMethods() []method {
	makes := func(fn, name, driver string, need polyvisor.Feature, f, bad func(*polyvisor.Conn, context.Context) error) method {
		return connMethod(fn, name, driver, f).with(func(m *method) { m.changes, m.need, m.bad = true, need, onConn(bad) })
	}
	config := &polyvisor.Config{Name: "new"}
	return []method{
		connMethod("Version", "version", "version", func(c *polyvisor.Conn, ctx context.Context) error { return second(c.Version(ctx)) }),
		connMethod("Node", "node info", "node", func(c *polyvisor.Conn, ctx context.Context) error { return second(c.Node(ctx)) }),
		connMethod("Hostname", "node info", "node", func(c *polyvisor.Conn, ctx context.Context) error { return second(c.Hostname(ctx)) }),
		connMethod("Domain", "lookup", "lookup", func(c *polyvisor.Conn, ctx context.Context) error { return second(c.Domain(ctx, "dom")) }),
		connMethod("DomainByUUID", "lookup", "lookup", func(c *polyvisor.Conn, ctx context.Context) error {
			_, err := c.DomainByUUID(ctx, uuid.New())
			if polyvisor.CodeOf(err) == polyvisor.CodeNotFound {
				return nil
			}
			return err
		}),
		connMethod("DomainByID", "lookup", "lookup", func(c *polyvisor.Conn, ctx context.Context) error { return second(c.DomainByID(ctx, 1)) }),
		connMethod("Domains", "list", "list", func(c *polyvisor.Conn, ctx context.Context) error {
			return second(c.Domains(ctx, polyvisor.DomainFilter{}))
		}),
		connMethod("CountDomains", "list", "list", func(c *polyvisor.Conn, ctx context.Context) error { _, _, err := c.CountDomains(ctx); return err }),
		connMethod("Stats", "stats", "stats", func(c *polyvisor.Conn, ctx context.Context) error {
			return second(c.Stats(ctx, polyvisor.DomainFilter{}))
		}).with(func(m *method) { m.need, m.by = polyvisor.FeatureStats, byInstance }),
		connMethod("Subscribe", "subscribe", "subscribe", func(c *polyvisor.Conn, ctx context.Context) error {
			s, err := c.Subscribe(ctx, polyvisor.SubscribeOptions{})
			if err == nil {
				return s.Close()
			}
			return err
		}).with(func(m *method) { m.need, m.by = polyvisor.FeatureEvents, byDriver }),

		makes("Define", "define", "define", "",
			func(c *polyvisor.Conn, ctx context.Context) error { return second(c.Define(ctx, config)) },
			func(c *polyvisor.Conn, ctx context.Context) error { return second(c.Define(ctx, &polyvisor.Config{})) }),
		makes("Create", "create", "create", polyvisor.FeatureTransient,
			func(c *polyvisor.Conn, ctx context.Context) error { return second(c.Create(ctx, config)) },
			func(c *polyvisor.Conn, ctx context.Context) error { return second(c.Create(ctx, &polyvisor.Config{})) }),
		makes("DefineXML", "define", "define", polyvisor.FeatureXML,
			func(c *polyvisor.Conn, ctx context.Context) error {
				return second(c.DefineXML(ctx, "<domain><name>new</name></domain>"))
			},
			func(c *polyvisor.Conn, ctx context.Context) error { return second(c.DefineXML(ctx, "<domain/>")) }).with(func(m *method) { m.by = byDriver }),
		makes("CreateXML", "create", "create", polyvisor.FeatureXML,
			func(c *polyvisor.Conn, ctx context.Context) error {
				return second(c.CreateXML(ctx, "<domain><name>new</name></domain>"))
			},
			func(c *polyvisor.Conn, ctx context.Context) error { return second(c.CreateXML(ctx, "nonsense")) }).with(func(m *method) { m.by = byDriver }),
		makes("Restore", "restore", "restore", polyvisor.FeatureSave,
			func(c *polyvisor.Conn, ctx context.Context) error { return second(c.Restore(ctx, "/saved")) },
			func(c *polyvisor.Conn, ctx context.Context) error { return second(c.Restore(ctx, "saved")) }).with(func(m *method) { m.by = byDriver }),
	}
}

func reads() []method {
	return []method{
		read("State", "state", func(d *polyvisor.Domain, ctx context.Context) error { return second(d.State(ctx)) }),
		read("Info", "info", func(d *polyvisor.Domain, ctx context.Context) error { return second(d.Info(ctx)) }),
		read("ID", "info", func(d *polyvisor.Domain, ctx context.Context) error { return second(d.ID(ctx)) }).
			with(func(m *method) { m.name, m.state = "id", polyvisor.Running }),
		read("Config", "config", func(d *polyvisor.Domain, ctx context.Context) error { return second(d.Config(ctx)) }),
		read("Labels", "config", func(d *polyvisor.Domain, ctx context.Context) error { return second(d.Labels(ctx)) }),
		read("Autostart", "config", func(d *polyvisor.Domain, ctx context.Context) error { return second(d.Autostart(ctx)) }),
		read("Wait", "wait", func(d *polyvisor.Domain, ctx context.Context) error { return second(d.Wait(ctx)) }),
		read("VCPUs", "vcpus", func(d *polyvisor.Domain, ctx context.Context) error { return second(d.VCPUs(ctx)) }).
			with(func(m *method) { m.need, m.by = polyvisor.FeatureVCPUInfo, byInstance }),
		read("Stats", "stats", func(d *polyvisor.Domain, ctx context.Context) error { return second(d.Stats(ctx)) }).
			with(func(m *method) { m.need, m.by = polyvisor.FeatureStats, byInstance }),
		read("XML", "config", func(d *polyvisor.Domain, ctx context.Context) error { return second(d.XML(ctx)) }).
			with(func(m *method) { m.name, m.need, m.by = "xml", polyvisor.FeatureXML, byDriver }),
	}
}

func operations() []method {
	console := func(d *polyvisor.Domain, ctx context.Context) error {
		con, err := d.Console(ctx, polyvisor.ConsoleOptions{})
		if err == nil {
			return con.Close()
		}
		return err
	}
	return []method{
		ruled("Start", polyvisor.OpStart, "", func(d *polyvisor.Domain, ctx context.Context) error { return d.Start(ctx) }),
		ruled("Suspend", polyvisor.OpSuspend, polyvisor.FeatureSuspend, (*polyvisor.Domain).Suspend),
		ruled("Resume", polyvisor.OpResume, polyvisor.FeatureSuspend, (*polyvisor.Domain).Resume),
		ruled("Shutdown", polyvisor.OpShutdown, polyvisor.FeatureShutdown, (*polyvisor.Domain).Shutdown),
		ruled("Reboot", polyvisor.OpReboot, polyvisor.FeatureReboot, (*polyvisor.Domain).Reboot),
		ruled("Destroy", polyvisor.OpDestroy, "", (*polyvisor.Domain).Destroy),
		ruled("Undefine", polyvisor.OpUndefine, "", (*polyvisor.Domain).Undefine),
		ruled("Console", polyvisor.OpConsole, polyvisor.FeatureConsole, console),
		ruled("DialVsock", polyvisor.OpDialVsock, polyvisor.FeatureVsockStreams, dialVsock(1)).or(dialVsock(1<<32 - 1)),
		ruled("ListenVsock", polyvisor.OpListenVsock, polyvisor.FeatureVsockStreams, listenVsock(1)).or(listenVsock(1<<32 - 1)),
		ruled("WaitReady", polyvisor.OpWaitReady, polyvisor.FeatureExec, (*polyvisor.Domain).WaitReady),
		ruled("StartExec", polyvisor.OpExec, polyvisor.FeatureExec, startExec("true")).or(startExec("a\x00b")),
		ruled("Exec", polyvisor.OpExec, polyvisor.FeatureExec, func(d *polyvisor.Domain, ctx context.Context) error {
			return d.Exec(ctx, polyvisor.Cmd{Args: []string{"true"}})
		}).or(func(d *polyvisor.Domain, ctx context.Context) error { return d.Exec(ctx, polyvisor.Cmd{}) }),
		ruled("ExecOutput", polyvisor.OpExec, polyvisor.FeatureExec, func(d *polyvisor.Domain, ctx context.Context) error {
			_, err := d.ExecOutput(ctx, polyvisor.Cmd{Args: []string{"true"}})
			return err
		}).or(func(d *polyvisor.Domain, ctx context.Context) error {
			_, err := d.ExecOutput(ctx, polyvisor.Cmd{Args: []string{"true"}, Env: []string{"no value"}})
			return err
		}),
		ruled("Save", polyvisor.OpSave, polyvisor.FeatureSave, func(d *polyvisor.Domain, ctx context.Context) error { return d.Save(ctx, "/run") }).
			or(func(d *polyvisor.Domain, ctx context.Context) error { return d.Save(ctx, "") }),
		ruled("CoreDump", polyvisor.OpCoreDump, polyvisor.FeatureCoreDump, func(d *polyvisor.Domain, ctx context.Context) error { return d.CoreDump(ctx, "/core") }).
			or(func(d *polyvisor.Domain, ctx context.Context) error { return d.CoreDump(ctx, "/a\x00") }),
		ruled("Rename", polyvisor.OpRename, polyvisor.FeatureRename, func(d *polyvisor.Domain, ctx context.Context) error { return d.Rename(ctx, "other") }).
			or(func(d *polyvisor.Domain, ctx context.Context) error { return d.Rename(ctx, "a/b") }),
		ruled("SetMaxMemory", polyvisor.OpSetMaxMemory, polyvisor.FeatureMemory, func(d *polyvisor.Domain, ctx context.Context) error {
			return d.SetMaxMemory(ctx, 64*polyvisor.MiB)
		}).or(func(d *polyvisor.Domain, ctx context.Context) error { return d.SetMaxMemory(ctx, 0) }),
	}
}

func dialVsock(port uint32) func(*polyvisor.Domain, context.Context) error {
	return func(d *polyvisor.Domain, ctx context.Context) error {
		c, err := d.DialVsock(ctx, port)
		if err == nil {
			return c.Close()
		}
		return err
	}
}

func listenVsock(port uint32) func(*polyvisor.Domain, context.Context) error {
	return func(d *polyvisor.Domain, ctx context.Context) error {
		l, err := d.ListenVsock(ctx, port)
		if err == nil {
			return l.Close()
		}
		return err
	}
}

func startExec(program string) func(*polyvisor.Domain, context.Context) error {
	return func(d *polyvisor.Domain, ctx context.Context) error {
		p, err := d.StartExec(ctx, polyvisor.Cmd{Args: []string{program}})
		if err == nil {
			return p.Close()
		}
		return err
	}
}

func changes() []method {
	device := func(fn, name string, good polyvisor.Device, f func(*polyvisor.Domain, context.Context, polyvisor.Device) error) method {
		return change(fn, name, polyvisor.FeatureDevices, func(d *polyvisor.Domain, ctx context.Context) error { return f(d, ctx, good) }).
			or(func(d *polyvisor.Domain, ctx context.Context) error { return f(d, ctx, (*polyvisor.NIC)(nil)) })
	}
	deviceXML := func(fn, name, good string, f func(*polyvisor.Domain, context.Context, string) error) method {
		return change(fn, name, polyvisor.FeatureXML, func(d *polyvisor.Domain, ctx context.Context) error { return f(d, ctx, good) }).
			or(func(d *polyvisor.Domain, ctx context.Context) error { return f(d, ctx, "<nonsense/>") }).
			with(func(m *method) { m.by = byDriver })
	}
	return []method{
		change("SetMemory", "set memory", polyvisor.FeatureMemory, func(d *polyvisor.Domain, ctx context.Context) error {
			return d.SetMemory(ctx, 64*polyvisor.MiB)
		}).or(func(d *polyvisor.Domain, ctx context.Context) error { return d.SetMemory(ctx, 1) }),
		change("SetVCPUs", "set vcpus", polyvisor.FeatureVCPUs, func(d *polyvisor.Domain, ctx context.Context) error { return d.SetVCPUs(ctx, 1) }).
			or(func(d *polyvisor.Domain, ctx context.Context) error { return d.SetVCPUs(ctx, 0) }),
		change("PinVCPU", "pin vcpu", polyvisor.FeatureVCPUPin, func(d *polyvisor.Domain, ctx context.Context) error {
			return d.PinVCPU(ctx, 0, polyvisor.CPUs(1))
		}).or(func(d *polyvisor.Domain, ctx context.Context) error { return d.PinVCPU(ctx, 0, polyvisor.CPUSet{}) }),
		change("ConfigureVCPU", "configure vcpu", polyvisor.FeatureVCPUConfig, func(d *polyvisor.Domain, ctx context.Context) error {
			return d.ConfigureVCPU(ctx, polyvisor.VCPUConfig{Weight: 7})
		}).or(func(d *polyvisor.Domain, ctx context.Context) error {
			return d.ConfigureVCPU(ctx, polyvisor.VCPUConfig{Weight: -1})
		}),
		change("SetLabels", "set labels", polyvisor.FeatureLabels, func(d *polyvisor.Domain, ctx context.Context) error {
			return d.SetLabels(ctx, map[string]string{"a": "b"})
		}).or(func(d *polyvisor.Domain, ctx context.Context) error {
			return d.SetLabels(ctx, map[string]string{"": "b"})
		}),
		change("SetAutostart", "set autostart", polyvisor.FeatureAutostart, func(d *polyvisor.Domain, ctx context.Context) error { return d.SetAutostart(ctx, true) }),
		device("AttachDevice", "attach device", &disk, (*polyvisor.Domain).AttachDevice),
		device("DetachDevice", "detach device", &rng, (*polyvisor.Domain).DetachDevice),
		device("UpdateDevice", "update device", &rng, (*polyvisor.Domain).UpdateDevice),
		deviceXML("AttachDeviceXML", "attach device", diskXML, (*polyvisor.Domain).AttachDeviceXML),
		deviceXML("DetachDeviceXML", "detach device", `<disk target="vdx"/>`, (*polyvisor.Domain).DetachDeviceXML),
		deviceXML("UpdateDeviceXML", "update device", `<disk target="vdx" source="/x"/>`, (*polyvisor.Domain).UpdateDeviceXML),

		// These are made of others.
		change("SetState", "set state", "", func(d *polyvisor.Domain, ctx context.Context) error { return d.SetState(ctx, polyvisor.Running) }).
			or(func(d *polyvisor.Domain, ctx context.Context) error { return d.SetState(ctx, polyvisor.Crashed) }).
			with(func(m *method) { m.driver, m.by = "start", "" }),
		change("Remove", "remove", "", (*polyvisor.Domain).Remove).
			with(func(m *method) { m.driver, m.by, m.state = "destroy", "", polyvisor.Running }),
	}
}

// create is Create without options.
func create(c *polyvisor.Conn) func(context.Context, *polyvisor.Config) (*polyvisor.Domain, error) {
	return func(ctx context.Context, config *polyvisor.Config) (*polyvisor.Domain, error) {
		return c.Create(ctx, config)
	}
}

// start is Start without options.
func start(d *polyvisor.Domain) func(context.Context) error {
	return func(ctx context.Context) error { return d.Start(ctx) }
}

// prepare connects and finds a domain in the state that m wants.
func (m *method) prepare(t *testing.T, setup func(*recorder), opts ...polyvisor.Option) (*polyvisor.Conn, *polyvisor.Domain, *recorder) {
	t.Helper()
	conn, r := connect(t, setup, opts...)
	return conn, m.domain(t, conn, r), r
}

// domain puts a domain in the state that m wants into r.
func (m *method) domain(t *testing.T, conn *polyvisor.Conn, r *recorder) *polyvisor.Domain {
	t.Helper()
	id := r.put("dom", m.state)
	from, isRuled := polyvisor.Transitions[polyvisor.Op(m.name)]
	if m.state == polyvisor.Crashed && isRuled && !slices.Contains(from.From, polyvisor.Shutoff) {
		r.preserve(id)
	}
	r.mu.Lock()
	d := r.domains[id]
	d.config.RNG = &polyvisor.RNG{}
	d.config.Disks = []polyvisor.Disk{{Target: "vdx", Source: polyvisor.Path("/x"), Format: polyvisor.FormatRaw}}
	if m.driver == "wait" {
		d.run(r)
		d.end(r, polyvisor.StopShutdown)
	}
	if m.driver == "restore" {
		saved := &recDomain{config: (&polyvisor.Config{Name: "saved"}).WithDefaults(), persistent: true}
		r.saved["/saved"] = saved
	}
	r.mu.Unlock()
	dom, err := conn.Domain(t.Context(), "dom")
	require.NoError(t, err)
	r.log()
	return dom
}

func eachMethod(t *testing.T, f func(t *testing.T, m method)) {
	for _, m := range methods() {
		t.Run(m.fn, func(t *testing.T) { f(t, m) })
	}
}

// Every method that takes a context is in the table, once.
func TestEveryMethodIsInTheTable(t *testing.T) {
	var want []string
	ctx := reflect.TypeFor[context.Context]()
	for _, typ := range []reflect.Type{reflect.TypeFor[*polyvisor.Conn](), reflect.TypeFor[*polyvisor.Domain]()} {
		for i := range typ.NumMethod() {
			if m := typ.Method(i); m.Type.NumIn() > 1 && m.Type.In(1) == ctx {
				want = append(want, strings.TrimPrefix(typ.String(), "*polyvisor.")+"."+m.Name)
			}
		}
	}
	require.Greater(t, len(want), 40)
	var have []string
	for _, m := range methods() {
		have = append(have, m.fn)
	}
	assert.ElementsMatch(t, want, have)
}

func TestEveryOpHasAMethod(t *testing.T) {
	for op := range polyvisor.Transitions {
		assert.True(t, slices.ContainsFunc(operations(), func(m method) bool { return m.name == string(op) }), "%s", op)
	}
}

// Without this the other tests would prove nothing: every method does reach
// the driver when nothing speaks against it.
func TestMethodsReachTheDriver(t *testing.T) {
	eachMethod(t, func(t *testing.T, m method) {
		conn, dom, r := m.prepare(t, nil)
		require.NoError(t, m.call(t.Context(), conn, dom))
		assert.Contains(t, r.log(), m.driver)
		assert.Zero(t, conn.Slots())
	})
}

// A call that fails says which operation it was.
func TestMethodsNameTheirOperation(t *testing.T) {
	eachMethod(t, func(t *testing.T, m method) {
		conn, dom, r := m.prepare(t, nil)
		r.setScript(failOn(m.driver, polyvisor.ErrNoResource))
		err := m.call(t.Context(), conn, dom)
		var e *polyvisor.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, polyvisor.CodeNoResource, e.Code)
		assert.Equal(t, "rec", e.Driver)
		want := m.name
		switch m.fn {
		case "Domain.Labels", "Domain.Autostart", "Domain.SetState", "Domain.Remove":
			want = m.driver // made of another
		}
		assert.Equal(t, want, e.Op)
		if strings.HasPrefix(m.fn, "Domain.") {
			assert.Equal(t, "dom", e.Domain)
		}
	})
}

// Bad arguments are refused before anything is asked, in every state and also
// on a read-only connection; a feature that is missing goes before them.
func TestMethodsWithBadArguments(t *testing.T) {
	eachMethod(t, func(t *testing.T, m method) {
		if m.bad == nil {
			return
		}
		for _, opts := range [][]polyvisor.Option{nil, {polyvisor.ReadOnly()}} {
			conn, dom, r := m.prepare(t, nil, opts...)
			require.ErrorIs(t, m.bad(t.Context(), conn, dom), polyvisor.ErrInvalidConfig)
			assert.Empty(t, r.log())
			require.NoError(t, conn.Close())
			r.log()
			assert.ErrorIs(t, m.bad(t.Context(), conn, dom), polyvisor.ErrClosed, "a closed connection refuses anything")
			assert.Empty(t, r.log())
		}
		if m.need == "" {
			return
		}
		conn, dom, _ := m.prepare(t, without(m.need))
		require.ErrorIs(t, m.bad(t.Context(), conn, dom), polyvisor.ErrUnsupported)
	})
}

// without gives a setup of a driver that lacks features.
func without(missing ...polyvisor.Feature) func(*recorder) {
	return func(r *recorder) {
		r.caps.Features = slices.DeleteFunc(polyvisor.Features(), func(f polyvisor.Feature) bool { return slices.Contains(missing, f) })
	}
}

// What the table does not rule is legal in every state.
func TestChangesInEveryState(t *testing.T) {
	for _, m := range changes() {
		if m.name == "set state" {
			continue
		}
		for _, s := range polyvisor.States() {
			t.Run(m.fn+" when "+s.String(), func(t *testing.T) {
				m.state = s
				conn, dom, _ := m.prepare(t, nil)
				require.NoError(t, m.call(t.Context(), conn, dom))
				assert.Zero(t, conn.Slots())
			})
		}
	}
}
