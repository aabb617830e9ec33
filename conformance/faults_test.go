package conformance_test

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/conformance"
)

// on replaces one operation.
func on(op string, f func(c *call, next func() error) error) func(*call, func() error) error {
	return func(c *call, next func() error) error {
		if c.op == op {
			return f(c, next)
		}
		return next()
	}
}

// nothing makes an operation report success without doing anything.
func nothing(op string) func(*call, func() error) error {
	return on(op, func(*call, func() error) error { return nil })
}

// after adds something to an operation that succeeds.
func after(op string, f func(c *call) error) func(*call, func() error) error {
	return on(op, func(c *call, next func() error) error {
		if err := next(); err != nil {
			return err
		}
		return f(c)
	})
}

// before adds something before an operation.
func before(op string, f func(c *call)) func(*call, func() error) error {
	return on(op, func(c *call, next func() error) error { f(c); return next() })
}

// instead changes the error of an operation.
func instead(op string, of, with error) func(*call, func() error) error {
	return on(op, func(_ *call, next func() error) error {
		if err := next(); err == nil || !errors.Is(err, of) {
			return err
		}
		return with
	})
}

var errPlain = errors.New("something went wrong")

func suspend(c *call) error { return c.inst.(polyvisor.Suspender).Suspend(c.ctx) }
func destroy(c *call) error { return c.inst.Destroy(c.ctx) }

// faults are at least one for each case.
func faults() []fault {
	return slices.Concat(connectionFaults, lifeFaults(), waitFaults, resourceFaults, deviceFaults(), vsockFaults, execFaults(), storedFaults, eventFaults,
		loadFaults, matrixFaults, declaredFaults(), configFaults(), hangFaults(), guestStateFaults,
		narrowLifeFaults(), nodeFaults(), narrowGuestFaults(), narrowResourceFaults(), narrowDeviceFaults(), truthFaults(), narrowStoredFaults(), narrowEventFaults(), narrowLoadFaults(),
		hurryFaults(), columnFaults())
}

