package remote_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/digitalocean/go-libvirt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/remote"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/rpc"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/rpc/rpctest"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/xdr"
	"github.com/polyvisor/polyvisor/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

var dom = libvirt.Domain{Name: "päris", UUID: libvirt.UUID{1, 2, 3, 15: 9}, ID: 7}

// calls are the procedures, by go-libvirt and by us.
var calls = []struct {
	name   string
	theirs func(l *libvirt.Libvirt) error
	ours   func(ctx context.Context, c remote.Conn) error
}{
	{"ConnectGetType", func(l *libvirt.Libvirt) error { _, err := l.ConnectGetType(); return err }, func(ctx context.Context, c remote.Conn) error { _, err := c.Type(ctx); return err }},
	{"ConnectGetVersion", func(l *libvirt.Libvirt) error { _, err := l.ConnectGetVersion(); return err }, func(ctx context.Context, c remote.Conn) error { _, err := c.Version(ctx); return err }},
	{"ConnectGetLibVersion", func(l *libvirt.Libvirt) error { _, err := l.ConnectGetLibVersion(); return err }, func(ctx context.Context, c remote.Conn) error { _, err := c.LibVersion(ctx); return err }},
	{"ConnectGetMaxVcpus", func(l *libvirt.Libvirt) error {
		_, err := l.ConnectGetMaxVcpus(libvirt.OptString{"kvm"})
		return err
	}, func(ctx context.Context, c remote.Conn) error { _, err := c.MaxVCPUs(ctx, "kvm"); return err }},
	{"NodeGetInfo", func(l *libvirt.Libvirt) error { _, _, _, _, _, _, _, _, err := l.NodeGetInfo(); return err }, func(ctx context.Context, c remote.Conn) error { _, err := c.NodeInfo(ctx); return err }},
	{"ConnectGetCapabilities", func(l *libvirt.Libvirt) error { _, err := l.ConnectGetCapabilities(); return err }, func(ctx context.Context, c remote.Conn) error { _, err := c.Capabilities(ctx); return err }},
	{"ConnectGetDomainCapabilities", func(l *libvirt.Libvirt) error {
		_, err := l.ConnectGetDomainCapabilities(nil, libvirt.OptString{"x86_64"}, nil, libvirt.OptString{"qemu"}, 0)
		return err
	}, func(ctx context.Context, c remote.Conn) error {
		_, err := c.DomainCapabilities(ctx, "", "x86_64", "", "qemu")
		return err
	}},
	{"ConnectGetHostname", func(l *libvirt.Libvirt) error { _, err := l.ConnectGetHostname(); return err }, func(ctx context.Context, c remote.Conn) error { _, err := c.Hostname(ctx); return err }},
	{"ConnectSupportsFeature", func(l *libvirt.Libvirt) error { _, err := l.ConnectSupportsFeature(14); return err }, func(ctx context.Context, c remote.Conn) error { _, err := c.SupportsFeature(ctx, 14); return err }},
	{"DomainLookupByID", func(l *libvirt.Libvirt) error { _, err := l.DomainLookupByID(7); return err }, func(ctx context.Context, c remote.Conn) error { _, err := c.LookupByID(ctx, 7); return err }},
	{"DomainLookupByName", func(l *libvirt.Libvirt) error { _, err := l.DomainLookupByName("näm"); return err }, func(ctx context.Context, c remote.Conn) error { _, err := c.LookupByName(ctx, "näm"); return err }},
	{"DomainLookupByUUID", func(l *libvirt.Libvirt) error { _, err := l.DomainLookupByUUID(dom.UUID); return err }, func(ctx context.Context, c remote.Conn) error { _, err := c.LookupByUUID(ctx, dom.UUID); return err }},
	{"ConnectListAllDomains", func(l *libvirt.Libvirt) error { _, _, err := l.ConnectListAllDomains(1, 3); return err }, func(ctx context.Context, c remote.Conn) error { _, err := c.List(ctx, 3); return err }},
	{"DomainGetState", func(l *libvirt.Libvirt) error { _, _, err := l.DomainGetState(dom, 0); return err }, func(ctx context.Context, c remote.Conn) error { _, _, err := c.State(ctx, &dom); return err }},
	{"DomainGetInfo", func(l *libvirt.Libvirt) error { _, _, _, _, _, err := l.DomainGetInfo(dom); return err }, func(ctx context.Context, c remote.Conn) error { _, err := c.Info(ctx, &dom); return err }},
	{"DomainIsPersistent", func(l *libvirt.Libvirt) error { _, err := l.DomainIsPersistent(dom); return err }, func(ctx context.Context, c remote.Conn) error { _, err := c.IsPersistent(ctx, &dom); return err }},
	{"DomainGetXMLDesc", func(l *libvirt.Libvirt) error { _, err := l.DomainGetXMLDesc(dom, 3); return err }, func(ctx context.Context, c remote.Conn) error { _, err := c.XML(ctx, &dom, 3); return err }},
	{"DomainDefineXML", func(l *libvirt.Libvirt) error { _, err := l.DomainDefineXML("<d/>"); return err }, func(ctx context.Context, c remote.Conn) error { _, err := c.Define(ctx, "<d/>"); return err }},
	{"DomainCreateXML", func(l *libvirt.Libvirt) error { _, err := l.DomainCreateXML("<d/>", 1); return err }, func(ctx context.Context, c remote.Conn) error { _, err := c.CreateXML(ctx, "<d/>", 1); return err }},
	{"DomainCreateWithFlags", func(l *libvirt.Libvirt) error { _, err := l.DomainCreateWithFlags(dom, 1); return err }, func(ctx context.Context, c remote.Conn) error { _, err := c.Start(ctx, &dom, 1); return err }},
	{"DomainCreate", func(l *libvirt.Libvirt) error { return l.DomainCreate(dom) }, func(ctx context.Context, c remote.Conn) error { return c.Create(ctx, &dom) }},
	{"DomainDestroy", func(l *libvirt.Libvirt) error { return l.DomainDestroy(dom) }, func(ctx context.Context, c remote.Conn) error { return c.Destroy(ctx, &dom) }},
	{"DomainUndefineFlags", func(l *libvirt.Libvirt) error { return l.DomainUndefineFlags(dom, 1) }, func(ctx context.Context, c remote.Conn) error { return c.Undefine(ctx, &dom, 1) }},
	{"DomainUndefine", func(l *libvirt.Libvirt) error { return l.DomainUndefine(dom) }, func(ctx context.Context, c remote.Conn) error { return c.UndefinePlain(ctx, &dom) }},
	{"DomainSuspend", func(l *libvirt.Libvirt) error { return l.DomainSuspend(dom) }, func(ctx context.Context, c remote.Conn) error { return c.Suspend(ctx, &dom) }},
	{"DomainResume", func(l *libvirt.Libvirt) error { return l.DomainResume(dom) }, func(ctx context.Context, c remote.Conn) error { return c.Resume(ctx, &dom) }},
	{"DomainPmWakeup", func(l *libvirt.Libvirt) error { return l.DomainPmWakeup(dom, 0) }, func(ctx context.Context, c remote.Conn) error { return c.Wakeup(ctx, &dom) }},
	{"DomainShutdown", func(l *libvirt.Libvirt) error { return l.DomainShutdown(dom) }, func(ctx context.Context, c remote.Conn) error { return c.Shutdown(ctx, &dom) }},
	{"DomainReboot", func(l *libvirt.Libvirt) error { return l.DomainReboot(dom, 0) }, func(ctx context.Context, c remote.Conn) error { return c.Reboot(ctx, &dom) }},
	{"DomainSave", func(l *libvirt.Libvirt) error { return l.DomainSave(dom, "/f") }, func(ctx context.Context, c remote.Conn) error { return c.Save(ctx, &dom, "/f") }},
	{"DomainRestoreFlags", func(l *libvirt.Libvirt) error { return l.DomainRestoreFlags("/f", nil, 4) }, func(ctx context.Context, c remote.Conn) error { return c.Restore(ctx, "/f", 4) }},
	{"DomainRestore", func(l *libvirt.Libvirt) error { return l.DomainRestore("/f") }, func(ctx context.Context, c remote.Conn) error { return c.RestorePlain(ctx, "/f") }},
	{"DomainSaveImageGetXMLDesc", func(l *libvirt.Libvirt) error { _, err := l.DomainSaveImageGetXMLDesc("/f", 0); return err }, func(ctx context.Context, c remote.Conn) error { _, err := c.SavedXML(ctx, "/f"); return err }},
	{"DomainCoreDump", func(l *libvirt.Libvirt) error { return l.DomainCoreDump(dom, "/f", 16) }, func(ctx context.Context, c remote.Conn) error { return c.CoreDump(ctx, &dom, "/f", 16) }},
	{"DomainAbortJob", func(l *libvirt.Libvirt) error { return l.DomainAbortJob(dom) }, func(ctx context.Context, c remote.Conn) error { return c.AbortJob(ctx, &dom) }},
	{"DomainSetMemoryFlags", func(l *libvirt.Libvirt) error { return l.DomainSetMemoryFlags(dom, 1<<40, 2) }, func(ctx context.Context, c remote.Conn) error { return c.SetMemory(ctx, &dom, 1<<40, 2) }},
	{"DomainSetVcpusFlags", func(l *libvirt.Libvirt) error { return l.DomainSetVcpusFlags(dom, 3, 4) }, func(ctx context.Context, c remote.Conn) error { return c.SetVCPUs(ctx, &dom, 3, 4) }},
	{"DomainGetVcpusFlags", func(l *libvirt.Libvirt) error { _, err := l.DomainGetVcpusFlags(dom, 4); return err }, func(ctx context.Context, c remote.Conn) error { _, err := c.CountVCPUs(ctx, &dom, 4); return err }},
	{"DomainPinVcpuFlags", func(l *libvirt.Libvirt) error { return l.DomainPinVcpuFlags(dom, 2, []byte{1, 2, 3}, 1) }, func(ctx context.Context, c remote.Conn) error { return c.Pin(ctx, &dom, 2, []byte{1, 2, 3}, 1) }},
	{"DomainGetVcpus", func(l *libvirt.Libvirt) error { _, _, err := l.DomainGetVcpus(dom, 4, 2); return err }, func(ctx context.Context, c remote.Conn) error { _, _, err := c.VCPUs(ctx, &dom, 4, 2); return err }},
	{"DomainGetVcpuPinInfo", func(l *libvirt.Libvirt) error { _, _, err := l.DomainGetVcpuPinInfo(dom, 4, 2, 1); return err }, func(ctx context.Context, c remote.Conn) error { _, _, err := c.PinInfo(ctx, &dom, 4, 2, 1); return err }},
	{"DomainAttachDeviceFlags", func(l *libvirt.Libvirt) error { return l.DomainAttachDeviceFlags(dom, "<x/>", 1) }, func(ctx context.Context, c remote.Conn) error { return c.Attach(ctx, &dom, "<x/>", 1) }},
	{"DomainDetachDeviceFlags", func(l *libvirt.Libvirt) error { return l.DomainDetachDeviceFlags(dom, "<x/>", 1) }, func(ctx context.Context, c remote.Conn) error { return c.Detach(ctx, &dom, "<x/>", 1) }},
	{"DomainUpdateDeviceFlags", func(l *libvirt.Libvirt) error { return l.DomainUpdateDeviceFlags(dom, "<x/>", 1) }, func(ctx context.Context, c remote.Conn) error { return c.Update(ctx, &dom, "<x/>", 1) }},
	{"DomainSetMetadata", func(l *libvirt.Libvirt) error {
		return l.DomainSetMetadata(dom, 2, libvirt.OptString{"<m/>"}, libvirt.OptString{"k"}, libvirt.OptString{"u"}, 3)
	}, func(ctx context.Context, c remote.Conn) error {
		return c.SetMetadata(ctx, &dom, "<m/>", "k", "u", 3)
	}},
	{"DomainSetMetadata of nothing", func(l *libvirt.Libvirt) error {
		return l.DomainSetMetadata(dom, 2, nil, libvirt.OptString{"k"}, libvirt.OptString{"u"}, 1)
	}, func(ctx context.Context, c remote.Conn) error { return c.SetMetadata(ctx, &dom, "", "k", "u", 1) }},
	{"DomainGetAutostart", func(l *libvirt.Libvirt) error { _, err := l.DomainGetAutostart(dom); return err }, func(ctx context.Context, c remote.Conn) error { _, err := c.Autostart(ctx, &dom); return err }},
	{"DomainSetAutostart", func(l *libvirt.Libvirt) error { return l.DomainSetAutostart(dom, 1) }, func(ctx context.Context, c remote.Conn) error { return c.SetAutostart(ctx, &dom, true) }},
	{"DomainRename", func(l *libvirt.Libvirt) error { _, err := l.DomainRename(dom, libvirt.OptString{"n"}, 0); return err }, func(ctx context.Context, c remote.Conn) error { return c.Rename(ctx, &dom, "n") }},
	{"ConnectGetAllDomainStats", func(l *libvirt.Libvirt) error {
		_, err := l.ConnectGetAllDomainStats([]libvirt.Domain{dom, dom}, 63, 1)
		return err
	}, func(ctx context.Context, c remote.Conn) error {
		_, err := c.Stats(ctx, []libvirt.Domain{dom, dom}, 63, 1)
		return err
	}},
	{"ConnectDomainEventCallbackRegisterAny", func(l *libvirt.Libvirt) error { _, err := l.ConnectDomainEventCallbackRegisterAny(19, nil); return err }, func(ctx context.Context, c remote.Conn) error { _, err := c.Register(ctx, 19); return err }},
	{"DomainOpenConsole", func(l *libvirt.Libvirt) error { return l.DomainOpenConsole(dom, nil, nil, 1) }, func(ctx context.Context, c remote.Conn) error { _, err := c.OpenConsole(ctx, &dom, 1); return err }},
}

