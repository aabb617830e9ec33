package linux

import (
	"errors"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// guestRAM is low RAM between two inaccessible pages: a write beside it ends
// the test binary. Slices have no spare capacity.
type guestRAM struct {
	ram  []byte
	base uint64 // guest address of ram[0]
}

func newGuestRAM(t testing.TB, size int) *guestRAM {
	t.Helper()
	page := syscall.Getpagesize()
	all, err := syscall.Mmap(-1, 0, size+2*page, syscall.PROT_NONE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	require.NoError(t, err)
	t.Cleanup(func() { _ = syscall.Munmap(all) })
	ram := all[page : page+size : page+size]
	require.NoError(t, syscall.Mprotect(ram, syscall.PROT_READ|syscall.PROT_WRITE))
	return &guestRAM{ram: ram}
}

func (g *guestRAM) Slice(addr, size uint64) ([]byte, error) {
	if addr < g.base || addr-g.base > uint64(len(g.ram)) || size > uint64(len(g.ram))-(addr-g.base) {
		return nil, errors.New("outside RAM")
	}
	at := addr - g.base
	return g.ram[at : at+size : at+size], nil
}
