//go:build linux

package guest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// groups are the control groups of commands, below the agent's own. The zero value finds
// out whether there are any.
type groups struct {
	mu   sync.Mutex
	once sync.Once
	own  string // the directory of the agent's group; empty if there are none
	made int
	left []string // groups in which something went on after the end of the command
}

// group is that of one command.
type group struct {
	path string
	dir  *os.File
}

const groupsDir = "/sys/fs/cgroup"

func (g *groups) find() {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		if own, ok := strings.CutPrefix(line, "0::"); ok {
			dir := filepath.Join(groupsDir, own)
			if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err == nil {
				g.own = dir
			}
		}
	}
}

// add makes a group; nil if that cannot be done.
func (g *groups) add() *group {
	g.once.Do(g.find)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.own == "" {
		return nil
	}
	var path string
	for try := 0; ; try++ { // an agent before this one may have left some
		g.made++
		path = filepath.Join(g.own, fmt.Sprintf("polyvisor-exec-%d", g.made))
		err := os.Mkdir(path, 0o755)
		if err == nil {
			break
		}
		if !os.IsExist(err) || try == 1000 {
			return nil
		}
	}
	dir, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		_ = os.Remove(path)
		return nil
	}
	return &group{path, dir}
}

// kill ends every process in the group, also those that are being made.
func (g *group) kill() {
	_ = os.WriteFile(filepath.Join(g.path, "cgroup.kill"), []byte("1"), 0)
}

// remove takes the group away once nothing is in it, and others that had to wait for
// that.
func (g *groups) remove(of *group) {
	_ = of.dir.Close()
	g.mu.Lock()
	defer g.mu.Unlock()
	var left []string
	for _, path := range append(g.left, of.path) {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			left = append(left, path)
		}
	}
	g.left = left
}
