package uri

import (
	"os"
	"os/user"
	"path/filepath"
)

// Env is what of the process the rules depend on. A test gives its own.
type Env struct {
	Getenv func(string) string
	EUID   int    // effective user id; negative where there are none
	Home   string // home directory, empty if not known
	User   string // login name, empty if not known
	// Etc is the root's configuration directory, "/etc".
	Etc string
	// SystemDir is where the system daemons have their sockets.
	SystemDir string
}

// HostEnv reads the environment of this process.
func HostEnv() Env {
	e := Env{Getenv: os.Getenv, EUID: os.Geteuid(), Etc: "/etc", SystemDir: SystemDir, User: os.Getenv("USER")}
	if home, err := os.UserHomeDir(); err == nil {
		e.Home = home
	}
	if u, err := user.Current(); err == nil {
		e.User = u.Username
		if e.Home == "" {
			e.Home = u.HomeDir
		}
	}
	return e
}

// xdg gives a directory of the XDG base directory specification.
func (e Env) xdg(variable, below string) string {
	if dir := e.Getenv(variable); filepath.IsAbs(dir) {
		return dir
	}
	return filepath.Join(e.Home, below)
}

// RuntimeDir is where a user's daemons have their sockets.
func (e Env) RuntimeDir() string {
	if dir := e.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "libvirt")
	}
	return filepath.Join(e.xdg("XDG_CACHE_HOME", ".cache"), "libvirt")
}

// UserConfigDir is the user's own configuration directory.
func (e Env) UserConfigDir() string {
	return filepath.Join(e.xdg("XDG_CONFIG_HOME", ".config"), "libvirt")
}

// ConfigFile is the client configuration: one for root, one for each user.
func (e Env) ConfigFile() string {
	if e.EUID == 0 {
		return filepath.Join(e.Etc, "libvirt", "libvirt.conf")
	}
	return filepath.Join(e.UserConfigDir(), "libvirt.conf")
}
