package kvm

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"

	"github.com/polyvisor/polyvisor"
)

// Isolation says in which process a virtual machine runs.
type Isolation string

// The ways to run a virtual machine.
const (
	// IsolationProcess gives each machine a process of its own that outlives
	// the program which started it.
	IsolationProcess Isolation = "process"
	// IsolationNone runs machines in the calling process; they end when the
	// connection is closed. For tests and for programs that embed the engine.
	IsolationNone Isolation = "none"
)

// Decompress says where a compressed kernel is unpacked.
type Decompress string

// The places.
const (
	// DecompressHost unpacks the vmlinux inside a bzImage on the host, once for
	// each kernel, and boots that: the quick way.
	DecompressHost Decompress = "host"
	// DecompressGuest boots the bzImage as it is and lets it unpack itself,
	// with kernel address space randomisation.
	DecompressGuest Decompress = "guest"
)

// Options configure Open. The zero value is kvm:///session.
type Options struct {
	// System chooses the machines of the whole host (kvm:///system) rather than
	// those of the user.
	System bool
	// StateDir holds definitions; by default $XDG_STATE_HOME/polyvisor, or
	// /var/lib/polyvisor for System.
	StateDir string
	// RunDir holds sockets and locks of active machines; by default
	// $XDG_RUNTIME_DIR/polyvisor, or /run/polyvisor for System.
	RunDir string
	// CacheDir holds unpacked kernels; by default $XDG_CACHE_HOME/polyvisor, or
	// /var/cache/polyvisor for System.
	CacheDir string
	// Isolation is IsolationProcess if empty.
	Isolation Isolation
	// Decompress is DecompressHost if empty.
	Decompress Decompress
	// VMM is the polyvisor-vmm program. If empty it is looked for beside the
	// calling program and in PATH; if it is in neither, the calling program
	// runs itself again.
	VMM string
	// Usernet is the polyvisor-usernet program, the helper of network user. If empty
	// it is looked for beside the calling program and in PATH; if it is in neither,
	// the calling program runs itself again if it imports the package usernet.
	Usernet string
	// Device is the KVM device, /dev/kvm if empty.
	Device string
	// Logger takes the log; nothing is logged if nil.
	Logger *slog.Logger
	// ReadOnly gives a connection that changes nothing.
	ReadOnly bool
}

// params are the parameters of a kvm URI.
var params = []string{"state", "run", "cache", "isolation", "decompress", "vmm", "usernet", "device"}

// parseOptions reads a kvm URI.
func parseOptions(u *polyvisor.URI, o polyvisor.OpenOptions) (Options, error) {
	opts := Options{
		StateDir: u.Param("state"), RunDir: u.Param("run"), CacheDir: u.Param("cache"),
		Isolation: Isolation(u.Param("isolation")), Decompress: Decompress(u.Param("decompress")),
		VMM: u.Param("vmm"), Usernet: u.Param("usernet"), Device: u.Param("device"), Logger: o.Logger, ReadOnly: o.ReadOnly,
	}
	switch u.Path {
	case "/session":
	case "/system":
		opts.System = true
	default:
		return opts, fmt.Errorf("%w: connection URI: path %q; want kvm:///session or kvm:///system", polyvisor.ErrInvalidConfig, u.Path)
	}
	return opts, nil
}

// uri gives the URI that leads to the same machines.
func (o Options) uri() *polyvisor.URI {
	u := &polyvisor.URI{Scheme: "kvm", Path: "/session", Query: make(map[string][]string)}
	if o.System {
		u.Path = "/system"
	}
	for name, value := range map[string]string{
		"state": o.StateDir, "run": o.RunDir, "cache": o.CacheDir, "isolation": string(o.Isolation),
		"decompress": string(o.Decompress), "vmm": o.VMM, "usernet": o.Usernet, "device": o.Device,
	} {
		if value != "" {
			u.Query.Set(name, value)
		}
	}
	return u
}

// withDefaults fills in what is empty and checks the rest.
func (o Options) withDefaults() (Options, error) {
	switch o.Isolation {
	case "":
		o.Isolation = IsolationProcess
	case IsolationProcess, IsolationNone:
	default:
		return o, fmt.Errorf("%w: isolation %q; want %s or %s", polyvisor.ErrInvalidConfig, o.Isolation, IsolationProcess, IsolationNone)
	}
	switch o.Decompress {
	case "":
		o.Decompress = DecompressHost
	case DecompressHost, DecompressGuest:
	default:
		return o, fmt.Errorf("%w: decompress %q; want %s or %s", polyvisor.ErrInvalidConfig, o.Decompress, DecompressHost, DecompressGuest)
	}
	if o.Device == "" {
		o.Device = "/dev/kvm"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	dirs, err := o.Directories()
	if err != nil {
		return o, err
	}
	o.StateDir, o.RunDir, o.CacheDir = dirs.State, dirs.Run, dirs.Cache
	return o, nil
}

// Directories are the absolute directories of a connection.
type Directories struct {
	// State holds definitions, Run sockets and locks of active machines, Cache
	// unpacked kernels; see Options.
	State, Run, Cache string
}

// Directories gives the directories that Open uses: those of the options, and
// the defaults for what is empty. It creates none.
func (o Options) Directories() (Directories, error) {
	dirs := Directories{State: o.StateDir, Run: o.RunDir, Cache: o.CacheDir}
	for _, d := range []struct {
		dir         *string
		system, env string
		home        string // under the home directory
	}{
		{&dirs.State, "/var/lib/polyvisor", "XDG_STATE_HOME", ".local/state"},
		{&dirs.Cache, "/var/cache/polyvisor", "XDG_CACHE_HOME", ".cache"},
		{&dirs.Run, "/run/polyvisor", "XDG_RUNTIME_DIR", ""},
	} {
		if *d.dir == "" {
			dir, err := defaultDir(o.System, d.system, d.env, d.home)
			if err != nil {
				return dirs, err
			}
			*d.dir = dir
		}
		if !filepath.IsAbs(*d.dir) {
			return dirs, fmt.Errorf("%w: directory %q: want an absolute path", polyvisor.ErrInvalidConfig, *d.dir)
		}
	}
	return dirs, nil
}

// DirectoriesOf gives the directories of a kvm URI.
func DirectoriesOf(u *polyvisor.URI) (Directories, error) {
	o, err := parseOptions(u, polyvisor.OpenOptions{})
	if err != nil {
		return Directories{}, err
	}
	return o.Directories()
}

// defaultDir follows the XDG base directory specification. A relative value of
// a variable is ignored, as it demands.
func defaultDir(system bool, systemDir, env, home string) (string, error) {
	if system {
		return systemDir, nil
	}
	if dir := os.Getenv(env); filepath.IsAbs(dir) {
		return filepath.Join(dir, "polyvisor"), nil
	}
	if home == "" {
		// Without a runtime directory of the login session, one that only this
		// user can have made; the store checks its owner and mode. Not below TMPDIR:
		// programs with different ones must find each other's machines.
		return filepath.Join("/tmp", "polyvisor-"+strconv.Itoa(os.Getuid())), nil
	}
	base, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("%w: no home directory for %s: %w; set %s or give the directory in the URI", polyvisor.ErrNotFound, home, err, env)
	}
	return filepath.Join(base, home, "polyvisor"), nil
}
