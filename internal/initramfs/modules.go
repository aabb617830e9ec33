package initramfs

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// remedy is what helps when a module is missing.
const remedy = "install the package of that kernel (on Debian linux-image-cloud-amd64), or run depmod"

// maxModule bounds an unpacked kernel module.
const maxModule = 64 << 20

// Module is a kernel module.
type Module struct {
	Name string // of the file, ends in .ko
	Data []byte // of the file, not compressed
}

// Modules reads the wanted modules of a kernel and what they depend on, in the
// order to load them. Modules that are built in are left out. root is
// /lib/modules/RELEASE.
func Modules(root string, want []string) ([]Module, error) {
	deps, err := readDeps(root)
	if err != nil {
		return nil, err
	}
	builtin, err := os.ReadFile(filepath.Join(root, "modules.builtin"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	in := map[string]bool{}
	for _, p := range strings.Fields(string(builtin)) {
		in[moduleName(p)] = true
	}

	var order []string
	var add func(path string, depth int) error
	add = func(path string, depth int) error {
		if slices.Contains(order, path) {
			return nil
		}
		if depth > 32 {
			return fmt.Errorf("%s: modules depend on each other in a circle at %s; run depmod", root, path)
		}
		// modules.dep names the immediate dependency last.
		for _, d := range slices.Backward(deps[path]) {
			if err := add(d, depth+1); err != nil {
				return err
			}
		}
		if !slices.Contains(order, path) {
			order = append(order, path)
		}
		return nil
	}
	byName := map[string]string{}
	for path := range deps {
		byName[moduleName(path)] = path
	}
	for _, w := range want {
		name := moduleName(w)
		path, ok := byName[name]
		if !ok {
			if in[name] {
				continue
			}
			return nil, fmt.Errorf("kernel module %s is not in %s; %s", w, root, remedy)
		}
		if err := add(path, 0); err != nil {
			return nil, err
		}
	}
	var all []Module
	for _, path := range order {
		m, err := readModule(filepath.Join(root, path))
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

// readDeps reads modules.dep: path of a module to the paths it depends on.
func readDeps(root string) (map[string][]string, error) {
	b, err := os.ReadFile(filepath.Join(root, "modules.dep"))
	if err != nil {
		return nil, fmt.Errorf("kernel modules: %w; install the package of that kernel, or run depmod", err)
	}
	deps := map[string][]string{}
	for line := range strings.SplitSeq(string(b), "\n") {
		path, rest, ok := strings.Cut(line, ":")
		if ok && filepath.IsLocal(path) {
			deps[path] = strings.Fields(rest)
		}
	}
	return deps, nil
}

// moduleName is the name of a module by which the kernel knows it.
func moduleName(path string) string {
	name, _, _ := strings.Cut(filepath.Base(path), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// readModule reads a module, unpacked: not every kernel can do that itself.
func readModule(path string) (Module, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return Module{}, fmt.Errorf("kernel module: %w", err)
	}
	m := Module{Name: moduleName(path) + ".ko"}
	var r io.Reader = bytes.NewReader(raw)
	switch filepath.Ext(path) {
	case ".xz":
		r, err = xz.NewReader(r)
	case ".gz":
		r, err = gzip.NewReader(r)
	case ".zst":
		var z *zstd.Decoder
		if z, err = zstd.NewReader(r, zstd.WithDecoderConcurrency(1)); err == nil {
			defer z.Close()
			r = z
		}
	}
	if err == nil {
		m.Data, err = io.ReadAll(io.LimitReader(r, maxModule+1))
	}
	if err == nil && len(m.Data) > maxModule {
		err = fmt.Errorf("larger than %d bytes", maxModule)
	}
	if err != nil {
		return Module{}, fmt.Errorf("kernel module %s: %w", path, err)
	}
	return m, nil
}
