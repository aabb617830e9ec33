package guestmem

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// advise keeps the guest's memory out of core dumps and asks for huge pages if wanted. A kernel without huge pages says
// EINVAL to the latter, which is no reason to fail: it is advice.
func advise(ram []byte, o options) error {
	if err := unix.Madvise(ram, unix.MADV_DONTDUMP); err != nil {
		return fmt.Errorf("keep guest memory out of core dumps: %w", err)
	}
	if o.hugePages {
		_ = unix.Madvise(ram, unix.MADV_HUGEPAGE)
	}
	return nil
}
