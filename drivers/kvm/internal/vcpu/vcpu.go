//go:build linux && amd64

package vcpu

import (
	"errors"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/kvmapi"
)

// KickSignal is the signal that ends KVM_RUN. The Go runtime's handler for it does nothing unless the program asked for
// it with signal.Notify; a program must not ignore it with signal.Ignore.
const KickSignal = syscall.Signal(50)

// ErrStopped is the error of an operation on a processor whose thread has ended.
var ErrStopped = errors.New("the virtual processor has stopped")

// Bus answers what the guest accesses outside of its memory. Methods are called by several processors at once. p has 1,
// 2, 4 or (memory only) up to 8 bytes, is valid only during the call, and for a read holds all ones before it.
type Bus interface {
	PortRead(port uint16, p []byte)
	PortWrite(port uint16, p []byte)
	MemRead(addr uint64, p []byte)
	MemWrite(addr uint64, p []byte)
}

// CodeReader reads guest memory at a guest-physical address, all of p or an error.
type CodeReader interface {
	ReadAt(p []byte, gpa uint64) error
}

// Config says what a processor is made of.
type Config struct {
	ID  int
	CPU *kvmapi.VCPU // stays the caller's, who closes it after Stop
	Bus Bus

	// Memory is for the code bytes in a Fault; nil leaves them out.
	Memory CodeReader

	// OnFault is called on the processor's thread when it cannot go on; the processor then only takes operations. It must
	// not wait for this processor.
	OnFault func(*Fault)
}

// VCPU is a processor with its thread. Its methods are safe for concurrent use.
type VCPU struct {
	cfg  Config
	ops  chan op
	done chan struct{} // closed when the thread does no more

	counters counters

	// Only the processor's thread uses these.
	running bool
	faulted bool

	mu      sync.Mutex // guards what follows, and the shared page against a kick after the end
	tid     int        // 0 after the end
	cpuTime time.Duration
}

type opKind int

const (
	opPause opKind = iota
	opResume
	opDo
	opStop
)

type op struct {
	kind opKind
	do   func(*kvmapi.VCPU) error
	ack  chan error
}

// New starts the thread of a processor. The processor is paused.
func New(cfg Config) (*VCPU, error) {
	v := &VCPU{cfg: cfg, ops: make(chan op, 4), done: make(chan struct{})}
	ready := make(chan error)
	go v.thread(ready)
	if err := <-ready; err != nil {
		return nil, err
	}
	return v, nil
}

// thread gives loop a thread that ends with it. A goroutine that ends while locked ends its thread, except for the
// program's first thread, which the runtime would park for ever; so that one is held until another was found.
func (v *VCPU) thread(ready chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		inner := make(chan error)
		go v.thread(inner)
		err := <-inner
		runtime.UnlockOSThread()
		ready <- err
		return
	}
	// A parent may have started us with the signal blocked. The change dies with the thread.
	var set unix.Sigset_t
	set.Val[(KickSignal-1)/64] = 1 << ((KickSignal - 1) % 64)
	if err := unix.PthreadSigmask(unix.SIG_UNBLOCK, &set, nil); err != nil {
		close(v.done)
		ready <- err
		return
	}
	v.mu.Lock()
	v.tid = unix.Gettid()
	v.mu.Unlock()
	ready <- nil
	v.loop()

	v.mu.Lock()
	v.cpuTime = threadTime(unix.CLOCK_THREAD_CPUTIME_ID)
	v.tid = 0
	v.mu.Unlock()
	close(v.done)
}

// ID gives the processor's number, which is also its APIC id.
func (v *VCPU) ID() int { return v.cfg.ID }

// Exits gives the returns from KVM_RUN so far.
func (v *VCPU) Exits() Exits { return v.counters.snapshot() }

// CPUTime gives the processor time that the thread has used, in the guest and for it: the thread's CPU clock
// (clock_gettime(2) with the clock id of a thread id).
func (v *VCPU) CPUTime() time.Duration {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.tid != 0 {
		// MAKE_THREAD_CPUCLOCK(tid, CPUCLOCK_SCHED) of linux/posix-timers.h.
		v.cpuTime = threadTime(int32(^v.tid<<3 | 6))
	}
	return v.cpuTime
}

func threadTime(clock int32) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(clock, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// kick ends KVM_RUN, or the next one if there is none now.
func (v *VCPU) kick() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.tid == 0 {
		return
	}
	v.cfg.CPU.Page().SetImmediateExit(true)
	_ = unix.Tgkill(unix.Getpid(), v.tid, KickSignal)
}

// rekick is after how long an unacknowledged kick is repeated.
const rekick = 10 * time.Millisecond

// post puts an operation into the processor's channel and kicks it.
func (v *VCPU) post(kind opKind, do func(*kvmapi.VCPU) error) op {
	o := op{kind: kind, do: do, ack: make(chan error, 1)}
	select {
	case v.ops <- o:
		v.kick()
	case <-v.done:
		o.ack <- ErrStopped
	}
	return o
}

// await waits until the processor has taken the operation.
func (v *VCPU) await(o op) error {
	t := time.NewTicker(rekick)
	defer t.Stop()
	for {
		select {
		case err := <-o.ack:
			return err
		case <-v.done:
			select {
			case err := <-o.ack:
				return err
			default:
				return ErrStopped
			}
		case <-t.C:
			v.kick()
		}
	}
}

// Do runs f on the processor's thread while it is out of KVM_RUN, and waits for it. The processor may be running or
// paused and is the same afterwards. f must not call methods of v that wait.
func (v *VCPU) Do(f func(*kvmapi.VCPU) error) error { return v.await(v.post(opDo, f)) }

// Pause stops processors and returns when none of them runs the guest. Those that are paused stay so.
func Pause(vs ...*VCPU) error { return all(vs, opPause) }

// Resume lets processors run. One that has faulted stays where it is.
func Resume(vs ...*VCPU) error { return all(vs, opResume) }

// Stop ends the threads of processors for good and returns when they have ended; those that have stopped already are no
// error. The descriptors may be closed then.
func Stop(vs ...*VCPU) {
	_ = all(vs, opStop)
	for _, v := range vs {
		<-v.done
	}
}

// Freeze asks processors to pause and does not wait until they have. It may be called on a processor's own thread, from
// its bus or OnFault.
func Freeze(vs ...*VCPU) {
	for _, v := range vs {
		select {
		case v.ops <- op{kind: opPause, ack: make(chan error, 1)}:
		default: // as many operations wait already, and the processor is being kicked for them
		}
		v.kick()
	}
}

// all sends an operation to every processor before it waits for the first.
func all(vs []*VCPU, kind opKind) error {
	ops := make([]op, len(vs))
	for i, v := range vs {
		ops[i] = v.post(kind, nil)
	}
	var first error
	for i, v := range vs {
		if err := v.await(ops[i]); err != nil && first == nil {
			first = err
		}
	}
	return first
}
