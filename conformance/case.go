package conformance

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/polyvisor/polyvisor"
)

// Case is one rule and the code that tests it.
type Case struct {
	// Name is unique: a group, a slash, and what is tested.
	Name string
	// Features are those without which the case says nothing; it is skipped if
	// one is not declared.
	Features []polyvisor.Feature
	// Talks is set if the case needs the word of the guest (Harness.Guest).
	Talks bool
	// Words are names of fields of Guest. A guest that has none of these words
	// proves nothing in the case, which is then skipped.
	Words []string
	// Rule is what a driver must do, in prose.
	Rule string
	// Seeds are the functions and values of the reference APIs that the case
	// proves, by the names of docs/parity.md.
	Seeds []string
	// Run tests the rule.
	Run func(c *C)
}

// Feature gives the features of the case in one word, empty if it has none.
func (c Case) Feature() string {
	names := make([]string, len(c.Features))
	for i, f := range c.Features {
		names[i] = string(f)
	}
	return strings.Join(names, "+")
}

// groups are the parts of the suite in the order in which they run: what the
// later ones build upon comes first. What a driver declares decides which cases
// are run, so that is tested before all that relies on it.
var groups = []func() []Case{
	connectionCases, declaredCases, configCases, lookupCases, lifecycleCases, guestStateCases, uniqueCases, policyCases, waitCases, consoleCases,
	memoryCases, vcpuCases, deviceCases, vsockCases, execCases, fileCases, fieldCases, saveCases, xmlCases, metadataCases, statsCases, eventCases,
	cancelCases, loadCases, matrixCases, leakCases,
}

// Cases gives all cases of the suite in the order in which they run.
func Cases() []Case {
	var all []Case
	for _, g := range groups {
		all = append(all, g()...)
	}
	return all
}

// Status is the outcome of a case.
type Status string

// The outcomes.
const (
	Passed  Status = "passed"
	Failed  Status = "failed"
	Skipped Status = "skipped"
)

// Result is the outcome of one case.
type Result struct {
	Name    string        `json:"name"`
	Feature string        `json:"feature"`
	Status  Status        `json:"status"`
	Reason  string        `json:"reason"`
	Time    time.Duration `json:"-"`
}

// skip says why a case is not run, empty if it is.
func (c Case) skip(h *Harness, caps polyvisor.Capabilities) (reason string, required bool) {
	for _, f := range c.Features {
		if !caps.Has(f) {
			reason = fmt.Sprintf("feature %s is not declared", f)
			if why := caps.Reasons[f]; why != "" {
				reason += ": " + why
			}
			return reason, h.requires(f)
		}
	}
	if c.Talks && h.Guest == nil {
		return "the harness has no guest to talk to", slices.Contains(h.Require, polyvisor.FeatureConsole)
	}
	if len(c.Words) > 0 && !slices.ContainsFunc(c.Words, h.Guest.knows) {
		return "the harness's guest has no word for what the case needs: " + strings.Join(c.Words, " or "), slices.Contains(h.Require, polyvisor.FeatureConsole)
	}
	return "", false
}

// knows reports whether the guest has the word that the field of that name is
// about.
func (g *Guest) knows(field string) bool {
	return g != nil && reflect.ValueOf(*g).FieldByName(field).String() != ""
}
