//go:build linux && amd64

// Command exitbench measures what an exit to user space costs in a machine as it is in production: package vmm with its
// processor loop, buses and serial port. The reference is a bare loop in C (internal/bench/bare) that runs the same guest, in
// turn with ours: pair by pair, so that both see the same machine and the same load.
//
// The guest writes to the scratch register of the serial port for ever.
package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"time"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/linux/imagetest"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/creference"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/vmm"
)

// code: mov edx, 0x3ff; mov al, 0x55; 1: out dx, al; jmp 1b
var code = []byte{0xba, 0xff, 0x03, 0, 0, 0xb0, 0x55, 0xee, 0xeb, 0xfd}

const codeAddr = 0x1000000

// Report is what is printed, as JSON.
type Report struct {
	Pairs []Pair `json:"pairs,omitempty"`
	Alloc Alloc  `json:"alloc"`
}

// Pair is a slice of ours and one of the reference, next to each other in time. Nanoseconds per exit.
type Pair struct {
	OursWall float64 `json:"ours_wall"`
	OursCPU  float64 `json:"ours_cpu"` // processor time of the thread
	BareWall float64 `json:"bare_wall"`
	BareCPU  float64 `json:"bare_cpu"`
	Exits    uint64  `json:"exits"` // of ours; the reference makes as many
}

// Alloc is what the whole process allocated on its heap while the guest ran.
type Alloc struct {
	Exits   uint64 `json:"exits"`
	Bytes   uint64 `json:"bytes"`
	Objects uint64 `json:"objects"`
}

func main() {
	bare := flag.String("bare", "", "the reference program; without it only allocations are measured")
	pairs := flag.Int("pairs", 41, "number of pairs")
	slice := flag.Duration("slice", 60*time.Millisecond, "length of a slice of ours")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *bare, *pairs, *slice); err != nil {
		fmt.Fprintln(os.Stderr, "exitbench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bare string, pairs int, slice time.Duration) (err error) {
	m, err := machine(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	if err := m.Start(); err != nil {
		return err
	}
	var r Report
	if r.Alloc, err = allocations(ctx, m); err != nil {
		return err
	}
	if bare != "" {
		ref, err := creference.Start(ctx, bare, hex.EncodeToString(code))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, ref.Close()) }()
		if r.Pairs, err = measure(ctx, m, ref, pairs, slice); err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// machine makes a machine whose kernel is the guest's code.
func machine(ctx context.Context) (*vmm.Machine, error) {
	f, err := os.CreateTemp("", "exitbench-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	kernel := imagetest.ELF{Entry: codeAddr, Segments: []imagetest.Segment{{Type: imagetest.Load, VAddr: codeAddr, PAddr: codeAddr, Data: code, MemSize: 4096, Align: 4096}}}
	if _, err := f.Write(kernel.Build()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return vmm.New(ctx, vmm.Spec{Memory: 64 << 20, VCPUs: 1, Boot: vmm.Boot{Kind: vmm.BootLinux, Entry: "long64"}}, vmm.Options{Kernel: f})
}

// sample is the machine at one moment.
type sample struct {
	at    time.Time
	cpu   time.Duration
	exits uint64
}

func look(m *vmm.Machine) sample {
	i := m.Info()
	return sample{time.Now(), i.CPUTime, i.Exits["io_out"]}
}

var errEnded = errors.New("the guest ended, though its code never does")

// watch lets the guest run for a slice.
func watch(ctx context.Context, m *vmm.Machine, slice time.Duration) (from, to sample, err error) {
	from = look(m)
	select {
	case <-time.After(slice):
	case <-m.Done():
		s, _ := m.Wait(ctx)
		return from, to, fmt.Errorf("%w: %v", errEnded, s)
	case <-ctx.Done():
		return from, to, ctx.Err()
	}
	to = look(m)
	if to.exits == from.exits {
		return from, to, fmt.Errorf("the guest made no exit in %v", slice)
	}
	return from, to, nil
}

// measure takes turns: ours first in even pairs, the reference first in odd ones, so that a drift does not favour one.
func measure(ctx context.Context, m *vmm.Machine, ref *creference.Program, n int, slice time.Duration) ([]Pair, error) {
	var pairs []Pair
	if err := m.Suspend(context.Background()); err != nil {
		return nil, err
	}
	exits := uint64(1000) // of the first reference slice, until ours has said how many make a slice
	var p Pair
	ours := func() error {
		if err := m.Resume(); err != nil {
			return err
		}
		from, to, err := watch(ctx, m, slice)
		if err != nil {
			return err
		}
		exits = to.exits - from.exits
		p.Exits = exits
		p.OursWall = float64(to.at.Sub(from.at)) / float64(exits)
		p.OursCPU = float64(to.cpu-from.cpu) / float64(exits)
		return m.Suspend(context.Background())
	}
	theirs := func() error {
		wall, cpu, err := ref.Do(exits)
		p.BareWall, p.BareCPU = float64(wall)/float64(exits), float64(cpu)/float64(exits)
		return err
	}
	for i := -2; i < n; i++ { // the first two are for warming up
		steps := []func() error{ours, theirs}
		if i&1 != 0 {
			steps[0], steps[1] = theirs, ours
		}
		p = Pair{}
		for _, step := range steps {
			if err := step(); err != nil {
				return nil, err
			}
		}
		if i >= 0 {
			pairs = append(pairs, p)
		}
	}
	return pairs, nil
}

// The runtime itself allocates now and then, so the best of several windows counts: what every exit allocates is in each.
const (
	allocWindows = 5
	allocWindow  = 400 * time.Millisecond
)

// allocations counts what the process allocates while nothing but the guest's exits happens.
func allocations(ctx context.Context, m *vmm.Machine) (Alloc, error) {
	if _, _, err := watch(ctx, m, 100*time.Millisecond); err != nil { // until all is set up
		return Alloc{}, err
	}
	var least Alloc
	for i := range allocWindows {
		timer := time.NewTimer(allocWindow)
		from := look(m)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		<-timer.C
		runtime.ReadMemStats(&after)
		to := look(m)
		a := Alloc{to.exits - from.exits, after.TotalAlloc - before.TotalAlloc, after.Mallocs - before.Mallocs}
		if i == 0 || a.Bytes < least.Bytes {
			least = a
		}
	}
	return least, nil
}