// What we send is, byte for byte, what go-libvirt sends.
func TestRequestsAreThoseOfGoLibvirt(t *testing.T) {
	for _, tt := range calls {
		t.Run(tt.name, func(t *testing.T) {
			theirs := rpctest.Oracle(t, rpctest.Refuse, func(l *libvirt.Libvirt) { assert.Error(t, tt.theirs(l)) })
			ours := rpctest.Sent(t, rpctest.Refuse, func(c *rpc.Client) {
				var e *rpc.Error
				assert.ErrorAs(t, tt.ours(t.Context(), remote.Conn{Client: c}), &e)
			})
			require.NotEmpty(t, theirs)
			require.Len(t, ours, 1)
			call := slices.IndexFunc(theirs, func(f rpctest.Frame) bool { return f.Type == rpc.TypeCall })
			assert.Equal(t, theirs[call].Procedure, ours[0].Procedure)
			assert.Equal(t, theirs[call].Program, ours[0].Program)
			assert.Equal(t, theirs[call].Payload, ours[0].Payload)
		})
	}
}

// Every damaged reply is an error and no panic: each is cut short at every byte.
func TestRepliesAreBounded(t *testing.T) {
	for _, tt := range calls {
		for _, payload := range [][]byte{nil, {0xff, 0xff, 0xff, 0xff}, make([]byte, 3), slices.Repeat([]byte{0x7f}, 64), slices.Repeat([]byte{0, 0, 0, 1}, 40)} {
			for cut := range len(payload) + 1 {
				rpctest.Sent(t, func(rpctest.Frame) ([]byte, *rpc.Error) { return payload[:cut], nil }, func(c *rpc.Client) {
					err := tt.ours(t.Context(), remote.Conn{Client: c})
					if err != nil {
						assert.ErrorIs(t, err, rpc.ErrProtocol, "%s with %x", tt.name, payload[:cut])
					}
				})
			}
		}
	}
}

