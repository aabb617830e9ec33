package netback

import (
	"encoding/json"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Serve runs a network on a socket of frames until the socket ends. It calls
// ready once everything is up.
type Serve func(cfg UserConfig, frames *os.File, ready func() error) error

// outcome is the helper's answer to a UserConfig.
type outcome struct {
	Ready bool   `json:"ready,omitempty"`
	Error string `json:"error,omitempty"`
	InUse bool   `json:"in_use,omitempty"` // a published port is taken
}

// MaybeMain makes the process a helper, and does not return, if StartUser
// started it as one. Otherwise it remembers that the program can be one. It is
// for the package usernet, whose init function calls it.
func MaybeMain(serve Serve) {
	stage, ok := os.LookupEnv(stageEnv)
	if !ok || len(os.Args) == 0 || os.Args[0] != ProgramName {
		linked = true
		return
	}
	err := fmt.Errorf("the value of %s, %q, is not one that this program gives", stageEnv, stage)
	switch stage {
	case stageOne:
		// Close-on-exec rather than closed: one of them may be the Go runtime's.
		if err = closeOnExec(); err == nil {
			os.Setenv(stageEnv, stageTwo)
			err = syscall.Exec(selfExe, os.Args, os.Environ())
		}
	case stageTwo:
		os.Unsetenv(stageEnv)
		err = help(serve)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", ProgramName, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func closeOnExec() error {
	if err := unix.CloseRange(fdOthers, ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC); err == nil {
		return nil
	}
	dir, err := os.Open("/proc/self/fd") // Linux before 5.11
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	for _, name := range names {
		var fd int
		if _, err := fmt.Sscan(name, &fd); err == nil && fd >= fdOthers {
			syscall.CloseOnExec(fd)
		}
	}
	return err
}

// help reads the configuration, serves, and answers when all is up or not.
func help(serve Serve) error {
	frames, control := os.NewFile(fdFrames, "frames"), os.NewFile(fdControl, "control")
	syscall.CloseOnExec(fdFrames)
	syscall.CloseOnExec(fdControl)
	var cfg UserConfig
	if err := json.NewDecoder(control).Decode(&cfg); err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	answered := false
	answer := func(o outcome) error {
		if answered {
			return nil
		}
		answered = true
		err := json.NewEncoder(control).Encode(o)
		control.Close()
		return err
	}
	err := cfg.Check()
	if err == nil {
		err = serve(cfg, frames, func() error { return answer(outcome{Ready: true}) })
	}
	if err != nil && !answered {
		return answer(outcome{Error: err.Error(), InUse: isInUse(err)})
	}
	return err
}
