//go:build linux

package boot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/polyvisor/polyvisor/internal/bench/smaps"
)

// Run carries out the plan and hands out each result when it is there. An error is ctx's or that of out; what goes wrong
// with a command is in its result.
func Run(ctx context.Context, p Plan, out func(Result) error) error {
	for _, ph := range p.Phases {
		for round := range ph.Rounds {
			for _, s := range ph.Subjects {
				if err := ctx.Err(); err != nil {
					return err
				}
				r := s.run(ctx)
				r.Phase, r.Round = ph.Name, round
				if err := out(r); err != nil {
					return err
				}
			}
		}
	}
	return ctx.Err()
}

// run runs the command once.
func (s Subject) run(ctx context.Context) Result {
	r := Result{Subject: s.Name, Exit: -1}
	fail := func(err error) Result {
		r.Error = err.Error()
		return r
	}
	if len(s.Args) == 0 || s.Marker == "" || s.Timeout <= 0 {
		return fail(errors.New("a subject needs arguments, a marker and a timeout"))
	}
	out, outW, err := os.Pipe()
	if err != nil {
		return fail(err)
	}
	defer out.Close()
	cmd := exec.Command(s.Args[0], s.Args[1:]...)
	cmd.Env = append(os.Environ(), s.Env...)
	cmd.Stdout, cmd.Stderr = outW, outW
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var in io.WriteCloser
	if s.Input != "" {
		if in, err = cmd.StdinPipe(); err != nil {
			outW.Close()
			return fail(err)
		}
	}
	r.Start = time.Now()
	err = cmd.Start()
	outW.Close()
	if err != nil {
		return fail(err)
	}
	pgid := cmd.Process.Pid

	var sampling *sampling
	if s.Sample != "" {
		sampling = s.startSampling(cmd.Process.Pid)
	}
	w := &watcher{marker: []byte(s.Marker), start: r.Start, seen: make(chan struct{})}
	read := make(chan struct{})
	go func() {
		defer close(read)
		w.copy(out)
	}()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()

	limit := time.NewTimer(s.Timeout)
	defer limit.Stop()
	var waitErr error
	over := false
	kill := func() {
		r.Killed = true
		_ = syscall.Kill(-pgid, syscall.SIGKILL)
	}
	select {
	case <-w.seen:
		limit.Reset(s.Timeout + s.Linger)
		if s.Linger > 0 {
			select {
			case <-time.After(s.Linger):
			case <-ctx.Done():
			}
		}
		if in != nil {
			_, _ = io.WriteString(in, s.Input) // a pipe holds it; a command that has ended is seen below
		}
		if s.Kill {
			kill()
		}
	case waitErr = <-ended:
		over = true
	case <-limit.C:
		r.Error = fmt.Sprintf("%q did not come within %v", s.Marker, s.Timeout)
		kill()
	case <-ctx.Done():
		r.Error = ctx.Err().Error()
		kill()
	}
	if !over {
		select {
		case waitErr = <-ended:
		case <-limit.C:
			if r.Error == "" {
				r.Error = fmt.Sprintf("it did not end within %v after %q", s.Timeout, s.Marker)
			}
			kill()
			waitErr = <-ended
		case <-ctx.Done():
			kill()
			waitErr = <-ended
		}
	}
	r.End = time.Since(r.Start)
	// A process that outlives the command may still hold the output.
	_ = out.SetReadDeadline(time.Now().Add(2 * time.Second))
	<-read
	r.Marker = w.at
	if sampling != nil {
		series, err := sampling.end()
		r.Memory = &series
		if err != nil && r.Error == "" {
			r.Error = err.Error()
		}
	}
	st := cmd.ProcessState
	r.Exit, r.User, r.System = st.ExitCode(), st.UserTime(), st.SystemTime()
	var ee *exec.ExitError
	switch {
	case r.Error != "":
	case r.Marker == 0:
		r.Error = fmt.Sprintf("it ended (%v) without %q", st, s.Marker)
	case waitErr != nil && !errors.As(waitErr, &ee):
		r.Error = waitErr.Error()
	case r.Exit != 0 && !r.Killed:
		r.Error = fmt.Sprintf("it ended with %v", st)
	}
	if r.Error != "" {
		r.Output = strings.ToValidUTF8(string(w.tail), "?")
	}
	r.Files = collect(s.Collect)
	return r
}

// watcher looks for the marker in a stream.
type watcher struct {
	marker []byte
	start  time.Time
	seen   chan struct{} // closed at the marker
	at     time.Duration // from start to the marker; valid after seen, or after the end of copy
	tail   []byte
}

func (w *watcher) copy(r io.Reader) {
	buf := make([]byte, 16<<10)
	found := false
	for {
		n, err := r.Read(buf)
		now := time.Since(w.start)
		keep := len(w.tail)
		w.tail = append(w.tail, buf[:n]...)
		// A marker may have come in two parts.
		if from := max(0, keep-len(w.marker)); !found && bytes.Contains(w.tail[from:], w.marker) {
			found, w.at = true, now
			close(w.seen)
		}
		if d := len(w.tail) - maxOutput; d > 0 {
			w.tail = append(w.tail[:0], w.tail[d:]...)
		}
		if err != nil {
			return
		}
	}
}

// sampling watches a process that a command starts.
type sampling struct {
	stop   chan struct{}
	done   chan struct{}
	series smaps.Series
	err    error
}

func (s Subject) startSampling(parent int) *sampling {
	sm := &sampling{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(sm.done)
		sm.err = fmt.Errorf("no process of the program %s was seen", s.Sample)
		for {
			// One that ends before it has guest memory was on the way to become another.
			if pid := findProcess(s.Sample, parent); pid != 0 {
				sm.series, sm.err = smaps.Watch(sm.stop, pid, s.Regions, s.SampleEvery)
				if sm.series.Samples > 0 {
					return
				}
			}
			select {
			case <-sm.stop:
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	}()
	return sm
}

func (s *sampling) end() (smaps.Series, error) {
	close(s.stop)
	<-s.done
	return s.series, s.err
}

// findProcess gives the youngest process that runs a program of this file name, of those not older than since.
func findProcess(name string, since int) int {
	found := 0
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		pid, err := strconv.Atoi(filepath.Base(d))
		if err != nil || pid < since || pid < found {
			continue
		}
		exe, err := os.Readlink(filepath.Join(d, "exe"))
		if err == nil && filepath.Base(exe) == name {
			found = pid
		}
	}
	return found
}

// collect reads the JSON files that match.
func collect(pattern string) map[string]json.RawMessage {
	if pattern == "" {
		return nil
	}
	names, _ := filepath.Glob(pattern)
	files := map[string]json.RawMessage{}
	for _, n := range names {
		if b, err := os.ReadFile(n); err == nil && json.Valid(b) {
			files[n] = b
		}
	}
	return files
}
