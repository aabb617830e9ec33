package leaktest

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
)

// childEnv makes this binary run one deliberate leak under Main.
const childEnv = "LEAKTEST_CHILD"

func TestMain(m *testing.M) { Main(m) }

// kept holds what the child leaks, so that no finaliser tidies it up.
var kept []any

func TestChild(t *testing.T) {
	switch os.Getenv(childEnv) {
	case "":
		t.Skip("runs only in the child of TestMainReports")
	case "clean":
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	case "late":
		// Ends on its own soon after the tests: not a leak.
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			time.Sleep(50 * time.Millisecond)
			f.Close()
		}()
	case "goroutine":
		go leakyGoroutine(make(chan int))
	case "file":
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, f)
	case "socket":
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, l)
	case "failure":
		go leakyGoroutine(make(chan int))
		t.Fatal("fails on purpose")
	}
}

func leakyGoroutine(c chan int) { <-c }

func TestMainReports(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		leak      string
		wantCode  int
		want, not string
		linux     bool
	}{
		{leak: "clean", not: "leaktest:"},
		{leak: "late", not: "leaktest:"},
		{leak: "goroutine", wantCode: 1, want: "leakyGoroutine", not: "file descriptor"},
		{leak: "file", wantCode: 1, want: "-> " + os.DevNull, not: "goroutines outlived", linux: true},
		{leak: "socket", wantCode: 1, want: "-> socket:[", not: "goroutines outlived", linux: true},
		{leak: "failure", wantCode: 1, want: "fails on purpose", not: "leaktest:"},
	} {
		t.Run(tc.leak, func(t *testing.T) {
			if tc.linux && runtime.GOOS != "linux" {
				t.Skip("descriptors are compared on Linux only")
			}
			cmd := exec.Command(exe, "-test.run=^TestChild$", "-test.timeout=60s")
			cmd.Env = append(os.Environ(), childEnv+"="+tc.leak)
			out, err := cmd.CombinedOutput()
			if cmd.ProcessState == nil {
				t.Fatal(err)
			}
			if code := cmd.ProcessState.ExitCode(); code != tc.wantCode {
				t.Errorf("exit code %d, want %d", code, tc.wantCode)
			}
			if !strings.Contains(string(out), tc.want) {
				t.Errorf("output does not name %q", tc.want)
			}
			if tc.not != "" && strings.Contains(string(out), tc.not) {
				t.Errorf("output names %q", tc.not)
			}
			if t.Failed() {
				t.Logf("output:\n%s", out)
			}
		})
	}
}

func TestNewDescriptors(t *testing.T) {
	before := map[int]string{0: "/dev/null", 3: "/tmp/a", 4: "pipe:[1]", 5: "/gone"}
	after := map[int]string{0: "/dev/null", 3: "/tmp/a (deleted)", 4: "pipe:[2]", 12: "anon_inode:[eventfd]", 7: "/x"}
	got := strings.Join(newDescriptors(before, after), "\n")
	want := "fd 4 -> pipe:[2] (before the tests: pipe:[1])\nfd 7 -> /x\nfd 12 -> anon_inode:[eventfd]"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestRunKeepsTheExitCode(t *testing.T) {
	var out bytes.Buffer
	if code := run(func() int { return 7 }, &out); code != 7 || out.Len() != 0 {
		t.Errorf("run = %d, output %q; want 7 and none", code, out.String())
	}
}
