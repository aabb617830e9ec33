package check

import (
	"go/ast"
	"path"
	"strings"
	"testing"
)

// Each test that docs/security.md names exists, and each row of its tables names one. Names begin with the package below
// drivers/kvm.
func TestSecurity(t *testing.T) {
	const doc = "docs/security.md"
	tr := load(t)
	have := map[string]bool{}
	for _, s := range tr.sources {
		if !s.test {
			continue
		}
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && (strings.HasPrefix(f.Name.Name, "Test") || strings.HasPrefix(f.Name.Name, "Fuzz")) {
				have[s.dir()+"."+f.Name.Name] = true
			}
		}
	}
	text, ok := tr.text(t, doc)
	if !ok {
		t.Fatalf("no %s", doc)
	}
	rows, line := 0, 0
	for l := range strings.Lines(text) {
		line++
		cells := strings.Split(l, "|")
		if len(cells) < 4 || strings.HasPrefix(cells[1], "---") || !strings.Contains(l, "`") {
			continue
		}
		rows++
		for _, name := range spans(cells[len(cells)-2]) {
			if !have[path.Join("drivers/kvm", name)] {
				t.Errorf("%s:%d: there is no test %s below drivers/kvm", doc, line, name)
			}
		}
	}
	if rows < 20 {
		t.Errorf("%s has %d rows with tests", doc, rows)
	}
}
