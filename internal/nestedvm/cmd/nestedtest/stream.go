package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/polyvisor/polyvisor/internal/nestedvm"
)

// event is what test2json prints.
type event struct {
	Time       *time.Time `json:",omitempty"`
	Action     string
	Package    string   `json:",omitempty"`
	Test       string   `json:",omitempty"`
	Elapsed    *float64 `json:",omitempty"`
	Output     string   `json:",omitempty"`
	OutputType string   `json:",omitempty"`
}

// buildConverter has the Go distribution's test2json built, which go tool would do at each call.
func buildConverter(ctx context.Context, dir string) (string, error) {
	out := filepath.Join(dir, "test2json")
	if said, err := goTool(ctx, "build", "-o", out, "cmd/test2json").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build test2json: %w\n%s", err, said)
	}
	return out, nil
}

// stream takes the output of one test binary, turns it into events and hands them to the report.
type stream struct {
	pkg  string
	conv string
	rep  *report

	start sync.Once
	end   sync.Once
	fault error // of the conversion, after close
	in    io.WriteCloser
	cmd   *exec.Cmd
	done  chan struct{}
	held  *event  // the package's result, till the exit code is known
	kept  []event // till the end, unless they are shown as they come

	// again lets failed tests be run once more instead of being reported; lost are
	// those that are to be.
	again bool
	lost  []string
}

func newStream(conv, pkg string, rep *report) *stream {
	return &stream{pkg: pkg, conv: conv, rep: rep}
}

func (s *stream) begin() {
	s.done = make(chan struct{})
	s.cmd = exec.Command(s.conv, "-t", "-p", s.pkg)
	out, err := s.cmd.StdoutPipe()
	if err == nil {
		s.in, err = s.cmd.StdinPipe()
	}
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		s.fault, s.in = fmt.Errorf("test2json: %w", err), nil
		close(s.done)
		return
	}
	go func() {
		defer close(s.done)
		s.fault = s.read(out)
	}()
}

func (s *stream) read(r io.Reader) error {
	for d := json.NewDecoder(bufio.NewReader(r)); ; {
		var e event
		switch err := d.Decode(&e); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			_, _ = io.Copy(io.Discard, r)
			return fmt.Errorf("test2json: %w", err)
		}
		if e.Test == "" && (e.Action == "pass" || e.Action == "fail" || e.Action == "skip") {
			s.held = &e
			continue
		}
		s.event(e)
	}
}

// event passes an event on: at the end of the package, so that those of a machine that hung can be dropped; at once
// where a person watches.
func (s *stream) event(e event) {
	if s.rep.verbose {
		s.rep.event(e)
		return
	}
	s.kept = append(s.kept, e)
}

// drop ends the stream of tests that are to be run again.
func (s *stream) drop() {
	s.end.Do(func() {
		s.start.Do(s.begin)
		if s.in != nil {
			s.in.Close()
		}
		<-s.done
		if s.in != nil {
			_ = s.cmd.Wait()
		}
		s.fault = nil
	})
}

// Write takes output of the test binary.
func (s *stream) Write(p []byte) (int, error) {
	s.start.Do(s.begin)
	if s.in == nil {
		return 0, s.fault
	}
	return s.in.Write(p)
}

// close ends the stream, once; end is nil if the test binary did not run to its end.
func (s *stream) close(end *nestedvm.CommandResult) {
	s.end.Do(func() { s.finish(end) })
}

// finish reports the package's result. test2json knows only what was printed: what the exit code and the processes
// left behind say is added here.
func (s *stream) finish(end *nestedvm.CommandResult) {
	s.start.Do(s.begin)
	if s.in != nil {
		s.in.Close()
	}
	<-s.done
	if s.in != nil {
		if err := s.cmd.Wait(); err != nil && s.fault == nil {
			s.fault = fmt.Errorf("test2json: %w", err)
		}
	}
	if s.again && end != nil && !end.TimedOut && len(end.Left) == 0 && end.Fault == "" {
		s.lost = failures(s.kept)
	}
	for _, e := range s.kept {
		if top, _, _ := strings.Cut(e.Test, "/"); !slices.Contains(s.lost, top) {
			s.rep.event(e)
		} else if e.Action == "output" {
			fmt.Fprint(os.Stderr, e.Output)
		}
	}
	if len(s.lost) > 0 {
		return
	}
	now := time.Now()
	result := event{Time: &now, Action: "fail", Package: s.pkg}
	if s.held != nil {
		result = *s.held
	}
	for _, line := range complaints(end) {
		result.Action = "fail"
		s.rep.event(event{Time: &now, Action: "output", Package: s.pkg, Output: line + "\n"})
	}
	if end != nil {
		secs := end.Elapsed.Seconds()
		result.Elapsed = &secs
	}
	s.rep.event(result)
}

// failures lists the top-level tests that failed; none if one of them has no end.
func failures(events []event) []string {
	open, failed := map[string]bool{}, []string(nil)
	for _, e := range events {
		if e.Test == "" || strings.Contains(e.Test, "/") {
			continue
		}
		switch e.Action {
		case "run":
			open[e.Test] = true
		case "fail":
			failed = append(failed, e.Test)
			delete(open, e.Test)
		case "pass", "skip":
			delete(open, e.Test)
		}
	}
	if len(open) > 0 {
		return nil
	}
	return failed
}

func complaints(end *nestedvm.CommandResult) []string {
	if end == nil {
		return []string{"nestedtest: the machine ended before these tests did"}
	}
	var lines []string
	if end.Fault != "" {
		lines = append(lines, "nestedtest: "+end.Fault)
	}
	if end.TimedOut {
		lines = append(lines, "nestedtest: killed after its time was over")
	}
	if end.ExitCode != 0 {
		lines = append(lines, fmt.Sprintf("exit status %d", end.ExitCode))
	}
	for _, p := range end.Left {
		lines = append(lines, "nestedtest: process left behind: "+p)
	}
	return lines
}
