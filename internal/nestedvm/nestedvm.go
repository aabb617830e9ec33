// Package nestedvm runs commands, mostly Go test binaries, in a machine that has real KVM semantics whatever
// the host has: QEMU emulates a processor with AMD SVM (TCG, no /dev/kvm needed), a stock Debian kernel runs on
// it with its kvm-amd module, and so the commands find a true /dev/kvm on which stock kernels boot.
//
// The machine is made for one Run and lives in memory: its initramfs holds a static init of our own (package
// init, built with the Go tool at run time), the kernel modules and the caller's files. Output is streamed while
// the commands run; a virtio-serial port carries it (package wire).
//
// Times inside mean nothing as such: an instruction takes 10 to 40 ns and an exit to user space some 80 us.
// Ratios of two things measured in one run do.
package nestedvm

import (
	"context"
	"errors"
	"io"
	"time"
)

// Defaults of Config.
const (
	DefaultMemory = 2048 // MiB
	DefaultCPUs   = 2
	DefaultGrace  = 10 * time.Second

	// InstructionTime is what an instruction takes by the clock of a machine that counts them.
	InstructionTime = 16 * time.Nanosecond
)

// Config says what the machine has and what runs in it.
type Config struct {
	Memory int // MiB; 0 means DefaultMemory. A guest of n GiB in it needs about n+2 GiB
	CPUs   int // 0 means DefaultCPUs

	// Instructions makes the machine's clock count instructions instead of time, InstructionTime for each, all
	// processors in turn on one thread: what is timed inside is then the same on a busy host as on an idle one.
	// Waiting takes no real time. It is slower than a machine with a true clock.
	Instructions bool

	// Files is put into the machine before anything runs.
	Files []File
	// Modules names further kernel modules, as modprobe does, that are put with what they depend on into the
	// machine's /lib/modules/RELEASE, for guests in it. They are not loaded.
	Modules []string

	// Commands run one after the other, each to its end, whatever became of those before it.
	Commands []Command
	Env      []string // NAME=value for every command, after PATH, HOME=/root, TMPDIR=/tmp and XDG_RUNTIME_DIR
	// Stdout and Stderr take the output of commands that have no writer of their own; nil discards. They are
	// written to by one goroutine, while Run runs; an error of theirs ends Run.
	Stdout, Stderr io.Writer

	// Artifacts maps files and directories in the machine to where they go on the host after the last
	// command: a directory's content is merged into that directory. What does not exist is left out.
	Artifacts map[string]string
}

// File is a file or directory that is put into the machine. The zero value of Source makes Data the content.
type File struct {
	Source string // on the host; a directory goes in whole, symbolic links are kept in it and followed here
	Data   []byte
	Path   string // in the machine, absolute; missing directories are made
	Mode   uint32 // permission bits; 0 takes those of Source, or 0644
}

// Command is one command.
type Command struct {
	Args []string // Args[0] is a path in the machine
	Env  []string // added to Config.Env
	Dir  string   // working directory; made if missing; "" means /
	// Timeout, when not 0, bounds the command: its process group then gets SIGQUIT, by which a Go program
	// prints its goroutines, and SIGKILL after Grace (0 means DefaultGrace).
	Timeout, Grace time.Duration
	Stdout, Stderr io.Writer // nil: those of Config
	// Ended, when not nil, is called as soon as the command has ended and its output is written.
	Ended func(CommandResult)
}

// Result is what came of a Run.
type Result struct {
	Commands []CommandResult // of those that ended, in the order of Config.Commands
	Kernel   string          // release of the machine's kernel
	Boot     time.Duration   // from the start of QEMU to the machine being ready for the first command
	Console  string          // the end of what the machine's kernel said
}

// CommandResult is what came of one command.
type CommandResult struct {
	ExitCode int // as a shell says it: 128 + signal number when a signal ended it, 127 when it could not start
	TimedOut bool
	Elapsed  time.Duration
	Fault    string   // why it could not be started or waited for
	Left     []string // processes that were still there 3 s after its end, and were killed
}

// ExitCode returns the first exit code of a command that is not 0.
func (r Result) ExitCode() int {
	for _, c := range r.Commands {
		if c.ExitCode != 0 {
			return c.ExitCode
		}
	}
	return 0
}

// ErrHung is matched by the error of Run when the machine itself hung or died: its kernel or the emulator below it, not a
// command in it. The error is a *Hang, and the Result has the commands that had ended.
var ErrHung = errors.New("the nested machine hung")

// Hang says how a machine hung or died.
type Hang struct {
	What      string // what happened, and during what
	Registers string // where its processors were, if QEMU could still be asked
	Console   string // what its kernel said of it
}

// Error tells all of it.
func (h *Hang) Error() string {
	said := h.What
	if h.Registers != "" {
		said += "; its processors then:\n" + h.Registers
	}
	return said + "\nfrom its console:\n" + h.Console
}

// Is makes it match ErrHung.
func (h *Hang) Is(target error) bool { return target == ErrHung }

// Run makes the machine, runs the commands and ends the machine. Its error is about the machine or about ctx,
// never about the exit code of a command; with an error the Result holds what was known by then. When ctx ends
// the machine is killed. Nothing of it remains, whichever way Run ends, not even if the caller is killed.
func Run(ctx context.Context, cfg Config) (Result, error) {
	return run(ctx, cfg)
}

// Available says why Run cannot work on this host and what to do about it, or nil. The text begins with "needs
// the nested machine", as the reason of a skipped test should.
func Available() error {
	_, err := findHost()
	return err
}
