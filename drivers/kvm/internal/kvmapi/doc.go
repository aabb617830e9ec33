// Package kvmapi is the KVM kernel interface of linux/amd64 as typed Go calls.
//
// It is the only package that makes KVM ioctls. Calls are split by the kind of descriptor that takes them: [System]
// (/dev/kvm), [VM] and [VCPU], as in the kernel's own description of the interface
// (Documentation/virt/kvm/api.rst). The structs have the layout of linux/kvm.h and asm/kvm.h. The last line of every
// method's comment names the capability (KVM_CAP_...) that it needs; "basic" means that API version 12 has it always.
//
// Except for [VCPU.Run] every call is retried when a signal interrupts it. Run reports EINTR to the caller, who must take
// it as "look whether somebody wants something": the Go runtime's own preemption signal ends KVM_RUN at any time.
//
// Descriptors belong to the value that opened them; Close releases them once. Calls are safe for concurrent use as far as
// the kernel makes them so: a VCPU's calls belong on the thread that runs it.
package kvmapi
