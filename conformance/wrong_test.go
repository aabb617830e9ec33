package conformance_test

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"

	"github.com/polyvisor/polyvisor"
)

// fault makes a right driver a wrong one. What is nil is as it was.
type fault struct {
	// name says what the driver does wrong.
	name string
	// of is the case that catches it, says a part of its message.
	of, says string

	caps func(*polyvisor.Capabilities)
	// op is called in place of every operation; next does the right thing.
	op     func(c *call, next func() error) error
	state  func(polyvisor.State) polyvisor.State
	node   func(*polyvisor.Node)
	info   func(*polyvisor.Info)
	config func(*polyvisor.Config)
	stop   func(*polyvisor.Stop)
	list   func(d *wrongDriver, list []polyvisor.Instance) []polyvisor.Instance
	vcpus  func([]polyvisor.VCPU) []polyvisor.VCPU
	stats  func(*polyvisor.Stats)
	event  func(polyvisor.Event) []polyvisor.Event
	// told is called in place of event and knows the connection.
	told   func(d *wrongDriver, e polyvisor.Event) []polyvisor.Event
	stream func(io.ReadWriteCloser) io.ReadWriteCloser
	// conn and listener change those of the socket device.
	conn     func(net.Conn) net.Conn
	listener func(net.Listener) net.Listener
	// command changes what is to run in the guest, and process what runs.
	command func(*polyvisor.Cmd)
	process func(polyvisor.ExecProcess) polyvisor.ExecProcess

	// without are features that the driver does not declare; the cases that need
	// one are skipped.
	without []polyvisor.Feature
	// kernel has the suite run a kernel from a file in place of the built-in guest.
	kernel bool
}

// call is an operation of a wrong driver.
type call struct {
	op   string
	ctx  context.Context
	d    *wrongDriver
	inst polyvisor.Instance // the right one; nil for operations of the connection

	// What the operation was given and gives, as far as it is about that.
	config   *polyvisor.Config
	start    *polyvisor.StartOptions
	key      *polyvisor.Key
	path     string
	memory   *polyvisor.Bytes
	vcpu     *polyvisor.VCPUConfig
	device   *polyvisor.Device
	readOnly bool
	result   *polyvisor.Instance
	stream   io.ReadWriteCloser
	port     *uint32
	conn     net.Conn
	listener net.Listener
	state    *polyvisor.State
	info     *polyvisor.Info
	stop     *polyvisor.Stop
	got      **polyvisor.Config // what Config gives
}

// id is the UUID of the domain that the operation is about, as text.
func (c *call) id() string {
	if c.inst != nil {
		return c.inst.UUID().String()
	}
	return c.config.UUID.String()
}

// host is what all connections of a wrong driver share.
type host struct {
	f       *fault
	mu      sync.Mutex
	calls   map[string]int
	notes   map[string]int
	cleanup []func()
}

// note keeps a number under some words, and get gives it, 0 if there is none.
func (h *host) note(n int, words ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.notes[strings.Join(words, " ")] = n
}

func (h *host) get(words ...string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.notes[strings.Join(words, " ")]
}

// add adds to such a number and gives the sum.
func (h *host) add(n int, words ...string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.notes[strings.Join(words, " ")] += n
	return h.notes[strings.Join(words, " ")]
}

// count says which call of the operation this is, from 1.
func (h *host) count(op string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls[op]++
	return h.calls[op]
}

// defined are the UUIDs that notesDefined has kept.
func (h *host) defined() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []string
	for words, n := range h.notes {
		if id, ok := strings.CutPrefix(words, "defined "); ok && n > 0 {
			list = append(list, id)
		}
	}
	return list
}

func (h *host) atEnd(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cleanup = append(h.cleanup, f)
}

// wrongDriver is a driver with a fault.
type wrongDriver struct {
	polyvisor.Driver
	h        *host
	n        int // which connection it is, from 1
	readOnly bool
}

func (d *wrongDriver) Unwrap() polyvisor.Driver { return d.Driver }

