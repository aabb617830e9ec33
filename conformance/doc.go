// Package conformance says what a driver must do, as a suite of cases that any
// driver can be held against: those of this project and everybody else's.
//
// A driver's test is a few lines:
//
//	func TestConformance(t *testing.T) {
//		conformance.Run(t, func(t *testing.T) conformance.Harness {
//			dir := t.TempDir()
//			return conformance.Harness{
//				Open: func(ctx context.Context, opts ...polyvisor.Option) (*polyvisor.Conn, error) {
//					return polyvisor.Open(ctx, "mine:///"+filepath.Base(filepath.Dir(dir)), opts...)
//				},
//				Config: &polyvisor.Config{Memory: 64 * polyvisor.MiB},
//				Guest:  conformance.BuiltinGuest(),
//				Dir:    dir,
//			}
//		})
//	}
//
// Check runs the same cases without package testing's machinery and gives the
// results as values; the command polyvisor conformance prints them.
//
// # Rules of the suite
//
// A case is a value, Case, which carries its rule in prose; a failure prints
// it. No case knows a driver's name: what is asked of a driver follows from the
// features that it declares.
//
// A skip must be earned: a case is skipped only if a feature that it needs is
// not declared, and then Harness.Require or the environment variable
// POLYVISOR_REQUIRE (names of features with commas, or "all") makes a failure
// of it. That a missing feature is refused, with ErrUnsupported and without any
// change, is tested as well: for each feature there is a case declared/NAME.
//
// Where the harness has a guest to talk to (Harness.Guest), what the driver
// tells is compared with what the guest sees, so that book-keeping alone does
// not pass.
//
// What no guest can say the harness can show: Harness.Kernel is a kernel that says
// what it was booted with, Harness.Hang makes a domain hang, Harness.End ends a
// run for a reason that lies outside of the guest. The command gives them for the
// drivers of this project.
//
// The suite touches only domains whose name begins with Prefix, refuses to
// begin where there are such domains already, and removes what it has made.
// Each case has a time limit, and so has what is done after it; when that is over
// the case fails with the stacks of all goroutines.
package conformance
