package leaktest

import (
	"fmt"
	"slices"
)

// newDescriptors names the descriptors of after that are not in before, or
// that stand for something else than they did then.
func newDescriptors(before, after map[int]string) []string {
	var fds []int
	for fd, target := range after {
		was, known := before[fd]
		// A file that was removed while open keeps its descriptor and gains a suffix.
		if known && (was == target || was+" (deleted)" == target) {
			continue
		}
		fds = append(fds, fd)
	}
	slices.Sort(fds)
	var names []string
	for _, fd := range fds {
		name := fmt.Sprintf("fd %d -> %s", fd, after[fd])
		if was, known := before[fd]; known {
			name += fmt.Sprintf(" (before the tests: %s)", was)
		}
		names = append(names, name)
	}
	return names
}
