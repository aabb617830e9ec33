package blk

// Feature bits, virtio 1.2 section 5.2.3.
const (
	FeatureSegMax      = 1 << 2
	FeatureReadOnly    = 1 << 5
	FeatureBlockSize   = 1 << 6
	FeatureFlush       = 1 << 9
	FeatureTopology    = 1 << 10
	FeatureConfigWCE   = 1 << 11
	FeatureMultiQueue  = 1 << 12
	FeatureDiscard     = 1 << 13
	FeatureWriteZeroes = 1 << 14
)

// Types of request, section 5.2.6.
const (
	typeIn          = 0
	typeOut         = 1
	typeFlush       = 4
	typeGetID       = 8
	typeDiscard     = 11
	typeWriteZeroes = 13
)

// Status bytes.
const (
	statusOK          = 0
	statusIOErr       = 1
	statusUnsupported = 2
)

const (
	deviceID   = 2
	headerSize = 16 // type, reserved, sector
	rangeSize  = 16 // of a discard: sector, number of sectors, flags
	flagUnmap  = 1
	idSize     = 20
)

// Offsets in the configuration space, section 5.2.4.
const (
	configCapacity    = 0
	configSegMax      = 12
	configBlockSize   = 20
	configPhysicalExp = 24
	configMinIO       = 26
	configOptIO       = 28
	configWriteback   = 32
	configQueues      = 34
	configMaxDiscard  = 36
	configDiscardSegs = 40
	configDiscardUnit = 44
	configMaxZeroes   = 48
	configZeroesSegs  = 52
	configZeroesUnmap = 56
	configSize        = 60
)

// Limits that are told to the driver.
const (
	queueSize  = 256
	segMax     = queueSize - 2 // and one descriptor each for header and status
	maxRanges  = 16            // of one discard or zeroing
	maxDiscard = 1 << 22       // sectors of one range: 2 GiB
	maxZeroes  = 1 << 16       // 32 MiB: they may have to be written one by one
	// discardUnit is what file systems give back at the least, in sectors.
	discardUnit = 8
)
