package domainxml

import (
	"fmt"
	"strings"

	"github.com/polyvisor/polyvisor"
)

// maxProblems bounds how many problems of one document are told.
const maxProblems = 200

// Problem is one thing that is wrong with a document, or that a Config cannot
// say.
type Problem struct {
	// Line counts from 1; 0 if the problem has no place.
	Line int
	// Path leads to the element or attribute, as in
	// "domain/devices/disk[2]/driver/@cache".
	Path   string
	Reason string
}

// String gives the problem with its place.
func (p Problem) String() string {
	var b strings.Builder
	if p.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", p.Line)
	}
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	return b.String() + p.Reason
}

// Error lists all problems of a document. It matches polyvisor.ErrInvalidConfig.
type Error struct {
	Problems []Problem
	// More is how many further problems were found and are not listed.
	More int
}

func (e *Error) Error() string {
	texts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		texts[i] = p.String()
	}
	text := "domain XML: " + strings.Join(texts, "; ")
	if e.More > 0 {
		text += fmt.Sprintf("; and %d more", e.More)
	}
	return text
}

// Is makes errors.Is(err, polyvisor.ErrInvalidConfig) true.
func (e *Error) Is(target error) bool { return target == polyvisor.ErrInvalidConfig }

// fail is the error of one problem.
func fail(line int, path, format string, args ...any) error {
	return &Error{Problems: []Problem{{line, path, fmt.Sprintf(format, args...)}}}
}
