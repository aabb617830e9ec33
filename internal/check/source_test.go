package check

import (
	"bytes"
	"go/ast"
	"go/build"
	"go/format"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// exception bends a rule for one file or one function ("file:function").
type exception struct{ where, reason string }

var (
	maxLines  = 500
	longFiles = []exception{}
	unsafeIn  = []exception{
		{internals + "kvmapi", "ioctl arguments and the shared run page"},
		{internals + "guestmem", "guest memory is mapped"},
	}
	ioctlsIn = []exception{
		{internals + "kvmapi", "the engine's ioctls"},
		{"internal/agent/guest", "makes terminals and sets the loopback interface up, in the guest; not a part of the engine"},
		{"internal/testguest/tool", "looks at the size of its terminal, in the guest; not a part of the engine"},
		{"internal/testguest/init", "looks at the size of its terminal, in the guest; not a part of the engine"},
		{"internal/nestedvm/init", "sets the loopback interface up in the nested machine, and makes virtual machines that keep its kernel's code as it is; not a part of the engine"},
	}
	panicsIn = []exception{
		{"registry.go:Register", "a mistake of the program, found when it is initialised"},
		{"cpuset.go:CPUs", "numbers outside the range are a mistake of the program, as a bad pattern is for regexp.MustCompile; Use and ParseCPUSet return errors"},
		{"stats.go:statsOfEach", "passes on the panic of a goroutine to the caller, as in a call without one"},
		{internals + "guestmem/order.go:View", "alignment is what the caller has checked, by guest address; regions begin at pages of the host"},
		{internals + "pci/function.go:AddCapability", "capabilities are our own and the same for all guests: a test would find it"},
		{internals + "store/atomic.go:token", "no kernel that has KVM is without getrandom"},
		{"cmd/polyvisor/internal/cli/attach.go:attach", "passes on the panic of a goroutine, once the terminal is restored"},
	}
	bannedNames = []string{"util", "utils", "common", "helper", "helpers", "types", "misc", "shared", "base"}
)

func excepted(list []exception, where string) bool {
	return slices.ContainsFunc(list, func(e exception) bool { return e.where == where })
}

func TestExceptionsHaveReasons(t *testing.T) {
	for _, e := range slices.Concat(longFiles, unsafeIn, ioctlsIn, panicsIn, noLeakChecks, spoken) {
		if e.reason == "" {
			t.Errorf("the exception for %s has no reason", e.where)
		}
	}
}

func TestGofmt(t *testing.T) {
	for _, s := range load(t).sources {
		formatted, err := format.Source(s.data)
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
		} else if !bytes.Equal(formatted, s.data) {
			t.Errorf("%s is not formatted: gofmt -w %s", s.name, s.name)
		}
	}
}

func TestPackageComments(t *testing.T) {
	for dir, files := range load(t).packages() {
		name := files[0].file.Name.Name
		documented := 0
		for _, s := range files {
			if s.file.Doc == nil {
				continue
			}
			documented++
			text := s.file.Doc.Text()
			if name != "main" && !strings.HasPrefix(text, "Package "+name+" ") {
				t.Errorf("%s: the package comment does not begin with \"Package %s\"", s.name, name)
			}
			if name == "main" && len(strings.Fields(text)) < 3 {
				t.Errorf("%s: the comment says too little: %q", s.name, text)
			}
		}
		if documented == 0 {
			t.Errorf("package %s has no comment: say in one of its files what it is for", dir)
		}
	}
}

func TestPackageNames(t *testing.T) {
	for dir, files := range load(t).packages() {
		for _, name := range []string{files[0].file.Name.Name, path.Base(dir)} {
			if slices.Contains(bannedNames, name) {
				t.Errorf("package %s: the name %q says nothing about what it holds", dir, name)
			}
		}
	}
}

