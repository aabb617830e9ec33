//go:build linux && amd64

package vcpu

import (
	"syscall"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/kvmapi"
)

// loop runs the guest and takes operations until opStop.
func (v *VCPU) loop() {
	cpu, page := v.cfg.CPU, v.cfg.CPU.Page()
	for {
		if !v.running {
			if v.apply(<-v.ops) {
				return
			}
			continue
		}
		switch errno := cpu.Run(); errno {
		case 0:
			if !v.dispatch(page) {
				v.fault(v.describe(page))
			}
		case syscall.EINTR:
			v.counters.count(ExitIntr)
			page.SetImmediateExit(false) // before the channel is looked at, see the package comment
			if v.drain() {
				return
			}
		case syscall.EAGAIN:
			// A processor that waited for INIT and SIPI was woken.
			v.counters.count(ExitAgain)
		default:
			v.counters.count(ExitOther)
			v.fault(&Fault{VCPU: v.cfg.ID, Kind: FaultRun, Err: errno})
		}
	}
}

// drain applies the operations that wait; true means stop.
func (v *VCPU) drain() bool {
	for {
		select {
		case o := <-v.ops:
			if v.apply(o) {
				return true
			}
		default:
			return false
		}
	}
}

func (v *VCPU) apply(o op) (stop bool) {
	var err error
	switch o.kind {
	case opPause:
		v.running = false
	case opResume:
		v.running = !v.faulted
	case opDo:
		err = o.do(v.cfg.CPU)
	case opStop:
		v.running = false
		stop = true
	}
	o.ack <- err
	return stop
}

func (v *VCPU) fault(f *Fault) {
	v.running, v.faulted = false, true
	f.addState(v.cfg.CPU, v.cfg.Memory)
	if v.cfg.OnFault != nil {
		v.cfg.OnFault(f)
	}
}

// dispatch handles one exit without allocating; false means that the processor cannot go on.
func (v *VCPU) dispatch(page *kvmapi.RunPage) bool {
	switch page.ExitReason() {
	case kvmapi.ExitIO:
		io, ok := page.IO()
		if !ok {
			v.counters.count(ExitOther)
			return false
		}
		v.portIO(&io)
		return true
	case kvmapi.ExitMMIO:
		m, ok := page.MMIO()
		if !ok {
			v.counters.count(ExitOther)
			return false
		}
		if m.Write {
			v.counters.count(ExitMMIOWrite)
			v.cfg.Bus.MemWrite(m.Addr, m.Data)
		} else {
			v.counters.count(ExitMMIORead)
			allOnes(m.Data)
			v.cfg.Bus.MemRead(m.Addr, m.Data)
		}
		return true
	case kvmapi.ExitIntr:
		v.counters.count(ExitIntr)
		return true
	case kvmapi.ExitIRQWindowOpen, kvmapi.ExitIOAPICEOI:
		v.counters.count(ExitOther)
		return true
	case kvmapi.ExitHLT:
		v.counters.count(ExitHLT)
	case kvmapi.ExitShutdown:
		v.counters.count(ExitShutdown)
	case kvmapi.ExitInternalError:
		v.counters.count(ExitInternalError)
	case kvmapi.ExitFailEntry:
		v.counters.count(ExitFailEntry)
	case kvmapi.ExitSystemEvent:
		v.counters.count(ExitSystemEvent)
	default:
		v.counters.count(ExitOther)
	}
	return false
}

// portIO handles a port access; a string instruction moves several elements, each of which is an access of its own. The
// kernel bounds their number by a page.
func (v *VCPU) portIO(io *kvmapi.IO) {
	if io.Write {
		v.counters.count(ExitIOOut)
		for d := io.Data; len(d) >= io.Size; d = d[io.Size:] {
			v.cfg.Bus.PortWrite(io.Port, d[:io.Size:io.Size])
		}
		return
	}
	v.counters.count(ExitIOIn)
	allOnes(io.Data)
	for d := io.Data; len(d) >= io.Size; d = d[io.Size:] {
		v.cfg.Bus.PortRead(io.Port, d[:io.Size:io.Size])
	}
}

func allOnes(p []byte) {
	for i := range p {
		p[i] = 0xff
	}
}

// describe makes a Fault of the exit that the page reports.
func (v *VCPU) describe(page *kvmapi.RunPage) *Fault {
	f := &Fault{VCPU: v.cfg.ID}
	switch r := page.ExitReason(); r {
	case kvmapi.ExitShutdown:
		f.Kind = FaultShutdown
	case kvmapi.ExitInternalError:
		e := page.InternalError()
		f.Kind, f.SubError, f.Data, f.Code = FaultInternalError, e.SubError, e.Data, e.Code
	case kvmapi.ExitFailEntry:
		f.Kind = FaultFailEntry
		f.Reason, f.HostCPU = page.FailEntry()
	case kvmapi.ExitSystemEvent:
		f.Kind, f.Event = FaultSystemEvent, page.SystemEvent()
	case kvmapi.ExitHLT:
		f.Kind = FaultHLT
	default:
		f.Kind, f.Reason = FaultUnexpected, uint64(r)
	}
	return f
}

// codeBytes is how many bytes at RIP a Fault shows: an instruction has at most 15.
const codeBytes = 16

// resetRIP and resetCS are where a processor starts after a reset.
const (
	resetRIP = 0xfff0
	resetCS  = 0xf000
)

// addState adds where the guest was. What cannot be read is left out.
func (f *Fault) addState(cpu *kvmapi.VCPU, mem CodeReader) {
	r, err := cpu.GetRegs()
	if err != nil {
		return
	}
	s, err := cpu.GetSregs()
	if err != nil {
		return
	}
	f.KnowRegs = true
	f.RIP, f.RSP, f.CS = r.RIP, r.RSP, s.CS.Selector
	f.CR0, f.CR2, f.CR3, f.CR4, f.EFER = s.CR0, s.CR2, s.CR3, s.CR4, s.EFER
	f.RegsLost = f.Kind == FaultShutdown && f.RIP == resetRIP && f.CS == resetCS && s.CR0&cr0PE == 0
	if len(f.Code) > 0 || f.RegsLost || mem == nil {
		return
	}
	// An instruction may cross into a page that lies elsewhere or is not there; what comes before it is shown.
	for i := range uint64(codeBytes) {
		gpa, ok, err := cpu.Translate(s.CS.Base + f.RIP + i)
		var p [1]byte
		if err != nil || !ok || mem.ReadAt(p[:], gpa) != nil {
			return
		}
		f.Code = append(f.Code, p[0])
	}
}
