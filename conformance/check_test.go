package conformance_test

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/conformance"
)

func only(names ...string) conformance.CheckOption {
	return conformance.Only(func(c conformance.Case) bool { return slices.Contains(names, c.Name) })
}

// What is not the suite's own is not touched.
func TestRefusesToBegin(t *testing.T) {
	h := fakeHarness(t)
	conn, err := h.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	d, err := conn.Define(t.Context(), &polyvisor.Config{Name: conformance.Prefix + "mine"})
	if err != nil {
		t.Fatal(err)
	}
	results := conformance.Check(t.Context(), h, only("life/persistent"))
	if len(results) != 1 || results[0].Name != "begin" || !strings.Contains(results[0].Reason, "pvtest-mine") {
		t.Errorf("results %+v", results)
	}
	if s, err := d.State(t.Context()); err != nil || s != polyvisor.Shutoff {
		t.Errorf("the domain that was there is %s, %v", s, err)
	}
	if r := conformance.Check(t.Context(), conformance.Harness{}); len(r) != 1 || r[0].Status != conformance.Failed {
		t.Errorf("a harness without Open: %+v", r)
	}
}

// Domains with other names are left alone, and nothing of the suite is left.
func TestLeavesOthersAlone(t *testing.T) {
	h := fakeHarness(t)
	conn, err := h.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	d, err := conn.Define(t.Context(), &polyvisor.Config{Name: "precious"})
	if err == nil {
		err = d.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range conformance.Check(t.Context(), h) {
		// The ones that compare the whole list see one more.
		if r.Status == conformance.Failed && !strings.HasPrefix(r.Name, "stats/bulk") {
			t.Errorf("%s: %s", r.Name, r.Reason)
		}
	}
	all, err := conn.Domains(t.Context(), polyvisor.DomainFilter{})
	if s, serr := d.State(t.Context()); err != nil || serr != nil || len(all) != 1 || s != polyvisor.Running {
		t.Errorf("domains %v, state %s: %v, %v", all, s, err, serr)
	}
}

// less is a fake without a feature.
func less(t *testing.T, f polyvisor.Feature) conformance.Harness {
	lacks := &fault{caps: undeclare(f)}
	if f == polyvisor.FeatureGuestStates { // nothing that the root could refuse
		lacks.state = awake
		lacks.info = func(i *polyvisor.Info) { i.State = awake(i.State) }
	}
	h := wrongHarness(t, lacks)
	h.Require = nil
	return h
}

// undeclare declares all but f.
func undeclare(f polyvisor.Feature) func(*polyvisor.Capabilities) {
	return func(c *polyvisor.Capabilities) {
		c.Features = slices.DeleteFunc(c.Features, func(o polyvisor.Feature) bool { return o == f })
		c.Reasons = map[polyvisor.Feature]string{f: "out of order"}
	}
}

// awake is the state of a domain as told by a driver that does not look into guests.
func awake(s polyvisor.State) polyvisor.State {
	if s == polyvisor.Blocked {
		return polyvisor.Running
	}
	return s
}

// A skip has a reason, and none is allowed where the feature is required.
func TestSkipsAreEarned(t *testing.T) {
	const name = "save/persistent"
	h := less(t, polyvisor.FeatureSave)
	r := conformance.Check(t.Context(), h, only(name))[0]
	if r.Status != conformance.Skipped || r.Feature != "save" || r.Reason != "feature save is not declared: out of order" {
		t.Errorf("%+v", r)
	}
	if r := conformance.Check(t.Context(), h, only("declared/save"))[0]; r.Status != conformance.Passed {
		t.Errorf("an undeclared feature is refused, but: %+v", r)
	}
	h.Require = []polyvisor.Feature{polyvisor.FeatureSave}
	if r := conformance.Check(t.Context(), h, only(name))[0]; r.Status != conformance.Failed {
		t.Errorf("required by the harness: %+v", r)
	}
	h.Require = nil
	for _, words := range []string{"save", "somehost, save", "all"} {
		t.Setenv(conformance.RequireVariable, words)
		if r := conformance.Check(t.Context(), h, only(name))[0]; r.Status != conformance.Failed {
			t.Errorf("required by %q: %+v", words, r)
		}
	}
	t.Setenv(conformance.RequireVariable, "console,kvm")
	if r := conformance.Check(t.Context(), h, only(name))[0]; r.Status != conformance.Skipped {
		t.Errorf("not required: %+v", r)
	}
}

// A guest without the words of a case proves nothing in it, which is told. Where
// the guest's word is required, that is a failure.
func TestSkipsForWords(t *testing.T) {
	const name = "life/guest-states"
	h := fakeHarness(t)
	h.Require, h.Guest = nil, conformance.BuiltinGuest()
	r := conformance.Check(t.Context(), h, only(name))[0]
	if want := "the harness's guest has no word for what the case needs: Block or Linger"; r.Status != conformance.Skipped || r.Reason != want {
		t.Errorf("%+v, want it skipped: %s", r, want)
	}
	h.Guest.Block = "block" // one of them is something
	if r := conformance.Check(t.Context(), h, only(name))[0]; r.Status != conformance.Passed {
		t.Errorf("with one of the words: %+v", r)
	}
	h.Require, h.Guest.Block = polyvisor.Features(), ""
	if r := conformance.Check(t.Context(), h, only(name))[0]; r.Status != conformance.Failed {
		t.Errorf("required by the harness: %+v", r)
	}
	for _, c := range conformance.Cases() {
		for _, word := range c.Words {
			if f, ok := reflect.TypeFor[conformance.Guest]().FieldByName(word); !ok || f.Type.Kind() != reflect.String || !c.Talks {
				t.Errorf("%s needs %s, which is no word, or does not say that it talks", c.Name, word)
			}
		}
	}
}

// For every single feature: a driver without it is held to its refusal alone.
func TestWithoutEachFeature(t *testing.T) {
	for _, f := range polyvisor.Features() {
		if f == polyvisor.FeatureBuiltinGuest {
			continue // what the harness runs
		}
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			for _, r := range conformance.Check(t.Context(), less(t, f), conformance.Only(func(c conformance.Case) bool { return !strings.HasPrefix(c.Name, "leak/") })) {
				if r.Status == conformance.Failed {
					t.Errorf("%s: %s", r.Name, r.Reason)
				}
			}
		})
	}
}

