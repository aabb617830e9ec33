//go:build linux

package nestedvm

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/polyvisor/polyvisor/internal/leaktest"
	"github.com/polyvisor/polyvisor/internal/nestedvm/wire"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	if os.Getenv(machineForKill) != "" {
		runMachineForKill()
	}
	leaktest.Main(m)
}

// needMachine skips the test where the machine cannot run, and builds the probe.
func needMachine(t *testing.T) File {
	t.Helper()
	if err := Available(); err != nil {
		t.Skip(err)
	}
	out := filepath.Join(t.TempDir(), "probe")
	cmd := exec.Command("go", "build", "-o", out, "github.com/polyvisor/polyvisor/internal/nestedvm/internal/probe")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	said, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", said)
	return File{Source: out, Path: "/bin/probe"}
}

// children returns the living children of a process, with their command lines.
func children(t *testing.T, pid int) map[int]string {
	t.Helper()
	found := map[int]string{}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(t, err)
	for _, s := range stats {
		b, err := os.ReadFile(s)
		if err != nil {
			continue
		}
		fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if fields[1] != strconv.Itoa(pid) || fields[0] == "Z" {
			continue
		}
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(s)))
		require.NoError(t, err)
		args, _ := os.ReadFile(filepath.Join(filepath.Dir(s), "cmdline"))
		found[child] = string(args)
	}
	return found
}

// TestCommands runs many commands in one machine, since each boot takes seconds.
func TestCommands(t *testing.T) {
	probe := needMachine(t)
	tree := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(tree, "sub"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(tree, "sub", "file"), []byte("content of a file"), 0o644))
	require.NoError(t, os.Symlink("sub/file", filepath.Join(tree, "link")))
	back := t.TempDir()

	type step struct {
		args    []string
		command Command // Args apart
		check   func(t *testing.T, out, errs string, r CommandResult)
	}
	clean := func(t *testing.T, r CommandResult) {
		t.Helper()
		require.Equal(t, CommandResult{Elapsed: r.Elapsed}, r)
	}
	steps := []step{
		{[]string{"check", "a b"}, Command{Env: []string{"X=y z"}, Dir: "/src/x"}, func(t *testing.T, out, errs string, r CommandResult) {
			clean(t, r)
			require.Equal(t, fmt.Sprintf("npt=Y clock=tsc temp=/tmp wd=/src/x host=nested args=[\"a b\"] x=\"y z\" year=%d cpus=0-1\n", time.Now().Year()), out)
			require.Equal(t, "to standard error\n", errs)
		}},
		{[]string{"print", "3000000", "7777"}, Command{}, func(t *testing.T, out, _ string, r CommandResult) {
			clean(t, r)
			line := strings.Repeat("0123456789abcde\n", 487)[:7777]
			require.True(t, strings.Repeat(line, 386)[:3_000_000] == out[:3_000_000], "the output came changed")
		}},
		{[]string{"exit", "7"}, Command{}, func(t *testing.T, _, _ string, r CommandResult) {
			require.Equal(t, CommandResult{ExitCode: 7, Elapsed: r.Elapsed}, r)
		}},
		{[]string{"cat", "/data/link", "/data/sub/file", "/again"}, Command{}, func(t *testing.T, out, _ string, r CommandResult) {
			clean(t, r)
			require.Equal(t, strings.Repeat("content of a file", 3), out)
		}},
		{[]string{"write", "/out/dir/deep/one", "first", "artifact"}, Command{}, func(t *testing.T, _, _ string, r CommandResult) { clean(t, r) }},
		{[]string{"write", "/out/two", "second"}, Command{}, func(t *testing.T, _, _ string, r CommandResult) { clean(t, r) }},
		{[]string{"pivot"}, Command{}, func(t *testing.T, _, errs string, r CommandResult) {
			require.Empty(t, errs)
			clean(t, r)
		}},
		{[]string{"orphan"}, Command{}, func(t *testing.T, _, _ string, r CommandResult) {
			require.Zero(t, r.ExitCode)
			require.Len(t, r.Left, 1)
			require.Contains(t, r.Left[0], "/bin/probe sleep")
		}},
		{[]string{"sleep"}, Command{Timeout: time.Second}, func(t *testing.T, out, errs string, r CommandResult) {
			require.Equal(t, "sleeping\n", out)
			require.True(t, r.TimedOut)
			require.Contains(t, errs, "goroutine 1", "a stack dump is asked for")
			require.Equal(t, 2, r.ExitCode)
		}},
		{[]string{"deaf"}, Command{Timeout: time.Second, Grace: time.Second}, func(t *testing.T, _, _ string, r CommandResult) {
			require.True(t, r.TimedOut)
			require.Equal(t, 137, r.ExitCode)
		}},
	}
	cfg := Config{
		Files: []File{
			probe, {Source: tree, Path: "/data"}, {Source: filepath.Join(tree, "sub", "file"), Path: "/again"},
		},
		Modules: []string{"virtio_blk"},
		Artifacts: map[string]string{
			"/out/dir": filepath.Join(back, "dir"), "/out/two": filepath.Join(back, "named"), "/none": filepath.Join(back, "none"),
		},
	}
	outs := make([]struct{ out, errs bytes.Buffer }, len(steps))
	for i, s := range steps {
		c := s.command
		c.Args = append([]string{"/bin/probe"}, s.args...)
		c.Stdout, c.Stderr = &outs[i].out, &outs[i].errs
		cfg.Commands = append(cfg.Commands, c)
	}
	// Those of Config are for commands without their own.
	var common bytes.Buffer
	cfg.Stdout = &common
	cfg.Commands = append(cfg.Commands,
		Command{Args: []string{"/bin/none"}},
		Command{Args: []string{"/bin/probe", "cat", "/again"}})

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	res, err := Run(ctx, cfg)
	require.NoError(t, err, res.Console)
	require.Len(t, res.Commands, len(cfg.Commands))
	for i, s := range steps {
		t.Run(s.args[0], func(t *testing.T) { s.check(t, outs[i].out.String(), outs[i].errs.String(), res.Commands[i]) })
	}
	missing := res.Commands[len(steps)]
	require.Equal(t, 127, missing.ExitCode)
	require.Contains(t, missing.Fault, "/bin/none")
	require.Equal(t, "content of a file", common.String())
	require.Equal(t, 7, res.ExitCode())
	require.NotZero(t, res.Boot)
	require.Contains(t, res.Kernel, "cloud-amd64")
	for name, want := range map[string]string{"dir/deep/one": "first artifact", "named": "second"} {
		got, err := os.ReadFile(filepath.Join(back, name))
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
	require.NoFileExists(t, filepath.Join(back, "none"))
	t.Logf("from the start of QEMU to the first command: %s", res.Boot)
}

