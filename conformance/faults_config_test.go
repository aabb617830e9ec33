package conformance_test

import (
	"context"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/conformance"
)

// fields lists the fields of a type with those of the structs, pointers and
// lists in it, as Disks and Disks.Target.
func fields(t reflect.Type, prefix string) []string {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		return fields(t.Elem(), prefix)
	case reflect.Struct:
	default:
		return nil
	}
	if t == reflect.TypeFor[os.File]() || t == reflect.TypeFor[polyvisor.CPUSet]() {
		return nil
	}
	var list []string
	for i := range t.NumField() {
		f := t.Field(i)
		name := strings.TrimPrefix(prefix+"."+f.Name, ".")
		inner := fields(f.Type, name)
		if f.Type.Kind() != reflect.Struct || len(inner) == 0 {
			list = append(list, name)
		}
		list = append(list, inner...)
	}
	return list
}

// configFields are all fields that a Config has.
func configFields() []string { return fields(reflect.TypeFor[polyvisor.Config](), "") }

// at calls f with the field of a Config: in a list, with that of each element,
// and of the same element of another Config.
func at(name string, v, other reflect.Value, f func(v, other reflect.Value)) {
	switch {
	case v.Kind() == reflect.Pointer && name != "":
		if !v.IsNil() && !other.IsNil() {
			at(name, v.Elem(), other.Elem(), f)
		}
	case v.Kind() == reflect.Slice && name != "":
		for i := range min(v.Len(), other.Len()) {
			at(name, v.Index(i), other.Index(i), f)
		}
	case name == "":
		f(v, other)
	default:
		first, rest, _ := strings.Cut(name, ".")
		at(rest, v.FieldByName(first), other.FieldByName(first), f)
	}
}

// without makes a field of a Config zero.
func without(name string, c *polyvisor.Config) {
	v := reflect.ValueOf(c).Elem()
	at(name, v, v, func(v, _ reflect.Value) { v.SetZero() })
}

// forgets is a driver that drops a field when it makes a domain by an operation.
func forgets(op, name string) *fault {
	return &fault{op: before(op, func(c *call) { without(name, c.config) })}
}

// ignores is a driver that keeps the books on a field of a Config and does not
// obey it.
func ignores(name string) *fault {
	var mu sync.Mutex
	given := map[uuid.UUID]*polyvisor.Config{}
	return &fault{
		op: func(c *call, next func() error) error {
			if c.op == "define" || c.op == "create" {
				mu.Lock()
				given[c.config.UUID] = c.config.Clone()
				mu.Unlock()
				without(name, c.config)
			}
			return next()
		},
		config: func(c *polyvisor.Config) {
			mu.Lock()
			defer mu.Unlock()
			if g := given[c.UUID]; g != nil {
				at(name, reflect.ValueOf(c).Elem(), reflect.ValueOf(g.Clone()).Elem(), func(v, was reflect.Value) { v.Set(was) })
			}
		},
	}
}

// named is a fault with its name, the case that catches it and its message.
func (f *fault) named(name, of, says string) fault {
	g := *f
	g.name, g.of, g.says = name, of, says
	return g
}

// configFaults drop what a Config says.
func configFaults() []fault {
	return []fault{
		forgets("define", "Boot.CommandLine").named("command lines are forgotten", "config/every-field", "Config of a definition does not keep Boot.CommandLine"),
		forgets("define", "Boot.Initrd.Path").named("initial RAM disks are forgotten", "config/every-field", "Config of a definition does not keep Boot.Initrd.Path"),
		forgets("create", "Boot.Initrd.Path").named("initial RAM disks of transient domains are forgotten", "config/every-field", "Config of a domain that was created does not keep Boot.Initrd.Path"),
		forgets("create", "Log.Path").named("logs of transient domains are forgotten", "config/every-field", "Config of a domain that was created does not keep Log.Path"),
		ignores("Boot.CommandLine").named("the guest gets no command line", "config/command-line", `to print "first-words"`),
		ignores("Boot.Initrd.Path").named("the guest gets no initial RAM disk", "config/kernel", "does not print the CRC-32 of its initial RAM disk"),
		ignores("Boot.CommandLine").named("the kernel gets no command line", "config/kernel", "does not print its command line"),
		ignores("VCPU.Number").named("all settings are those of the first vCPU", "config/affinity", "vCPU 0 of 2 in the definition may run on"),
		ignores("Boot.Initrd.Path").named("who cares for an initial RAM disk", "files/missing", "start without the file of its initrd: succeeded"),
		ignores("Boot.Firmware.Path").named("who cares for firmware", "files/missing", "start without the file of its firmware: succeeded"),
		ignores("Log.Path").named("nothing is logged", "console/hypervisor-log", "the log has nothing that the hypervisor says"),
		ignores("Log.Open").named("open logs are ignored", "files/open", "the open log has nothing"),
		ignores("Boot.Initrd.Open").named("open initial RAM disks are ignored", "files/open", "does not print the CRC-32 of its initial RAM disk"),
	}
}

