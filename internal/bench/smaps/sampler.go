package smaps

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/polyvisor/polyvisor/internal/bench/stat"
)

// OfProcess reads the memory of a living process. The error is fs.ErrNotExist when it has ended.
func OfProcess(pid int, regions []uint64) (Process, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	if errors.Is(err, syscall.ESRCH) || err == nil && len(b) == 0 { // a zombie has no mappings
		err = fs.ErrNotExist
	}
	if err != nil {
		return Process{}, err
	}
	return Read(bytes.NewReader(b), regions)
}

// Series is a process over some time.
type Series struct {
	Samples     int           `json:"samples"`
	Wanted      time.Duration `json:"wanted_ns"` // between samples; Over/Samples is what it came to
	Over        time.Duration `json:"over_ns"`
	Max         Process       `json:"max"` // the sample with the largest Total
	MaxTotal    uint64        `json:"max_total"`
	MedianTotal uint64        `json:"median_total"`
	IdleTotal   uint64        `json:"idle_total"` // the least since the maximum; MaxTotal if nothing followed
	MaxPss      uint64        `json:"max_pss"`
	MaxThreads  int           `json:"max_threads"`
}

// Watch samples a process at the interval until it ends or stop is closed. A sample takes the process's memory map lock, and
// where the processor is emulated it takes long: the pause between two is never shorter than the last one took. Samples in which no guest RAM is found are left
// out: before the machine is made they say nothing about it, and a wrong region would otherwise go unnoticed.
func Watch(stop <-chan struct{}, pid int, regions []uint64, every time.Duration) (Series, error) {
	s := Series{Wanted: every}
	var totals []float64
	start := time.Now()
	for {
		began := time.Now()
		p, err := OfProcess(pid, regions)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return s, err
		}
		if p.RAMRegions > 0 {
			s.Samples++
			totals = append(totals, float64(p.Total()))
			if p.Total() > s.MaxTotal {
				s.Max, s.MaxTotal, s.IdleTotal = p, p.Total(), p.Total()
			}
			s.IdleTotal = min(s.IdleTotal, p.Total())
			s.MaxPss = max(s.MaxPss, p.Pss)
			if e, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid)); err == nil {
				s.MaxThreads = max(s.MaxThreads, len(e))
			}
		}
		took := time.Since(began)
		select {
		case <-stop:
		case <-time.After(max(every-took, took)):
			continue
		}
		break
	}
	s.Over = time.Since(start)
	if s.Samples == 0 {
		return s, fmt.Errorf("process %d: no mapping of guest memory with %v bytes was seen", pid, regions)
	}
	s.MedianTotal = uint64(stat.Median(totals))
	return s, nil
}