var connectionFaults = []fault{
	{name: "a host without CPUs", of: "connection/identity", says: "has no CPU", node: func(n *polyvisor.Node) { n.CPUs = 0 }},
	{name: "a feature declared twice", of: "connection/identity", says: "declared twice",
		caps: func(c *polyvisor.Capabilities) { c.Features = append(c.Features, polyvisor.FeatureSave) }},
	{name: "definitions end with the connection", of: "connection/closed", says: "state after the closing of another connection",
		op: before("close", func(c *call) {
			if i := c.d.byName(conformance.Prefix + "left"); i != nil {
				_ = i.Undefine(c.ctx)
			}
		})},
	{name: "runs end with the connection", of: "connection/close-ends-calls", says: "after the closing of another connection the domain is shutoff",
		op: before("close", func(c *call) {
			if i := c.d.byName(conformance.Prefix + "waited-for"); i != nil {
				_ = i.Destroy(c.ctx)
			}
		})},
	{name: "each connection has domains of its own", of: "connection/shared", says: "lookup on a second connection: ",
		op: func(c *call, next func() error) error {
			if c.op == "lookup" && c.d.h.count("lookup") == 1 {
				return polyvisor.ErrNotFound
			}
			return next()
		}},
	{name: "a read-only connection stops what runs", of: "connection/read-only", says: "after opening a read-only connection the domain is shutoff",
		op: on("open", func(c *call, next func() error) error {
			if i := c.d.byName(conformance.Prefix + "seen"); i != nil && c.readOnly {
				_ = i.Destroy(c.ctx)
			}
			return next()
		})},
	{name: "a name that is not there is a wrong name", of: "lookup/not-found", says: `want "not found"`,
		op: instead("lookup", polyvisor.ErrNotFound, polyvisor.ErrInvalidConfig)},
	{name: "no lookup by ID", of: "lookup/keys", says: "lookup by ID",
		op: on("lookup", func(c *call, next func() error) error {
			if c.key.ID > 0 {
				return polyvisor.ErrNotFound
			}
			return next()
		})},
	{name: "errors without a class", of: "lookup/not-found", says: `the code is "unknown error"`, op: instead("lookup", polyvisor.ErrNotFound, errPlain)},
	{name: "names without regard to case", of: "lookup/similar-names", says: "lookup of",
		op: on("lookup", func(c *call, next func() error) error {
			if strings.ToLower(c.key.Name) != c.key.Name {
				inst := c.d.byName(strings.ToLower(c.key.Name))
				*c.result = inst
				return nil
			}
			return next()
		})},
	{name: "a list of active domains only", of: "list/filters", says: "lists",
		list: func(_ *wrongDriver, list []polyvisor.Instance) []polyvisor.Instance {
			return slices.DeleteFunc(list, func(i polyvisor.Instance) bool { s, _ := i.State(context.Background()); return !s.Active() })
		}},
	{name: "a list that waits for a domain", of: "list/while-busy", says: "list while one domain is busy",
		op: on("list", func(c *call, next func() error) error {
			if c.d.byName(conformance.Prefix+"busy") != nil && c.d.h.count("list") == 1 {
				<-c.ctx.Done()
				return c.ctx.Err()
			}
			return next()
		})},
	{name: "the same ID for every run", of: "id/rising", says: "ID 1 comes after 1",
		info: func(i *polyvisor.Info) { i.ID = min(i.ID, 1) }},
	{name: "titles are forgotten", of: "config/stored", says: "Config gives", config: func(c *polyvisor.Config) { c.Title = "" }},
	{name: "a maximum of its own", of: "config/defaults", says: "want 256MiB of 256MiB", config: func(c *polyvisor.Config) { c.MaxMemory *= 2 }},
	{name: "a list with a domain that nobody defined", of: "config/refused", says: "left a domain",
		list: func(d *wrongDriver, list []polyvisor.Instance) []polyvisor.Instance {
			if d.h.count("lists") == 2 {
				c := (&polyvisor.Config{Name: conformance.Prefix + "ghost"}).WithDefaults()
				if i, err := d.Driver.Define(context.Background(), c); err == nil {
					list = append(list, i)
				}
			}
			return list
		}},
	{name: "names are trimmed", of: "config/names", says: "lookup of",
		op: before("define", func(c *call) { c.config.Name = strings.TrimSpace(c.config.Name) })},
	{name: "book-keeping instead of memory", of: "config/guest-sees-it", says: "the guest sees",
		op:     before("define", func(c *call) { c.config.Memory /= 2; c.config.MaxMemory /= 2 }),
		config: func(c *polyvisor.Config) { c.Memory *= 2; c.MaxMemory *= 2 }},
	{name: "book-keeping instead of processors", of: "config/guest-sees-it", says: "processors, its Config says",
		op:     before("define", func(c *call) { c.config.VCPUs, c.config.MaxVCPUs = 1, 1 }),
		config: func(c *polyvisor.Config) { c.VCPUs, c.MaxVCPUs = 2, 2 }},
	{name: "one vCPU too many in Info", of: "config/info", says: "does not agree with", info: func(i *polyvisor.Info) { i.VCPUs++ }},
	{name: "instance IDs are forgotten", of: "config/instance-id", says: "the instance ID is", config: func(c *polyvisor.Config) { c.InstanceID = polyvisor.InstanceID{} }},
	{name: "protection is forgotten", of: "config/protected", says: "protected false", config: func(c *polyvisor.Config) { c.Protected = false }},
	{name: "another CID", of: "config/vsock", says: "want CID 4711", config: func(c *polyvisor.Config) { c.Vsock = &polyvisor.VsockConfig{CID: 5} }},
}

