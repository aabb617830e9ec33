// Package vmmain is the main function of a virtual machine's process. The kvm
// driver starts that process; it links nothing that a virtual machine does not
// need, which is why it is a package apart from the driver.
//
// Programs that import the kvm driver need not call it: the driver's init
// function does. It is for a program like polyvisor-vmm, which is nothing else.
package vmmain

// MaybeMain runs a virtual machine and ends the process if the process was
// started for one by the kvm driver. Otherwise it returns at once. It is to be
// called before anything else.
func MaybeMain() { maybeMain() }
