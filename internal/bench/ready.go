//go:build linux && amd64

package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/internal/bench/smaps"
	"github.com/polyvisor/polyvisor/internal/bench/stat"

	_ "github.com/polyvisor/polyvisor/drivers/kvm"
)

const (
	readyRounds = 40
	rateTime    = 5 * time.Second
	watchTime   = 2 * time.Second
	smallGuest  = 128 << 20
)

// small has the measurements of the built-in guest on this machine's own KVM.
type small struct {
	conn *polyvisor.Conn
	t    *tools
	dir  string
}

func openSmall(ctx context.Context, t *tools) (*small, error) {
	if err := localKVM(); err != nil {
		return nil, err
	}
	// Sockets have short paths, so not below the tools' directory.
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return nil, err
	}
	q := url.Values{"state": {dir + "/state"}, "run": {dir + "/run"}, "cache": {dir + "/cache"}, "vmm": {t.vmm}, "usernet": {t.usernet}}
	conn, err := polyvisor.Open(ctx, "kvm:///session?"+q.Encode())
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &small{conn, t, dir}, nil
}

func (s *small) close() error { return errors.Join(s.conn.Close(), os.RemoveAll(s.dir)) }

func (s *small) create(ctx context.Context, name string) (*polyvisor.Domain, error) {
	return s.conn.Create(ctx, &polyvisor.Config{Name: name, Memory: smallGuest})
}

// process gives the newest VM process.
func (s *small) process() (int, error) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	found := 0
	for _, d := range dirs {
		pid, err := strconv.Atoi(filepath.Base(d))
		if err != nil || pid < found {
			continue
		}
		if exe, err := os.Readlink(d + "/exe"); err == nil && exe == s.t.vmm {
			found = pid
		}
	}
	if found == 0 {
		return 0, fmt.Errorf("no process runs %s", s.t.vmm)
	}
	return found, nil
}

