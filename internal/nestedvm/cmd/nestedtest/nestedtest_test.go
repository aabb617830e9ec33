package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/polyvisor/polyvisor/internal/leaktest"
	"github.com/polyvisor/polyvisor/internal/nestedvm"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// TestMachine runs the sample package, whose tests partly fail, in the machine.
func TestMachine(t *testing.T) {
	if err := nestedvm.Available(); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	given := filepath.Join(dir, "given")
	require.NoError(t, os.WriteFile(given, []byte("x"), 0o644))
	o, err := parse([]string{
		"-json", "-skip", "TestNotChosen", "-env", "NESTEDTEST_SAMPLE=1", "-env", "EXTRA=given", "-file", given + ":/given/file",
		"-cover", filepath.Join(dir, "cover"), "-coverpkg", "./sample", "-artifacts", filepath.Join(dir, "artifacts"), "./sample",
	})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var out bytes.Buffer
	ok, err := runTests(ctx, o, &out)
	require.NoError(t, err)
	require.False(t, ok)

	results := map[string]string{}
	var said string
	for d := json.NewDecoder(bytes.NewReader(out.Bytes())); ; {
		var e event
		err := d.Decode(&e)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if e.Action == "pass" || e.Action == "fail" || e.Action == "skip" {
			results[e.Test] = e.Action
		}
		said += e.Output
	}
	require.Equal(t, map[string]string{
		"TestEnvironment": "pass", "TestCovered": "pass", "TestSkipped": "skip", "TestLeft": "pass",
		"TestSub": "fail", "TestSub/good": "pass", "TestSub/bad": "fail", "": "fail",
	}, results, said)
	require.Contains(t, said, "wrong on purpose")
	require.Contains(t, said, "nestedtest: process left behind: ")
	require.Contains(t, said, "exit status 1")

	made, err := os.ReadFile(filepath.Join(dir, "artifacts", "made"))
	require.NoError(t, err)
	require.Equal(t, "in the machine", string(made))
	percent, err := goTool(ctx, "tool", "covdata", "percent", "-i", filepath.Join(dir, "cover")).CombinedOutput()
	require.NoError(t, err, "%s", percent)
	require.Contains(t, string(percent), "sample\t\tcoverage: 66.7% of statements")
}

func TestComplaints(t *testing.T) {
	for name, c := range map[string]struct {
		end  *nestedvm.CommandResult
		want []string
	}{
		"fine":       {&nestedvm.CommandResult{Elapsed: time.Second}, nil},
		"code":       {&nestedvm.CommandResult{ExitCode: 3}, []string{"exit status 3"}},
		"timed out":  {&nestedvm.CommandResult{ExitCode: 137, TimedOut: true}, []string{"nestedtest: killed after its time was over", "exit status 137"}},
		"left":       {&nestedvm.CommandResult{Left: []string{"9: a"}}, []string{"nestedtest: process left behind: 9: a"}},
		"no program": {&nestedvm.CommandResult{ExitCode: 127, Fault: "no such file"}, []string{"nestedtest: no such file", "exit status 127"}},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, complaints(c.end)) })
	}
}

// TestStream is about what test2json makes of output that comes in pieces.
func TestStream(t *testing.T) {
	conv, err := buildConverter(context.Background(), t.TempDir())
	require.NoError(t, err)
	s := newStream(conv, "p")
	for _, b := range []byte("\x16=== RUN   TestX\n\x16--- PASS: TestX (0.00s)\n\x16PASS\n") {
		_, err := s.Write([]byte{b})
		require.NoError(t, err)
	}
	s.close()
	s.close()
	require.NoError(t, s.fault)
	require.Equal(t, "pass", s.held.Action)
	require.Equal(t, map[string]string{"TestX": "pass"}, outcomeOf(s.events).result)
}

func TestStreamWithoutConverter(t *testing.T) {
	s := newStream(filepath.Join(t.TempDir(), "none"), "p")
	_, err := s.Write([]byte("x"))
	require.ErrorContains(t, err, "test2json")
	s.close()
	require.ErrorContains(t, s.fault, "test2json")
}

func TestFileFlag(t *testing.T) {
	f, err := fileFlag("/a/b:/c")
	require.NoError(t, err)
	require.Equal(t, nestedvm.File{Source: "/a/b", Path: "/c"}, f)
	f, err = fileFlag("/a/b")
	require.NoError(t, err)
	require.Equal(t, nestedvm.File{Source: "/a/b", Path: "/a/b"}, f)
	_, err = fileFlag("/a/b:c")
	require.ErrorContains(t, err, "absolute")
}
