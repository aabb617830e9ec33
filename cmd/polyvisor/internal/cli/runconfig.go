package cli

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/internal/doctor"
)

const (
	// auto is the value of --kernel for the newest kernel of the host, and of --initrd for what the host has for a kernel.
	auto = "auto"
	// serialCommandLine lets a kernel given by --kernel alone be seen.
	serialCommandLine = "console=ttyS0"
)

// runFlags are the flags of "run".
type runFlags struct {
	file, name, title, uuid string
	memory                  size
	vcpus                   int
	kernel, initrd, cmdline string
	consoleLog              string
	onPoweroff, onReboot    string
	onCrash                 string
	remove, detach          bool
	virtioConsole           bool
	devices                 deviceFlags
	timeout                 time.Duration
	tty                     bool
	named                   bool // the name is made up, the user must be told
}

func (f *runFlags) register(c *cobra.Command) {
	fl := c.Flags()
	fl.StringVarP(&f.file, "file", "f", "", "configuration in JSON or XML, - for standard input")
	fl.StringVarP(&f.name, "name", "n", "", "name of the domain")
	fl.StringVar(&f.title, "title", "", "title, free text for people")
	fl.StringVar(&f.uuid, "uuid", "", "UUID; a random one if none is given")
	fl.VarP(&f.memory, "memory", "m", "memory with its unit, such as 512MiB or 4GiB (default 256MiB)")
	fl.IntVar(&f.vcpus, "vcpus", 0, "number of virtual CPUs (default 1)")
	fl.StringVarP(&f.kernel, "kernel", "k", "", "Linux kernel, bzImage or ELF vmlinux; \"auto\" is the newest /boot/vmlinuz-*")
	fl.StringVarP(&f.initrd, "initrd", "i", "", "initial RAM disk; \"auto\" is what lies beside the kernel for it")
	fl.StringVarP(&f.cmdline, "cmdline", "a", "", "command line of the kernel (default \""+serialCommandLine+"\" with --kernel)")
	fl.StringVar(&f.consoleLog, "console-log", "", "file to which what the guest prints is appended")
	fl.BoolVar(&f.virtioConsole, "virtio-console", false, "make the guest's console a virtio console (hvc0), which knows the size of the terminal")
	fl.StringVar(&f.onPoweroff, "on-poweroff", "", "what follows when the guest powers off: destroy, restart, preserve or rename-restart (default destroy)")
	fl.StringVar(&f.onReboot, "on-reboot", "", "what follows when the guest reboots: destroy, restart, preserve or rename-restart (default destroy)")
	fl.StringVar(&f.onCrash, "on-crash", "", "what follows when the guest crashes: destroy, restart, preserve or rename-restart (default destroy)")
	f.devices.register(c)
	fl.BoolVar(&f.remove, "rm", false, "transient domain: gone when it stops")
	fl.DurationVar(&f.timeout, "timeout", 0, "end a command after -- that takes longer than this `time`, with its machine")
	fl.BoolVarP(&f.tty, "tty", "t", false, "run a command after -- on a terminal")
	fl.BoolVarP(&f.detach, "detach", "d", false, "start, print the name, and return")
	actions := cobra.FixedCompletions([]string{string(polyvisor.ActionDestroy), string(polyvisor.ActionRestart),
		string(polyvisor.ActionPreserve), string(polyvisor.ActionRenameRestart)}, cobra.ShellCompDirectiveNoFileComp)
	for _, name := range []string{"on-poweroff", "on-reboot", "on-crash"} {
		_ = c.RegisterFlagCompletionFunc(name, actions)
	}
}

