//go:build !linux || !amd64

package vmmain

// There are no virtual machines of this driver here.
func maybeMain() {}
