//go:build linux && amd64

package vmm

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"os"
	"sync/atomic"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/acpi"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/cmos"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/fwcfg"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/guestmem"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/kvmapi"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/pci"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/pflash"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/q35"
)

// A machine with firmware is a Q35 to it, and looks so below 4 GiB: memory up to 2 GiB, then what belongs to PCI, wherever in
// it the firmware puts configuration space and BARs.
const (
	firmwareHole    = 0x80000000
	firmwareHoleEnd = 0xfc000000
	firmwareECAM    = 0xb0000000 // until the firmware says where
	q35WindowSize   = 256 << 20  // of configuration space, of which bus 0 is the first MiB
	firmwareACPI    = 0x700      // the usual ports are the south bridge's
	fourGiB         = 1 << 32
)

// Slots of KVM; those of memory come before.
const (
	slotFirmware  = 8
	slotVariables = 9
)

// Sizes of firmware images.
const (
	minFirmware = 64 << 10
	maxFirmware = 16 << 20
)

// firmware is what a machine with firmware has beside others.
type firmware struct {
	code, variables *guestmem.ROM
	flash           *pflash.Device
	ecam            atomic.Uint64 // where configuration space is, 0 for nowhere
}

// openFirmware reads the image into memory of its own, which the file's changes do not reach.
func (m *Machine) openFirmware(opts Options) error {
	f := opts.Files[m.spec.Boot.Firmware]
	if f == nil {
		return fmt.Errorf("%w: the firmware is not open", ErrSpec)
	}
	fi, err := f.Stat()
	if err != nil {
		return fmt.Errorf("firmware: %w", err)
	}
	size := fi.Size()
	if size < minFirmware || size > maxFirmware || size%guestmem.PageSize != 0 {
		return fmt.Errorf("%w: firmware of %d bytes: an image for a PC has a multiple of %d bytes, %d to %d (on Debian /usr/share/OVMF/OVMF_CODE_4M.fd)",
			ErrSpec, size, guestmem.PageSize, minFirmware, maxFirmware)
	}
	m.firmware = &firmware{}
	if m.firmware.code, err = m.readROM(f, uint64(size)); err != nil {
		return fmt.Errorf("firmware: %w", err)
	}
	// An image that is less than a power of two leaves the rest, before it, to the variables; one that is whole has a place
	// for them that cannot be written, and firmware keeps them in memory then.
	rest := uint64(1)<<bits.Len64(uint64(size)-1) - uint64(size)
	if rest == 0 {
		return nil
	}
	variables := opts.Files[m.spec.Boot.Variables]
	if m.firmware.variables, err = m.readROM(variables, rest); err != nil {
		return fmt.Errorf("variables of the firmware: %w", err)
	}
	return nil
}

// readROM fills memory from a file, and what that has not with ones, as erased flash memory has them.
func (m *Machine) readROM(f *os.File, size uint64) (*guestmem.ROM, error) {
	rom, err := guestmem.NewROM(size)
	if err != nil {
		return nil, err
	}
	m.undo.add(rom.Close)
	b, n := rom.Bytes(), 0
	if f != nil {
		if n, err = f.ReadAt(b, 0); err != nil && err != io.EOF {
			return nil, err
		}
	}
	for i := range b[n:] {
		b[n+i] = 0xff
	}
	return rom, nil
}

// mapFirmware lets the guest see the image, which ends at 4 GiB, and the variables before it.
func (m *Machine) mapFirmware(opts Options) error {
	f := m.firmware
	code := uint64(len(f.code.Bytes()))
	if err := m.showROM(slotFirmware, f.code, fourGiB-code, true); err != nil {
		return fmt.Errorf("firmware: %w", err)
	}
	if f.variables == nil {
		return nil
	}
	size := uint64(len(f.variables.Bytes()))
	base := fourGiB - code - size
	failed := func(err error) {
		if opts.OnDeviceError != nil {
			opts.OnDeviceError("firmware", err.Error())
		}
	}
	cfg := pflash.Config{Memory: f.variables.Bytes(), OnError: failed, Show: func(on bool) {
		if err := m.showROM(slotVariables, f.variables, base, on); err != nil {
			failed(err)
		}
	}}
	if store := opts.Files[m.spec.Boot.Variables]; store != nil {
		cfg.Store = store
	}
	var err error
	if f.flash, err = pflash.New(cfg); err != nil {
		return err
	}
	cfg.Show(true)
	return m.platform.add(m.platform.mem, base, size, "flash", f.flash)
}

// showROM makes or removes a slot of memory that the guest cannot write.
func (m *Machine) showROM(slot uint32, rom *guestmem.ROM, base uint64, on bool) error {
	r := kvmapi.MemoryRegion{Slot: slot, Flags: kvmapi.MemReadOnly, GuestPhysAddr: base, UserspaceAddr: uint64(rom.HostAddr())}
	if on {
		r.Size = uint64(len(rom.Bytes()))
	}
	return m.vm.SetUserMemoryRegion(r)
}

