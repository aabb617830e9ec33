package conformance

import (
	"context"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/polyvisor/polyvisor"
)

// Prefix begins the name of every domain that the suite makes.
const Prefix = "pvtest-"

// DefaultTimeout is the time limit of a case.
const DefaultTimeout = 2 * time.Minute

// Harness is a hypervisor to test and what is needed to test it. Open is
// required, everything else has a default. Fields may be added.
type Harness struct {
	// Open gives a new connection. All connections of one harness are to the
	// same hypervisor: a domain defined on one is seen on the others.
	Open func(ctx context.Context, opts ...polyvisor.Option) (*polyvisor.Conn, error)
	// Config describes a small guest that runs on this hypervisor until it is
	// told to stop. Name and UUID are ignored. If it is nil, a Config without
	// anything to boot and with 64 MiB of memory, or the least that the driver
	// takes, stands for it.
	Config *polyvisor.Config
	// Guest tells how to talk to that guest. Without it the cases that need its
	// word are skipped.
	Guest *Guest
	// Kernel is the content of a kernel that prints the CRC-32 (IEEE) of its initial
	// RAM disk, as eight hexadecimal digits, and obeys or prints its command line:
	// what package testkernel gives, for drivers that boot that. Without it the
	// suite compares only what Config tells of kernels.
	Kernel []byte
	// Dir is a directory, on the host of the hypervisor and on this one, where
	// files may be made. A temporary one is made if it is empty.
	Dir string
	// Node is the host as the tests know it by another way than the driver. Fields
	// that are zero are not known. It is optional; with it connection/identity proves
	// that the driver tells the truth about the host, and not only what could be true.
	Node polyvisor.Node
	// Require lists features whose absence is a failure and not a skip.
	Require []polyvisor.Feature
	// Timeout is the time limit of a case; DefaultTimeout if zero.
	Timeout time.Duration
	// Hang makes what runs a domain stop answering the hypervisor until release
	// is called, which may be after the end of the domain; ErrUnsupported if it
	// cannot. It is optional; with it list/while-busy proves that nothing waits for
	// one domain.
	Hang func(ctx context.Context, name string) (release func(), err error)
	// End ends the run of a domain for the reason, as the hypervisor does it and
	// not by an operation or by the guest's word; what cannot be brought about is
	// an error that matches ErrUnsupported. It is optional; with it wait/reasons
	// proves the reasons that no guest has a word for.
	End func(ctx context.Context, name string, reason polyvisor.StopReason) error
	// Close releases what the harness holds. It is optional.
	Close func() error
}

// RequireVariable is the environment variable that adds to Harness.Require.
const RequireVariable = "POLYVISOR_REQUIRE"

// requires reports whether the absence of a feature is a failure. Words of the
// variable that are no features are for others, such as tests that need a host.
func (h *Harness) requires(f polyvisor.Feature) bool {
	if slices.Contains(h.Require, f) {
		return true
	}
	for word := range strings.SplitSeq(os.Getenv(RequireVariable), ",") {
		if word = strings.TrimSpace(word); word == "all" || polyvisor.Feature(word) == f {
			return true
		}
	}
	return false
}

