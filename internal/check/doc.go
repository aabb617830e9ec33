// Package check holds the rules of this repository as tests: who imports whom,
// where unsafe and ioctls are, how files are named, documented and formatted.
// It has no code of its own.
//
// A rule that a change has to bend is bent in the table beside the rule, with
// the reason; a test that fails says which table that is.
//
// Vetting for other systems needs the standard library compiled for them and
// is therefore done by `make lint`; what is tested here is that no package
// loses all its files there.
package check
