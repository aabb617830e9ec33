package fake

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/polyvisor/polyvisor"
)

// savedRun is what a file of Save holds.
type savedRun struct {
	Config     *polyvisor.Config `json:"config"`
	Definition *polyvisor.Config `json:"definition,omitempty"` // if it was persistent
	Ran        time.Duration     `json:"ran_ns"`
	CPUTime    []time.Duration   `json:"cpu_time_ns"` // of each processor
	Guest      *savedGuest       `json:"guest"`
	Saved      time.Time         `json:"saved"`

	hold bool // nothing was saved: the guest only begins a little later
}

type savedGuest struct {
	Booted   bool                 `json:"booted"`
	Boots    int                  `json:"boots"`
	BootedAt time.Duration        `json:"booted_at_ns"`
	Memory   memory               `json:"memory"`
	Line     string               `json:"line"`
	Output   []byte               `json:"output"`
	Script   []string             `json:"script,omitempty"`
	Prompted bool                 `json:"prompted"`
	Pending  []byte               `json:"pending,omitempty"`
	Stuck    bool                 `json:"stuck,omitempty"`
	Blocked  bool                 `json:"blocked,omitempty"`
	Button   string               `json:"button,omitempty"`
	Pressed  press                `json:"pressed,omitempty"`
	Balloon  *uint64              `json:"balloon,omitempty"`
	Exits    map[string]uint64    `json:"exits,omitempty"`
	NICs     []polyvisor.NICStats `json:"nics,omitempty"`
}

// Save writes the run to a file and ends it.
func (i *instance) Save(ctx context.Context, path string) error {
	return i.c.do(ctx, opSave, i.d, "", func(v *verdict) error {
		h := i.c.h
		h.mu.Lock()
		d, err := i.domainLocked()
		if err == nil {
			err = d.demandLocked(polyvisor.OpSave)
		}
		if err == nil && d.run.config.Protected {
			err = errProtected
		}
		if err == nil && d.run.frozen {
			err = fmt.Errorf("%w: the domain is being saved", polyvisor.ErrBusy)
		}
		if err != nil {
			h.unlock()
			return err
		}
		r := d.run
		data, err := encodeSaved(r.saveLocked())
		r.frozen = err == nil
		h.unlock()
		if err != nil {
			return err
		}
		err = writeNew(ctx, path, v.halfway(), func(f *os.File) error {
			_, err := f.Write(data)
			return err
		})
		h.mu.Lock()
		defer h.unlock()
		r.frozen = false
		if err == nil && d.run != r {
			err = errors.Join(fmt.Errorf("%w: the domain stopped while it was being saved", polyvisor.ErrInvalidState), os.Remove(path))
		}
		if err != nil {
			if d.run == r {
				r.wakeLocked()
			}
			return err
		}
		d.endLocked(polyvisor.Stop{Reason: polyvisor.StopKilled, Detail: "saved to " + path})
		return nil
	})
}

var errProtected = fmt.Errorf("%w: the guest's memory is protected from the host", polyvisor.ErrPermission)

// writeNew writes a new file, whole or not at all. half fails it in the middle.
func writeNew(ctx context.Context, path string, half error, write func(*os.File) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return classify(err)
	}
	err = write(f)
	if err == nil {
		err = half
	}
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return errors.Join(classify(err), os.Remove(path))
	}
	return nil
}

// saveLocked takes what Save writes.
func (r *run) saveLocked() *savedRun {
	g := r.guestLocked()
	now := r.runningLocked()
	s := &savedRun{Config: r.config, Definition: r.d.def, Ran: now, Saved: time.Now()}
	for n := range max(r.config.MaxVCPUs, r.config.VCPUs) {
		s.CPUTime = append(s.CPUTime, r.vcpuTimeLocked(n, now))
	}
	s.Guest = &savedGuest{
		Booted: g.booted, Boots: g.boots, BootedAt: g.bootedAt, Memory: g.mem.clone(), Line: string(g.line), Output: g.out.tail(),
		Script: g.script, Prompted: g.prompted, Pending: g.pending, Stuck: g.stuck, Blocked: g.blocked,
		Button: g.button, Pressed: g.pressed, Balloon: r.balloon, Exits: g.exits,
	}
	for _, n := range g.nics {
		s.Guest.NICs = append(s.Guest.NICs, *n)
	}
	return s
}

// tail is what Save keeps of the output.
func (o *output) tail() []byte { return o.data[max(0, len(o.data)-replay):] }

// continueLocked puts a run where a saved one was.
func (r *run) continueLocked(s *savedRun) {
	if s.hold {
		r.guest = &guest{r: r}
		if r.guest.auto() != nil {
			r.guest.holdLocked()
		}
		return
	}
	r.ran = s.Ran
	r.cpus = make([]cpuTime, max(r.config.MaxVCPUs, r.config.VCPUs))
	for n := range r.cpus {
		if n < len(s.CPUTime) {
			r.cpus[n].ran = s.CPUTime[n]
		}
		r.cpus[n].since = s.Ran
	}
	from := s.Guest
	g := &guest{
		r: r, booted: from.Booted, boots: from.Boots, bootedAt: from.BootedAt, mem: from.Memory, line: []byte(from.Line),
		script: from.Script, prompted: from.Prompted, pending: from.Pending, stuck: from.Stuck, blocked: from.Blocked,
		button: from.Button, pressed: from.Pressed, exits: from.Exits,
	}
	g.out.data = from.Output
	for _, n := range from.NICs {
		if g.nics == nil {
			g.nics = make(map[polyvisor.MAC]*polyvisor.NICStats)
		}
		g.nics[n.MAC] = &n
	}
	r.balloon, r.guest = from.Balloon, g
}

// Restore continues what Save wrote.
func (c *driver) Restore(ctx context.Context, path string, o polyvisor.StartOptions) (inst polyvisor.Instance, err error) {
	err = c.do(ctx, opRestore, nil, "", func(v *verdict) error {
		s, err := readSaved(path)
		if err != nil {
			return fmt.Errorf("saved domain %s: %w", path, err)
		}
		f, err := openFiles(s.Config)
		if err != nil {
			return err
		}
		c.h.mu.Lock()
		defer c.h.unlock()
		err = v.halfway()
		var d *domain
		if err == nil {
			d, err = c.h.restoreLocked(s, o, f)
		}
		if err != nil {
			f.close()
			return err
		}
		inst = &instance{c, d}
		return nil
	})
	return orNil(inst, err)
}

func (h *Hypervisor) restoreLocked(s *savedRun, o polyvisor.StartOptions, f *files) (*domain, error) {
	d, err := h.takenLocked(s.Config.Name, s.Config.UUID)
	if err != nil {
		return nil, err
	}
	if d != nil && d.run != nil {
		return nil, fmt.Errorf("%w: domain %q is active", polyvisor.ErrExists, d.name)
	}
	fresh := d == nil
	if fresh {
		d = &domain{h: h, id: s.Config.UUID, name: s.Config.Name, def: s.Definition}
		h.addLocked(d)
	}
	if err := d.runLocked(s.Config, o, f, s); err != nil {
		if fresh {
			h.forgetLocked(d)
		}
		return nil, err
	}
	return d, nil
}