// cpuTime gives the processor time of a process with all its threads, also those that ended.
func cpuTime(pid int) (time.Duration, error) {
	var ts unix.Timespec
	// MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED) of linux/posix-timers.h.
	if err := unix.ClockGettime(int32(^pid<<3|2), &ts); err != nil {
		return 0, fmt.Errorf("processor time of process %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

// readiness is the times of starts, and of the reference between them. Milliseconds.
type readiness struct {
	Wall    []float64 `json:"wall_ms"`
	CPU     []float64 `json:"cpu_ms"`
	RefWall []float64 `json:"reference_wall_ms"`
	RefCPU  []float64 `json:"reference_cpu_ms"`
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

func (s *small) ready(ctx context.Context) (*readiness, error) {
	var r readiness
	for i := range readyRounds {
		if s.t.nothing != "" {
			cmd := exec.CommandContext(ctx, s.t.nothing)
			start := time.Now()
			if err := cmd.Run(); err != nil {
				return nil, fmt.Errorf("the reference: %w", err)
			}
			r.RefWall = append(r.RefWall, ms(time.Since(start)))
			r.RefCPU = append(r.RefCPU, ms(cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime()))
		}
		start := time.Now()
		d, err := s.create(ctx, fmt.Sprintf("ready-%d", i))
		if err != nil {
			return nil, err
		}
		wall := time.Since(start)
		pid, err := s.process()
		var cpu time.Duration
		if err == nil {
			cpu, err = cpuTime(pid)
		}
		if err := errors.Join(err, d.Destroy(ctx)); err != nil {
			return nil, err
		}
		r.Wall, r.CPU = append(r.Wall, ms(wall)), append(r.CPU, ms(cpu))
	}
	return &r, nil
}

// rate makes machines, waits for their first output and destroys them, by several workers at once, and says how many a
// second.
func (s *small) rate(ctx context.Context, workers int) (float64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	var n int
	var fault error
	start := time.Now()
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := 0; time.Since(start) < rateTime; i++ {
				err := s.life(ctx, fmt.Sprintf("rate-%d-%d-%d", workers, w, i))
				mu.Lock()
				n++
				if err != nil && fault == nil {
					fault = err
					cancel()
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return float64(n) / time.Since(start).Seconds(), fault
}

func (s *small) life(ctx context.Context, name string) error {
	d, err := s.create(ctx, name)
	if err != nil {
		return err
	}
	_, err = s.said(ctx, d)
	return errors.Join(err, d.Destroy(ctx))
}

// said waits for the first output of the guest.
func (s *small) said(ctx context.Context, d *polyvisor.Domain) (string, error) {
	c, err := d.Console(ctx, polyvisor.ConsoleOptions{})
	if err != nil {
		return "", err
	}
	defer c.Close()
	buf := make([]byte, 256)
	n, err := c.Read(buf)
	if n > 0 {
		err = nil
	}
	return string(buf[:n]), err
}

// machine gives a small machine, with a disk and a network interface if wanted: on a tap where one can be made, else on
// network user.
func (s *small) machine(ctx context.Context, devices bool) (*polyvisor.Domain, error) {
	if !devices {
		return s.create(ctx, "memory")
	}
	disk := filepath.Join(s.dir, "disk.raw")
	if err := os.WriteFile(disk, make([]byte, diskSize), 0o600); err != nil {
		return nil, err
	}
	cfg := &polyvisor.Config{Name: "memory-devices", Memory: smallGuest,
		Disks: []polyvisor.Disk{{Source: polyvisor.File{Path: disk}, Format: polyvisor.FormatRaw}},
		NICs:  []polyvisor.NIC{{Network: polyvisor.NetworkTap, Source: fmt.Sprintf("pvb%d", os.Getpid())}}}
	d, err := s.conn.Create(ctx, cfg)
	if errors.Is(err, polyvisor.ErrPermission) || errors.Is(err, polyvisor.ErrUnsupported) {
		cfg.NICs = []polyvisor.NIC{{Network: polyvisor.NetworkUser}}
		return s.conn.Create(ctx, cfg)
	}
	return d, err
}

// memory samples a VM process while its guest is talked to, and while it is left alone then.
func (s *small) memory(ctx context.Context, devices bool) (series *smaps.Series, err error) {
	d, err := s.machine(ctx, devices)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Destroy(ctx)) }()
	pid, err := s.process()
	if err != nil {
		return nil, err
	}
	c, err := d.Console(ctx, polyvisor.ConsoleOptions{})
	if err != nil {
		return nil, err
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		buf := make([]byte, 4096)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
		}
	}()
	stop := make(chan struct{})
	wrote := make(chan error, 1)
	go func() {
		defer close(stop)
		for start := time.Now(); time.Since(start) < watchTime; time.Sleep(50 * time.Millisecond) {
			if _, err := c.Write([]byte("hello\r")); err != nil {
				wrote <- err
				return
			}
		}
		time.Sleep(quietTime)
		wrote <- nil
	}()
	m, err := smaps.Watch(stop, pid, []uint64{smallGuest}, sampleEvery)
	err = errors.Join(err, <-wrote, c.Close())
	<-read
	return &m, err
}

// readySection shows how fast VM processes come and go.
func readySection(ctx context.Context, s *small) *section {
	sec := &section{
		Title: "Readiness of a VM process, with the built-in guest on this machine's KVM",
		How: fmt.Sprintf("Conn.Create of a transient domain of %d MiB until it returns (\"started\") by the wall clock, and the processor time that the VM process has used by then; "+
			"fork, exec and wait of a static C program that does nothing, in turn with it, %d rounds, medians. A life is create, first output on the console, destroy.", smallGuest>>20, readyRounds),
		Table: [][]string{{"", "wall", "CPU", "wall 95 %"}},
	}
	data := map[string]any{}
	sec.Data = data
	r, err := s.ready(ctx)
	if err != nil {
		sec.missing("readiness: %v", err)
	} else {
		data["readiness"] = r
		line := func(name string, wall, cpu []float64) {
			sec.row(name, fmt.Sprintf("%.2f ms", stat.Median(wall)), fmt.Sprintf("%.2f ms", stat.Median(cpu)), fmt.Sprintf("%.2f ms", stat.Quantile(wall, 0.95)))
		}
		line("VM process started", r.Wall, r.CPU)
		if len(r.RefWall) > 0 {
			line("static C program", r.RefWall, r.RefCPU)
			if q, err := stat.MedianRatio(r.Wall, r.RefWall, 0.95, 1); err == nil {
				sec.note("wall: %.1f times the C program (95 %%: %.1f-%.1f)", q.Estimate, q.Low, q.High)
				data["wall ratio"] = q
			}
		} else {
			sec.missing("the reference: %v", s.t.faults["nothing"])
		}
	}
	for _, workers := range []int{1, 2} {
		rate, err := s.rate(ctx, workers)
		if err != nil {
			sec.missing("rate with %d workers: %v", workers, err)
			continue
		}
		data[fmt.Sprintf("lives per second, %d workers", workers)] = rate
		sec.note("lives per second with %d at once: %.0f", workers, rate)
	}
	return sec
}

// sizeSection shows how large the programs are.
func sizeSection(t *tools) *section {
	s := &section{Title: "Size of the programs", How: "go build -trimpath -ldflags='-s -w', CGO_ENABLED=0.", Table: [][]string{{"", "bytes", ""}}}
	data := map[string]int64{}
	s.Data = data
	for _, p := range []string{t.polyvisor, t.vmm} {
		info, err := os.Stat(p)
		if err != nil {
			continue
		}
		data[filepath.Base(p)] = info.Size()
		s.row(filepath.Base(p), fmt.Sprint(info.Size()), mebi(uint64(info.Size())))
	}
	return s
}
