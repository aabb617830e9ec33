//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/polyvisor/polyvisor/internal/nestedvm/wire"
)

const (
	// pipeGrace bounds the wait for the end of output after a command's end, when a child of it holds the pipe.
	pipeGrace = 3 * time.Second
	// leftGrace is the time that processes started by a command have to end after it.
	leftGrace = 3 * time.Second
)

// runCommand runs c to its end and clears away what it leaves running.
func runCommand(w *wire.Writer, index int, c wire.Command, env []string) wire.Exit {
	exit := wire.Exit{Index: index}
	cmd := exec.Command(c.Args[0], c.Args[1:]...)
	cmd.Env = append(append([]string{}, env...), c.Env...)
	cmd.Dir = c.Dir
	cmd.Stdout = wire.Stream{W: w, Kind: wire.KindStdout}
	cmd.Stderr = wire.Stream{W: w, Kind: wire.KindStderr}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = pipeGrace
	start := time.Now()
	if err := cmd.Start(); err != nil {
		exit.Code, exit.Fault = 127, err.Error()
		return exit
	}
	stop := enforce(cmd.Process.Pid, c)
	err := cmd.Wait()
	exit.TimedOut = stop()
	exit.Elapsed = time.Since(start)
	ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	switch {
	case !ok:
		exit.Code, exit.Fault = 126, fmt.Sprintf("no exit status: %v", err)
	case ws.Signaled():
		exit.Code = 128 + int(ws.Signal())
	default:
		exit.Code = ws.ExitStatus()
	}
	// ErrWaitDelay means that a child kept the output open: clearLeft names and ends it.
	var ee *exec.ExitError
	if err != nil && !errors.As(err, &ee) && !errors.Is(err, exec.ErrWaitDelay) {
		exit.Fault = err.Error()
	}
	exit.Left = clearLeft()
	return exit
}

// enforce asks the command's process group for a stack dump when its time is over, and kills the group after
// the grace. The function returned ends the watch and says whether the time was over.
func enforce(pid int, c wire.Command) func() bool {
	if c.Timeout <= 0 {
		return func() bool { return false }
	}
	ended, result := make(chan struct{}), make(chan bool)
	go func() {
		t := time.NewTimer(c.Timeout)
		defer t.Stop()
		select {
		case <-ended:
			result <- false
			return
		case <-t.C:
		}
		_ = syscall.Kill(-pid, syscall.SIGQUIT)
		t.Reset(c.Grace)
		select {
		case <-ended:
		case <-t.C:
			_ = syscall.Kill(-pid, syscall.SIGKILL)
			<-ended
		}
		result <- true
	}()
	return func() bool {
		close(ended)
		return <-result
	}
}

// clearLeft waits for the processes of ended commands, kills those that stay and names them.
func clearLeft() []string {
	left := userProcesses()
	for deadline := time.Now().Add(leftGrace); len(left) > 0 && time.Now().Before(deadline); left = userProcesses() {
		time.Sleep(20 * time.Millisecond)
	}
	var names []string
	for pid, name := range left {
		names = append(names, fmt.Sprintf("%d: %s", pid, name))
	}
	// Killing may let others be born (a supervisor that restarts); so until none is left, but not for ever.
	for i := 0; len(left) > 0 && i < 100; i++ {
		for pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(10 * time.Millisecond)
		left = userProcesses()
	}
	return names
}

// userProcesses maps the ids of all living processes but init, the agent and the kernel's own to their command lines.
func userProcesses() map[int]string {
	found := map[int]string{}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == 1 || pid == os.Getpid() {
			continue
		}
		args, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil || len(args) == 0 { // gone, a zombie, or the kernel's
			continue
		}
		found[pid] = strings.TrimSpace(strings.ReplaceAll(string(args), "\x00", " "))
	}
	return found
}
