package doctor

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor"
)

// lowMemory is how much available memory leaves little room for guests.
const lowMemory = 512 * polyvisor.MiB

// devices checks the devices that only some machines need.
func (h Host) devices() []Check {
	var checks []Check
	for _, d := range []struct{ name, path, module, use string }{
		{"tun", "/dev/net/tun", "tun", "networks of guests through tap devices"},
		{"vhost-net", "/dev/vhost-net", "vhost_net", "guest networking in the host's kernel"},
		{"vhost-vsock", "/dev/vhost-vsock", "vhost_vsock", "sockets between host and guest"},
	} {
		err := h.open(h.path(d.path))
		switch {
		case err == nil:
			checks = append(checks, ok(d.name, d.path+" can be opened"))
		case errors.Is(err, fs.ErrPermission):
			checks = append(checks, warn(d.name, fmt.Sprintf("%s may not be opened by this user", d.path),
				fmt.Sprintf("needed for %s only: run as root, or give your group access by a udev rule", d.use)))
		default:
			checks = append(checks, missing(d.name, fmt.Sprintf("%s: %v", d.path, cause(err)),
				fmt.Sprintf("needed for %s only: sudo modprobe %s", d.use, d.module)))
		}
	}
	return checks
}

// hugePages tells of the pages reserved by the administrator.
func (h Host) hugePages() Check {
	const name, fix = "huge pages", "only needed to back guests by reserved pages: sudo sysctl vm.nr_hugepages=N"
	dirs, err := filepath.Glob(h.path("/sys/kernel/mm/hugepages/hugepages-*kB"))
	if err != nil || len(dirs) == 0 {
		return missing(name, "the kernel has none", "only needed to back guests by reserved pages: use a kernel with CONFIG_HUGETLBFS")
	}
	var found []string
	for _, dir := range dirs {
		kib, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(filepath.Base(dir), "hugepages-"), "kB"), 10, 54)
		total, terr := readUint(filepath.Join(dir, "nr_hugepages"))
		free, ferr := readUint(filepath.Join(dir, "free_hugepages"))
		if err == nil && terr == nil && ferr == nil && total > 0 {
			found = append(found, fmt.Sprintf("%d of %d pages of %s free", free, total, polyvisor.Bytes(kib)*polyvisor.KiB))
		}
	}
	if len(found) == 0 {
		return missing(name, "none is reserved", fix)
	}
	return ok(name, strings.Join(found, ", "))
}

// transparentHugePages tells whether guests' memory may get huge pages unasked.
func (h Host) transparentHugePages() Check {
	const name = "transparent huge pages"
	b, err := os.ReadFile(h.path("/sys/kernel/mm/transparent_hugepage/enabled"))
	if err != nil {
		return missing(name, "the kernel has none", "guests run, with slower memory: use a kernel with CONFIG_TRANSPARENT_HUGEPAGE")
	}
	_, rest, _ := strings.Cut(string(b), "[")
	mode, _, found := strings.Cut(rest, "]")
	switch {
	case !found:
		return warn(name, "mode not known: "+strings.TrimSpace(string(b)), "")
	case mode == "never":
		return warn(name, mode, "guests run, with slower memory: echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled")
	}
	return ok(name, mode)
}

// memory tells how much of the host's memory guests can have.
func (h Host) memory() Check {
	const name = "memory"
	total, terr := h.memInfo("MemTotal")
	available, aerr := h.memInfo("MemAvailable")
	if err := errors.Join(terr, aerr); err != nil {
		return warn(name, err.Error(), "mount /proc")
	}
	detail := fmt.Sprintf("%d MiB available of %d MiB", available/polyvisor.MiB, total/polyvisor.MiB)
	if available < lowMemory {
		return warn(name, detail, "end other programs or give guests less memory with --memory")
	}
	return ok(name, detail)
}

// memInfo reads one size of /proc/meminfo (proc(5)), which is in KiB there.
func (h Host) memInfo(key string) (polyvisor.Bytes, error) {
	f, err := os.Open(h.path("/proc/meminfo"))
	if err != nil {
		return 0, fmt.Errorf("/proc/meminfo: %w", cause(err))
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 3 && fields[0] == key+":" {
			kib, err := strconv.ParseUint(fields[1], 10, 54)
			if err != nil {
				return 0, fmt.Errorf("/proc/meminfo: %s: %w", key, err)
			}
			return polyvisor.Bytes(kib) * polyvisor.KiB, nil
		}
	}
	return 0, fmt.Errorf("/proc/meminfo has no %s", key)
}

// directory checks that a directory of the driver's is there and may be
// written, or can be made.
func (h Host) directory(name, param, dir string) Check {
	fix := fmt.Sprintf("make it yours and writable, or give another one with %s=DIR in the URI", param)
	for at := dir; ; at = filepath.Dir(at) {
		fi, err := os.Stat(at)
		if errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at) {
			continue
		}
		switch {
		case err != nil:
			return missing(name, fmt.Sprintf("%s: %v", at, cause(err)), fix)
		case !fi.IsDir():
			return missing(name, at+" is not a directory", fix)
		}
		if err := h.access(at, unix.W_OK|unix.X_OK); err != nil {
			if at != dir {
				return missing(name, fmt.Sprintf("%s cannot be made: %s: %v", dir, at, err), fix)
			}
			return missing(name, fmt.Sprintf("%s is not writable: %v", dir, err), fix)
		}
		if at != dir {
			return ok(name, dir+" can be made")
		}
		if fi.Mode().Perm()&0o077 != 0 {
			return missing(name, fmt.Sprintf("%s can be entered by others (mode %#o)", dir, fi.Mode().Perm()),
				"look what is in it, then chmod 700 "+dir)
		}
		return ok(name, dir)
	}
}

func readUint(path string) (uint64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
}
