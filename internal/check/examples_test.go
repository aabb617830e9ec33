package check

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// Modules of their own, which no ./... of this one reaches, pass their tests.
func TestOtherModules(t *testing.T) {
	tr := load(t)
	found := false
	for _, name := range tr.names {
		if path.Base(name) != "go.mod" || !strings.HasPrefix(name, "examples/") {
			continue
		}
		found = true
		t.Run(path.Dir(name), func(t *testing.T) {
			for _, args := range [][]string{{"vet", "./..."}, {"test", "-count=1", "./..."}} {
				cmd := exec.Command("go", args...)
				cmd.Dir = filepath.Join(tr.root, path.Dir(name))
				cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=mod")
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("go %v: %v\n%s", args, err, out)
				}
			}
		})
	}
	if !found {
		t.Error("no go.mod but the module's own; examples/driver has one")
	}
}

// The program in README.md is examples/boot, so that it builds, and stays one of
// about twenty lines.
func TestProgramOfReadme(t *testing.T) {
	tr := load(t)
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(tr.root, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	_, program, ok := strings.Cut(read("README.md"), "```go\n")
	program, _, end := strings.Cut(program, "```\n")
	if !ok || !end {
		t.Fatal("README.md has no program in Go")
	}
	example := read("examples/boot/main.go")
	if i := strings.Index(example, "package main\n"); i < 0 || example[i:] != program {
		t.Error("the program in README.md is not that of examples/boot/main.go; copy it from package main on")
	}
	_, code, _ := strings.Cut(program, "\nfunc main() {\n")
	lines := 1
	for line := range strings.Lines(code) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "//") {
			lines++
		}
	}
	if lines > 22 {
		t.Errorf("examples/boot has %d lines of code, without imports; it is to show how few it takes", lines)
	}
}