func (d *wrongDriver) do(c *call, next func() error) error {
	c.d = d
	if d.h.f.op == nil {
		return next()
	}
	return d.h.f.op(c, next)
}

// wrap makes a wrong instance of a right one.
func (d *wrongDriver) wrap(inst polyvisor.Instance) polyvisor.Instance {
	if inst == nil {
		return nil
	}
	return &wrongInstance{inst, d}
}

// making runs a call that gives an instance.
func (d *wrongDriver) making(c *call, next func() (polyvisor.Instance, error)) (polyvisor.Instance, error) {
	var inst polyvisor.Instance
	c.result = &inst
	if err := d.do(c, func() (err error) { inst, err = next(); return err }); err != nil {
		return nil, err
	}
	return d.wrap(inst), nil
}

func (d *wrongDriver) Capabilities() polyvisor.Capabilities {
	c := d.Driver.Capabilities()
	c.Features = slices.DeleteFunc(slices.Clone(c.Features), func(f polyvisor.Feature) bool { return slices.Contains(d.h.f.without, f) })
	if d.h.f.caps != nil {
		d.h.f.caps(&c)
	}
	return c
}

func (d *wrongDriver) Node(ctx context.Context) (polyvisor.Node, error) {
	n, err := d.Driver.Node(ctx)
	if d.h.f.node != nil {
		d.h.f.node(&n)
	}
	return n, err
}

func (d *wrongDriver) Define(ctx context.Context, config *polyvisor.Config) (polyvisor.Instance, error) {
	return d.making(&call{op: "define", ctx: ctx, config: config}, func() (polyvisor.Instance, error) { return d.Driver.Define(ctx, config) })
}

func (d *wrongDriver) Create(ctx context.Context, config *polyvisor.Config, o polyvisor.StartOptions) (polyvisor.Instance, error) {
	return d.making(&call{op: "create", ctx: ctx, config: config, start: &o}, func() (polyvisor.Instance, error) { return d.Driver.Create(ctx, config, o) })
}

func (d *wrongDriver) Lookup(ctx context.Context, key polyvisor.Key) (polyvisor.Instance, error) {
	return d.making(&call{op: "lookup", ctx: ctx, key: &key}, func() (polyvisor.Instance, error) { return d.Driver.Lookup(ctx, key) })
}

func (d *wrongDriver) Restore(ctx context.Context, path string, o polyvisor.StartOptions) (polyvisor.Instance, error) {
	r := d.Driver.(polyvisor.Restorer)
	return d.making(&call{op: "restore", ctx: ctx, path: path, start: &o}, func() (polyvisor.Instance, error) { return r.Restore(ctx, path, o) })
}

func (d *wrongDriver) List(ctx context.Context) ([]polyvisor.Instance, error) {
	var list []polyvisor.Instance
	err := d.do(&call{op: "list", ctx: ctx}, func() (err error) { list, err = d.Driver.List(ctx); return err })
	if d.h.f.list != nil {
		list = d.h.f.list(d, list)
	}
	for i := range list {
		list[i] = d.wrap(list[i])
	}
	return list, err
}

func (d *wrongDriver) Close() error {
	return d.do(&call{op: "close", ctx: context.Background()}, d.Driver.Close)
}

func (d *wrongDriver) Subscribe(ctx context.Context, sink func(polyvisor.Event)) (func(), error) {
	wrong := sink
	if d.h.f.told != nil {
		wrong = func(e polyvisor.Event) {
			for _, e := range d.h.f.told(d, e) {
				sink(e)
			}
		}
	}
	if d.h.f.event != nil {
		wrong = func(e polyvisor.Event) {
			for _, e := range d.h.f.event(e) {
				sink(e)
			}
		}
	}
	var cancel func()
	err := d.do(&call{op: "subscribe", ctx: ctx}, func() (err error) {
		cancel, err = d.Driver.(polyvisor.EventSource).Subscribe(ctx, wrong)
		return err
	})
	return cancel, err
}

func (d *wrongDriver) ParseDomainXML(xml string) (c *polyvisor.Config, err error) {
	k := &call{op: "parse xml"}
	err = d.do(k, func() (err error) { c, err = d.Driver.(polyvisor.XMLCodec).ParseDomainXML(xml); return err })
	if k.config != nil {
		c = k.config
	}
	return c, err
}

