//go:build linux

package guest

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/internal/agent/proto"
)

// put writes a file beside its name and then gives it the name, when all has come.
func put(l *proto.Link, p *proto.Put) error {
	path := string(p.Path)
	if err := checkPath(path); err != nil {
		return err
	}
	if fi, err := os.Stat(path); err == nil && !fi.Mode().IsRegular() {
		return proto.Fail(proto.FailInvalid, "%s is not a file", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".polyvisor-put-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it has its name
	defer f.Close()
	if err := f.Chmod(os.FileMode(p.Mode & 0o777)); err != nil {
		return err
	}
	in := l.Inbox(proto.Stdin)
	if err := l.Send(proto.TypeAnswer, proto.Answer{}); err != nil {
		return nil
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = l.Serve(func(proto.Type, []byte) error { return proto.ErrProtocol })
	}()
	_, err = in.WriteTo(f)
	var w *proto.WriteError
	switch {
	case err == nil:
		if err = f.Close(); err == nil {
			err = os.Rename(f.Name(), path)
		}
	case errors.As(err, &w):
		_ = in.Close()
	default: // the host has gone
		<-served
		return nil
	}
	return last(l, served, err)
}

// last sends the result of a request under way and waits for the host to close.
func last(l *proto.Link, served <-chan struct{}, err error) error {
	if err == nil {
		err = l.Send(proto.TypeAnswer, proto.Answer{})
	} else {
		err = l.Send(proto.TypeFailure, failureOf(err))
	}
	if err != nil {
		_ = l.Close()
	}
	<-served
	return nil
}

// get sends a file as long as it is when it is opened, or less if it becomes shorter.
func get(l *proto.Link, g *proto.Get) error {
	path := string(g.Path)
	if err := checkPath(path); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // not to wait for a pipe's writer
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() {
		return proto.Fail(proto.FailInvalid, "%s is not a file", path)
	}
	out := l.Outbox(proto.Stdout, nil)
	if err := l.Send(proto.TypeAnswer, proto.Answer{Size: fi.Size(), Mode: uint32(fi.Mode().Perm())}); err != nil {
		return nil
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = l.Serve(func(proto.Type, []byte) error { return proto.ErrProtocol })
	}()
	_, err = out.ReadFrom(f)
	var r *proto.ReadError
	if err != nil && !errors.As(err, &r) {
		_ = l.Close()
		<-served
		return nil
	}
	_ = out.Close()
	return last(l, served, err)
}

func checkPath(path string) error {
	for _, b := range []byte(path) {
		if b == 0 {
			return proto.Fail(proto.FailInvalid, "%q has a zero byte", path)
		}
	}
	if !filepath.IsAbs(path) {
		return proto.Fail(proto.FailInvalid, "%q does not begin with /", path)
	}
	return nil
}
