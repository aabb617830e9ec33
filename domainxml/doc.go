// Package domainxml reads and writes a polyvisor.Config as libvirt domain XML.
//
// Format writes through the structures of libvirt.org/go/libvirtxml; what it
// writes is valid by libvirt's schema. Parse reads the elements itself, because
// those structures drop what they do not know: every element and attribute that
// a Config cannot say is refused, all of them in one *Error with their lines and
// paths, so that nobody's setting is lost without a word. For every valid Config
// c without open files, Parse(Format(c)) gives c with its defaults.
//
// # What stands for what
//
//	name, title, uuid             Name, Title, UUID
//	memory, currentMemory         MaxMemory, Memory, in any of libvirt's units; as in
//	                              libvirt, what is left out of currentMemory is memory
//	vcpu, vcpu/@current           MaxVCPUs, VCPUs
//	cputune/vcpupin               VCPU[].Affinity
//	cpu/topology                  Topology
//	os/kernel, initrd, cmdline    Boot.Kernel, Initrd, CommandLine
//	os/loader                     Boot.Firmware
//	on_poweroff, _reboot, _crash  OnPoweroff, OnReboot, OnCrash
//	devices/serial/log/@file      Console.Log, always appended to
//	devices/disk                  Disks: type file (or block, when read), bus virtio;
//	                              readonly is DeviceReadOnly, shareable
//	                              DeviceReadWriteForce
//	devices/interface             NICs: types user, bridge, network, and ethernet,
//	                              whose target/@dev is the tap device
//	devices/filesystem            Shares, by virtiofs
//	devices/rng, vsock            RNG, Vsock
//	devices/memballoon            Balloon: model virtio or none; none if there is no
//	                              such element, where libvirt would add a balloon
//
// libvirt has no element for the rest, which stands in one element of the
// namespace Namespace below <metadata>, where libvirt keeps it: instance ID,
// autostart, labels, that no source of random numbers was named, the weights of virtual CPUs (libvirt has one for the whole
// domain), files of memory, console and log, protection (launchSecurity names
// one vendor's way, a Config does not), the modes of devices that have no
// element above, the interfaces whose guests reach the host's loopback, and those with one pair of queues, which libvirt takes for none said. Strings with characters that XML cannot hold, such as an escape
// in a command line, are kept there in base64 and stand with U+FFFD in their
// place. A single device has no metadata: there the mode, as well as
// hostLoopback="yes", is an attribute of the namespace, and such a string is an error.
//
// # What is read over
//
// These mean nothing to a Config, or say what is so in any case. They are
// accepted and not kept:
//
//	domain/@type and @id          the hypervisor is that of the connection; lxc and openvz, which have
//	                              containers, are refused
//	os/type                       must be hvm; @arch must be x86_64; @machine is free
//	os/boot dev="hd"              with a loader, a kernel, or no disk: else the disk
//	                              would not be what boots
//	features                      acpi, apic and pae without settings; vmport "off"
//	cpu/@mode                     host-passthrough or host-model, with @check and
//	                              @migratable
//	clock/@offset                 utc
//	pm                            with everything off
//	vcpu/@placement               static
//	memoryBacking                 source memfd and access shared, which virtiofs needs
//	resource, seclabel            libvirt's own: partition /machine, types none and
//	                              dynamic
//	devices/emulator              the hypervisor is that of the connection
//	devices/controller            of types pci, usb, ide, sata, scsi, virtio-serial:
//	                              what hangs on them is read or refused itself
//	devices/input                 mouse and keyboard on bus ps2
//	devices/console               the twin of the serial port, or alone (a virtio one is Console.Virtio)
//	devices/video, audio          of the type none
//	devices/panic                 models isa and pvpanic: a crash is told in any case
//	address, alias of a device    given by the hypervisor
//	target/@dev of an interface   if it begins with vnet or testnet, as libvirt's own do
//
// ParseLoose leaves out what a Config cannot say, and tells it.
//
// XML from strangers is bounded: MaxSize bytes, 64 levels, 100,000 elements and
// attributes, no document type and so no entities but XML's own.
package domainxml

// Namespace is the XML namespace of what libvirt has no element for.
const Namespace = "https://polyvisor.dev/xmlns/domain/1"

// MaxSize is the most bytes of XML that are read, as many as libvirt sends.
const MaxSize = 4 << 20
