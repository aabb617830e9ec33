package conformance_test

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/polyvisor/polyvisor/conformance"
)

var wholeTable = flag.Bool("whole-table", false, "have TestFaultTable run every case on every fault, also those after the first that catches it")

// cellTime bounds a case of the table. All but those that a fault makes wait in
// vain are over in a fraction of it, so that none fails because it is late.
const cellTime = 5 * time.Second

// row is a fault and the cases that catch it.
type row struct {
	fault  fault
	caught []string // in the order of the suite; without -whole-table at most one before its own
	reason string   // why the case that is meant for it fails
	own    bool     // that case fails
	asked  bool     // the cases before it were run too
}

// first reports whether the case that is meant for the fault is the first of
// the suite that catches it. One that catches it alone is.
func (r *row) first() bool {
	return (r.asked || *wholeTable) && len(r.caught) > 0 && r.caught[0] == r.fault.of
}

// run runs cases on the wrong driver, each on a fresh one. Unless all are
// wanted it stops at the first that fails.
func (r *row) run(t *testing.T, dir string, cases []conformance.Case, all bool) {
	for _, c := range cases {
		if !all && len(r.caught) > 0 {
			return
		}
		if reason, failed := r.try(t, dir, c); failed {
			r.caught = append(r.caught, c.Name)
			if c.Name == r.fault.of {
				r.reason = reason
			}
		}
	}
}

// try runs one case.
func (r *row) try(t *testing.T, dir string, c conformance.Case) (reason string, failed bool) {
	f := faultNamed(r.fault.of, r.fault.name) // with a state of its own
	h, done := newWrong(&f, dir)
	defer done()
	h.Timeout = cellTime
	res := conformance.Check(t.Context(), h, only(c.Name))[0]
	return res.Reason, res.Status == conformance.Failed
}

func faultNamed(of, name string) fault {
	all := faults()
	return all[slices.IndexFunc(all, func(f fault) bool { return f.of == of && f.name == name })]
}

// faultTable gives the row of every fault, in the order of the cases that are
// meant for them.
func faultTable(t *testing.T, all bool) []*row {
	cases := conformance.Cases()
	place := func(name string) int {
		return slices.IndexFunc(cases, func(c conformance.Case) bool { return c.Name == name })
	}
	var rows []*row
	for _, f := range faults() {
		if place(f.of) >= 0 { // TestFaultsAreOfCases tells of others
			rows = append(rows, &row{fault: f})
		}
	}
	slices.SortStableFunc(rows, func(a, b *row) int { return place(a.fault.of) - place(b.fault.of) })
	// What some cases look at is all of the program's, so that nothing may happen
	// beside them.
	part := func(r *row, alone bool) []conformance.Case {
		list := cases
		if !all {
			list = cases[:place(r.fault.of)+1]
		}
		return slices.DeleteFunc(slices.Clone(list), func(c conformance.Case) bool { return strings.HasPrefix(c.Name, "leak/") != alone })
	}
	dir := t.TempDir()
	// beside runs what may go on beside others, and gives what does not.
	beside := func(do func(r *row) (alone bool), rows []*row) (later []*row) {
		var wg sync.WaitGroup
		var mu sync.Mutex
		free := make(chan struct{}, 12) // most of what they do is to wait
		for _, r := range rows {
			free <- struct{}{}
			wg.Go(func() {
				defer func() { <-free }()
				if do(r) {
					mu.Lock()
					defer mu.Unlock()
					later = append(later, r)
				}
			})
		}
		wg.Wait()
		return later
	}
	if all {
		beside(func(r *row) bool { r.run(t, dir, part(r, false), all); return false }, rows)
		for _, r := range rows {
			r.run(t, dir, part(r, true), all)
		}
		return rows
	}
	own := func(r *row) {
		if reason, failed := r.try(t, dir, cases[place(r.fault.of)]); failed {
			r.reason, r.own = reason, true
		}
	}
	for _, r := range beside(func(r *row) bool {
		if strings.HasPrefix(r.fault.of, "leak/") {
			return true
		}
		own(r)
		return false
	}, rows) {
		own(r)
	}
	// For each case one fault is looked for that passes all cases before it. The
	// narrow ones were added last.
	var last []*row
	for i, r := range rows {
		if i+1 == len(rows) || rows[i+1].fault.of != r.fault.of {
			last = append(last, r)
		}
	}
	beside(func(l *row) bool {
		for i := slices.Index(rows, l); i >= 0 && rows[i].fault.of == l.fault.of; i-- {
			r := rows[i]
			before := part(r, false)
			r.run(t, dir, slices.DeleteFunc(before, func(c conformance.Case) bool { return c.Name == r.fault.of }), false)
			r.asked = true
			if r.own && len(r.caught) == 0 {
				break
			}
		}
		return false
	}, last)
	for _, r := range rows { // alone, in the order of the suite: these come after all others
		if r.asked && len(r.caught) == 0 {
			before := part(r, true)
			r.run(t, dir, slices.DeleteFunc(before, func(c conformance.Case) bool { return c.Name == r.fault.of }), false)
		}
		if r.own {
			r.caught = append(r.caught, r.fault.of)
		}
	}
	return rows
}

