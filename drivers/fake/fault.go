package fake

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polyvisor/polyvisor"
)

// Fault makes calls go wrong. The fields say which calls, and what happens to
// them, in this order: Delay, Hang, Drop, Err, Half, then the call's effect,
// then Crash, Lose, Late.
type Fault struct {
	// Op is one of Operations; "*" or empty for all.
	Op string
	// Domain limits the fault to the calls about the domain of that name.
	Domain string
	// Nth says which of the matching calls is hit, counted from 1; 0 is every
	// call. With Onward all later ones are hit too.
	Nth    int
	Onward bool

	// Delay is waited first. The wait ends with the call's context.
	Delay time.Duration
	// Hang waits until the call's context ends.
	Hang bool
	// Drop loses the connection: the call fails with ErrConnLost, and so do all
	// others for the time of Outage, with the consoles that are open. Events are
	// not told meanwhile; then comes an EventResync.
	Drop   bool
	Outage time.Duration
	// Err is returned without any effect.
	Err error
	// Half is returned when the call is half done, which is undone: files that
	// were written are removed, what was opened is closed. Calls that have no
	// middle fail at once.
	Half error
	// Crash crashes the domain's guest when the call has had its effect.
	Crash bool
	// Lose loses that many of the events that follow; then comes an EventGap.
	Lose int
	// Late is returned when the call has had its effect, as when the answer is
	// lost.
	Late error
}

func (f Fault) check() error {
	_, err := parseOperation(f.Op)
	switch {
	case err != nil:
	case f.Nth < 0 || f.Delay < 0 || f.Outage < 0 || f.Lose < 0:
		err = fmt.Errorf("a number is negative")
	case !f.Drop && f.Outage != 0:
		err = fmt.Errorf("an outage without a drop")
	}
	if err != nil {
		return fmt.Errorf("%w: fault: %w", polyvisor.ErrInvalidConfig, err)
	}
	return nil
}

// Fault makes calls of all connections go wrong, beside the faults that there
// are. remove takes it away again.
//
// Errors: ErrInvalidConfig.
func (h *Hypervisor) Fault(f Fault) (remove func(), err error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	return h.faults.add(f), nil
}

// ClearFaults takes the faults and latencies of the hypervisor away; those of
// single connections stay.
func (h *Hypervisor) ClearFaults() { h.faults.set(nil, nil, 0) }

// Latency says how long the calls of all connections take. Of several that
// name an operation the first counts; without any, calls take no time. seed
// chooses the random ones.
//
// Errors: ErrInvalidConfig.
func (h *Hypervisor) Latency(seed uint64, list ...Latency) error {
	for _, l := range list {
		if err := l.check(); err != nil {
			return err
		}
	}
	h.faults.mu.Lock()
	defer h.faults.mu.Unlock()
	h.faults.setLatencyLocked(list, seed)
	return nil
}

// plan is what is to happen to calls.
type plan struct {
	active atomic.Bool // there is anything

	mu      sync.Mutex // protects the following
	faults  []*armed
	latency []delay
	random  *rand.Rand
}

// armed is a fault that counts.
type armed struct {
	Fault
	op    operation
	calls int
}

type delay struct {
	Latency
	op operation
}

func (p *plan) armed() bool { return p.active.Load() }

func (p *plan) set(faults []Fault, latency []Latency, seed uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = nil
	for _, f := range faults {
		op, _ := parseOperation(f.Op)
		p.faults = append(p.faults, &armed{Fault: f, op: op})
	}
	p.setLatencyLocked(latency, seed)
}

func (p *plan) setLatencyLocked(latency []Latency, seed uint64) {
	p.latency = nil
	for _, l := range latency {
		op, _ := parseOperation(l.Op)
		p.latency = append(p.latency, delay{l, op})
	}
	p.random = rand.New(rand.NewPCG(seed, 0))
	p.active.Store(len(p.faults)+len(p.latency) > 0)
}

func (p *plan) add(f Fault) (remove func()) {
	op, _ := parseOperation(f.Op)
	a := &armed{Fault: f, op: op}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, a)
	p.active.Store(true)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.faults = slices.DeleteFunc(p.faults, func(b *armed) bool { return a == b })
		p.active.Store(len(p.faults)+len(p.latency) > 0)
	}
}

