// Package words tells the conformance suite how to talk to the Linux guest of package
// testguest.
package words

import "github.com/polyvisor/polyvisor/conformance"

const prompt = "pvguest>"

// CommandLine has the kernel boot in silence, and init print the prompt of [Guest].
const CommandLine = "console=ttyS0 quiet panic=-1 testguest.prompt=" + prompt

// Guest gives the words of the guest. Its crash is a panic: a machine without a device that
// tells of one sees the reboot that follows, so that there "crash", which ends in a triple
// fault, has to take its place.
func Guest() *conformance.Guest {
	return &conformance.Guest{
		Prompt: prompt + " ", Echo: "echo", CPUs: "cpus", Memory: "mib", Auto: "testguest.rest=",
		PowerOff: "poweroff", Reboot: "reboot", Crash: "panic", Busy: "spin",
		Read: "read", Write: "write", Flush: "flush", NICs: "nics", Random: "random", Size: "size",
		VsockServe: "vsock-serve", VsockSend: "vsock-send",
	}
}
