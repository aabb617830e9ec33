//go:build linux

package guest

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/polyvisor/polyvisor/internal/agent/proto"
)

// defaultPath is where programs are looked for if the command's environment does not say.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// command is a command that is about to start.
type command struct {
	path     string
	args     []string
	env      []string
	dir      string
	who      *identity
	files    [3]*os.File
	terminal bool
	opened   []*os.File // the child's ends
}

func (c *command) closeChild() {
	for _, f := range c.opened {
		_ = f.Close()
	}
	c.opened = nil
}

// command makes one of a request.
func (s *Server) command(e *proto.Exec) (*command, error) {
	c := &command{dir: string(e.Dir)}
	for _, b := range append(append([][]byte{e.Path, e.Dir, e.User}, e.Args...), e.Env...) {
		if bytes.IndexByte(b, 0) >= 0 {
			return nil, proto.Fail(proto.FailInvalid, "%q has a zero byte", b)
		}
	}
	if len(e.Args) == 0 {
		return nil, proto.Fail(proto.FailInvalid, "a command without a name")
	}
	for _, a := range e.Args {
		c.args = append(c.args, string(a))
	}
	who, err := identify("/", string(e.User))
	if err != nil {
		return nil, err
	}
	c.who = who
	env := map[string]string{"PATH": defaultPath, "HOME": who.home, "USER": who.name, "LOGNAME": who.name}
	order := []string{"PATH", "HOME", "USER", "LOGNAME"}
	if e.TTY != nil {
		env["TERM"] = "xterm"
		order = append(order, "TERM")
	}
	for _, b := range e.Env {
		name, value, ok := strings.Cut(string(b), "=")
		if !ok || name == "" {
			return nil, proto.Fail(proto.FailInvalid, "environment: %q is not NAME=VALUE", b)
		}
		if _, has := env[name]; !has {
			order = append(order, name)
		}
		env[name] = value
	}
	for _, name := range order {
		c.env = append(c.env, name+"="+env[name])
	}
	if c.dir == "" {
		c.dir = "/"
		if fi, err := os.Stat(who.home); err == nil && fi.IsDir() {
			c.dir = who.home
		}
	}
	if fi, err := os.Stat(c.dir); err != nil || !fi.IsDir() {
		if err == nil {
			err = &fs.PathError{Op: "chdir", Path: c.dir, Err: syscall.ENOTDIR}
		}
		return nil, fmt.Errorf("working directory: %w", err)
	}
	name := string(e.Path)
	if name == "" {
		name = c.args[0]
	}
	c.path, err = find(name, c.dir, env["PATH"])
	return c, err
}

// find looks for a program as a shell does.
func find(name, dir, path string) (string, error) {
	if name == "" {
		return "", proto.Fail(proto.FailInvalid, "a command without a name")
	}
	if strings.Contains(name, "/") {
		// The command starts in its directory.
		full := name
		if !filepath.IsAbs(name) {
			full = filepath.Join(dir, name)
		}
		return name, executable(full)
	}
	var denied error
	for _, d := range filepath.SplitList(path) {
		if !filepath.IsAbs(d) {
			continue // as os/exec: not what lies in a directory that happens to be the current one
		}
		full := filepath.Join(d, name)
		err := executable(full)
		if err == nil {
			return full, nil
		}
		if os.IsPermission(err) && denied == nil {
			denied = err
		}
	}
	if denied != nil {
		return "", denied
	}
	return "", proto.Fail(proto.FailNotFound, "no program %q in the guest's PATH %s", name, path)
}

func executable(path string) error {
	fi, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case fi.IsDir():
		return &fs.PathError{Op: "exec", Path: path, Err: syscall.EACCES}
	case fi.Mode()&0o111 == 0:
		return &fs.PathError{Op: "exec", Path: path, Err: syscall.EACCES}
	}
	return nil
}