func lifeFaults() []fault {
	return []fault{
		{name: "undefine does nothing", of: "life/persistent", says: "after undefine", op: nothing("undefine")},
		{name: "destroy does nothing", of: "life/persistent", says: "after destroy the domain is running", op: nothing("destroy")},
		{name: "create defines", of: "life/transient", says: "after create Info.Persistent is not false",
			op: after("create", func(c *call) error {
				cfg, err := (*c.result).Config(c.ctx)
				if err == nil {
					_, err = c.d.Driver.Define(c.ctx, cfg)
				}
				return err
			})},
		{name: "define of a running domain does nothing", of: "life/transient-to-persistent", says: "after Define Info.Persistent is not true",
			op: on("define", func(c *call, next func() error) error {
				if *c.result = c.d.byUUID(c.config.UUID); *c.result != nil {
					return nil
				}
				return next()
			})},
		{name: "undefine destroys", of: "life/persistent-to-transient", says: "state after undefine",
			op: before("undefine", func(c *call) { _ = destroy(c) })},
		{name: "redefine restarts", of: "life/redefine", says: "after a redefinition the run has ID",
			op: after("define", func(c *call) error {
				if s, _ := (*c.result).State(c.ctx); !s.Active() {
					return nil
				}
				return errors.Join((*c.result).Destroy(c.ctx), (*c.result).Start(c.ctx, polyvisor.StartOptions{}))
			})},
		{name: "suspend does nothing", of: "life/suspend-resume", says: "after suspend the domain is running", op: nothing("suspend")},
		{name: "suspend only says so", of: "life/suspend-resume", says: "suspended guest printed",
			op: after("suspend", func(c *call) error { return c.inst.(polyvisor.Suspender).Resume(c.ctx) }),
			// Told as paused once it is asked for.
			state: pausedAfterFirst(), info: func(i *polyvisor.Info) { i.State = pausedInfo(i.State) }},
		{name: "suspend only says so and the guest is quick", of: "life/suspend-resume", says: "suspended guest printed",
			op:    after("suspend", func(c *call) error { return c.inst.(polyvisor.Suspender).Resume(c.ctx) }),
			state: pausedAfterFirst(), info: func(i *polyvisor.Info) { i.State = pausedInfo(i.State) },
			stream: func(s io.ReadWriteCloser) io.ReadWriteCloser { return lingering{s} }},
		{name: "a paused start runs", of: "life/start-paused", says: "after a paused start the domain is running",
			op: on("start", func(c *call, _ func() error) error { return c.inst.Start(c.ctx, polyvisor.StartOptions{}) })},
		{name: "shutdown pulls the plug", of: "life/shutdown", says: "stopped with reason killed",
			op: on("shutdown", func(c *call, _ func() error) error { return destroy(c) })},
		{name: "reboot is a new run", of: "life/reboot", says: "the console ended",
			op: on("reboot", func(c *call, _ func() error) error {
				return errors.Join(destroy(c), c.inst.Start(c.ctx, polyvisor.StartOptions{}))
			})},
		{name: "a crash is told as a shutdown", of: "life/crash", says: "want crash", stop: rewrite(polyvisor.StopCrash, polyvisor.StopShutdown)},
		{name: "destroy is told as a shutdown", of: "life/destroy", says: "want killed", stop: rewrite(polyvisor.StopKilled, polyvisor.StopShutdown)},
		{name: "removal keeps the definition", of: "life/remove", says: "after remove", op: nothing("undefine")},
		{name: "resume does nothing", of: "life/set-state", says: "after set state running the domain is paused", op: nothing("resume")},
		{name: "wait invents an end", of: "life/inactive", says: "wait of an inactive domain: succeeded", op: nothing("wait")},
		{name: "a second start replaces the run", of: "life/persistent", says: "start of an active domain: succeeded",
			state: func(polyvisor.State) polyvisor.State { return polyvisor.Shutoff },
			op: before("start", func(c *call) {
				if c.active() {
					_ = destroy(c)
				}
			})},
		{name: "a start that fails is told as a success", of: "life/start-fails", says: "start without its kernel: succeeded",
			op: instead("start", polyvisor.ErrNotFound, nil)},
		{name: "a start that fails is not told afterwards", of: "life/start-fails", says: "want start-failed",
			info: func(i *polyvisor.Info) { i.LastStop = nil }},
		{name: "a name is taken over", of: "unique/name", says: "define with the name of another domain: succeeded",
			op: before("define", func(c *call) {
				if i := c.d.byName(c.config.Name); i != nil && i.UUID() != c.config.UUID {
					_ = i.Destroy(c.ctx)
					_ = i.Undefine(c.ctx)
				}
			})},
		{name: "a UUID is taken over", of: "unique/uuid", says: "define with the UUID of another domain: succeeded",
			op: before("define", func(c *call) {
				if i := c.d.byUUID(c.config.UUID); i != nil && i.Name() != c.config.Name {
					_ = i.Destroy(c.ctx)
					_ = i.Undefine(c.ctx)
				}
			})},
		{name: "create tells of a wrong state", of: "unique/create", says: `want "exists already"`,
			op: instead("create", polyvisor.ErrExists, polyvisor.ErrInvalidState)},
		{name: "a lost race is told as success", of: "unique/race", says: "of 8 defined the same name",
			op: on("define", func(c *call, next func() error) error {
				err := next()
				if errors.Is(err, polyvisor.ErrExists) {
					*c.result, err = c.d.byName(c.config.Name), nil
				}
				return err
			})},
	}
}

// boundToItsStart ends a run when its state is asked for after the context of
// its start has ended.
func boundToItsStart() func(*call, func() error) error {
	var starts sync.Map // of contexts by the UUID
	return func(c *call, next func() error) error {
		switch c.op {
		case "start":
			starts.Store(c.id(), c.ctx)
		case "state":
			if ctx, ok := starts.Load(c.id()); ok && ctx.(context.Context).Err() != nil {
				starts.Delete(c.id())
				_ = c.inst.Destroy(context.Background())
			}
		}
		return next()
	}
}

func rewrite(from, to polyvisor.StopReason) func(*polyvisor.Stop) {
	return func(s *polyvisor.Stop) {
		if s.Reason == from {
			s.Reason = to
		}
	}
}

