//go:build linux && amd64

package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/polyvisor/polyvisor/internal/bench/smaps"
)

// targetMemory is what the VM process may hold besides guest memory.
const targetMemory = 5 << 20

const memoryHow = "/proc/PID/smaps every 10 ms, or as often as half of the time allows (a sample is slow on an emulated processor), summed over all mappings but guest RAM (the anonymous mapping as large as the memory region). " +
	"Private + shared pages; the program's own text, mapped from the page cache, counts in full. Idle is the least after the maximum, while nobody asks the VM process anything. " +
	"Devices are one raw disk and one network interface."

// memorySection shows series of samples by name, in the order given.
func memorySection(names []string, series map[string]*smaps.Series) *section {
	s := &section{Title: "Memory of the VM process besides guest memory", How: memoryHow,
		Table: [][]string{{"", "max", "median", "idle", "Pss max", "private", "shared", "written", "huge", "threads", "samples", "every", "guest RAM touched"}}, Data: series}
	for _, name := range names {
		m := series[name]
		if m == nil || m.Samples == 0 {
			continue
		}
		s.row(name, mebi(m.MaxTotal), mebi(m.MedianTotal), mebi(m.IdleTotal), mebi(m.MaxPss), mebi(m.Max.Private), mebi(m.Max.Shared), mebi(m.Max.Dirty), mebi(m.Max.Huge),
			fmt.Sprint(m.MaxThreads), fmt.Sprint(m.Samples), millis(m.Over/time.Duration(m.Samples)), mebi(m.Max.RAM.RSS))
		s.note("%s, what it is at the maximum: %s", name, kinds(m.Max))
	}
	s.note("target: %s", mebi(targetMemory))
	return s
}

func kinds(p smaps.Process) string {
	keys := slices.SortedFunc(maps.Keys(p.Kinds), func(a, b string) int {
		return cmp.Or(cmp.Compare(p.Kinds[b].Total(), p.Kinds[a].Total()), strings.Compare(a, b))
	})
	var parts []string
	for _, k := range keys {
		if n := p.Kinds[k].Total(); n > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", k, mebi(n)))
		}
	}
	return strings.Join(parts, ", ")
}
