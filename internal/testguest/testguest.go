// Package testguest makes the Linux guest of tests and demonstrations: it finds
// an installed kernel, builds an initial RAM disk around a small init written
// in Go (directory init), and reads the reports that this init prints.
//
// # What the guest prints
//
// The first line of init is [FirstLine], at once, so that the time to it is the
// time to boot. Then come lines that start with [Prefix], each a key=value pair
// or one word; "ready" says that commands are read from the console, one a line:
//
//	report        release, cpus, memtotal_kib, memavailable_kib, uptime_ns,
//	              realtime_ns, clocksource, cmdline, then report=done
//	uptime, mem   the same lines alone
//	cpus          the number of processors, after those that were plugged in are on
//	mib           the machine's memory in MiB, less what a balloon has taken
//	echo TEXT     prints TEXT
//	flood BYTES   prints as many bytes and more
//	idle          sleeps for ever
//	spin [all]    computes for ever, on one processor or on all
//	poweroff      powers off
//	reboot        restarts; the kernel parameter reboot= says how
//	panic         makes the kernel panic; the parameter panic= says what follows
//	crash         the same, and a reset that follows is a triple fault
//
// With a virtio console init talks on that as soon as its driver is there.
//
// A press of the ACPI power button powers off too, whatever the guest does,
// when its modules are there. testguest.auto=report,poweroff on the kernel
// command line runs commands before the first one is read, and
// testguest.rest=COMMAND at the end of it one with spaces in it. testguest.prompt=WORD
// has WORD and a space printed whenever a command is awaited.
package testguest

// What init prints; package main in directory init has the same.
const (
	FirstLine = "POLYVISOR-GUEST-INIT"
	Prefix    = "testguest: "
	Ready     = Prefix + "ready" // commands are read from now on
)

// ButtonModules are the modules that the power button needs where a kernel does
// not have them built in.
func ButtonModules() []string { return []string{"button", "evdev"} }

// DeviceModules are the drivers of virtio devices, for Options.DeviceModules.
func DeviceModules() []string {
	return []string{"virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "virtio_rng", "vmw_vsock_virtio_transport"}
}