// pausedAfterFirst tells a running domain as running when it is asked for the
// first time, for suspend itself, and as paused later.
func pausedAfterFirst() func(polyvisor.State) polyvisor.State {
	asked := 0
	return func(s polyvisor.State) polyvisor.State {
		if s != polyvisor.Running {
			return s
		}
		if asked++; asked <= 2 { // the opening of the console asks as well
			return s
		}
		return polyvisor.Paused
	}
}

func pausedInfo(s polyvisor.State) polyvisor.State {
	if s == polyvisor.Running {
		return polyvisor.Paused
	}
	return s
}

var waitFaults = []fault{
	{name: "one may wait", of: "wait/many", says: "wait: ",
		op: on("wait", func(c *call, next func() error) error {
			if c.d.h.count("wait") > 1 {
				return polyvisor.ErrBusy
			}
			return next()
		})},
	{name: "each is told another time", of: "wait/afterwards", says: "the stop was at",
		stop: func(s *polyvisor.Stop) { s.Time = time.Now() }},
	{name: "nothing is known of what is gone", of: "wait/transient", says: "wait",
		op: on("wait", func(c *call, next func() error) error {
			if _, err := c.inst.State(c.ctx); err != nil {
				return err
			}
			return next()
		})},
	{name: "a wait that times out kills", of: "wait/timeout", says: "after a Wait that timed out the domain is shutoff",
		op: on("wait", func(c *call, next func() error) error {
			err := next()
			if errors.Is(err, context.DeadlineExceeded) {
				_ = c.inst.Destroy(context.Background())
			}
			return err
		})},
	{name: "a reboot is told as a shutdown", of: "wait/reasons", says: "want reboot", stop: rewrite(polyvisor.StopReboot, polyvisor.StopShutdown)},
	{name: "the console swallows digits", of: "console/dialogue", says: "the guest was to print", stream: swallow("8")},
	{name: "the size of the terminal is dropped", of: "console/size", says: "the guest sees a terminal of 132 43", stream: func(s io.ReadWriteCloser) io.ReadWriteCloser {
		return sizeless{s}
	}},
	{name: "virtio consoles have no size", of: "console/size", says: "no ConsoleResizer", stream: func(s io.ReadWriteCloser) io.ReadWriteCloser { return lingering{s} }},
	{name: "nothing is replayed", of: "console/replay", says: `does not print "\nremembered"`, stream: swallow("remembered")},
	{name: "every opening takes the console over", of: "console/one-owner", says: "a second owner: succeeded",
		op: on("console", func(c *call, next func() error) error {
			return forceConsole(c, next)
		})},
	{name: "the end of a console is an error", of: "console/ends", says: "want io.EOF", stream: func(s io.ReadWriteCloser) io.ReadWriteCloser { return &stream{ReadWriteCloser: s, end: errPlain} }},
	{name: "the log is truncated", of: "console/log", says: "the log begins with", op: before("define", func(c *call) { truncate(c.config.Console.Log) })},
	{name: "nothing is logged", of: "console/log", says: "the log does not have", op: before("define", func(c *call) { c.config.Console.Log = "" })},
	{name: "the console's input is ignored", of: "console/files", says: "waited in vain", op: before("define", func(c *call) { c.config.Console.In = polyvisor.File{} })},
	{name: "the hypervisor's log is truncated", of: "console/hypervisor-log", says: "what was in the log is gone",
		op: before("define", func(c *call) { truncate(c.config.Log.Path) })},
}

func truncate(path string) { _ = os.Truncate(path, 0) }

// stream is a console with a fault.
type stream struct {
	io.ReadWriteCloser
	without string
	end     error
}

// lingering is a console whose guest has answered when what is typed is taken.
type lingering struct{ io.ReadWriteCloser }

func (s lingering) Write(p []byte) (int, error) {
	n, err := s.ReadWriteCloser.Write(p)
	time.Sleep(50 * time.Millisecond)
	return n, err
}

// sizeless is a console that tells no guest of a size.
type sizeless struct{ io.ReadWriteCloser }

func (sizeless) Resize(context.Context, uint16, uint16) error { return nil }

func swallow(text string) func(io.ReadWriteCloser) io.ReadWriteCloser {
	return func(s io.ReadWriteCloser) io.ReadWriteCloser { return &stream{ReadWriteCloser: s, without: text} }
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.ReadWriteCloser.Read(p)
	if s.without != "" {
		n = copy(p, strings.ReplaceAll(string(p[:n]), s.without, ""))
	}
	if err == io.EOF && s.end != nil {
		err = s.end
	}
	return n, err
}