// runConfig makes the configuration of a run: the file's, changed by the flags
// that were given.
func (a *app) runConfig(f *runFlags, file string, given func(flag string) bool) (*polyvisor.Config, error) {
	// In a configuration they would stand for the default.
	if given("memory") && f.memory == 0 {
		return nil, usage("--memory: a domain cannot run without memory; give a size such as 512MiB, or leave the flag out for 256MiB")
	}
	if given("vcpus") && f.vcpus == 0 {
		return nil, usage("--vcpus: a domain cannot run without a vCPU; give 1 or more, or leave the flag out for 1")
	}
	if file == "-" && isTerminal(a.stdin) {
		a.note("reading the configuration from this terminal; Ctrl-D ends it")
	}
	config := &polyvisor.Config{}
	if file != "" {
		in, err := a.readInput(file)
		if err != nil {
			return nil, err
		}
		if config, err = in.config(); err != nil {
			return nil, err
		}
	}
	fromFlags, err := f.devices.config()
	if err != nil {
		return nil, err
	}
	fromFlags.Boot.Kernel.Path, fromFlags.Boot.Initrd.Path, fromFlags.Console.Log = f.kernel, f.initrd, f.consoleLog
	if f.kernel == auto {
		kernel, err := doctor.NewestKernel(hostRoot)
		if err != nil {
			return nil, advise(err, "or name a kernel with --kernel PATH")
		}
		a.warnSoftware(kernel)
		fromFlags.Boot.Kernel.Path = kernel
	}
	if f.initrd == auto {
		kernel := fromFlags.Boot.Kernel.Path
		if kernel == "" {
			kernel = config.Boot.Kernel.Path
		}
		if kernel == "" {
			return nil, usage("--initrd auto: it takes a kernel whose it is; give --kernel auto or --kernel PATH too")
		}
		initrd, err := doctor.InitrdOf(kernel)
		if err != nil {
			return nil, advise(err, "name one with --initrd PATH, or make it with the distribution's tool, such as update-initramfs")
		}
		fromFlags.Boot.Initrd.Path = initrd
	}
	if err := absolute(fromFlags, "."); err != nil {
		return nil, err
	}
	if given("uuid") {
		id, err := uuid.Parse(f.uuid)
		if err != nil {
			return nil, usage("--uuid %q: %w", f.uuid, err)
		}
		config.UUID = id
	}
	config.Disks, config.NICs = append(config.Disks, fromFlags.Disks...), append(config.NICs, fromFlags.NICs...)
	for flag, set := range map[string]func(){
		"firmware":       func() { config.Boot.Firmware = fromFlags.Boot.Firmware },
		"rng":            func() { config.RNG = fromFlags.RNG },
		"name":           func() { config.Name = f.name },
		"title":          func() { config.Title = f.title },
		"memory":         func() { config.Memory = polyvisor.Bytes(f.memory) },
		"vcpus":          func() { config.VCPUs = f.vcpus },
		"kernel":         func() { config.Boot.Kernel = fromFlags.Boot.Kernel },
		"initrd":         func() { config.Boot.Initrd = fromFlags.Boot.Initrd },
		"cmdline":        func() { config.Boot.CommandLine = f.cmdline },
		"virtio-console": func() { config.Console.Virtio = f.virtioConsole },
		"console-log":    func() { config.Console.Log = fromFlags.Console.Log },
		"on-poweroff":    func() { config.OnPoweroff = polyvisor.Action(f.onPoweroff) },
		"on-reboot":      func() { config.OnReboot = polyvisor.Action(f.onReboot) },
		"on-crash":       func() { config.OnCrash = polyvisor.Action(f.onCrash) },
	} {
		if given(flag) {
			set()
		}
	}
	if given("kernel") && !given("cmdline") && config.Boot.CommandLine == "" {
		config.Boot.CommandLine = serialCommandLine
	}
	if config.OnReboot == "" {
		config.OnReboot = polyvisor.ActionDestroy
	}
	if config.Name == "" && !given("name") {
		config.Name, f.named = madeUpName(), true
	}
	return config, checkUsage(config)
}

// hostRoot is the directory that holds boot and sys of this host.
var hostRoot = "/"

// warnSoftware says that a kernel of a distribution hardly boots where KVM does
// without the CPU's help. It may nevertheless, so the run goes on.
func (a *app) warnSoftware(kernel string) {
	u, err := polyvisor.ParseURI(a.connectURI())
	if err != nil || u.Scheme != "kvm" || u.Remote() {
		return // refused later, or not this host's KVM
	}
	if kind := (doctor.Host{Root: hostRoot}).Software(); kind != "" {
		a.note("warning: KVM is of the kind %s here, which virtualizes in software: %s is unlikely to boot; \"polyvisor doctor\" tells more", kind, kernel)
	}
}

// checkUsage reports what is wrong with a configuration before anything is
// connected to.
func checkUsage(config *polyvisor.Config) error {
	if err := config.Validate(); err != nil {
		return usage("run: %w", err)
	}
	return nil
}

func madeUpName() string {
	b := make([]byte, 4)
	_, _ = rand.Read(b) // it never fails
	return "run-" + hex.EncodeToString(b)
}

// size is a flag for an amount of memory.
type size polyvisor.Bytes

func (s *size) String() string {
	if *s == 0 {
		return ""
	}
	return polyvisor.Bytes(*s).String()
}

func (s *size) Type() string { return "size" }

// Set refuses a small number without a unit, which was hardly meant in bytes.
func (s *size) Set(text string) error {
	b, err := polyvisor.ParseBytes(text)
	if err != nil {
		return err
	}
	if b < polyvisor.MiB && strings.Trim(text, "0123456789") == "" {
		return fmt.Errorf("%s alone means bytes; for MiB write %sMiB", text, text)
	}
	*s = size(b)
	return nil
}