// domainBytes is a domain as a server writes it.
func domainBytes(w *xdr.Writer, d libvirt.Domain) {
	w.String(d.Name)
	w.Fixed(d.UUID[:])
	w.Int32(d.ID)
}

func TestResults(t *testing.T) {
	reply := func(write func(w *xdr.Writer)) rpctest.Answer {
		return func(rpctest.Frame) ([]byte, *rpc.Error) {
			var w xdr.Writer
			write(&w)
			return w.Bytes(), nil
		}
	}
	run := func(write func(w *xdr.Writer), f func(c remote.Conn) error) {
		t.Helper()
		rpctest.Sent(t, reply(write), func(c *rpc.Client) { require.NoError(t, f(remote.Conn{Client: c})) })
	}
	ctx := t.Context()
	run(func(w *xdr.Writer) { w.Int32(1); w.Int32(5) }, func(c remote.Conn) error {
		state, reason, err := c.State(ctx, &dom)
		assert.Equal(t, libvirt.DomainRunning, state)
		assert.EqualValues(t, 5, reason)
		return err
	})
	run(func(w *xdr.Writer) { w.Uint32(1); w.Uint64(2); w.Uint64(3); w.Uint32(4); w.Uint64(5) }, func(c remote.Conn) error {
		info, err := c.Info(ctx, &dom)
		assert.Equal(t, libvirt.DomainGetInfoRet{State: 1, MaxMem: 2, Memory: 3, NrVirtCPU: 4, CPUTime: 5}, info)
		return err
	})
	run(func(w *xdr.Writer) {
		w.Count(2)
		domainBytes(w, dom)
		domainBytes(w, libvirt.Domain{Name: "b"})
		w.Uint32(2)
	}, func(c remote.Conn) error {
		list, err := c.List(ctx, 0)
		assert.Equal(t, []libvirt.Domain{dom, {Name: "b"}}, list)
		return err
	})
	run(func(w *xdr.Writer) {
		for n := range 32 {
			w.Int32(int32("ab"[n%2] * byte(1-n/2%2)))
		}
		w.Uint64(8)
		for n := range 6 {
			w.Int32(int32(n))
		}
	}, func(c remote.Conn) error {
		n, err := c.NodeInfo(ctx)
		assert.EqualValues(t, 'b', n.Model[1])
		assert.EqualValues(t, []int32{8, 0, 1, 2, 3, 4, 5}, []int32{int32(n.Memory), n.Cpus, n.Mhz, n.Nodes, n.Sockets, n.Cores, n.Threads})
		return err
	})
	run(func(w *xdr.Writer) {
		w.Count(1)
		w.Uint32(3)
		w.Int32(1)
		w.Uint64(77)
		w.Int32(2)
		w.Opaque([]byte{6})
	}, func(c remote.Conn) error {
		list, maps, err := c.VCPUs(ctx, &dom, 1, 1)
		assert.Equal(t, []libvirt.VcpuInfo{{Number: 3, State: 1, CPUTime: 77, CPU: 2}}, list)
		assert.Equal(t, []byte{6}, maps)
		return err
	})
	run(func(w *xdr.Writer) {
		w.Count(1)
		domainBytes(w, dom)
		w.Count(7)
		for kind := range int32(7) {
			w.String(fmt.Sprint("p", kind+1))
			w.Int32(kind + 1)
			switch kind + 1 {
			case 1, 2, 6:
				w.Int32(1)
			case 3, 4:
				w.Uint64(2)
			case 5:
				w.Float64(2.5)
			case 7:
				w.String("text")
			}
		}
	}, func(c remote.Conn) error {
		list, err := c.Stats(ctx, nil, 0, 0)
		require.Len(t, list, 1)
		p := list[0].Params
		assert.Equal(t, []uint64{1, 1, 2, 2, 2, 1, 0}, []uint64{p["p1"].Number(), p["p2"].Number(), p["p3"].Number(), p["p4"].Number(), p["p5"].Number(), p["p6"].Number(), p["p7"].Number()})
		assert.Equal(t, "text", p["p7"].Text)
		return err
	})
}

