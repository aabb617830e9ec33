//go:build linux && amd64

package kvm_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

// A stock kernel with a virtio console: what goes both ways, the size of its terminal, and
// an owner of the console who does not read.
func TestLinuxVirtioConsole(t *testing.T) {
	l := newLab(t)
	c, ctx := l.open(t), patiently
	cfg := l.config("hvc", 1, 128*polyvisor.MiB, "")
	cfg.Console.Virtio = true
	d, con := l.boot(t, c, cfg)
	before, err := d.Stats(ctx(t))
	require.NoError(t, err)

	asked := 0
	sees := func(cols, rows int) {
		want := fmt.Sprintf("\n%d %d\r\n", cols, rows)
		eventually(t, func() bool {
			asked++
			con.write(t, "size")
			con.write(t, "echo asked")
			con.await(t, "\nasked\r\n", asked) // a flood of questions would leave it no time to answer
			return strings.Contains(con.String(), want)
		}, "the guest does not see %q; it said:\n%s", want, con)
	}
	resizer, ok := con.rwc.(polyvisor.ConsoleResizer)
	require.True(t, ok)
	sees(0, 0)
	require.NoError(t, resizer.Resize(ctx(t), 132, 43))
	sees(132, 43)
	require.NoError(t, resizer.Resize(ctx(t), 81, 25))
	sees(81, 25)
	long := strings.Repeat("0123456789", 30)
	con.write(t, "echo "+long)
	con.await(t, "\n"+long+"\r\n", 1)

	// A driver waits for each of its buffers with interrupts off, which the emulated processor of the nested machine makes
	// slow; package vmmproc has the same with more than all buffers hold.
	con.write(t, "echo now")
	con.await(t, "\nnow\r\n", 1)
	stalled, err := d.Console(ctx(t), polyvisor.ConsoleOptions{Force: true})
	require.NoError(t, err)
	_, err = stalled.Write([]byte("flood 20000\n"))
	require.NoError(t, err)
	eventually(t, func() bool {
		time.Sleep(100 * time.Millisecond)
		log, err := os.ReadFile(l.log)
		return err == nil && strings.Contains(string(log), "\nflooded\r\n")
	}, "a reader that does not read stops the guest")
	require.NoError(t, stalled.Close())

	con = console(t, d)
	con.write(t, "echo goes on")
	con.await(t, "\ngoes on\r\n", 1)
	after, err := d.Stats(ctx(t))
	require.NoError(t, err)
	t.Logf("exits for 20,000 bytes and more: %d", exits(after)-exits(before))
	con.write(t, "poweroff")
	require.Equal(t, polyvisor.StopShutdown, wait(t, d).Reason)
}

func exits(s polyvisor.Stats) (n uint64) {
	for _, of := range s.Exits {
		n += of
	}
	return n
}
