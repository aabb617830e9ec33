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