// waitsFor makes an operation wait until its context ends while the domain that
// the suite hangs runs.
func waitsFor(op string, when func(*call) bool) func(*call, func() error) error {
	return on(op, func(c *call, next func() error) error {
		hung := c.d.byName(conformance.Prefix + "hung")
		if hung == nil || !when(c) {
			return next()
		}
		if s, err := hung.State(context.Background()); err != nil || !s.Active() || c.d.byName(conformance.Prefix+"runs") == nil {
			return next()
		}
		<-c.ctx.Done()
		return c.ctx.Err()
	})
}

func always(*call) bool { return true }

func isHung(c *call) bool { return c.inst != nil && c.inst.Name() == conformance.Prefix+"hung" }

// hangFaults wait for a domain that does not answer.
func hangFaults() []fault {
	const of = "list/while-busy"
	return []fault{
		{name: "a list that asks the domain that hangs", of: of, says: "list while a domain hangs: ", op: waitsFor("list", always)},
		{name: "a lookup that asks the domain that hangs", of: of, says: "lookup of the one that hangs while a domain hangs: ",
			op: waitsFor("lookup", func(c *call) bool { return c.key.Name == conformance.Prefix+"hung" })},
		{name: "a state that waits for the answer", of: of, says: "count while a domain hangs: ", op: waitsFor("state", isHung)},
		{name: "statistics of all that wait for one", of: of, says: "statistics of all while a domain hangs: ", op: waitsFor("stats", isHung)},
		{name: "one thing at a time", of: of, says: "life of another one while a domain hangs: ", op: waitsFor("define", always)},
		{name: "what hangs cannot be destroyed", of: of, says: "after the destruction of a domain that hung the domain is running",
			op: on("destroy", func(c *call, next func() error) error {
				if isHung(c) {
					return nil
				}
				return next()
			})},
		{name: "the hang is told as the end", of: of, says: "destroy a domain that hangs: ",
			op: on("state", func(c *call, next func() error) error {
				if isHung(c) && c.active() && c.d.h.count("state of what hangs") > 2 { // start and suspend ask
					return c.inst.Destroy(c.ctx)
				}
				return next()
			})},
		{name: "hang-ups are told as crashes", of: "wait/reasons", says: "want hangup", stop: rewrite(polyvisor.StopHangup, polyvisor.StopCrash)},
		{name: "what firmware refuses is told as a failed start", of: "wait/reasons", says: "want firmware-key-mismatch", stop: rewrite(polyvisor.StopFirmwareKeyMismatch, polyvisor.StopStartFailed)},
		{name: "nobody knows why", of: "wait/reasons", says: "want unrecognised", stop: rewrite(polyvisor.StopUnrecognised, polyvisor.StopUnknown)},
	}
}

// guestStateFaults tell the states that a guest brings about wrongly.
var guestStateFaults = []fault{
	{name: "what is blocked is told as running", of: "life/guest-states", says: "waited in vain until the domain is blocked", state: awake},
	{name: "tells of a waiting guest undeclared", of: "declared/guest-states", says: "feature guest-states is not declared, but a guest that waits is told as blocked",
		caps: undeclare(polyvisor.FeatureGuestStates)},
	{name: "Info knows nothing of a shutdown", of: "life/guest-states", says: "Info of a domain that is in shutdown is", info: func(i *polyvisor.Info) {
		if i.State == polyvisor.ShuttingDown {
			i.State = polyvisor.Running
		}
	}},
	{name: "vCPUs of suspended guests run", of: "vcpu/info", says: "of a suspended domain is told as running, want blocked", vcpus: eachVCPU(func(v *polyvisor.VCPU) {
		if v.State == polyvisor.VCPUBlocked {
			v.State = polyvisor.VCPURunning
		}
	})},
}

// failing runs cases against a driver with a fault, in their order, until one
// fails.
func failing(t *testing.T, f *fault, names ...string) (r conformance.Result) {
	for _, name := range names {
		results := conformance.Check(t.Context(), wrongHarness(t, f), only(name))
		if len(results) != 1 {
			t.Fatalf("results %+v; is there a case %s?", results, name)
		}
		if results[0].Status == conformance.Failed {
			return results[0]
		}
	}
	return r
}

var inList = regexp.MustCompile(`\[[0-9]+\]`)

// notForgotten says why a driver may drop a field unseen when it creates a
// transient domain.
var notForgotten = map[string]string{
	"Autostart":   "only what is defined starts with the host",
	"NICs.Source": "a bridge would have to be there",
}