// hits counts a call and gives what happens to it.
func (p *plan) hits(op operation, domain string) (wait time.Duration, faults []Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.latency {
		if l.op == op || l.op == opAny {
			wait = l.draw(p.random)
			break
		}
	}
	for _, f := range p.faults {
		if f.op != op && f.op != opAny || f.Domain != "" && f.Domain != domain {
			continue
		}
		f.calls++
		if f.Nth == 0 || f.calls == f.Nth || f.Onward && f.calls > f.Nth {
			faults = append(faults, f.Fault)
		}
	}
	return wait, faults
}

// verdict is what a call has still to suffer once it has begun. A nil one is
// mercy.
type verdict struct {
	half, late error
	crash      bool
	lose       int
}

func (v *verdict) halfway() error {
	if v == nil {
		return nil
	}
	return v.half
}

// do runs a call, with the faults and latencies that are meant for it. d or name
// say which domain it is about.
func (c *driver) do(ctx context.Context, op operation, d *domain, name string, f func(*verdict) error) error {
	if c.quiet() {
		return f(nil)
	}
	if d != nil {
		c.h.mu.Lock()
		name = d.name
		c.h.unlock()
	}
	v := &verdict{}
	for _, p := range []*plan{&c.h.faults, &c.faults} {
		if !p.armed() {
			continue
		}
		wait, faults := p.hits(op, name)
		if err := sleep(ctx, wait); err != nil {
			return err
		}
		for _, fault := range faults {
			if err := c.suffer(ctx, fault, v); err != nil {
				return err
			}
		}
	}
	if c.down.Load() {
		return errConnLost
	}
	if err := f(v); err != nil {
		return err
	}
	c.h.mu.Lock()
	defer c.h.unlock()
	if d == nil {
		d = c.h.byName[name]
	}
	if v.crash && d != nil && d.run != nil && d.run.ended == nil {
		d.run.guestEndLocked(polyvisor.StopCrash, "injected crash")
	}
	c.h.lose += v.lose
	return v.late
}

