//go:build linux

package net

import (
	"encoding/binary"
	"errors"
)

// Feature bits, virtio 1.2 section 5.1.3.
const (
	Csum              = 1 << 0
	GuestCsum         = 1 << 1
	CtrlGuestOffloads = 1 << 2
	MTU               = 1 << 3
	MAC               = 1 << 5
	GuestTSO4         = 1 << 7
	GuestTSO6         = 1 << 8
	HostTSO4          = 1 << 11
	HostTSO6          = 1 << 12
	MrgRxbuf          = 1 << 15
	Status            = 1 << 16
	CtrlVQ            = 1 << 17
	MQ                = 1 << 22

	guestOffloads = GuestCsum | GuestTSO4 | GuestTSO6
)

// hdrLen is the size of struct virtio_net_hdr_v1, virtio 1.2 section 5.1.6.
const hdrLen = 12

const (
	hdrFlags      = 0
	hdrGSOType    = 1
	hdrHdrLen     = 2
	hdrGSOSize    = 4
	hdrCsumStart  = 6
	hdrCsumOffset = 8
	hdrNumBuffers = 10

	flagNeedsCsum = 1
	flagDataValid = 2

	gsoNone  = 0
	gsoTCPv4 = 1
	gsoTCPv6 = 4
)

// Sizes of frames.
const (
	ethLen   = 14
	vlanLen  = 4
	maxFrame = 65535 + ethLen + vlanLen
)

var (
	errHeaderShort = errors.New("header or frame too short")
	errFrameLong   = errors.New("frame too long")
	errHeader      = errors.New("header asks for what was not negotiated, or for bytes beyond the frame")
)

// checkTx judges the header of a frame of n bytes that the guest sends, given the features that it negotiated. What
// passes may go to a tap.
func checkTx(h *[hdrLen]byte, n uint64, features uint64) error {
	switch {
	case n < ethLen:
		return errHeaderShort
	case n > maxFrame:
		return errFrameLong
	}
	needsCsum := h[hdrFlags]&flagNeedsCsum != 0
	if needsCsum {
		start := uint64(binary.LittleEndian.Uint16(h[hdrCsumStart:]))
		offset := uint64(binary.LittleEndian.Uint16(h[hdrCsumOffset:]))
		if features&Csum == 0 || start < ethLen || start+offset+2 > n {
			return errHeader
		}
	}
	switch h[hdrGSOType] {
	case gsoNone:
		return nil
	case gsoTCPv4:
		if features&HostTSO4 == 0 {
			return errHeader
		}
	case gsoTCPv6:
		if features&HostTSO6 == 0 {
			return errHeader
		}
	default: // UDP, ECN and what is yet to be invented are not offered
		return errHeader
	}
	if !needsCsum || binary.LittleEndian.Uint16(h[hdrGSOSize:]) == 0 || uint64(binary.LittleEndian.Uint16(h[hdrHdrLen:])) > n {
		return errHeader
	}
	return nil
}

// cleanTx clears what a device ignores in a header that passed, so that no back end stumbles over it.
func cleanTx(h *[hdrLen]byte) {
	h[hdrFlags] &= flagNeedsCsum
	if h[hdrFlags] == 0 {
		clear(h[hdrCsumStart:hdrNumBuffers])
	}
	if h[hdrGSOType] == gsoNone {
		clear(h[hdrHdrLen:hdrCsumStart])
	}
	clear(h[hdrNumBuffers:])
}

// checkRx judges the header of a frame of n bytes for a guest that takes the offloads given, and clears what it must not
// see. mtu is 0 where none was announced.
func checkRx(h *[hdrLen]byte, n int, offloads uint64, mtu uint16) error {
	if n < ethLen {
		return errHeaderShort
	}
	switch h[hdrGSOType] {
	case gsoNone:
		if mtu != 0 && n > int(mtu)+ethLen+vlanLen {
			return errFrameLong
		}
	case gsoTCPv4:
		if offloads&GuestTSO4 == 0 {
			return errHeader
		}
	case gsoTCPv6:
		if offloads&GuestTSO6 == 0 {
			return errHeader
		}
	default:
		return errHeader
	}
	if offloads&GuestCsum == 0 && h[hdrFlags]&flagNeedsCsum != 0 {
		return errHeader // the guest would take an unfinished checksum for a broken one
	}
	if offloads&GuestCsum == 0 {
		h[hdrFlags] = 0
	}
	h[hdrFlags] &= flagNeedsCsum | flagDataValid
	return nil
}