// Every fault is caught by the case that is meant for it, and by its message;
// and no case is without a fault that it alone or first catches: a driver that
// has it passes all the cases before.
func TestFaultTable(t *testing.T) {
	begin := time.Now()
	rows := faultTable(t, *wholeTable)
	took := time.Since(begin)
	firsts := map[string]int{}
	n := 0
	for _, r := range rows {
		t.Run(r.fault.of+"/"+r.fault.name, func(t *testing.T) {
			switch {
			case r.reason == "":
				t.Errorf("case %s does not fail", r.fault.of)
			case !strings.Contains(r.reason, r.fault.says):
				t.Errorf("case %s fails with\n%s\nand not with %q", r.fault.of, r.reason, r.fault.says)
			}
		})
		if r.first() {
			firsts[r.fault.of]++
			n++
		}
	}
	cases := conformance.Cases()
	for _, c := range cases {
		if firsts[c.Name] > 0 {
			continue
		}
		t.Errorf("case %s has no fault that it alone or first catches: add a narrower one, or merge it with the case that catches what it does", c.Name)
		for _, r := range rows {
			if r.fault.of == c.Name && len(r.caught) > 0 {
				t.Logf("fault %q is first caught by %s", r.fault.name, r.caught[0])
			}
		}
	}
	t.Logf("%d cases, %d faults, %d of them first caught by the case that is meant for them; %s\n%s", len(cases), len(rows), n, took.Round(time.Second), describe(rows))
}

// describe gives a line for each fault: the case that is meant for it, whether
// that is the first to catch it, the fault, and the cases before that catch it
// too; with -whole-table those after it as well, or that it is alone. Whether a
// fault is the first is not asked where another one of the same case is.
func describe(rows []*row) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "case\tcatches it\tfault\talso caught by")
	for _, r := range rows {
		others := slices.DeleteFunc(slices.Clone(r.caught), func(name string) bool { return name == r.fault.of })
		how := "too"
		switch {
		case !*wholeTable && !r.asked:
			how = "not asked"
		case *wholeTable && r.first() && len(others) == 0:
			how = "alone"
		case r.first():
			how = "first"
		}
		if n := len(others); n > 4 {
			others = append(others[:4:4], fmt.Sprintf("and %d more", n-4))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r.fault.of, how, r.fault.name, strings.Join(others, ", "))
	}
	_ = w.Flush() // to memory
	return b.String()
}

// Faults are of cases that there are, and have names of their own.
func TestFaultsAreOfCases(t *testing.T) {
	cases, names := map[string]bool{}, map[string]bool{}
	for _, c := range conformance.Cases() {
		if cases[c.Name] {
			t.Errorf("two cases are named %s", c.Name)
		}
		cases[c.Name] = true
	}
	for _, f := range faults() {
		if !cases[f.of] {
			t.Errorf("fault %q is for the case %s, which does not exist", f.name, f.of)
		}
		if id := f.of + "/" + f.name; names[id] {
			t.Errorf("two faults are named %s", id)
		} else {
			names[id] = true
		}
	}
}