func TestUnsafe(t *testing.T) {
	for _, s := range load(t).sources {
		if slices.Contains(s.imports(), "unsafe") && !excepted(unsafeIn, s.dir()) {
			t.Errorf("%s imports unsafe: what needs it belongs into kvmapi or guestmem", s.name)
		}
		for _, group := range s.file.Comments {
			for _, c := range group.List {
				if strings.HasPrefix(c.Text, "//go:linkname") {
					t.Errorf("%s: %s reaches into another package", s.name, c.Text)
				}
			}
		}
	}
}

func TestIoctls(t *testing.T) {
	tr := load(t)
	for _, s := range tr.sources {
		if excepted(ioctlsIn, s.dir()) {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok {
				pkg, _ := sel.X.(*ast.Ident)
				if pkg != nil && (pkg.Name == "unix" || pkg.Name == "syscall") && (sel.Sel.Name == "SYS_IOCTL" || strings.HasPrefix(sel.Sel.Name, "Ioctl")) {
					t.Errorf("%s: an ioctl outside kvmapi; for terminals there is golang.org/x/term", tr.position(n))
				}
			}
			return true
		})
	}
}

func TestPanics(t *testing.T) {
	tr := load(t)
	for _, s := range tr.sources {
		if s.test {
			continue
		}
		for _, decl := range s.file.Decls {
			function := ""
			if f, ok := decl.(*ast.FuncDecl); ok {
				function = f.Name.Name
			}
			ast.Inspect(decl, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				if f, ok := call.Fun.(*ast.Ident); ok && f.Name == "panic" && !excepted(panicsIn, s.name+":"+function) {
					t.Errorf("%s: panic in %s: return an error; or give the reason in `panicsIn` in internal/check/source_test.go", tr.position(n), function)
				}
				return true
			})
		}
	}
}

func TestFileLength(t *testing.T) {
	for _, s := range load(t).sources {
		lines := bytes.Count(s.data, []byte("\n"))
		if !s.test && lines > maxLines && !excepted(longFiles, s.name) {
			t.Errorf("%s has %d lines: split it by concern, or give the reason in `longFiles` in internal/check/source_test.go", s.name, lines)
		}
	}
}

// The root package is the manual.
func TestRootIsDocumented(t *testing.T) {
	tr := load(t)
	missing := func(n ast.Node, what string) { t.Errorf("%s: %s has no comment", tr.position(n), what) }
	checked := 0
	for _, s := range tr.packages()["."] {
		for _, decl := range s.file.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				// Every error has the method Error.
				if d.Name.IsExported() && receiverExported(d) && d.Name.Name != "Error" {
					if checked++; d.Doc == nil {
						missing(d, d.Name.Name)
					}
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch sp := spec.(type) {
					case *ast.TypeSpec:
						if sp.Name.IsExported() {
							if checked++; d.Doc == nil && sp.Doc == nil {
								missing(sp, sp.Name.Name)
							}
						}
					case *ast.ValueSpec:
						for _, name := range sp.Names {
							if name.IsExported() {
								if checked++; d.Doc == nil && sp.Doc == nil && sp.Comment == nil {
									missing(sp, name.Name)
								}
							}
						}
					}
				}
			}
		}
	}
	if checked < 100 {
		t.Errorf("only %d exported identifiers found: the check does not see the root package", checked)
	}
}

func receiverExported(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	typ := d.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	id, ok := typ.(*ast.Ident)
	return ok && id.IsExported()
}

// systems are those for which `make lint` vets.
var systems = []struct{ os, arch string }{{"linux", "amd64"}, {"darwin", "amd64"}, {"linux", "arm64"}, {"windows", "amd64"}}

// tags are the build tags that the repository uses beside those of systems.
var tags = []string{"nestedsample"} // the subject of nestedtest's own test