func TestEvents(t *testing.T) {
	message := func(rest func(w *xdr.Writer)) []byte {
		var w xdr.Writer
		w.Int32(9)
		domainBytes(&w, dom)
		if rest != nil {
			rest(&w)
		}
		return w.Bytes()
	}
	for proc, tt := range map[uint32]struct {
		payload []byte
		want    remote.Event
	}{
		318: {message(func(w *xdr.Writer) { w.Int32(5); w.Int32(1) }), remote.Event{ID: 0, Domain: dom, Type: 5, Detail: 1}},
		319: {message(nil), remote.Event{ID: 1, Domain: dom}},
		324: {message(func(w *xdr.Writer) { w.String("/i"); w.String("virtio-disk0"); w.Int32(1); w.String("enospc") }),
			remote.Event{ID: 6, Domain: dom, Source: "/i", Alias: "virtio-disk0", Action: 1, Reason: "enospc"}},
		331: {message(func(w *xdr.Writer) { w.Uint64(1024) }), remote.Event{ID: 13, Domain: dom, Actual: 1024}},
		333: {message(func(w *xdr.Writer) { w.String("net0") }), remote.Event{ID: 15, Domain: dom, Alias: "net0"}},
		354: {message(func(w *xdr.Writer) { w.String("net0") }), remote.Event{ID: 19, Domain: dom, Alias: "net0"}},
		379: {message(func(w *xdr.Writer) { w.Int32(2); w.Bool(true); w.String("u") }), remote.Event{ID: 23, Domain: dom, Metadata: 2, URI: "u"}},
	} {
		got, ok, err := remote.ReadEvent(proc, tt.payload)
		require.NoError(t, err)
		assert.True(t, ok)
		assert.Equal(t, tt.want, got)
		for cut := range tt.payload {
			_, ok, err := remote.ReadEvent(proc, tt.payload[:cut])
			assert.False(t, ok)
			assert.Error(t, err)
		}
	}
	_, ok, err := remote.ReadEvent(320, nil)
	assert.False(t, ok)
	assert.NoError(t, err)
}

func FuzzReadEvent(f *testing.F) {
	for _, proc := range []uint32{318, 319, 324, 331, 333, 354, 379} {
		f.Add(proc, []byte{0, 0, 0, 9, 0, 0, 0, 1, 'a', 0, 0, 0})
	}
	f.Fuzz(func(t *testing.T, proc uint32, payload []byte) {
		_, ok, err := remote.ReadEvent(proc, payload)
		assert.False(t, ok && err != nil)
	})
}
