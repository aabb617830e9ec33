package check

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const modulePath = "github.com/polyvisor/polyvisor"

// source is one Go file.
type source struct {
	name string // relative to the module, with slashes
	data []byte
	file *ast.File
	test bool
}

func (s *source) dir() string { return path.Dir(s.name) }

// imports lists the imported paths.
func (s *source) imports() []string {
	var paths []string
	for _, i := range s.file.Imports {
		p, _ := strconv.Unquote(i.Path.Value)
		paths = append(paths, p)
	}
	return paths
}

// tree is the module as it is on disk.
type tree struct {
	root    string
	names   []string // every file that belongs to the repository
	sources []*source
	fset    *token.FileSet
}

var loadOnce = sync.OnceValues(func() (*tree, error) {
	root, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	for {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			break
		}
		parent := filepath.Dir(root)
		if parent == root {
			return nil, fs.ErrNotExist
		}
		root = parent
	}
	t := &tree{root: root, fset: token.NewFileSet()}
	if t.names, err = listFiles(root); err != nil {
		return nil, err
	}
	for _, name := range t.names {
		if path.Ext(name) != ".go" || slices.Contains(strings.Split(name, "/"), "testdata") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return nil, err
		}
		file, err := parser.ParseFile(t.fset, name, data, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		t.sources = append(t.sources, &source{name: name, data: data, file: file, test: strings.HasSuffix(name, "_test.go")})
	}
	return t, nil
})

// load reads the module once for all tests.
func load(t *testing.T) *tree {
	t.Helper()
	tr, err := loadOnce()
	if err != nil {
		t.Fatal(err)
	}
	if len(tr.sources) < 10 {
		t.Fatalf("only %d Go files found below %s", len(tr.sources), tr.root)
	}
	return tr
}

// listFiles lists what git tracks or would track; without git, everything that
// is not hidden or built.
func listFiles(root string) ([]string, error) {
	cmd := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = root
	if out, err := cmd.Output(); err == nil && len(out) > 0 {
		var names []string
		for name := range strings.SplitSeq(strings.Trim(string(out), "\x00"), "\x00") {
			info, err := os.Lstat(filepath.Join(root, name))
			if err == nil && info.Mode().IsRegular() { // not deleted, not a link
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return slices.Compact(names), nil
	}
	var names []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() && (rel == ".git" || rel == "bin" || rel == "build") {
			return fs.SkipDir
		}
		if d.Type().IsRegular() {
			names = append(names, rel)
		}
		return nil
	})
	return names, err
}

// packages gives the directories with Go files that are not tests.
func (tr *tree) packages() map[string][]*source {
	m := make(map[string][]*source)
	for _, s := range tr.sources {
		if !s.test {
			m[s.dir()] = append(m[s.dir()], s)
		}
	}
	return m
}

func (tr *tree) position(n ast.Node) token.Position { return tr.fset.Position(n.Pos()) }

// text gives the content of a file, false if it is not text.
func (tr *tree) text(t *testing.T, name string) (string, bool) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(tr.root, name))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.IndexByte(data, 0) >= 0 {
		return "", false
	}
	return string(data), true
}

// inModule turns an import path of this module into a directory.
func inModule(importPath string) (dir string, ok bool) {
	if importPath == modulePath {
		return ".", true
	}
	return strings.CutPrefix(importPath, modulePath+"/")
}

func isStandard(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	_, ours := inModule(importPath)
	return !ours && !strings.Contains(first, ".")
}

// matches reports whether a directory or an import path fits a pattern: itself,
// or with a final /... everything below it too.
func matches(pattern, p string) bool {
	if below, ok := strings.CutSuffix(pattern, "/..."); ok {
		return p == below || strings.HasPrefix(p, below+"/")
	}
	return p == pattern
}
