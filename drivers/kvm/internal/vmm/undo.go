package vmm

import "errors"

// undoList is what has to be given back, in the order it was taken.
type undoList []func() error

func (u *undoList) add(f func() error) { *u = append(*u, f) }

// run undoes everything in reverse, errors notwithstanding, and empties the list.
func (u *undoList) run() error {
	var errs []error
	for i := len(*u) - 1; i >= 0; i-- {
		if err := (*u)[i](); err != nil {
			errs = append(errs, err)
		}
	}
	*u = nil
	return errors.Join(errs...)
}
