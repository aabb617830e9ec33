//go:build !linux

package guestmem

// advise does nothing: other systems have no such advice.
func advise([]byte, options) error { return nil }