// forceConsole lets anybody have a console that is in use.
func forceConsole(c *call, next func() error) error {
	if err := next(); !errors.Is(err, polyvisor.ErrBusy) {
		return err
	}
	rwc, err := c.inst.(polyvisor.ConsoleOpener).OpenConsole(c.ctx, polyvisor.ConsoleOptions{Force: true})
	if err != nil {
		return err
	}
	c.d.h.atEnd(func() { _ = rwc.Close() })
	c.stream = rwc
	return nil
}

var loadFaults = []fault{
	{name: "suspend does nothing", of: "cancel/during", says: "after resume with an ended context the domain is running", op: nothing("suspend")},
	{name: "a start in a hurry stops halfway", of: "cancel/during", says: "left the domain paused",
		op: on("start", func(c *call, next func() error) error {
			if t, ok := c.ctx.Deadline(); !ok || time.Until(t) > 100*time.Millisecond {
				return next()
			}
			return errors.Join(c.inst.Start(context.Background(), polyvisor.StartOptions{Paused: true}), context.DeadlineExceeded)
		})},
	{name: "a create in a hurry leaves the domain", of: "cancel/create", says: "lookup after a create that was ended: succeeded",
		op: after("create", func(c *call) error {
			if t, ok := c.ctx.Deadline(); !ok || time.Until(t) > 100*time.Millisecond {
				return nil
			}
			return context.DeadlineExceeded
		})},
	{name: "a run ends with the context of its start", of: "life/persistent", says: "the domain is shutoff",
		op: boundToItsStart()},
	{name: "every fifth start is refused", of: "load/many-domains", says: "start of domain",
		op: on("start", func(c *call, next func() error) error {
			if c.d.h.count("start")%5 == 0 {
				return polyvisor.ErrBusy
			}
			return next()
		})},
	{name: "info fails now and then", of: "load/one-domain", says: "an operation among others",
		op: on("info", func(c *call, next func() error) error {
			if c.d.h.count("info")%3 == 0 {
				return polyvisor.ErrNoResource
			}
			return next()
		})},
	{name: "every start is a success", of: "load/start-race", says: "8 of 8 started the domain",
		state: func(polyvisor.State) polyvisor.State { return polyvisor.Shutoff },
		op:    instead("start", polyvisor.ErrInvalidState, nil)},
	{name: "destroy does nothing", of: "load/destroy-while-starting", says: "after destroy during a start the domain is running", op: nothing("destroy")},
	{name: "every connection leaves a goroutine", of: "leak/connection", says: "goroutines and",
		op: before("close", func(c *call) {
			stop := make(chan struct{})
			go func() { <-stop }()
			c.d.h.atEnd(func() { close(stop) })
		})},
	{name: "every start leaves a descriptor", of: "leak/domains", says: "descriptors, before",
		op: before("start", func(c *call) {
			if f, err := os.Open(os.DevNull); err == nil {
				c.d.h.atEnd(func() { _ = f.Close() })
			}
		})},
}

var matrixFaults = []fault{
	{name: "no vCPUs are told of inactive domains", of: "matrix/shutoff", says: "VCPUs of a domain that is shutoff",
		op: on("vcpus", func(c *call, next func() error) error {
			if !c.active() {
				return polyvisor.ErrInvalidState
			}
			return next()
		})},
	{name: "no statistics of running domains", of: "matrix/running", says: "Stats of a domain that is running", op: func(c *call, next func() error) error {
		if c.op == "stats" && c.active() {
			return polyvisor.ErrUnsupported
		}
		return next()
	}},
	{name: "the console of a paused domain is busy", of: "matrix/paused", says: "Console of a domain that is paused",
		op: func(c *call, next func() error) error {
			if c.op == "console" {
				return polyvisor.ErrBusy
			}
			return next()
		}},
	{name: "a crashed domain stays defined", of: "matrix/crashed", says: "Undefine of a domain that is crashed", op: func(c *call, next func() error) error {
		if c.op == "undefine" {
			if s, _ := c.inst.State(c.ctx); s == polyvisor.Crashed {
				return polyvisor.ErrInvalidState
			}
		}
		return next()
	}},
	{name: "a transient domain starts with the host", of: "matrix/transient", says: "SetAutostart of a domain that is transient", op: nothing("set autostart")},
	{name: "what is gone has a Config", of: "matrix/gone", says: "Config of a domain that is gone",
		op: on("config", func(c *call, next func() error) error {
			if err := next(); err != nil {
				c.config = (&polyvisor.Config{Name: "x"}).WithDefaults()
			}
			return nil
		})},
}
