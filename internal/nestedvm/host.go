package nestedvm

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

const (
	qemuBinary = "qemu-system-x86_64"
	aptLine    = "apt-get install --no-install-recommends qemu-system-x86 linux-image-cloud-amd64"
)

// host is what the machine is made of.
type host struct {
	qemu    string
	kernel  string // path of the bzImage
	release string
	modules *moduleTree
}

// Kernel returns the path of the stock kernel that the machine runs, and that suits guests in it, and its release.
func Kernel() (path, release string, err error) {
	h, err := findHost()
	if err != nil {
		return "", "", err
	}
	return h.kernel, h.release, nil
}

func findHost() (*host, error) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return nil, fmt.Errorf("needs the nested machine: that runs on linux/amd64 only, not on %s/%s", runtime.GOOS, runtime.GOARCH)
	}
	var missing []string
	qemu, err := exec.LookPath(qemuBinary)
	if err != nil {
		missing = append(missing, qemuBinary)
	}
	if _, err := exec.LookPath("go"); err != nil {
		missing = append(missing, "the go tool in PATH")
	}
	h, err := findKernel("/boot", "/lib/modules")
	if err != nil {
		missing = append(missing, err.Error())
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("needs the nested machine, which lacks: %s; on Debian: %s", strings.Join(missing, ", "), aptLine)
	}
	h.qemu = qemu
	return h, nil
}

// findKernel takes the newest cloud kernel of bootDir that has its modules in modulesDir.
func findKernel(bootDir, modulesDir string) (*host, error) {
	const prefix, suffix = "vmlinuz-", "-cloud-amd64"
	paths, err := filepath.Glob(filepath.Join(bootDir, prefix+"*"+suffix))
	if err != nil {
		return nil, err
	}
	slices.SortFunc(paths, func(a, b string) int { return compareVersions(filepath.Base(b), filepath.Base(a)) })
	var faults []string
	for _, path := range paths {
		release := strings.TrimPrefix(filepath.Base(path), prefix)
		f, err := os.Open(path)
		if err != nil {
			faults = append(faults, err.Error())
			continue
		}
		f.Close()
		tree, err := readModuleTree(filepath.Join(modulesDir, release))
		if err != nil {
			faults = append(faults, err.Error())
			continue
		}
		return &host{kernel: path, release: release, modules: tree}, nil
	}
	if len(faults) > 0 {
		return nil, fmt.Errorf("a usable kernel with modules (%s)", strings.Join(faults, "; "))
	}
	return nil, fmt.Errorf("a kernel %s", filepath.Join(bootDir, prefix+"*"+suffix))
}

// compareVersions orders as people do: runs of digits by their value, the rest by bytes.
func compareVersions(a, b string) int {
	for a != "" && b != "" {
		ra, rb := leadingRun(a), leadingRun(b)
		a, b = a[len(ra):], b[len(rb):]
		if isDigit(ra[0]) && isDigit(rb[0]) {
			ra, rb = strings.TrimLeft(ra, "0"), strings.TrimLeft(rb, "0")
			if c := cmp.Compare(len(ra), len(rb)); c != 0 {
				return c
			}
		}
		if c := cmp.Compare(ra, rb); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

func leadingRun(s string) string {
	i := 1
	for i < len(s) && isDigit(s[i]) == isDigit(s[0]) {
		i++
	}
	return s[:i]
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
