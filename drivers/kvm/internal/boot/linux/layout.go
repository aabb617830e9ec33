package linux

// Guest-physical addresses that the loader writes to or that it and its caller
// have agreed on.
const (
	// StartInfoAddr holds struct hvm_start_info of a PVH boot.
	StartInfoAddr = 0x6000
	// BootParamsAddr holds struct boot_params of a 64-bit boot.
	BootParamsAddr = 0x7000
	// CommandLineAddr holds the NUL-terminated kernel command line.
	CommandLineAddr = 0x20000
	// EBDAStart begins the range below 1 MiB that the guest is told is reserved.
	EBDAStart = 0x9fc00
	// HighMemory is the first address a kernel may be loaded at.
	HighMemory = 0x100000
	// HoleStart and HoleEnd enclose the addresses below 4 GiB that are never RAM.
	HoleStart = 3 << 30
	HoleEnd   = 4 << 30
	// DefaultRSDP is where the ACPI root pointer is looked for when [Config]
	// names no other address.
	DefaultRSDP = 0xe0000
)

const (
	pageSize       = 0x1000
	bootParamsSize = 0x1000
	startInfoArea  = BootParamsAddr - StartInfoAddr
	// defaultCommandLine is the limit of x86 kernels (COMMAND_LINE_SIZE less
	// the NUL) for images that do not say theirs.
	defaultCommandLine = 2047
	maxCommandLine     = EBDAStart - CommandLineAddr - 1
	// defaultInitrdMax is the highest initrd byte for images that do not say.
	defaultInitrdMax = 0x7fffffff
)
