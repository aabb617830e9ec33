package acpi

import "encoding/binary"

// Flags of the FADT (ACPI 6.4, table 5.10).
const (
	fadtWBINVD       = 1 << 0
	fadtProcC1       = 1 << 2
	fadtNoFixedPower = 1 << 4 // the power button is a device, if there is one
	fadtNoFixedSleep = 1 << 5
	fadtNoFixedRTC   = 1 << 6
	fadtResetReg     = 1 << 10
	fadtReduced      = 1 << 20
)

// Boot architecture flags (ACPI 6.4, table 5.11). Two others are clear: 8042,
// so that kernels do not probe for a keyboard controller (the one there is
// answers, but the probe costs exits), and "MSI not supported".
const (
	bootNoVGA = 1 << 2
	bootNoRTC = 1 << 5
)

// fadt is the body of the fixed description table (ACPI 6.4, section 5.2.9),
// revision 6.4. What it leaves zero does not exist on a hardware-reduced
// machine.
func fadt(c *Config, dsdt uint64) []byte {
	const size = 276
	t := make([]byte, size) // offsets as in the specification, header included
	le := binary.LittleEndian
	le.PutUint32(t[40:], uint32(dsdt))
	// No SCI is ever raised. But a zero here would make the override of ISA
	// interrupt 0 look like one of the SCI.
	le.PutUint16(t[46:], uint16(c.EventGSI))
	le.PutUint16(t[96:], 101)  // latency of C2 in microseconds: too long, that is none
	le.PutUint16(t[98:], 1001) // the same of C3
	le.PutUint16(t[109:], bootNoVGA|bootNoRTC)
	le.PutUint32(t[112:], fadtWBINVD|fadtProcC1|fadtNoFixedPower|fadtNoFixedSleep|fadtNoFixedRTC|fadtResetReg|fadtReduced)
	putRegister(t[116:], c.IOBase+regReset)
	t[128] = resetValue
	t[131] = 4 // minor revision
	le.PutUint64(t[140:], dsdt)
	putRegister(t[244:], c.IOBase+regSleepControl)
	putRegister(t[256:], c.IOBase+regSleepStatus)
	return t[headerSize:]
}

// putRegister writes the generic address (ACPI 6.4, section 5.2.3.2) of a
// one-byte I/O port.
func putRegister(p []byte, port uint16) {
	const systemIO, byteAccess = 1, 1
	p[0], p[1], p[2], p[3] = systemIO, 8, 0, byteAccess
	binary.LittleEndian.PutUint64(p[4:], uint64(port))
}
