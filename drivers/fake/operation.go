package fake

import (
	"fmt"
	"slices"
	"strings"
)

// operation is one call of the driver that faults and latencies can name.
type operation uint8

const (
	opAny operation = iota
	opOpen
	opVersion
	opNode
	opDefine
	opCreate
	opRestore
	opLookup
	opList
	opSubscribe
	opState
	opInfo
	opConfig
	opStart
	opDestroy
	opUndefine
	opWait
	opSuspend
	opResume
	opShutdown
	opReboot
	opConsole
	opDialVsock
	opListenVsock
	opWaitReady
	opExec
	opSave
	opCoreDump
	opSetMemory
	opSetMaxMemory
	opSetVCPUs
	opVCPUs
	opPinVCPU
	opConfigureVCPU
	opAttachDevice
	opDetachDevice
	opUpdateDevice
	opSetLabels
	opSetAutostart
	opRename
	opStats
)

var operations = [...]string{
	opAny: "*", opOpen: "open", opVersion: "version", opNode: "node-info", opDefine: "define", opCreate: "create",
	opRestore: "restore", opLookup: "lookup", opList: "list", opSubscribe: "subscribe", opState: "state", opInfo: "info",
	opConfig: "config", opStart: "start", opDestroy: "destroy", opUndefine: "undefine", opWait: "wait",
	opSuspend: "suspend", opResume: "resume", opShutdown: "shutdown", opReboot: "reboot", opConsole: "console",
	opDialVsock: "dial-vsock", opListenVsock: "listen-vsock", opWaitReady: "wait-ready", opExec: "exec",
	opSave: "save", opCoreDump: "core-dump", opSetMemory: "set-memory", opSetMaxMemory: "set-max-memory",
	opSetVCPUs: "set-vcpus", opVCPUs: "vcpus", opPinVCPU: "pin-vcpu", opConfigureVCPU: "configure-vcpu",
	opAttachDevice: "attach-device", opDetachDevice: "detach-device", opUpdateDevice: "update-device",
	opSetLabels: "set-labels", opSetAutostart: "set-autostart", opRename: "rename", opStats: "stats",
}

// Operations lists the names that a Fault and a Latency take: those that
// polyvisor.Error has in Op, with '-' for a space.
func Operations() []string { return slices.Clone(operations[opAny+1:]) }

func parseOperation(s string) (operation, error) {
	if s == "" {
		return opAny, nil
	}
	name := strings.ReplaceAll(s, " ", "-")
	if i := slices.Index(operations[:], name); i >= 0 {
		return operation(i), nil
	}
	return 0, fmt.Errorf("unknown operation %q; known: * %s", s, strings.Join(operations[1:], " "))
}
