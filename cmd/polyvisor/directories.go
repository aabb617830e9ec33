package main

import (
	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/cmd/polyvisor/internal/cli"
	"github.com/polyvisor/polyvisor/drivers/kvm"
)

func init() {
	cli.KVMDirectories = func(u *polyvisor.URI) (string, string, error) {
		d, err := kvm.DirectoriesOf(u)
		return d.State, d.Run, err
	}
}
