//go:build linux && amd64

package kvm_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/boot/guest"
)

// Patience with what takes milliseconds on a quiet machine. No test passes or
// fails by a time; this is when one gives up.
const patience = 3 * time.Minute

func needKVM(t testing.TB) {
	t.Helper()
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("needs /dev/kvm: %v", err)
	}
	f.Close()
}

func patiently(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// place is the directories of one URI, and where its machines run.
type place struct{ dir, isolation string }

const (
	process = "process"
	none    = "none"
)

// inEach runs a test with machines in processes of their own and in this one.
func inEach(t *testing.T, f func(t *testing.T, p place)) {
	needKVM(t)
	for _, isolation := range []string{process, none} {
		t.Run(isolation, func(t *testing.T) { f(t, newPlace(t, isolation)) })
	}
}

// newPlace makes empty directories. VM processes that a failed test left in them
// are killed.
func newPlace(t testing.TB, isolation string) place {
	needKVM(t)
	p := place{t.TempDir(), isolation}
	t.Cleanup(func() {
		for _, pid := range p.vmPIDs() {
			if pid != os.Getpid() {
				t.Errorf("VM process %d outlived the test", pid)
				_ = unix.Kill(pid, unix.SIGKILL)
				awaitDead(t, pid)
			}
		}
		if t.Failed() {
			logs, _ := filepath.Glob(filepath.Join(p.dir, "state/domains/*/vmm.log"))
			for _, l := range logs {
				if b, err := os.ReadFile(l); err == nil && len(b) > 0 {
					t.Logf("%s:\n%s", l, b)
				}
			}
		}
	})
	return p
}

func (p place) uri(params ...string) string {
	q := url.Values{
		"state": {p.dir + "/state"}, "run": {p.dir + "/run"}, "cache": {p.dir + "/cache"}, "isolation": {p.isolation},
	}
	for i := 0; i < len(params); i += 2 {
		q.Set(params[i], params[i+1])
	}
	return "kvm:///session?" + q.Encode()
}

func (p place) open(t testing.TB, opts ...polyvisor.Option) *polyvisor.Conn {
	t.Helper()
	c, err := polyvisor.Open(patiently(t), p.uri(), opts...)
	require.NoError(t, err)
	t.Cleanup(func() {
		removeAll(t, c)
		require.NoError(t, c.Close())
	})
	return c
}

// removeAll is for tests that end early.
func removeAll(t testing.TB, c *polyvisor.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	doms, err := c.Domains(ctx, polyvisor.DomainFilter{})
	if c.IsReadOnly() || polyvisor.CodeOf(err) == polyvisor.CodeClosed {
		return
	}
	require.NoError(t, err)
	for _, d := range doms {
		if err := d.Remove(ctx); err != nil && polyvisor.CodeOf(err) != polyvisor.CodeNotFound && polyvisor.CodeOf(err) != polyvisor.CodeInvalidState {
			t.Errorf("remove %s: %v", d.Name(), err)
		}
	}
}

// config is a domain with the built-in guest.
func config(name, cmdline string) *polyvisor.Config {
	return &polyvisor.Config{Name: name, Memory: 32 * polyvisor.MiB, Boot: polyvisor.Boot{CommandLine: cmdline}}
}

func define(t testing.TB, c *polyvisor.Conn, cfg *polyvisor.Config) *polyvisor.Domain {
	t.Helper()
	d, err := c.Define(patiently(t), cfg)
	require.NoError(t, err)
	return d
}

func create(t testing.TB, c *polyvisor.Conn, cfg *polyvisor.Config) *polyvisor.Domain {
	t.Helper()
	d, err := c.Create(patiently(t), cfg)
	require.NoError(t, err)
	return d
}

// started defines and starts a domain.
func started(t testing.TB, c *polyvisor.Conn, cfg *polyvisor.Config) *polyvisor.Domain {
	t.Helper()
	d := define(t, c, cfg)
	require.NoError(t, d.Start(patiently(t)))
	return d
}

func state(t testing.TB, d *polyvisor.Domain) polyvisor.State {
	t.Helper()
	s, err := d.State(patiently(t))
	require.NoError(t, err)
	return s
}

func info(t testing.TB, d *polyvisor.Domain) polyvisor.Info {
	t.Helper()
	i, err := d.Info(patiently(t))
	require.NoError(t, err)
	return i
}

func wait(t testing.TB, d *polyvisor.Domain) polyvisor.Stop {
	t.Helper()
	s, err := d.Wait(patiently(t))
	require.NoError(t, err)
	return s
}

// requireCode fails unless err is an *Error of the class, and its text has the
// words.
func requireCode(t testing.TB, err error, class error, words ...string) {
	t.Helper()
	require.ErrorIs(t, err, class)
	var e *polyvisor.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, polyvisor.CodeOf(class), polyvisor.CodeOf(err), "%v", err)
	require.NotContains(t, err.Error(), "\n", "an error is one line")
	for _, w := range words {
		require.ErrorContains(t, err, w)
	}
}

// terminal reads a console all the time.
type terminal struct {
	rwc  io.ReadWriteCloser
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{} // closed and renewed when there is more, closed for good at the end
	err  error
	end  chan struct{}
}

func console(t testing.TB, d *polyvisor.Domain) *terminal {
	t.Helper()
	rwc, err := d.Console(patiently(t), polyvisor.ConsoleOptions{})
	require.NoError(t, err)
	return newTerminal(t, rwc)
}

