package polyvisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// Units for Bytes.
const (
	KiB = 1 << 10
	MiB = 1 << 20
	GiB = 1 << 30
	TiB = 1 << 40
)

// Bytes is a size in bytes. In JSON it is a number; a string such as "512MiB"
// is read too.
type Bytes uint64

// ParseBytes reads a size: a number of bytes, or a number followed by one of
// B, KiB, MiB, GiB, TiB (or K, M, G, T, which mean the same powers of 1024).
func ParseBytes(s string) (Bytes, error) {
	digits := strings.TrimRight(s, "KMGTiB ")
	n, err := strconv.ParseUint(digits, 10, 64)
	if errors.Is(err, strconv.ErrRange) {
		return 0, fmt.Errorf("size %q does not fit 64 bits", s)
	}
	if err != nil {
		return 0, fmt.Errorf("size %q: want a number and a unit, such as 512MiB", s)
	}
	var unit uint64
	switch strings.TrimSpace(s[len(digits):]) {
	case "", "B":
		unit = 1
	case "K", "KiB":
		unit = KiB
	case "M", "MiB":
		unit = MiB
	case "G", "GiB":
		unit = GiB
	case "T", "TiB":
		unit = TiB
	default:
		return 0, fmt.Errorf("size %q: unknown unit, want B, KiB, MiB, GiB or TiB", s)
	}
	hi, lo := bits.Mul64(n, unit)
	if hi != 0 {
		return 0, fmt.Errorf("size %q does not fit 64 bits", s)
	}
	return Bytes(lo), nil
}

// String gives the size in the largest unit that divides it.
func (b Bytes) String() string {
	for _, u := range [...]struct {
		size Bytes
		name string
	}{{TiB, "TiB"}, {GiB, "GiB"}, {MiB, "MiB"}, {KiB, "KiB"}} {
		if b >= u.size && b%u.size == 0 {
			return strconv.FormatUint(uint64(b/u.size), 10) + u.name
		}
	}
	return strconv.FormatUint(uint64(b), 10) + "B"
}

// UnmarshalJSON reads a number of bytes or a string for ParseBytes.
func (b *Bytes) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		var s string
		if err := json.Unmarshal(data, &s); err != nil {
			return err
		}
		v, err := ParseBytes(s)
		*b = v
		return err
	}
	var n uint64
	if err := json.Unmarshal(data, &n); err != nil {
		return fmt.Errorf("size %s: want a whole number of bytes or a string such as \"512MiB\"", data)
	}
	*b = Bytes(n)
	return nil
}
