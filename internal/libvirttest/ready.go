package libvirttest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// startLimit bounds the start of a daemon, on a machine that may be busy with other things.
const startLimit = time.Minute

// probeLimit bounds one attempt to talk to a daemon.
const probeLimit = 10 * time.Second

// errEnded is what waitFor's error wraps if the program ended.
var errEnded = errors.New("it ended")

// waitFor asks until probe has no complaint.
func (d *Daemon) waitFor(p *process, log string, probe func() error) error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	for {
		err := probe()
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			return fmt.Errorf("start %s: %w (%s); its log:\n%s", p.name, errEnded, p.exit, d.tree.tail(log))
		case <-ctx.Done():
			return fmt.Errorf("start %s: not ready within %v: %w; its log:\n%s", p.name, startLimit, err, d.tree.tail(log))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// probeCall asks for the kinds of authentication, which is the only call that needs none, and returns when the
// daemon has answered: it does so when its drivers are up.
func probeCall(socket string) error {
	c, err := net.DialTimeout("unix", socket, probeLimit)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(probeLimit)); err != nil {
		return err
	}
	return probeCallOn(c)
}

func probeCallOn(c net.Conn) error {
	const (
		program  = 0x20008086 // REMOTE_PROGRAM
		authList = 66         // REMOTE_PROC_AUTH_LIST
		size     = 28         // of a header with its length
	)
	var call []byte
	for _, field := range []uint32{size, program, 1, authList, 0, 0, 0} { // length, program, version, procedure, call, serial, status
		call = binary.BigEndian.AppendUint32(call, field)
	}
	if _, err := c.Write(call); err != nil {
		return err
	}
	var reply [size]byte
	if _, err := io.ReadFull(c, reply[:]); err != nil {
		return err
	}
	if status := binary.BigEndian.Uint32(reply[size-4:]); status != 0 {
		return fmt.Errorf("libvirtd answers with status %d", status)
	}
	// The rest is read so that it is not lost to the daemon, which would log that.
	rest := min(max(int64(binary.BigEndian.Uint32(reply[:])), size)-size, 64<<10)
	_, err := io.CopyN(io.Discard, c, rest)
	return err
}

// probeBanner checks what a server says first.
func probeBanner(addr, banner string) error {
	c, err := net.DialTimeout("tcp", addr, probeLimit)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(probeLimit)); err != nil {
		return err
	}
	said := make([]byte, len(banner))
	if _, err := io.ReadFull(c, said); err != nil {
		return err
	}
	if !strings.EqualFold(string(said), banner) {
		return fmt.Errorf("%s says %q", addr, said)
	}
	return nil
}
