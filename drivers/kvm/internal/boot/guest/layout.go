package guest

// Guest-physical addresses. guest.S has the same numbers; a test compares them.
// Below 1 MiB the guest uses one page at 0x8000, the code of the other
// processors.
const (
	imageAddr   = 0x100000 // code and constants, entry point
	varsAddr    = 0x104000 // end of the room for them; variables
	idtAddr     = 0x105000
	stackTop    = 0x108000
	infoAddr    = 0x108000
	infoSize    = 0x1000
	clockAddr   = 0x109000 // kvmclock
	tableAddr   = 0x10a000 // five pages of page tables
	memoryEnd   = 0x10f000
	devicesAddr = 0x110000 // devices.c, up to the next
	freeAddr    = 0x200000 // memory from here up is for fill, sum and mem

	legacyStart = 0x9fc00
	lowRAMMax   = 3 << 30
	highRAMAddr = 4 << 30
	highRAMMax  = 1<<52 - highRAMAddr
)

const (
	infoMagic         = "PVGUEST1"
	commandLineOffset = 1024

	// MaxCommandLine is the longest command line in bytes.
	MaxCommandLine = infoSize - commandLineOffset - 1
)
