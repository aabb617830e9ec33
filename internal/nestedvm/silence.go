//go:build linux

package nestedvm

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Limits of silence. Time for which the host did not let QEMU run does not count, but after silenceMost as much it is
// over in any case.
const (
	// bootLimit bounds the time from the start of QEMU to readiness, for which an idle host needs 8 s.
	bootLimit   = 2 * time.Minute
	silenceMost = 8
)

// silenceLimit is how long a machine that is up may give no sign of life, of which there is one every
// wire.AlivePeriod however busy it is.
var silenceLimit = 20 * time.Second

// silence kills a machine that gives no sign of life.
type silence struct {
	emulator *emulator
	cpus     int
	limit    time.Duration

	mu        sync.Mutex
	count     int // of begin and stop: tells whether a frame came meanwhile
	timer     *time.Timer
	checks    sync.WaitGroup
	hung      bool
	registers string
}

// wait is what one silence has come to.
type wait struct {
	count   int
	ticks   int
	granted time.Duration
	starved map[string]time.Duration // by thread, at the last tick
}

// silenceTicks is how often within the limit the time that QEMU had is looked at.
const silenceTicks = 4

func (s *silence) begin() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	s.tick(&wait{count: s.count})
}

// tick looks after w again later. The first tick only takes the measure, so that frames in quick succession cost nothing.
func (s *silence) tick(w *wait) {
	s.checks.Add(1)
	s.timer = time.AfterFunc(s.limit/silenceTicks, func() {
		defer s.checks.Done()
		s.check(w)
	})
}

func (s *silence) stop() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	if s.timer != nil && s.timer.Stop() {
		s.checks.Done()
	}
}

func (s *silence) check(w *wait) {
	now := starved(s.emulator.cmd.Process.Pid)
	w.granted += max(0, s.limit/silenceTicks-mostGrown(w.starved, now))
	w.starved = now
	w.ticks++
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count != w.count {
		return
	}
	if w.granted < s.limit && w.ticks < silenceMost*silenceTicks {
		s.tick(w)
		return
	}
	s.mu.Unlock()
	registers := s.emulator.monitor.registers(s.cpus)
	s.mu.Lock()
	if s.count != w.count { // it came back
		return
	}
	s.hung, s.registers = true, registers
	s.emulator.kill()
}

// end waits for what runs and says whether the machine hung, and where its processors were.
func (s *silence) end() (hung bool, registers string) {
	if s == nil { // nothing was watched
		return false, ""
	}
	s.checks.Wait()
	return s.hung, s.registers
}

// starved gives for each thread of a process how long it wanted to run and was not let.
func starved(pid int) map[string]time.Duration {
	found := map[string]time.Duration{}
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		var ran, waited int64 // ns
		if n, _ := fmt.Sscan(string(b), &ran, &waited); n == 2 {
			found[f] = time.Duration(waited)
		}
	}
	return found
}

// mostGrown is the most by which a value that was there before has grown.
func mostGrown(before, after map[string]time.Duration) (most time.Duration) {
	for thread, b := range before {
		if a, ok := after[thread]; ok {
			most = max(most, a-b)
		}
	}
	return most
}