// On each system each package that another one imports has a file, and every
// file is built on one of them.
func TestBuildConstraints(t *testing.T) {
	tr := load(t)
	everywhere := map[string]bool{}
	for _, system := range systems {
		ctx := build.Default
		ctx.GOOS, ctx.GOARCH, ctx.CgoEnabled, ctx.BuildTags = system.os, system.arch, false, tags
		built := map[string]bool{}
		var files []*source
		for _, s := range tr.sources {
			ok, err := ctx.MatchFile(filepath.Join(tr.root, s.dir()), path.Base(s.name))
			if err != nil {
				t.Errorf("%s: %v", s.name, err)
			}
			if ok {
				everywhere[s.name] = true
				files = append(files, s)
				built[s.dir()] = built[s.dir()] || !s.test
			}
		}
		for _, s := range files {
			for _, p := range s.imports() {
				if dir, ok := inModule(p); ok && !built[dir] {
					t.Errorf("%s: on %s/%s it imports %s, which has no file there: give that a file with no build constraint (its doc.go)", s.name, system.os, system.arch, dir)
				}
			}
		}
	}
	for _, s := range tr.sources {
		if !everywhere[s.name] && !raceOnly(s) {
			t.Errorf("%s is not built anywhere: its build constraint is wrong, or it is dead", s.name)
		}
	}
}

// raceOnly reports whether a file is for the race detector or another tag of
// the go command's own.
func raceOnly(s *source) bool {
	for _, group := range s.file.Comments {
		for _, c := range group.List {
			if strings.HasPrefix(c.Text, "//go:build race") {
				return true
			}
		}
	}
	return false
}

// Who starts a goroutine shows that none is left.
func TestLeakChecks(t *testing.T) {
	tr := load(t)
	checked := map[string]bool{}
	tested := map[string]bool{}
	for _, s := range tr.sources {
		if s.test {
			tested[s.dir()] = true
			checked[s.dir()] = checked[s.dir()] || checksLeaks(s)
		}
	}
	for dir, files := range tr.packages() {
		if !tested[dir] || checked[dir] || excepted(noLeakChecks, dir) {
			continue
		}
		for _, s := range files {
			ast.Inspect(s.file, func(n ast.Node) bool {
				if _, ok := n.(*ast.GoStmt); ok {
					t.Errorf("%s: the package starts goroutines and its tests have no TestMain with leaktest.Main(m)", tr.position(n))
				}
				return true
			})
		}
	}
}

// checksLeaks reports whether a test file has a TestMain that looks for leaks.
func checksLeaks(s *source) bool {
	return bytes.Contains(s.data, []byte("func TestMain(")) &&
		(bytes.Contains(s.data, []byte("leaktest.Main(")) || bytes.Contains(s.data, []byte("goleak.")))
}

var noLeakChecks = []exception{
	{"internal/leaktest", "it is the check"},
	{"internal/bench", "a program; its tests are of what it reads and start nothing"},
	{"examples/driver", "a module of its own, which cannot import the check; the suite that it passes has one"},
	{"internal/nestedvm/init", "the first process of a machine: everything ends with it"},
	{"internal/testguest/init", "the first process of a machine: everything ends with it"},
}

// What go:generate runs is checked where it is: by a test of the package that
// fails when its output is not current.
func TestGeneratedFilesAreTested(t *testing.T) {
	tr := load(t)
	tests := map[string]string{
		internals + "boot/guest": "TestCurrent",
		"conformance/testkernel": "TestCurrent",
	}
	for _, s := range tr.sources {
		generates := slices.ContainsFunc(s.file.Comments, func(g *ast.CommentGroup) bool {
			return slices.ContainsFunc(g.List, func(c *ast.Comment) bool { return strings.HasPrefix(c.Text, "//go:generate ") })
		})
		if !generates {
			continue
		}
		want := tests[s.dir()]
		found := slices.ContainsFunc(tr.sources, func(other *source) bool {
			return other.test && other.dir() == s.dir() && slices.ContainsFunc(other.file.Decls, func(d ast.Decl) bool {
				f, ok := d.(*ast.FuncDecl)
				return ok && f.Name.Name == want
			})
		})
		if !found {
			t.Errorf("%s has a go:generate line; name the test of %s that proves its output current in TestGeneratedFilesAreTested (now %q)", s.name, s.dir(), want)
		}
	}
}
