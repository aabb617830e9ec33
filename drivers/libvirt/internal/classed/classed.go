// Package classed gives errors a class, such as a sentinel, without adding to
// their text: what a daemon, a file or a peer says is passed on as it is.
package classed

import (
	"errors"
	"fmt"
)

type classed struct{ class, cause error }

func (e *classed) Error() string   { return e.cause.Error() }
func (e *classed) Unwrap() []error { return []error{e.class, e.cause} }

// As makes an error match a class, in place of the one that As has given it
// before.
func As(class, err error) error {
	var c *classed
	if errors.As(err, &c) {
		err = c.cause
	}
	return &classed{class, err}
}

// Errorf makes an error of a class as fmt.Errorf does.
func Errorf(class error, format string, args ...any) error {
	return &classed{class, fmt.Errorf(format, args...)}
}
