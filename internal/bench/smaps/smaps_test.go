package smaps

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const sample = `00400000-004d6000 r-xp 00000000 08:01 131 /usr/bin/vmm with space
Size:                856 kB
KernelPageSize:        4 kB
Rss:                 600 kB
Pss:                 300 kB
Shared_Clean:        500 kB
Shared_Dirty:          0 kB
Private_Clean:       100 kB
Private_Dirty:         0 kB
AnonHugePages:         0 kB
THPeligible:    0
VmFlags: rd ex mr mw me
c000000000-c000400000 rw-p 00000000 00:00 0 [anon: Go: heap]
Rss:                 200 kB
Pss:                 200 kB
Private_Dirty:       200 kB
7f0000000000-7f0010000000 rw-p 00000000 00:00 0
Rss:               90000 kB
Pss:               90000 kB
Private_Dirty:     90000 kB
AnonHugePages:     88064 kB
7f0020000000-7f0020001000 rw-p 00000000 00:00 0 [anon:guest-ram]
Rss:                   4 kB
Private_Dirty:         4 kB
7f0030000000-7f0030003000 rw-s 00000000 00:0d 9 anon_inode:kvm-vcpu:0
Rss:                  12 kB
Shared_Dirty:         12 kB
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]
Rss:                   0 kB
`

func TestRead(t *testing.T) {
	p, err := Read(strings.NewReader(sample), []uint64{256 << 20})
	require.NoError(t, err)
	assert.Equal(t, 2, p.RAMRegions)
	assert.EqualValues(t, 90004<<10, p.RAM.RSS)
	assert.EqualValues(t, 88064<<10, p.RAM.Huge)
	assert.EqualValues(t, 812<<10, p.Total())
	assert.EqualValues(t, 300<<10, p.Private)
	assert.EqualValues(t, 512<<10, p.Shared)
	assert.EqualValues(t, 200<<10, p.Dirty)
	assert.EqualValues(t, 500<<10, p.Pss)
	assert.EqualValues(t, 600<<10, p.Kinds["code"].Total())
	assert.EqualValues(t, 200<<10, p.Kinds["anon: Go: heap"].Total())
	assert.EqualValues(t, 12<<10, p.Kinds["kvm run pages"].Total())
	require.Len(t, p.Largest, 1)
	assert.EqualValues(t, 4<<20, p.Largest[0].Size)
	var sum Usage
	for _, u := range p.Kinds {
		sum.add(u)
	}
	assert.Equal(t, p.Usage, sum, "the kinds do not add up")
}

func TestReadRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"no header":    "Rss: 4 kB\n",
		"no number":    "00400000-004d6000 r-xp 00000000 08:01 131 /x\nRss: much kB\n",
		"no colon":     "00400000-004d6000 r-xp 00000000 08:01 131 /x\nRss\n",
		"wrong bounds": "00500000-004d6000 r-xp 00000000 08:01 131 /x\nRss: 4 kB\n",
		"too much":     "00400000-004d6000 r-xp 00000000 08:01 131 /x\nRss: 18446744073709551615 kB\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read(strings.NewReader(text), nil)
			assert.ErrorIs(t, err, ErrFormat)
		})
	}
}

// What this process touches must appear, and where it belongs.
func TestOfProcess(t *testing.T) {
	const size, other = 37 << 20, 11 << 20
	before, err := OfProcess(os.Getpid(), []uint64{size})
	require.NoError(t, err)
	require.Zero(t, before.RAMRegions)

	// Guard pages, as guest RAM has them: else the kernel would join neighbours.
	touch := func(n int) []byte {
		m, err := unix.Mmap(-1, 0, n+2*4096, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON)
		require.NoError(t, err)
		t.Cleanup(func() { unix.Munmap(m) })
		b := m[4096 : 4096+n]
		require.NoError(t, unix.Mprotect(b, unix.PROT_READ|unix.PROT_WRITE))
		for i := 0; i < n/2; i += 4096 {
			b[i] = 1
		}
		return b
	}
	touch(size)
	p, err := OfProcess(os.Getpid(), []uint64{size})
	require.NoError(t, err)
	assert.Equal(t, 1, p.RAMRegions)
	assert.GreaterOrEqual(t, p.RAM.RSS, uint64(size/2))
	touch(other)
	q, err := OfProcess(os.Getpid(), []uint64{size})
	require.NoError(t, err)
	assert.GreaterOrEqual(t, q.Total(), p.Total()+other/2-1<<20)
	assert.Equal(t, p.RAM.Dirty, q.RAM.Dirty)
}

func TestWatch(t *testing.T) {
	_, err := OfProcess(1<<22+1, nil) // above the largest process id
	assert.ErrorIs(t, err, os.ErrNotExist)

	stop := make(chan struct{})
	close(stop)
	_, err = Watch(stop, os.Getpid(), []uint64{12345 << 12}, time.Millisecond)
	assert.ErrorContains(t, err, "no mapping of guest memory")
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte("00400000-004d6000 r-xp 0 0 0\nRss: 1 kB"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Read(bytes.NewReader(b), []uint64{4096})
		if err == nil && p.Kinds == nil {
			t.Fatal("no kinds")
		}
	})
}