func newTerminal(t testing.TB, rwc io.ReadWriteCloser) *terminal {
	c := &terminal{rwc: rwc, more: make(chan struct{}), end: make(chan struct{})}
	go func() {
		defer close(c.end)
		buf := make([]byte, 4096)
		for {
			n, err := rwc.Read(buf)
			c.mu.Lock()
			c.text.Write(buf[:n])
			c.err = err
			close(c.more)
			c.more = make(chan struct{})
			c.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(c.close)
	return c
}

func (c *terminal) close() {
	_ = c.rwc.Close()
	<-c.end
}

func (c *terminal) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}

// await waits until the guest has printed the text n times.
func (c *terminal) await(t testing.TB, text string, n int) {
	t.Helper()
	limit := time.After(patience)
	for {
		c.mu.Lock()
		s, more, err := c.text.String(), c.more, c.err
		c.mu.Unlock()
		if strings.Count(s, text) >= n {
			return
		}
		require.NoError(t, err, "waiting for %q; the console said:\n%s", text, s)
		select {
		case <-more:
		case <-limit:
			require.FailNow(t, "timeout", "waiting for %q; the console said:\n%s", text, s)
		}
	}
}

// answer types a command and gives the text that follows its echo, up to the next
// prompt.
func (c *terminal) answer(t testing.TB, command string) string {
	t.Helper()
	c.mu.Lock()
	n := strings.Count(c.text.String(), guest.Prompt)
	from := c.text.Len()
	c.mu.Unlock()
	c.write(t, command)
	c.await(t, guest.Prompt, n+1)
	s := c.String()[from:]
	s = s[:strings.LastIndex(s, guest.Prompt)]
	_, after, ok := strings.Cut(s, command)
	require.True(t, ok, "no echo of %q in %q", command, s)
	return strings.TrimSpace(after)
}

func (c *terminal) write(t testing.TB, command string) {
	t.Helper()
	_, err := io.WriteString(c.rwc, command+"\n")
	require.NoError(t, err)
}

// ready waits for the first prompt of the built-in guest.
func (c *terminal) ready(t testing.TB) { t.Helper(); c.await(t, guest.Prompt, 1) }

// vmPIDs gives the processes that run.json files name and that live.
func (p place) vmPIDs() []int {
	var pids []int
	files, _ := filepath.Glob(p.dir + "/run/*/run.json")
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		var r struct{ PID int }
		if json.Unmarshal(b, &r) == nil && lives(r.PID) {
			pids = append(pids, r.PID)
		}
	}
	return pids
}

// vmPID gives the VM process of the only domain that is active.
func (p place) vmPID(t testing.TB) int {
	t.Helper()
	pids := p.vmPIDs()
	require.Len(t, pids, 1)
	return pids[0]
}

// lives tells whether a process exists and is no zombie. One whose first thread is
// a zombie lives as long as it has others: they hold its files.
func lives(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	return f[0] != "Z" && f[0] != "X" || f[17] != "1"
}

func awaitDead(t testing.TB, pid int) {
	t.Helper()
	eventually(t, func() bool { return !lives(pid) }, "process %d is still there", pid)
}

// hang stops a process, and returns when none of its threads runs any more, which
// is a moment after the signal.
func hang(t testing.TB, pid int) {
	t.Helper()
	require.NoError(t, unix.Kill(pid, unix.SIGSTOP))
	eventually(t, func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		require.NoError(t, err)
		return len(threads) > 0 && !slices.ContainsFunc(threads, func(name string) bool {
			b, err := os.ReadFile(name)
			_, rest, _ := strings.Cut(string(b), ") ")
			return err != nil || !strings.HasPrefix(rest, "T")
		})
	}, "process %d does not stop", pid)
}

func eventually(t testing.TB, done func() bool, format string, args ...any) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			require.FailNow(t, fmt.Sprintf(format, args...))
		}
	}
}

// tree lists all files below the directories, without the counter of IDs and the
// one file for all locks.
func (p place) tree(t testing.TB) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(p.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch rel, _ := filepath.Rel(p.dir, path); rel {
		case "run/last-id", "state/lock":
		default:
			list = append(list, rel)
		}
		return nil
	})
	require.NoError(t, err)
	return list
}

// use is what this process holds.
type use struct {
	fds, threads int
	children     []string
}

// inUse counts the descriptors and threads of this process and lists its
// children.
func inUse(t testing.TB) use {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	tasks, err := os.ReadDir("/proc/self/task")
	require.NoError(t, err)
	u := use{fds: len(fds), threads: len(tasks)}
	for _, task := range tasks {
		b, _ := os.ReadFile("/proc/self/task/" + task.Name() + "/children")
		u.children = append(u.children, strings.Fields(string(b))...)
	}
	slices.Sort(u.children)
	return u
}

// vcpuThreads counts the vCPU threads of this process. Each is a goroutine that
// is locked to its thread.
func vcpuThreads() int { return goroutinesWith("(*VCPU).thread(") }

func goroutinesWith(text string) int {
	buf := make([]byte, 4<<20)
	return strings.Count(string(buf[:runtime.Stack(buf, true)]), text)
}

func itoa(i int) string { return strconv.Itoa(i) }

// victimID gives the ID of the domain whose VM process it is.
func victimID(t testing.TB, p place, pid int) int {
	t.Helper()
	files, err := filepath.Glob(p.dir + "/run/*/run.json")
	require.NoError(t, err)
	for _, f := range files {
		b, err := os.ReadFile(f)
		require.NoError(t, err)
		var r struct{ PID, ID int }
		require.NoError(t, json.Unmarshal(b, &r))
		if r.PID == pid {
			return r.ID
		}
	}
	require.Fail(t, "no run of that process")
	return 0
}
