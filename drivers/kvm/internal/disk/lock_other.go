//go:build !linux

package disk

import (
	"errors"
	"fmt"
	"os"
)

// Lock needs locks of open file descriptions as Linux has them.
func Lock(f *os.File, shared bool) error {
	return fmt.Errorf("disk image %s: lock: %w on this system", f.Name(), errors.ErrUnsupported)
}
