package check

import (
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/conformance"
)

// seed is one name of a reference API.
type seed struct{ api, kind, name string }

// seeds are the names of the reference APIs.
func seeds(t *testing.T) []seed {
	t.Helper()
	data, err := os.ReadFile("testdata/seeds.txt")
	if err != nil {
		t.Fatal(err)
	}
	var list []seed
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.SplitN(strings.TrimSpace(line), " ", 3)
		if len(f) != 3 {
			t.Fatalf("testdata/seeds.txt: %q; want API, kind and name", line)
		}
		list = append(list, seed{f[0], f[1], f[2]})
	}
	return list
}

// parityRow is a row of docs/parity.md.
type parityRow struct {
	kind, name  string
	goes, cases []string
	feature     string
	drivers     []string
	line        int
}

var spanned = regexp.MustCompile("`([^`]+)`")

func spans(cell string) []string {
	var list []string
	for _, m := range spanned.FindAllStringSubmatch(cell, -1) {
		list = append(list, m[1])
	}
	return list
}

// parityRows reads the rows, by name.
func parityRows(t *testing.T, tr *tree) map[string]parityRow {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(tr.root, "docs/parity.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]parityRow{}
	for i, line := range strings.Split(string(text), "\n") {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if len(cells) != 6 {
			t.Fatalf("docs/parity.md:%d: %d columns, want 6", i+1, len(cells))
		}
		r := parityRow{
			name: spans(cells[0])[0], kind: strings.TrimSpace(cells[1]), goes: spans(cells[2]), cases: spans(cells[3]),
			feature: strings.Join(spans(cells[4]), " "), drivers: strings.Split(strings.TrimSpace(cells[5]), ", "), line: i + 1,
		}
		if old, ok := rows[r.name]; ok {
			t.Errorf("docs/parity.md:%d: %s has a row already, in line %d", r.line, r.name, old.line)
		}
		rows[r.name] = r
	}
	return rows
}

// exported lists the exported names of a package: of types their fields and
// methods too, as Type.Name.
func exported(tr *tree, dir string) map[string]bool {
	names := map[string]bool{}
	for _, s := range tr.sources {
		if s.dir() != dir || s.test {
			continue
		}
		for _, d := range s.file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				name := d.Name.Name
				if d.Recv != nil {
					name = receiver(d.Recv.List[0].Type) + "." + name
				}
				names[name] = true
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch spec := spec.(type) {
					case *ast.ValueSpec:
						for _, n := range spec.Names {
							names[n.Name] = true
						}
					case *ast.TypeSpec:
						names[spec.Name.Name] = true
						if st, ok := spec.Type.(*ast.StructType); ok {
							for _, f := range st.Fields.List {
								for _, n := range f.Names {
									names[spec.Name.Name+"."+n.Name] = true
								}
							}
						}
					}
				}
			}
		}
	}
	for name := range names {
		for part := range strings.SplitSeq(name, ".") {
			if !token.IsExported(part) {
				delete(names, name)
			}
		}
	}
	return names
}

func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return "?"
}

// declaredBy reads what a driver's list named features declares.
func declaredBy(t *testing.T, tr *tree, driver string) []polyvisor.Feature {
	t.Helper()
	values := featureConstants(tr)
	var list []polyvisor.Feature
	eachValue(tr, "drivers/"+driver+"/features.go", "features", func(e ast.Expr) {
		if sel, ok := e.(*ast.SelectorExpr); ok {
			list = append(list, values[sel.Sel.Name])
		}
	})
	if len(list) == 0 {
		t.Fatalf("no list of features found in drivers/%s/features.go", driver)
	}
	return list
}

// deniedBy reads what the libvirt driver declares with no hypervisor: its map named never.
func deniedBy(t *testing.T, tr *tree) map[polyvisor.Feature]bool {
	t.Helper()
	values, denied := featureConstants(tr), map[polyvisor.Feature]bool{}
	eachValue(tr, "drivers/libvirt/capabilities.go", "never", func(e ast.Expr) {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			if sel, ok := kv.Key.(*ast.SelectorExpr); ok {
				denied[values[sel.Sel.Name]] = true
			}
		}
	})
	if len(denied) == 0 {
		t.Fatal("no map of features found in drivers/libvirt/capabilities.go")
	}
	return denied
}

// exceptedOnQEMU reads the cases that libvirt's driver of QEMU does not let pass.
func exceptedOnQEMU(t *testing.T, tr *tree) []string {
	t.Helper()
	var names []string
	eachValue(tr, "drivers/libvirt/conformance_test.go", "qemuExceptions", func(e ast.Expr) {
		for _, field := range e.(*ast.CompositeLit).Elts {
			kv := field.(*ast.KeyValueExpr)
			if lit, ok := kv.Value.(*ast.BasicLit); ok && kv.Key.(*ast.Ident).Name == "name" {
				name, _ := strconv.Unquote(lit.Value)
				names = append(names, name)
			}
		}
	})
	if len(names) == 0 {
		t.Fatal("no table of exceptions found in drivers/libvirt/conformance_test.go")
	}
	return names
}

