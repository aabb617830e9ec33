package nestedvm

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ulikunitz/xz"
)

// maxModule bounds a decompressed module in bytes.
const maxModule = 64 << 20

// moduleTree knows the modules of one kernel and what each needs.
type moduleTree struct {
	dir   string
	paths map[string]string   // name -> file below dir
	needs map[string][]string // file -> files that it depends on, as modules.dep lists them
}

func readModuleTree(dir string) (*moduleTree, error) {
	f, err := os.Open(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	t := &moduleTree{dir: dir, paths: map[string]string{}, needs: map[string][]string{}}
	for s := bufio.NewScanner(f); ; {
		if !s.Scan() {
			if err := s.Err(); err != nil {
				return nil, fmt.Errorf("%s: %w", f.Name(), err)
			}
			return t, nil
		}
		path, needs, ok := strings.Cut(s.Text(), ":")
		if !ok || !filepath.IsLocal(path) {
			return nil, fmt.Errorf("%s: line %q is not FILE: FILES; run depmod", f.Name(), s.Text())
		}
		t.paths[moduleName(path)] = path
		t.needs[path] = strings.Fields(needs)
	}
}

// moduleName is the name under which modprobe knows the file: dashes and underscores are one.
func moduleName(path string) string {
	name, _, _ := strings.Cut(filepath.Base(path), ".")
	return strings.ReplaceAll(name, "-", "_")
}

// order returns the files of the named modules and all that they need, each after what it needs.
func (t *moduleTree) order(names ...string) ([]string, error) {
	var files []string
	state := map[string]bool{} // false: being visited
	var visit func(path string) error
	visit = func(path string) error {
		done, seen := state[path]
		switch {
		case done:
			return nil
		case seen:
			return fmt.Errorf("%s/modules.dep: module %s depends on itself; run depmod", t.dir, path)
		}
		state[path] = false
		needs, ok := t.needs[path]
		if !ok {
			return fmt.Errorf("%s/modules.dep: no line for %s; run depmod", t.dir, path)
		}
		// modules.dep names what is needed most directly first.
		for _, n := range slices.Backward(needs) {
			if err := visit(n); err != nil {
				return err
			}
		}
		state[path] = true
		files = append(files, path)
		return nil
	}
	for _, name := range names {
		path, ok := t.paths[moduleName(name)]
		if !ok {
			return nil, fmt.Errorf("no kernel module %s in %s", name, t.dir)
		}
		if err := visit(path); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// read returns the module of a file, decompressed.
func (t *moduleTree) read(path string) ([]byte, error) {
	f, err := os.Open(filepath.Join(t.dir, path))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r io.Reader = f
	switch filepath.Ext(path) {
	case ".ko":
	case ".xz":
		if r, err = xz.NewReader(bufio.NewReader(f)); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
	default:
		return nil, fmt.Errorf("%s: a module file is expected to end in .ko or .ko.xz", f.Name())
	}
	b, err := io.ReadAll(io.LimitReader(r, maxModule+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	case len(b) > maxModule:
		return nil, fmt.Errorf("%s: more than %d bytes", f.Name(), maxModule)
	}
	return b, nil
}