// A driver that hangs for ever fails the case with the stacks of all goroutines.
func TestTimeLimit(t *testing.T) {
	hang := make(chan struct{})
	h := wrongHarness(t, &fault{op: on("start", func(*call, func() error) error { <-hang; return nil })})
	h.Timeout /= 10
	r := conformance.Check(t.Context(), h, only("life/persistent"))[0]
	close(hang)
	if r.Status != conformance.Failed || !strings.Contains(r.Reason, "still running after") || !strings.Contains(r.Reason, "goroutine ") {
		t.Errorf("%+v", r)
	}
}

// A connection whose Close hangs fails the case, and the next one runs.
func TestCloseHangs(t *testing.T) {
	hang := make(chan struct{})
	h := wrongHarness(t, &fault{op: on("close", func(c *call, next func() error) error {
		// The first closing is the suite's own, before it begins.
		if c.d.h.count("close") == 2 {
			<-hang
		}
		return next()
	})})
	h.Timeout = 100 * time.Millisecond
	results := conformance.Check(t.Context(), h, only("life/persistent", "life/destroy"))
	close(hang)
	if len(results) != 2 {
		t.Fatalf("%+v", results)
	}
	if r := results[0]; r.Status != conformance.Failed || !strings.Contains(r.Reason, "after the case closing the connection does not return within 500ms") {
		t.Errorf("%+v", r)
	}
	if r := results[1]; r.Status != conformance.Passed {
		t.Errorf("%+v", r)
	}
}

// The end of the caller's context ends the run.
func TestCheckEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	results := conformance.Check(ctx, fakeHarness(t), conformance.Progress(func(conformance.Result) {
		if n++; n == 3 {
			cancel()
		}
	}))
	if len(results) != 3 {
		t.Errorf("%d results after 3", len(results))
	}
}

// Every case says what it tests.
func TestCasesAreComplete(t *testing.T) {
	for _, c := range conformance.Cases() {
		if c.Run == nil || len(c.Rule) < 40 || !strings.HasSuffix(c.Rule, ".") || !strings.Contains(c.Name, "/") || strings.ContainsAny(c.Name, " \n") {
			t.Errorf("case %q: %q", c.Name, c.Rule)
		}
		for _, f := range c.Features {
			if !slices.Contains(polyvisor.Features(), f) {
				t.Errorf("case %s needs the unknown feature %q", c.Name, f)
			}
		}
	}
}
