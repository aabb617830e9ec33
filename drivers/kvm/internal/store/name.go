package store

import (
	"encoding/hex"
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// MaxNameLen is the longest name of a domain, in bytes.
const MaxNameLen = 255

// ValidateName says whether name can be the name of a domain: 1 to [MaxNameLen]
// bytes of UTF-8 without '/' and control characters. Names are never used as
// file names, so "." and ".." are names like any other.
func ValidateName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: empty", ErrInvalidName)
	case len(name) > MaxNameLen:
		return fmt.Errorf("%w: %d bytes long, at most %d are allowed", ErrInvalidName, len(name), MaxNameLen)
	case !utf8.ValidString(name):
		return fmt.Errorf("%w: %q is not valid UTF-8", ErrInvalidName, name)
	}
	for _, r := range name {
		if r == '/' || unicode.IsControl(r) {
			return fmt.Errorf("%w: %q contains %q; '/' and control characters are not allowed", ErrInvalidName, name, r)
		}
	}
	return nil
}

// UUID is the identity of a domain. It converts to and from any other [16]byte
// UUID type; this package does not import one, because it is linked into the VM
// process.
type UUID [16]byte

// String gives the canonical form, 36 characters in lower case.
func (u UUID) String() string {
	var b [36]byte
	hex.Encode(b[0:8], u[0:4])
	hex.Encode(b[9:13], u[4:6])
	hex.Encode(b[14:18], u[6:8])
	hex.Encode(b[19:23], u[8:10])
	hex.Encode(b[24:36], u[10:16])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

var errUUID = errors.New("not a UUID in canonical form")

// ParseUUID reads the canonical form that String gives.
func ParseUUID(s string) (UUID, error) {
	var u UUID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return UUID{}, fmt.Errorf("%q: %w", s, errUUID)
	}
	digits := s[0:8] + s[9:13] + s[14:18] + s[19:23] + s[24:36]
	if _, err := hex.Decode(u[:], []byte(digits)); err != nil {
		return UUID{}, fmt.Errorf("%q: %w", s, errUUID)
	}
	if u.String() != s {
		return UUID{}, fmt.Errorf("%q: %w", s, errUUID)
	}
	return u, nil
}

// MarshalText gives the canonical form.
func (u UUID) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText reads the canonical form.
func (u *UUID) UnmarshalText(b []byte) error {
	v, err := ParseUUID(string(b))
	if err != nil {
		return err
	}
	*u = v
	return nil
}