func (d *wrongDriver) FormatDomainXML(c *polyvisor.Config) (xml string, err error) {
	err = d.do(&call{op: "xml", config: c}, func() (err error) { xml, err = d.Driver.(polyvisor.XMLCodec).FormatDomainXML(c); return err })
	return xml, err
}

func (d *wrongDriver) ParseDeviceXML(xml string) (dev polyvisor.Device, err error) {
	err = d.do(&call{op: "parse device", device: &dev}, func() (err error) { dev, err = d.Driver.(polyvisor.XMLCodec).ParseDeviceXML(xml); return err })
	return dev, err
}

func (d *wrongDriver) BulkStats(ctx context.Context, list []polyvisor.Instance) ([]polyvisor.Stats, error) {
	var all []polyvisor.Stats
	for _, i := range list {
		s, err := i.(*wrongInstance).Stats(ctx)
		if errors.Is(err, polyvisor.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	err := d.do(&call{op: "bulk stats", ctx: ctx}, func() error { return nil })
	if err != nil { // a fault without its own way to say so
		for i, j := 0, len(all)-1; i < j; i, j = i+1, j-1 {
			all[i], all[j] = all[j], all[i]
		}
	}
	return all, nil
}

// wrongInstance is a domain of a wrong driver. It has every ability, as the
// right one has.
type wrongInstance struct {
	polyvisor.Instance
	d *wrongDriver
}

func (i *wrongInstance) do(ctx context.Context, op string, next func() error, fill ...func(*call)) error {
	c := &call{op: op, ctx: ctx, inst: i.Instance}
	for _, f := range fill {
		f(c)
	}
	return i.d.do(c, next)
}

func (i *wrongInstance) State(ctx context.Context) (s polyvisor.State, err error) {
	err = i.do(ctx, "state", func() (err error) { s, err = i.Instance.State(ctx); return err }, func(c *call) { c.state = &s })
	if i.d.h.f.state != nil {
		s = i.d.h.f.state(s)
	}
	return s, err
}

func (i *wrongInstance) Info(ctx context.Context) (info polyvisor.Info, err error) {
	err = i.do(ctx, "info", func() (err error) { info, err = i.Instance.Info(ctx); return err }, func(c *call) { c.info = &info })
	i.d.h.f.change(&info)
	return info, err
}

func (f *fault) change(info *polyvisor.Info) {
	if f.stop != nil && info.LastStop != nil {
		s := *info.LastStop
		f.stop(&s)
		info.LastStop = &s
	}
	if f.info != nil {
		f.info(info)
	}
}

func (i *wrongInstance) Config(ctx context.Context) (c *polyvisor.Config, err error) {
	k := &call{op: "config", ctx: ctx, inst: i.Instance, got: &c}
	err = i.d.do(k, func() (err error) { c, err = i.Instance.Config(ctx); return err })
	if k.config != nil {
		c = k.config
	}
	if c != nil && i.d.h.f.config != nil {
		i.d.h.f.config(c)
	}
	return c, err
}

func (i *wrongInstance) Start(ctx context.Context, o polyvisor.StartOptions) error {
	return i.do(ctx, "start", func() error { return i.Instance.Start(ctx, o) }, func(c *call) { c.start = &o })
}

func (i *wrongInstance) Destroy(ctx context.Context) error {
	return i.do(ctx, "destroy", func() error { return i.Instance.Destroy(ctx) })
}

func (i *wrongInstance) Undefine(ctx context.Context) error {
	return i.do(ctx, "undefine", func() error { return i.Instance.Undefine(ctx) })
}

func (i *wrongInstance) Wait(ctx context.Context) (s polyvisor.Stop, err error) {
	err = i.do(ctx, "wait", func() (err error) { s, err = i.Instance.Wait(ctx); return err }, func(c *call) { c.stop = &s })
	if i.d.h.f.stop != nil {
		i.d.h.f.stop(&s)
	}
	return s, err
}

func (i *wrongInstance) Suspend(ctx context.Context) error {
	return i.do(ctx, "suspend", func() error { return i.Instance.(polyvisor.Suspender).Suspend(ctx) })
}

func (i *wrongInstance) Resume(ctx context.Context) error {
	return i.do(ctx, "resume", func() error { return i.Instance.(polyvisor.Suspender).Resume(ctx) })
}

func (i *wrongInstance) Shutdown(ctx context.Context) error {
	return i.do(ctx, "shutdown", func() error { return i.Instance.(polyvisor.Shutdowner).Shutdown(ctx) })
}

func (i *wrongInstance) Reboot(ctx context.Context) error {
	return i.do(ctx, "reboot", func() error { return i.Instance.(polyvisor.Rebooter).Reboot(ctx) })
}

func (i *wrongInstance) OpenConsole(ctx context.Context, o polyvisor.ConsoleOptions) (rwc io.ReadWriteCloser, err error) {
	k := &call{op: "console", ctx: ctx, inst: i.Instance}
	err = i.d.do(k, func() (err error) {
		rwc, err = i.Instance.(polyvisor.ConsoleOpener).OpenConsole(ctx, o)
		return err
	})
	if k.stream != nil {
		rwc = k.stream
	}
	if err == nil && i.d.h.f.stream != nil {
		rwc = i.d.h.f.stream(rwc)
	}
	return rwc, err
}

func (i *wrongInstance) DialVsock(ctx context.Context, port uint32) (conn net.Conn, err error) {
	k := &call{op: "dial vsock", ctx: ctx, inst: i.Instance, port: &port}
	err = i.d.do(k, func() (err error) {
		conn, err = i.Instance.(polyvisor.Vsocker).DialVsock(ctx, port)
		return err
	})
	if k.conn != nil {
		conn = k.conn
	}
	if err == nil && i.d.h.f.conn != nil {
		conn = i.d.h.f.conn(conn)
	}
	return conn, err
}

func (i *wrongInstance) ListenVsock(ctx context.Context, port uint32) (l net.Listener, err error) {
	k := &call{op: "listen vsock", ctx: ctx, inst: i.Instance, port: &port}
	err = i.d.do(k, func() (err error) {
		l, err = i.Instance.(polyvisor.Vsocker).ListenVsock(ctx, port)
		return err
	})
	if k.listener != nil {
		l = k.listener
	}
	if err == nil && i.d.h.f.listener != nil {
		l = i.d.h.f.listener(l)
	}
	return l, err
}

func (i *wrongInstance) WaitReady(ctx context.Context) error {
	return i.do(ctx, "wait ready", func() error { return i.Instance.(polyvisor.Execer).WaitReady(ctx) })
}

func (i *wrongInstance) StartExec(ctx context.Context, c *polyvisor.Cmd) (p polyvisor.ExecProcess, err error) {
	if i.d.h.f.command != nil {
		i.d.h.f.command(c)
	}
	err = i.do(ctx, "exec", func() (err error) {
		p, err = i.Instance.(polyvisor.Execer).StartExec(ctx, c)
		return err
	})
	if err == nil && i.d.h.f.process != nil {
		p = i.d.h.f.process(p)
	}
	return p, err
}

func (i *wrongInstance) Save(ctx context.Context, path string) error {
	return i.do(ctx, "save", func() error { return i.Instance.(polyvisor.Saver).Save(ctx, path) }, func(c *call) { c.path = path })
}

func (i *wrongInstance) CoreDump(ctx context.Context, path string) error {
	return i.do(ctx, "core dump", func() error { return i.Instance.(polyvisor.CoreDumper).CoreDump(ctx, path) }, func(c *call) { c.path = path })
}

func (i *wrongInstance) SetMemory(ctx context.Context, n polyvisor.Bytes) error {
	return i.do(ctx, "set memory", func() error { return i.Instance.(polyvisor.MemorySetter).SetMemory(ctx, n) }, func(c *call) { c.memory = &n })
}

func (i *wrongInstance) SetMaxMemory(ctx context.Context, n polyvisor.Bytes) error {
	return i.do(ctx, "set max memory", func() error { return i.Instance.(polyvisor.MemorySetter).SetMaxMemory(ctx, n) })
}

func (i *wrongInstance) SetVCPUs(ctx context.Context, n int) error {
	return i.do(ctx, "set vcpus", func() error { return i.Instance.(polyvisor.VCPUSetter).SetVCPUs(ctx, n) })
}

func (i *wrongInstance) VCPUs(ctx context.Context) (list []polyvisor.VCPU, err error) {
	err = i.do(ctx, "vcpus", func() (err error) { list, err = i.Instance.(polyvisor.VCPULister).VCPUs(ctx); return err })
	if i.d.h.f.vcpus != nil {
		list = i.d.h.f.vcpus(list)
	}
	return list, err
}

func (i *wrongInstance) PinVCPU(ctx context.Context, vcpu int, cpus polyvisor.CPUSet) error {
	return i.do(ctx, "pin vcpu", func() error { return i.Instance.(polyvisor.VCPUPinner).PinVCPU(ctx, vcpu, cpus) })
}

func (i *wrongInstance) ConfigureVCPU(ctx context.Context, v polyvisor.VCPUConfig) error {
	return i.do(ctx, "configure vcpu", func() error { return i.Instance.(polyvisor.VCPUConfigurer).ConfigureVCPU(ctx, v) }, func(c *call) { c.vcpu = &v })
}

func (i *wrongInstance) AttachDevice(ctx context.Context, dev polyvisor.Device) error {
	return i.do(ctx, "attach", func() error { return i.Instance.(polyvisor.DeviceAttacher).AttachDevice(ctx, dev) }, func(c *call) { c.device = &dev })
}

func (i *wrongInstance) DetachDevice(ctx context.Context, dev polyvisor.Device) error {
	return i.do(ctx, "detach", func() error { return i.Instance.(polyvisor.DeviceAttacher).DetachDevice(ctx, dev) }, func(c *call) { c.device = &dev })
}

func (i *wrongInstance) UpdateDevice(ctx context.Context, dev polyvisor.Device) error {
	return i.do(ctx, "update", func() error { return i.Instance.(polyvisor.DeviceAttacher).UpdateDevice(ctx, dev) }, func(c *call) { c.device = &dev })
}

func (i *wrongInstance) SetLabels(ctx context.Context, labels map[string]string) error {
	return i.do(ctx, "set labels", func() error { return i.Instance.(polyvisor.Labeler).SetLabels(ctx, labels) })
}

func (i *wrongInstance) SetAutostart(ctx context.Context, on bool) error {
	return i.do(ctx, "set autostart", func() error { return i.Instance.(polyvisor.Autostarter).SetAutostart(ctx, on) })
}

func (i *wrongInstance) Rename(ctx context.Context, name string) error {
	return i.do(ctx, "rename", func() error { return i.Instance.(polyvisor.Renamer).Rename(ctx, name) })
}

func (i *wrongInstance) Stats(ctx context.Context) (s polyvisor.Stats, err error) {
	err = i.do(ctx, "stats", func() (err error) { s, err = i.Instance.(polyvisor.StatsReader).Stats(ctx); return err })
	i.d.h.f.change(&s.Info)
	if i.d.h.f.stats != nil {
		i.d.h.f.stats(&s)
	}
	return s, err
}

// active reports whether the right domain is active.
func (c *call) active() bool {
	s, err := c.inst.State(c.ctx)
	return err == nil && s.Active()
}

// byName gives the right domain of a name, nil if there is none.
func (d *wrongDriver) byName(name string) polyvisor.Instance {
	inst, err := d.Driver.Lookup(context.Background(), polyvisor.Key{Name: name})
	if err != nil {
		return nil
	}
	return inst
}

// byUUID gives the right domain of a UUID, nil if there is none.
func (d *wrongDriver) byUUID(id uuid.UUID) polyvisor.Instance {
	inst, err := d.Driver.Lookup(context.Background(), polyvisor.Key{UUID: id})
	if err != nil {
		return nil
	}
	return inst
}
