//go:build linux && amd64

package kvm_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	_ "github.com/polyvisor/polyvisor/drivers/kvm/usernet"
	"github.com/polyvisor/polyvisor/internal/leaktest"
	"github.com/polyvisor/polyvisor/internal/vmmtest"
)

// roleEnv makes the test binary one of the other programs of a test. What it is
// to do comes as arguments; what it prints is for the test to read.
const roleEnv = "POLYVISOR_KVM_TEST_ROLE"

// roles are the other programs. An error ends the program with 1 and is printed
// as the last line.
var roles = map[string]func(args []string) error{}

func TestMain(m *testing.M) {
	if name := os.Getenv(roleEnv); name != "" {
		role := roles[name]
		if role == nil {
			fmt.Println("unknown role", name)
			os.Exit(2)
		}
		if err := role(os.Args[1:]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0") // for VM processes that are this program again
	os.Exit(withVMM(func() int { return leaktest.Run(m) }))
}

// withVMM runs the tests with VM processes that were not built for the race
// detector, which would start and end several times as slowly. The code that they run
// is run with it where machines are in this process, in the tests of package vmmproc and
// in TestRunsItself.
func withVMM(tests func() int) int {
	dir, err := os.MkdirTemp("", "pv")
	if err == nil {
		defer os.RemoveAll(dir)
		_, err = vmmtest.Build(context.Background(), dir)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	path = os.Getenv("PATH")
	os.Setenv("PATH", dir+string(os.PathListSeparator)+path)
	return tests()
}

// path is the search path without the VM process.
var path string

// program is a test binary in a role.
type program struct {
	*exec.Cmd
	out *bufio.Reader
	in  io.WriteCloser
}

// startRole starts a program that is killed with the test at the latest.
func startRole(t testing.TB, name string, attr *syscall.SysProcAttr, args ...string) *program {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	p := &program{Cmd: exec.CommandContext(ctx, "/proc/self/exe", args...)}
	p.Env = append(os.Environ(), roleEnv+"="+name)
	p.Stderr = os.Stderr
	p.SysProcAttr = attr
	out, err := p.StdoutPipe()
	require.NoError(t, err)
	p.out = bufio.NewReader(out)
	p.in, err = p.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, p.Start())
	t.Cleanup(func() {
		cancel()
		_ = p.Wait() // it may have been waited for
	})
	return p
}

// line gives the next line that the program prints.
func (p *program) line(t testing.TB) string {
	t.Helper()
	s, err := p.out.ReadString('\n')
	require.NoError(t, err, "the program said %q", s)
	return strings.TrimSpace(s)
}

// rest gives all that the program still prints, and its exit code.
func (p *program) rest(t testing.TB) (string, int) {
	t.Helper()
	b, err := io.ReadAll(p.out)
	require.NoError(t, err)
	_ = p.Wait()
	return strings.TrimSpace(string(b)), p.ProcessState.ExitCode()
}

// kill -9.
func (p *program) kill() {
	_ = p.Process.Kill()
	_ = p.Wait()
}