// addChipset adds the parts of a Q35 to the platform that are not on the PCI bus.
func (m *Machine) addChipset() error {
	p := m.platform
	low, high := m.lowAndHigh()
	cfg := fwcfg.New()
	cfg.Add(fwcfg.ItemMemory, binary.LittleEndian.AppendUint64(nil, m.spec.Memory))
	for _, item := range []uint16{fwcfg.ItemCPUs, fwcfg.ItemMaxCPUs} {
		cfg.Add(item, binary.LittleEndian.AppendUint16(nil, uint16(m.spec.VCPUs)))
	}
	ram := memoryMap(low, high)
	// The tables tell where configuration space is, which the firmware decides before it asks for them.
	tables := func() *acpi.Files {
		t, err := acpi.BuildFiles(m.firmwareTables())
		if err != nil {
			return &acpi.Files{}
		}
		return t
	}
	first, err := acpi.BuildFiles(m.firmwareTables())
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		size int
		get  func() []byte
	}{
		{"etc/e820", len(ram), func() []byte { return ram }},
		{acpi.FileRSDP, len(first.RSDP), func() []byte { return tables().RSDP }},
		{acpi.FileTables, len(first.Tables), func() []byte { return tables().Tables }},
		{acpi.FileLoader, len(first.Loader), func() []byte { return first.Loader }},
	} {
		if err := cfg.AddFile(f.name, f.size, f.get); err != nil {
			return err
		}
	}
	power := q35.NewPower(func() { m.requestStop(Stop{StopShutdown, "power management register"}) })
	if err := p.add(p.ports, fwcfg.Port, fwcfg.Size, "fw_cfg", cfg); err != nil {
		return err
	}
	if err := p.add(p.ports, cmos.Port, cmos.Size, "cmos", cmos.New(low, high, nil)); err != nil {
		return err
	}
	return p.add(p.ports, q35.PMPort, q35.PMSize, "pm", power)
}

// lowAndHigh is how much memory lies below and above 4 GiB.
func (m *Machine) lowAndHigh() (low, high uint64) {
	low = min(m.spec.Memory, m.spec.hole())
	return low, m.spec.Memory - low
}

// memoryMap lists memory as the firmware wants it: address, size and type in 20 bytes.
func memoryMap(low, high uint64) []byte {
	const usable = 1
	le := binary.LittleEndian
	t := le.AppendUint64(nil, 0)
	t = le.AppendUint64(t, low)
	t = le.AppendUint32(t, usable)
	if high > 0 {
		t = le.AppendUint64(t, fourGiB)
		t = le.AppendUint64(t, high)
		t = le.AppendUint32(t, usable)
	}
	return t
}

// firmwareTables says what the ACPI tables are to tell.
func (m *Machine) firmwareTables() acpi.Config {
	c := tablesOf(&m.spec, firmwareACPI)
	ecam := m.firmware.ecam.Load()
	if ecam < firmwareHole || ecam > firmwareHoleEnd-q35WindowSize {
		ecam = firmwareECAM
	}
	// Before configuration space and behind it.
	end := min(ecam+q35WindowSize, firmwareHoleEnd-guestmem.PageSize)
	low := acpi.Window{Base: firmwareHole, Size: ecam - firmwareHole}
	high := acpi.Window{Base: end, Size: firmwareHoleEnd - end}
	if low.Size == 0 {
		low = high
	}
	c.PCI = &acpi.PCI{ECAM: ecam, WindowBase: low.Base, WindowSize: low.Size, More: []acpi.Window{high}}
	return c
}

// newFirmwarePCI puts the bus into the platform as a Q35's: reached by ports, and by a window once the firmware has said
// where.
func (m *Machine) newFirmwarePCI() (*pciBus, error) {
	p := m.platform
	b := &pciBus{vm: m.vm, p: p, low: firmwareHole, high: firmwareHoleEnd}
	window := &counted{name: "pci"}
	p.counts = append(p.counts, window)
	var at uint64 // where the window answers; the bridge lets one processor at a time change it
	b.bus = pci.NewBusWith(q35.HostBridge(func(base uint64) {
		if at != 0 {
			_ = p.mem.Remove(at, pci.ECAMSize)
			at = 0
		}
		m.firmware.ecam.Store(base)
		if base >= firmwareHole && base < firmwareHoleEnd && p.mem.Add(base, pci.ECAMSize, window.name, window) == nil {
			at = base
		}
	}))
	window.Device = b.bus
	if err := b.bus.AddAt(q35.LPCSlot, q35.SouthBridge()); err != nil {
		return nil, err
	}
	ports := pci.NewPorts(b.bus, func(v byte) {
		if q35.Resets(v) {
			m.requestStop(Stop{StopReboot, "reset control register"})
		}
	})
	if err := p.add(p.ports, pci.AddressPort, 4, "pci", ports.Address()); err != nil {
		return nil, err
	}
	return b, p.add(p.ports, pci.DataPort, 4, "pci", ports)
}