// eachValue calls f with the elements of a package variable.
func eachValue(tr *tree, file, name string, f func(ast.Expr)) {
	for _, s := range tr.sources {
		if s.name != file {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if !ok || v.Names[0].Name != name || len(v.Values) != 1 {
				return true
			}
			for _, e := range v.Values[0].(*ast.CompositeLit).Elts {
				f(e)
			}
			return false
		})
	}
}

// featureConstants are the root's, by their names.
func featureConstants(tr *tree) map[string]polyvisor.Feature {
	values := map[string]polyvisor.Feature{}
	for _, s := range tr.sources {
		if s.dir() != "." || s.test {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if v, ok := n.(*ast.ValueSpec); ok && len(v.Names) == 1 && len(v.Values) == 1 && strings.HasPrefix(v.Names[0].Name, "Feature") {
				if lit, ok := v.Values[0].(*ast.BasicLit); ok {
					text, _ := strconv.Unquote(lit.Value)
					values[v.Names[0].Name] = polyvisor.Feature(text)
				}
			}
			return true
		})
	}
	return values
}

// simulated are the names without a feature that only the fake driver can bring
// about; docs/parity.md says why.
var simulated = map[string]bool{
	"AVIRTUAL_MACHINE_UNKNOWN": true, "AVIRTUAL_MACHINE_UNRECOGNISED": true, "AVIRTUAL_MACHINE_HANGUP": true,
	"AVIRTUAL_MACHINE_INFRASTRUCTURE_ERROR": true, "VIR_DOMAIN_BLOCKED": true, "VIR_DOMAIN_SHUTDOWN": true,
}

// Every name of the reference APIs has a row in docs/parity.md whose Go names
// exist, whose cases exist and say that they prove it, and which tells the
// drivers as they declare it; libvirt, where it depends on the hypervisor, as QEMU's
// driver passes a case at least.
func TestParity(t *testing.T) {
	tr := load(t)
	rows, names := parityRows(t, tr), exported(tr, ".")
	proves := map[string][]string{}
	for _, c := range conformance.Cases() {
		proves[c.Name] = c.Seeds
	}
	kvm, denied, excepted := declaredBy(t, tr, "kvm"), deniedBy(t, tr), exceptedOnQEMU(t, tr)
	known := map[string]bool{}
	for _, s := range seeds(t) {
		known[s.name] = true
		r, ok := rows[s.name]
		if !ok {
			t.Errorf("docs/parity.md has no row for %s (%s of %s)", s.name, s.kind, s.api)
			continue
		}
		if r.kind != s.kind {
			t.Errorf("docs/parity.md:%d: %s is a %s, not a %s", r.line, s.name, s.kind, r.kind)
		}
		if len(r.goes) == 0 || len(r.cases) == 0 {
			t.Errorf("docs/parity.md:%d: %s has no Go name or no case", r.line, s.name)
		}
		for _, g := range r.goes {
			if !names[g] {
				t.Errorf("docs/parity.md:%d: the package has no %s", r.line, g)
			}
		}
		for _, c := range r.cases {
			if list, ok := proves[c]; !ok {
				t.Errorf("docs/parity.md:%d: there is no conformance case %s", r.line, c)
			} else if !slices.Contains(list, s.name) {
				t.Errorf("docs/parity.md:%d: case %s does not say that it proves %s", r.line, c, s.name)
			}
		}
		if r.feature != "" && !slices.Contains(polyvisor.Features(), polyvisor.Feature(r.feature)) {
			t.Errorf("docs/parity.md:%d: there is no feature %q", r.line, r.feature)
		}
		want := []string{"fake"}
		if !simulated[s.name] && (r.feature == "" || slices.Contains(kvm, polyvisor.Feature(r.feature))) {
			want = append(want, "kvm")
		}
		proved := slices.ContainsFunc(r.cases, func(c string) bool { return !slices.Contains(excepted, c) })
		if !simulated[s.name] && !denied[polyvisor.Feature(r.feature)] && proved {
			want = append(want, "libvirt")
		}
		if !slices.Equal(r.drivers, want) {
			t.Errorf("docs/parity.md:%d: %s: drivers %q, but by their features it is %q", r.line, s.name, r.drivers, want)
		}
	}
	for name, r := range rows {
		if !known[name] {
			t.Errorf("docs/parity.md:%d: no reference API has %s", r.line, name)
		}
	}
	for name, list := range proves {
		for _, s := range list {
			if !known[s] {
				t.Errorf("conformance case %s is to prove %s, which no reference API has", name, s)
			}
		}
	}
}

// The list of names is complete: so many of each kind are in the references.
func TestSeedsAreComplete(t *testing.T) {
	count := map[string]int{}
	for _, s := range seeds(t) {
		count[s.api+" "+s.kind]++
	}
	for what, want := range map[string]int{
		"libvirt function": 44, "libvirt macro": 8, "libvirt type": 17, "libvirt field": 21, "libvirt value": 19,
		"android function": 19, "android value": 12, "vmhandler function": 8, "vmhandler code": 4,
	} {
		if count[what] != want {
			t.Errorf("testdata/seeds.txt has %d of %s, want %d", count[what], what, want)
		}
	}
}
