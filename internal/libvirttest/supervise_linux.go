package libvirttest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The supervisor is this program itself, so that any test binary has it at hand.
func init() {
	if os.Getenv(superviseVariable) != "" {
		runtime.LockOSThread() // capabilities belong to threads
		os.Exit(supervise())
	}
}

// supervise is the first process of a process namespace: it starts and signals programs as told, tells of their ends,
// and lets go of processes whose parents are gone, without which libvirt would wait for ended machines.
func supervise() int {
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	in, out := json.NewDecoder(bufio.NewReader(os.Stdin)), json.NewEncoder(os.Stdout)
	var s setup
	if err := in.Decode(&s); err != nil {
		return 1
	}
	err := s.apply()
	if err != nil {
		_ = out.Encode(event{Error: err.Error(), Denied: errors.Is(err, os.ErrPermission)})
		return 1
	}
	_ = out.Encode(event{})

	requests := make(chan request)
	go func() {
		defer close(requests)
		for {
			var r request
			if in.Decode(&r) != nil {
				return
			}
			requests <- r
		}
	}()
	running := map[int]string{}
	for {
		select {
		case r, ok := <-requests:
			if !ok {
				cleanUp(s.Root)
				return 0
			}
			if r.Start != nil {
				pid, err := r.Start.run()
				if err != nil {
					_ = out.Encode(event{Name: r.Name, Error: err.Error()})
					continue
				}
				running[pid] = r.Name
				_ = out.Encode(event{Name: r.Name})
				continue
			}
			for pid, name := range running {
				if name == r.Name {
					send(pid, unix.Signal(r.Signal))
				}
			}
			_ = out.Encode(event{Name: r.Name, Signal: true})
		case <-children:
			for {
				var status unix.WaitStatus
				pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
				if errors.Is(err, unix.EINTR) {
					continue
				}
				if err != nil || pid <= 0 {
					break
				}
				if name, ok := running[pid]; ok {
					delete(running, pid)
					_ = out.Encode(event{Name: name, Exit: describe(status)})
				}
			}
		}
	}
}

// send signals a process; one that is frozen has stopped in all its threads when send returns.
func send(pid int, sig unix.Signal) {
	_ = unix.Kill(pid, sig)
	if sig != unix.SIGSTOP {
		return
	}
	for range 10_000 { // ten seconds
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		_, state, found := strings.Cut(string(stat), ") ") // the state follows the name
		if err != nil || !found || strings.ContainsAny(state[:1], "TZX") {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// cleanUp ends all other processes of the namespace, lest they write any more, and removes their files: whoever would
// have done so is gone.
func cleanUp(root string) {
	_ = unix.Kill(-1, unix.SIGKILL)
	for {
		if _, err := unix.Wait4(-1, nil, 0, nil); err != nil && !errors.Is(err, unix.EINTR) {
			break
		}
	}
	_ = os.RemoveAll(root)
}

func describe(s unix.WaitStatus) string {
	if s.Signaled() {
		return s.Signal().String()
	}
	return fmt.Sprintf("exit code %d", s.ExitStatus())
}

// run starts the program. It is not os/exec's, since that waits for its children itself.
func (p *program) run() (pid int, err error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	pid, err = syscall.ForkExec(p.Path, append([]string{p.Path}, p.Args...), &syscall.ProcAttr{
		Dir: "/", Env: p.Env, Files: []uintptr{null.Fd(), log.Fd(), log.Fd()}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return 0, &os.PathError{Op: "start", Path: p.Path, Err: err}
	}
	return pid, nil
}

// apply makes the mounts. They are seen in this namespace alone.
func (s *setup) apply() error {
	if err := mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE); err != nil {
		return err
	}
	if err := mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC); err != nil {
		return err
	}
	for _, dir := range s.Tmpfs {
		if err := mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV); err != nil {
			return err
		}
	}
	for _, dir := range s.Dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	for _, b := range s.Binds {
		if err := mount(b.From, b.At, "", unix.MS_BIND); err != nil {
			return err
		}
		if !b.ReadOnly {
			continue
		}
		if err := mount("none", b.At, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY); err != nil {
			return err
		}
	}
	// Whoever is not root has been lent the right to mount, and gives it back.
	return os.NewSyscallError("prctl", unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
}

func mount(source, target, kind string, flags uintptr) error {
	if err := unix.Mount(source, target, kind, flags, ""); err != nil {
		return &os.PathError{Op: "mount " + source + " on", Path: target, Err: err}
	}
	return nil
}
