package leaktest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
)

// wakePoller makes the Go runtime open the epoll and event descriptors of its
// network poller, which it keeps for ever. Done before the first look, they
// need no exception, and a leaked eventfd of our own is still seen.
var wakePoller = sync.OnceFunc(func() {
	r, w, err := os.Pipe()
	if err != nil {
		return
	}
	r.Close()
	w.Close()
})

// openDescriptors maps each open descriptor to what /proc says it stands for.
func openDescriptors() map[int]string {
	wakePoller()
	const dir = "/proc/self/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		// Without /proc there is nothing to compare; say so rather than pass quietly.
		fmt.Fprintf(os.Stderr, "leaktest: descriptors are not checked: %v; mount /proc\n", err)
		return nil
	}
	open := make(map[int]string, len(entries))
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		target, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err != nil {
			continue // the descriptor of the listing itself, closed by now
		}
		open[fd] = target
	}
	return open
}
