//go:build linux && amd64

package kvmapi

// APIVersion is the only version of the KVM interface there has been since Linux 2.6.22.
const APIVersion = 12

// Ioctl numbers (linux/kvm.h): direction, size, type 0xae, number.
const (
	ioGetAPIVersion       = 0xae00
	ioCreateVM            = 0xae01
	ioGetMSRIndexList     = 0xc004ae02
	ioCheckExtension      = 0xae03
	ioGetVCPUMmapSize     = 0xae04
	ioGetSupportedCPUID   = 0xc008ae05
	ioCreateVCPU          = 0xae41
	ioSetUserMemoryRegion = 0x4020ae46
	ioSetTSSAddr          = 0xae47
	ioSetIdentityMapAddr  = 0x4008ae48
	ioCreateIRQChip       = 0xae60
	ioIRQLine             = 0x4008ae61
	ioIRQFD               = 0x4020ae76
	ioCreatePIT2          = 0x4040ae77
	ioIOEventFD           = 0x4040ae79
	ioSetClock            = 0x4030ae7b
	ioGetClock            = 0x8030ae7c
	ioRun                 = 0xae80
	ioGetRegs             = 0x8090ae81
	ioSetRegs             = 0x4090ae82
	ioGetSregs            = 0x8138ae83
	ioSetSregs            = 0x4138ae84
	ioTranslate           = 0xc018ae85
	ioGetMSRs             = 0xc008ae88
	ioSetMSRs             = 0x4008ae89
	ioGetFPU              = 0x81a0ae8c
	ioSetFPU              = 0x41a0ae8d
	ioGetLapic            = 0x8400ae8e
	ioSetLapic            = 0x4400ae8f
	ioSetCPUID2           = 0x4008ae90
	ioGetMPState          = 0x8004ae98
	ioSetMPState          = 0x4004ae99
	ioSetTSCKHz           = 0xaea2
	ioSignalMSI           = 0x4020aea5
	ioGetTSCKHz           = 0xaea3
	ioKVMClockCtrl        = 0xaead
)

// Cap is a capability number, the argument of KVM_CHECK_EXTENSION.
type Cap uint32

// Capabilities this project asks for.
const (
	CapIRQChip           Cap = 0x00
	CapUserMemory        Cap = 0x03
	CapSetTSSAddr        Cap = 0x04
	CapExtCPUID          Cap = 0x07
	CapNrVCPUs           Cap = 0x09 // recommended number of vCPUs
	CapNrMemslots        Cap = 0x0a
	CapMPState           Cap = 0x0e
	CapIRQFD             Cap = 0x20
	CapPIT2              Cap = 0x21
	CapIOEventFD         Cap = 0x24
	CapSignalMSI         Cap = 0x4d
	CapSetIdentityMap    Cap = 0x25
	CapAdjustClock       Cap = 0x27
	CapInternalErrorData Cap = 0x28
	CapTSCControl        Cap = 0x3c
	CapGetTSCKHz         Cap = 0x3d
	CapMaxVCPUs          Cap = 0x42 // hard limit of vCPUs
	CapTSCDeadlineTimer  Cap = 0x48
	CapKVMClockCtrl      Cap = 0x4c
	CapIOEventFDAnyLen   Cap = 0x7a
	CapImmediateExit     Cap = 0x88
)

// ExitReason says why KVM_RUN came back.
type ExitReason uint32

// Exit reasons (linux/kvm.h, KVM_EXIT_...).
const (
	ExitUnknown       ExitReason = 0
	ExitException     ExitReason = 1
	ExitIO            ExitReason = 2
	ExitHypercall     ExitReason = 3
	ExitDebug         ExitReason = 4
	ExitHLT           ExitReason = 5
	ExitMMIO          ExitReason = 6
	ExitIRQWindowOpen ExitReason = 7
	ExitShutdown      ExitReason = 8
	ExitFailEntry     ExitReason = 9
	ExitIntr          ExitReason = 10
	ExitInternalError ExitReason = 17
	ExitSystemEvent   ExitReason = 24
	ExitIOAPICEOI     ExitReason = 26
)

// Sub-errors of [ExitInternalError].
const (
	InternalErrorEmulation            = 1
	InternalErrorSimulEx              = 2
	InternalErrorDeliveryEv           = 3
	InternalErrorUnexpectedExitReason = 4
)

// Event types of [ExitSystemEvent].
const (
	SystemEventShutdown = 1
	SystemEventReset    = 2
	SystemEventCrash    = 3
)

// Flags of [MemoryRegion].
const (
	MemLogDirtyPages = 1 << 0
	MemReadOnly      = 1 << 1
)

// Flags of [ClockData].
const (
	ClockTSCStable = 1 << 1
	ClockRealtime  = 1 << 2
	ClockHostTSC   = 1 << 3
)

// MPState is the multiprocessing state of a vCPU.
type MPState uint32

// Multiprocessing states of x86.
const (
	MPStateRunnable      MPState = 0
	MPStateUninitialized MPState = 1 // an application processor that waits for INIT and SIPI
	MPStateInitReceived  MPState = 2
	MPStateHalted        MPState = 3
	MPStateSIPIReceived  MPState = 4
)

const (
	irqfdFlagDeassign = 1 << 0

	ioeventfdFlagDatamatch = 1 << 0
	ioeventfdFlagPIO       = 1 << 1
	ioeventfdFlagDeassign  = 1 << 2

	cpuidFlagSignificantIndex = 1 << 0
)