// suffer lets the part of a fault happen that comes before a call.
func (c *driver) suffer(ctx context.Context, f Fault, v *verdict) error {
	if err := sleep(ctx, f.Delay); err != nil {
		return err
	}
	if f.Hang {
		<-ctx.Done()
		return ctx.Err()
	}
	if f.Drop {
		c.drop(f.Outage)
		return errConnLost
	}
	if f.Err != nil {
		return f.Err
	}
	v.crash = v.crash || f.Crash
	v.lose += f.Lose
	if f.Half != nil {
		v.half = f.Half
	}
	if f.Late != nil {
		v.late = f.Late
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// injected are the errors that a fault's text can name.
var injected = []struct {
	word string
	err  error
}{
	{"not-found", polyvisor.ErrNotFound}, {"exists", polyvisor.ErrExists}, {"invalid-state", polyvisor.ErrInvalidState},
	{"invalid-config", polyvisor.ErrInvalidConfig}, {"no-resource", polyvisor.ErrNoResource}, {"unsupported", polyvisor.ErrUnsupported},
	{"read-only", polyvisor.ErrReadOnly}, {"permission", polyvisor.ErrPermission}, {"busy", polyvisor.ErrBusy},
	{"conn-lost", polyvisor.ErrConnLost}, {"unknown", errUnknown},
}

var errUnknown = fmt.Errorf("injected failure")

func parseError(word string) (error, bool) {
	for _, e := range injected {
		if e.word == word {
			return fmt.Errorf("injected fault: %w", e.err), true
		}
	}
	return nil, false
}

func errorWord(err error) string {
	code := polyvisor.CodeOf(err)
	for _, e := range injected {
		if polyvisor.CodeOf(e.err) == code {
			return e.word
		}
	}
	return "unknown"
}

// ParseFault reads a fault of a URI: OPERATION[@DOMAIN]:WHICH:WHAT. OPERATION is
// one of Operations or *; WHICH is a number N for the Nth call, N+ for it and
// all later ones, or * for every call. A '+' in the parameters of a URI stands for a
// blank and only %2B for itself, so N and a blank are read as N+. WHAT is
//
//	CODE          fail: not-found exists invalid-state invalid-config no-resource
//	              unsupported read-only permission busy conn-lost unknown
//	half-CODE     fail half-way, and undo
//	late-CODE     have the effect, and fail then
//	delay=TIME    wait; hang: wait until the call is given up
//	drop[=TIME]   lose the connection, for that time
//	lose=N        lose the next N events
//	crash         crash the guest after the call
//
// as in start:2:no-resource, *@web:*:delay=5ms or save:1+:half-no-resource.
func ParseFault(s string) (Fault, error) {
	parts := strings.SplitN(s, ":", 3)
	if len(parts) != 3 {
		return Fault{}, fmt.Errorf("%w: fault %q; want OPERATION:WHICH:WHAT, such as start:2:no-resource", polyvisor.ErrInvalidConfig, s)
	}
	var f Fault
	f.Op, f.Domain, _ = strings.Cut(parts[0], "@")
	if parts[1] != "*" {
		n, onward := strings.CutSuffix(parts[1], "+")
		if !onward {
			n, onward = strings.CutSuffix(n, " ") // what a '+' of a URI is read as
		}
		f.Onward = onward
		var err error
		if f.Nth, err = strconv.Atoi(n); err != nil || f.Nth < 1 {
			return Fault{}, fmt.Errorf("%w: fault %q: %q; want the number of a call from 1 on, N+ or *", polyvisor.ErrInvalidConfig, s, parts[1])
		}
	}
	if err := f.parseWhat(parts[2]); err != nil {
		return Fault{}, fmt.Errorf("%w: fault %q: %w", polyvisor.ErrInvalidConfig, s, err)
	}
	return f, f.check()
}

func (f *Fault) parseWhat(what string) (err error) {
	word, value, given := strings.Cut(what, "=")
	switch {
	case word == "delay" && given:
		f.Delay, err = parseDuration(value)
		return err
	case word == "drop":
		f.Drop = true
		if given {
			f.Outage, err = parseDuration(value)
		}
		return err
	case word == "lose" && given:
		if f.Lose, err = strconv.Atoi(value); err != nil || f.Lose < 1 {
			return fmt.Errorf("%q is not a number of events", value)
		}
		return nil
	}
	code, kind := what, &f.Err
	if c, ok := strings.CutPrefix(what, "half-"); ok {
		code, kind = c, &f.Half
	} else if c, ok := strings.CutPrefix(what, "late-"); ok {
		code, kind = c, &f.Late
	}
	cause, ok := parseError(code)
	switch {
	case what == "hang":
		f.Hang = true
	case what == "crash":
		f.Crash = true
	case ok:
		*kind = cause
	default:
		return fmt.Errorf("unknown effect %q; see ParseFault", what)
	}
	return nil
}

// String gives the fault in the form that ParseFault reads, of its first
// effect.
func (f Fault) String() string {
	op := f.Op
	if op == "" {
		op = "*"
	}
	if f.Domain != "" {
		op += "@" + f.Domain
	}
	which := "*"
	if f.Nth > 0 {
		which = strconv.Itoa(f.Nth)
	}
	if f.Onward {
		which += "+"
	}
	return op + ":" + which + ":" + f.what()
}

func (f Fault) what() string {
	switch {
	case f.Delay > 0:
		return "delay=" + f.Delay.String()
	case f.Hang:
		return "hang"
	case f.Outage > 0:
		return "drop=" + f.Outage.String()
	case f.Drop:
		return "drop"
	case f.Err != nil:
		return errorWord(f.Err)
	case f.Half != nil:
		return "half-" + errorWord(f.Half)
	case f.Crash:
		return "crash"
	case f.Lose > 0:
		return "lose=" + strconv.Itoa(f.Lose)
	case f.Late != nil:
		return "late-" + errorWord(f.Late)
	}
	return "delay=0s"
}

// parseDuration reads a duration that is not negative.
func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("duration %q; want a number and a unit, such as 5ms", s)
	}
	return d, nil
}
