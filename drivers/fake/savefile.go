package fake

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"syscall"

	"github.com/polyvisor/polyvisor"
)

// The file of a saved domain, all numbers little-endian:
//
//	 0  8 bytes  saveMagic
//	 8  uint32   saveVersion
//	12  uint32   length of the rest without the checksum
//	16  JSON     a savedRun
//	 -  uint32   CRC-32 (IEEE) of everything before it
const (
	saveMagic   = "PVFAKE\x1aS"
	saveVersion = 1
	saveHead    = 16
	// maxSaved bounds the file that Restore reads.
	maxSaved = 16 << 20
)

var le = binary.LittleEndian

// crcOf is the checksum of a saved domain.
func crcOf(b []byte) uint32 { return crc32.ChecksumIEEE(b) }

func encodeSaved(s *savedRun) ([]byte, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	b := append(make([]byte, 0, saveHead+len(text)+4), saveMagic...)
	b = le.AppendUint32(b, saveVersion)
	b = le.AppendUint32(b, uint32(len(text)))
	b = append(b, text...)
	return le.AppendUint32(b, crcOf(b)), nil
}

// readSaved reads the file of a saved domain.
func readSaved(path string) (*savedRun, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, classify(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSaved+1))
	if err != nil {
		return nil, classify(err)
	}
	if len(data) > maxSaved {
		return nil, fmt.Errorf("%w: more than %s, which no saved domain of this driver takes", polyvisor.ErrInvalidConfig, polyvisor.Bytes(maxSaved))
	}
	s, err := decodeSaved(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", polyvisor.ErrInvalidConfig, err)
	}
	return s, nil
}

// decodeSaved checks everything that runLocked relies on.
func decodeSaved(b []byte) (*savedRun, error) {
	switch {
	case len(b) < len(saveMagic) || string(b[:len(saveMagic)]) != saveMagic:
		return nil, errors.New("not a saved domain of the fake driver")
	case len(b) < saveHead+4:
		return nil, errors.New("it is cut off")
	}
	if v := le.Uint32(b[8:]); v != saveVersion {
		return nil, fmt.Errorf("format version %d; this program reads version %d", v, saveVersion)
	}
	if n := uint64(le.Uint32(b[12:])); uint64(len(b)) != saveHead+n+4 {
		return nil, fmt.Errorf("%d bytes, its head says %d: it is cut off or damaged", len(b), saveHead+n+4)
	}
	end := len(b) - 4
	if crcOf(b[:end]) != le.Uint32(b[end:]) {
		return nil, errors.New("the checksum is wrong: it is damaged")
	}
	dec := json.NewDecoder(bytes.NewReader(b[saveHead:end]))
	dec.DisallowUnknownFields()
	var s savedRun
	if err := dec.Decode(&s); err != nil {
		return nil, err
	}
	return &s, s.check()
}

func (s *savedRun) check() error {
	if s.Config == nil || s.Guest == nil {
		return errors.New("it holds no configuration or no guest")
	}
	if err := complete(s.Config); err != nil {
		return err
	}
	if s.Definition != nil {
		if s.Definition.Name != s.Config.Name || s.Definition.UUID != s.Config.UUID {
			return errors.New("the definition is that of another domain")
		}
		if err := complete(s.Definition); err != nil {
			return fmt.Errorf("definition: %w", err)
		}
	}
	if s.Ran < 0 || s.Guest.BootedAt < 0 || s.Guest.BootedAt > s.Ran || s.Guest.Boots < 0 {
		return errors.New("a time is negative")
	}
	g := s.Guest
	last := uint64(0)
	for _, r := range g.Memory.Fills {
		if r.End <= last || r.End > freeMiB(s.Config.Memory) {
			return errors.New("memory: the regions are out of order or outside the guest")
		}
		last = r.End
	}
	if len(g.Memory.Words) > maxWords {
		return errors.New("memory: too many single words")
	}
	for a := range g.Memory.Words {
		if a%8 != 0 || !inRAM(s.Config.Memory, a) {
			return fmt.Errorf("memory: no memory at %#x", a)
		}
	}
	if b := g.Balloon; b != nil && (*b < minMemory || polyvisor.Bytes(*b) > s.Config.MaxMemory) {
		return errors.New("balloon: a size outside the bounds")
	}
	if len(g.Line) > maxLine || len(g.Pending) > maxPending || len(g.Output) > 2*replay || g.Pressed > buttonReboot {
		return errors.New("the guest's state is out of bounds")
	}
	return nil
}

// complete checks a configuration that a file holds: valid, with its defaults
// filled in, within the bounds of the driver.
func complete(c *polyvisor.Config) error {
	if err := c.Validate(); err != nil {
		return err
	}
	*c = *c.WithDefaults()
	if c.Memory < minMemory || c.MaxMemory > maxMemory || c.MaxVCPUs > maxVCPUs || c.VCPUs > c.MaxVCPUs {
		return fmt.Errorf("domain %q: memory or processors are out of bounds: %s to %s, 1 to %d", c.Name, polyvisor.Bytes(minMemory), polyvisor.Bytes(maxMemory), maxVCPUs)
	}
	return nil
}
