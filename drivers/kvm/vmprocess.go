package kvm

import "github.com/polyvisor/polyvisor/drivers/kvm/vmmain"

// A program that was started as the process of a virtual machine ends here,
// before its main function.
func init() { vmmain.MaybeMain() }