func TestKernelPanic(t *testing.T) {
	probe := needMachine(t)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	res, err := Run(ctx, Config{Files: []File{probe}, Commands: []Command{
		{Args: []string{"/bin/probe", "exit", "3"}}, {Args: []string{"/bin/probe", "crash"}},
	}})
	require.ErrorContains(t, err, "died during command [/bin/probe crash]")
	require.ErrorContains(t, err, "Kernel panic - not syncing: sysrq triggered crash")
	require.Len(t, res.Commands, 1, "what ended before is told")
	require.Equal(t, 3, res.ExitCode())
	require.Empty(t, children(t, os.Getpid()))
}

func TestContextEnds(t *testing.T) {
	probe := needMachine(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	_, err := Run(ctx, Config{
		Files: []File{probe}, Commands: []Command{{Args: []string{"/bin/probe", "sleep"}}},
		Stdout: writerFunc(func(p []byte) (int, error) {
			cancel() // as soon as it says that it sleeps
			return len(p), nil
		}),
	})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "killed during command [/bin/probe sleep]")
	require.Empty(t, children(t, os.Getpid()))
}

// TestMachineHangs stops the emulator, as a kernel that hangs would: the machine is killed and the error says so.
func TestMachineHangs(t *testing.T) {
	probe := needMachine(t)
	limit := silenceLimit
	silenceLimit = 5 * wire.AlivePeriod
	t.Cleanup(func() { silenceLimit = limit })
	res, err := Run(t.Context(), Config{
		Files: []File{probe}, Commands: []Command{{Args: []string{"/bin/probe", "exit", "3"}}, {Args: []string{"/bin/probe", "sleep"}}},
		Stdout: writerFunc(func(p []byte) (int, error) {
			time.Sleep(2 * silenceLimit) // a host that is slow to read takes signs of life late, and that is no hang
			for pid := range children(t, os.Getpid()) {
				if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
					return 0, err
				}
			}
			return len(p), nil
		}),
	})
	require.ErrorIs(t, err, ErrHung)
	require.ErrorContains(t, err, "during command [/bin/probe sleep]")
	require.Len(t, res.Commands, 1, "what ended before is told")
	require.Empty(t, children(t, os.Getpid()))
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestQEMUFails is about a QEMU that does not get to run a kernel.
func TestQEMUFails(t *testing.T) {
	needMachine(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err := Run(ctx, Config{Memory: 1 << 40, Commands: []Command{{Args: []string{"/x"}}}})
	require.ErrorContains(t, err, "the nested machine died during its boot")
	require.ErrorContains(t, err, "qemu-system-x86_64: ", "the reason is QEMU's")
	require.NotErrorIs(t, err, ErrHung, "another try would end likewise")
}

const machineForKill = "NESTEDVM_TEST_MACHINE"

// runMachineForKill is the body of the process that TestCallerKilled kills.
func runMachineForKill() {
	_, err := Run(context.Background(), Config{Commands: []Command{{Args: []string{"/none"}}}})
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// TestCallerKilled shows that QEMU does not outlive the program that runs the machine, and that no file does.
func TestCallerKilled(t *testing.T) {
	needMachine(t)
	tmp := t.TempDir()
	caller := exec.Command(os.Args[0])
	caller.Env = append(os.Environ(), machineForKill+"=1", "TMPDIR="+tmp)
	require.NoError(t, caller.Start())
	var qemu int
	require.Eventually(t, func() bool {
		for pid, args := range children(t, caller.Process.Pid) {
			if strings.Contains(args, qemuBinary) {
				qemu = pid
			}
		}
		return qemu != 0
	}, time.Minute, time.Millisecond)
	require.NoError(t, caller.Process.Kill())
	require.Error(t, caller.Wait())
	require.Eventually(t, func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", qemu))
		return err != nil || len(b) == 0
	}, time.Minute, time.Millisecond, "QEMU lives on")
	left, err := os.ReadDir(tmp)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestConfigRefused(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("needs the nested machine, which runs on amd64")
	}
	ok := []Command{{Args: []string{"/x"}}}
	for name, c := range map[string]Config{
		"no command":    {},
		"empty command": {Commands: []Command{{}}},
		"no memory":     {Commands: ok, Memory: 16},
		"negative":      {Commands: ok, CPUs: -1},
		"many CPUs":     {Commands: ok, CPUs: 65},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Run(context.Background(), c)
			require.ErrorContains(t, err, "nested machine: ")
		})
	}
}