// A driver that drops any field of a Config, at Define or at Create, fails, and
// the message names the field.
func TestEveryFieldIsKept(t *testing.T) {
	for _, op := range []string{"define", "create"} {
		for _, name := range configFields() {
			if op == "create" && notForgotten[name] != "" || op == "define" && strings.HasSuffix(name, ".Open") {
				continue // definitions have no open files
			}
			t.Run(op+"/"+name, func(t *testing.T) {
				t.Parallel()
				r := failing(t, forgets(op, name), "config/every-field", "files/missing", "files/open", "files/run-keeps-them", "files/ownership")
				if r.Name == "" {
					t.Fatalf("a driver that drops %s at %s passes", name, op)
				}
				// Some fail before there is anything to compare.
				reason, _, compared := strings.Cut(inList.ReplaceAllString(r.Reason, ""), ": it is")
				if compared && !strings.Contains(reason, "not keep "+name) && !strings.Contains(reason, ", "+name) {
					t.Errorf("a driver that drops %s at %s fails with\n%s", name, op, r.Reason)
				}
			})
		}
	}
}

const (
	booksOnly = "the hypervisor keeps it for others and does nothing with it"
	noWord    = "a guest has no word for it that the suite could ask for"
	opened    = "as the path"
)

// obeyed says for each field of a Config the case that catches a driver that
// keeps the books on it and does nothing else, or, in several words, why there
// is none.
var obeyed = map[string]string{
	"Name": "lookup/keys", "UUID": "lookup/keys",
	"InstanceID": booksOnly, "Title": booksOnly, "Labels": booksOnly, "Autostart": "the host would have to be restarted",
	"Memory": "config/guest-sees-it", "MaxMemory": "memory/maximum-config", "Balloon": "memory/balloon",
	"MemoryBacking": "files/missing", "MemoryBacking.File.Path": "memory/backing", "MemoryBacking.File.Open": opened,
	"MemoryBacking.Start": noWord, "MemoryBacking.End": noWord,
	"VCPUs": "config/guest-sees-it", "MaxVCPUs": "vcpu/hot-plug",
	"Topology.Sockets": noWord, "Topology.Cores": noWord, "Topology.Threads": noWord,
	"VCPU": "config/affinity", "VCPU.Number": "config/affinity", "VCPU.Affinity": "config/affinity", "VCPU.Weight": noWord,
	"Boot.Kernel.Path": "life/start-fails", "Boot.Initrd.Path": "config/kernel", "Boot.CommandLine": "config/command-line", "Boot.Firmware.Path": "files/missing",
	"Boot.Kernel.Open": "files/ownership", "Boot.Initrd.Open": "files/open", "Boot.Firmware.Open": "files/open",
	"Console.Log": "console/log", "Console.Virtio": "console/size", "Console.Out.Path": "console/files", "Console.In.Path": "console/files", "Log.Path": "console/hypervisor-log",
	"Console.Out.Open": "files/open", "Console.In.Open": "files/open", "Log.Open": "files/open",
	"Disks": "files/missing", "Disks.Target": "stats/domain", "Disks.Source.Path": "device/disk-config", "Disks.Source.Open": "files/run-keeps-them",
	"Disks.Format": "the suite has no image that is not raw", "Disks.Mode": "files/writable", "Disks.Serial": noWord, "Disks.Cache": "the host would have to lose its power", "Disks.Queues": noWord,
	"NICs": "stats/domain", "NICs.MAC": "stats/domain", "NICs.Network": "a bridge would have to be there", "NICs.Source": "a bridge would have to be there", "NICs.MTU": noWord, "NICs.Queues": noWord,
	"NICs.Forwards": noWord, "NICs.Forwards.Protocol": noWord, "NICs.Forwards.HostIP": noWord, "NICs.Forwards.HostPort": noWord, "NICs.Forwards.GuestPort": noWord, "NICs.HostLoopback": noWord,
	"Shares": noWord, "Shares.Tag": noWord, "Shares.Source": "device/share-config", "Shares.Mode": noWord,
	"RNG": noWord, "RNG.Source": noWord, "RNG.BytesPerSecond": noWord, "Vsock": noWord, "Vsock.CID": noWord, "Protected": noWord, "HypervisorAuth": noWord,
	"OnPoweroff": "policy/poweroff-restart", "OnReboot": "policy/reboot-restart", "OnCrash": "policy/crash-restart",
}

// A driver that only keeps the books on a field fails, wherever something
// besides the books can tell.
func TestEveryFieldIsObeyed(t *testing.T) {
	all := configFields()
	for name := range obeyed {
		if !slices.Contains(all, name) {
			t.Errorf("a Config has no field %s", name)
		}
	}
	for _, name := range all {
		t.Run(name, func(t *testing.T) {
			by, ok := obeyed[name]
			if !ok {
				t.Fatalf("nothing says which case catches a driver that ignores %s", name)
			}
			if strings.Contains(by, " ") {
				t.Skip(by)
			}
			t.Parallel()
			if r := failing(t, ignores(name), by); r.Name == "" {
				t.Errorf("a driver that ignores %s passes %s", name, by)
			} else {
				t.Logf("%s", r.Reason)
			}
		})
	}
}
