package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
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

	shown bool // its output was printed as it came
}

// buildConverter has the Go distribution's test2json built, which go tool would do at each call.
func buildConverter(ctx context.Context, dir string) (string, error) {
	out := filepath.Join(dir, "test2json")
	if said, err := goTool(ctx, "build", "-o", out, "cmd/test2json").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build test2json: %w\n%s", err, said)
	}
	return out, nil
}

// stream takes the output of one test binary and turns it into events.
type stream struct {
	pkg  string
	conv string
	live func(*event) // sees each event as it comes

	start  sync.Once
	end    sync.Once
	in     io.WriteCloser
	cmd    *exec.Cmd
	done   chan struct{}
	fault  error   // of the conversion, after close
	events []event // after close: all but held
	held   *event  // the package's result
}

func newStream(conv, pkg string) *stream { return &stream{pkg: pkg, conv: conv} }

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
		if s.live != nil {
			s.live(&e)
		}
		s.events = append(s.events, e)
	}
}

// Write takes output of the test binary.
func (s *stream) Write(p []byte) (int, error) {
	s.start.Do(s.begin)
	if s.in == nil {
		return 0, s.fault
	}
	return s.in.Write(p)
}

// close ends the stream, once: its events are complete then.
func (s *stream) close() {
	s.end.Do(func() {
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
	})
}

// complaints says what a run's end tells beside the results of tests.
func complaints(end *nestedvm.CommandResult) []string {
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