// Guest is how to talk to a guest on its console: lines of text, each answered
// by lines of text and the prompt. An empty command is one that the guest does
// not have.
type Guest struct {
	// Prompt is what the guest prints when it waits for a command. It does not
	// occur elsewhere in what it prints.
	Prompt string
	// Echo, followed by a space and a text, prints the text.
	Echo string
	// CPUs prints a line with the number of processors that run; Memory one with
	// the MiB of memory that answer. In both it is the first number.
	CPUs   string
	Memory string
	// Auto, followed by a command, stands at the end of the kernel's command line
	// and has the guest obey the command before it prints its first prompt.
	Auto string
	// PowerOff, Reboot and Crash end the run in that way.
	PowerOff string
	Reboot   string
	Crash    string
	// Block makes the guest wait for a resource, and Linger makes it take its time
	// when it is to shut down: it does not come to an end. Simulated guests have
	// them.
	Block  string
	Linger string
	// Busy computes without end, so that the guest uses CPU time.
	Busy string
	// Fill, followed by a space, a number of MiB, a space and a number, fills as much
	// memory in a way that the second number decides. Sum, followed by a space and a
	// number of MiB, prints a checksum of the same memory, and nothing that differs
	// while the memory is the same.
	Fill string
	Sum  string
	// Read, followed by a space, the target of a disk, a space and the number of
	// a sector of 512 bytes, reads that sector alone, once and not from a cache, and
	// prints the text at its beginning, which a zero byte ends.
	// Write, followed by the same and a space and a text, writes it; Flush,
	// followed by a space and the target, makes what was written durable. They
	// count where the driver declares FeatureDisks.
	Read  string
	Write string
	Flush string
	// Send, followed by a space and a number, sends as many Ethernet frames on
	// each NIC, all of which come back. It counts where the driver declares
	// FeatureNICs.
	Send string
	// NICs prints a line for each NIC, with its MAC address and, where the Config
	// has one, its MTU as a word of its own.
	NICs string
	// Put, followed by a space, the tag of a share, a space, the name of a file, a
	// space and a text, writes the text to the file in the share; Cat, followed by
	// the first two, prints the text that is in the file.
	Put string
	Cat string
	// Random, followed by a space and a number up to 64, prints as many bytes of the
	// random number generator, or the same each time if there is none.
	Random string
	// Size prints the numbers of columns and of rows of the guest's terminal,
	// 0 and 0 while they are not known.
	Size string
	// VsockServe, followed by a space and a port, has a program listen on that port of
	// the socket device, print "listening", take one connection, send back all that
	// comes until its end, and print "echoed" and the number of bytes.
	// VsockSend, followed by a space, a port of the host, a space and a text, connects
	// to the port, sends the text, closes that direction, and prints "answered" and
	// what it reads until the end.
	VsockServe string
	VsockSend  string
	// Tool is the beginning of a command that Exec runs in the guest, a program and its
	// first arguments, with spaces between. Followed by one of these words and its arguments it does as it says:
	//
	//	exit CODE    ends with the code
	//	die          ends by SIGKILL
	//	say OUT ERR  prints a line to the standard output, then one to the standard error
	//	cat          copies its input to its output
	//	args ARG...  prints each argument on a line, as Go's %q has it
	//	env NAME...  prints a line NAME=VALUE for each variable
	//	pwd, id      prints its directory; the numbers of its user and group
	//	await        prints "ready"; when its terminal gets a size, COLUMNS ROWS; at SIGINT
	//	             "interrupted", and ends with 3
	//	flood        prints without end, from several processes where a guest has them
	//
	// Another word has it complain of that to the standard error and end with 1.
	Tool string
}

// BuiltinGuest gives the words of the built-in guest of this project's drivers.
// A driver whose own guest speaks them declares FeatureBuiltinGuest and needs to
// say no more.
func BuiltinGuest() *Guest {
	return &Guest{
		Prompt: "pv> ", Echo: "echo", CPUs: "cpus", Memory: "mem", Auto: "auto=",
		PowerOff: "poweroff", Reboot: "reboot", Crash: "crash", Busy: "spin",
		Fill: "fill", Sum: "sum",
		Read: "read", Write: "write", Flush: "flush", Send: "send", NICs: "nics", Put: "put", Cat: "cat", Random: "random", Size: "size",
		VsockServe: "vsock-serve", VsockSend: "vsock-send", Tool: "tool",
	}
}

// WithoutDevices gives the guest without the words about disks, NICs, shares and
// random numbers, for one that has no drivers for them: the cases about devices then
// see what the host can see. g may be nil.
func (g *Guest) WithoutDevices() *Guest {
	if g == nil {
		return nil
	}
	c := *g
	c.Read, c.Write, c.Flush, c.Send, c.NICs, c.Put, c.Cat, c.Random, c.Tool = "", "", "", "", "", "", "", "", ""
	return &c
}
