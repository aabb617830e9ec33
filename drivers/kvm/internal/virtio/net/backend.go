//go:build linux

package net

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Stats of a device since it was made, over all queues. Bytes are those of frames without the virtio header.
type Stats struct {
	RxPackets, RxBytes uint64
	RxDrops            uint64 // frames that the guest had no buffer large enough for, or could not take
	RxErrors           uint64 // buffers of the guest that could not be used
	TxPackets, TxBytes uint64
	TxDrops            uint64 // frames that the back end did not take
	TxErrors           uint64 // frames of the guest that were malformed
	CtrlErrors         uint64 // commands that were refused
}

type counters struct {
	rxPackets, rxBytes, rxDrops, rxErrors atomic.Uint64
	txPackets, txBytes, txDrops, txErrors atomic.Uint64
}

// Stats counts since New.
func (d *Device) Stats() Stats {
	s := Stats{CtrlErrors: d.ctrlErrors.Load()}
	for _, p := range d.pairs {
		s.RxPackets += p.rxPackets.Load()
		s.RxBytes += p.rxBytes.Load()
		s.RxDrops += p.rxDrops.Load()
		s.RxErrors += p.rxErrors.Load()
		s.TxPackets += p.txPackets.Load()
		s.TxBytes += p.txBytes.Load()
		s.TxDrops += p.txDrops.Load()
		s.TxErrors += p.txErrors.Load()
	}
	return s
}

// pair is the back end's file of one pair of queues.
type pair struct {
	counters
	file *os.File
	conn syscall.RawConn
	ends bool // an empty message is the end: a connection
}

func newPair(f *os.File) (*pair, error) {
	if f == nil {
		return nil, errors.New("no file")
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	if err := f.SetDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("%w: it cannot be polled (open it with O_NONBLOCK)", err)
	}
	p := &pair{file: f, conn: conn}
	var flags int
	var fault error
	err = conn.Control(func(fd uintptr) {
		flags, fault = unix.FcntlInt(fd, unix.F_GETFL, 0)
		if kind, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TYPE); err == nil {
			p.ends = kind == unix.SOCK_SEQPACKET
			if kind == unix.SOCK_STREAM {
				fault = errors.New("a stream socket keeps no frames apart (use SOCK_SEQPACKET or SOCK_DGRAM)")
			}
		}
	})
	if err := errors.Join(err, fault); err != nil {
		return nil, err
	}
	if flags&unix.O_NONBLOCK == 0 {
		return nil, errors.New("file is blocking (set O_NONBLOCK before os.NewFile)")
	}
	return p, nil
}

// dropped tells whether an error of a write concerns one frame only: a tap that is down says EIO, a header that the
// kernel does not like is EINVAL, and memory or queues may be short.
func dropped(err error) bool {
	switch err {
	case unix.EIO, unix.EINVAL, unix.EMSGSIZE, unix.ENOBUFS, unix.ENOMEM, unix.EFAULT:
		return true
	}
	return false
}
