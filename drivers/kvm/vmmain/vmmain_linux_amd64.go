package vmmain

import (
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/machine"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/vmmproc"
)

func maybeMain() { vmmproc.MaybeMain(machine.New) }
