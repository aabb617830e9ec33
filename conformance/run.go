package conformance

import "testing"

// Run runs every case as a subtest, each with a harness of its own.
func Run(t *testing.T, newHarness func(t *testing.T) Harness) {
	t.Helper()
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) {
			h := newHarness(t)
			if h.Close != nil {
				defer func() {
					if err := h.Close(); err != nil {
						t.Errorf("closing the harness: %v", err)
					}
				}()
			}
			done, err := h.begin(t.Context())
			if err != nil {
				t.Fatalf("begin: %v", err)
			}
			defer done()
			r := h.run(t.Context(), c)
			switch r.Status {
			case Failed:
				t.Errorf("%s\nthe rule: %s", r.Reason, c.Rule)
			case Skipped:
				t.Skip(r.Reason)
			}
		})
	}
}
