package blk

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/disk"
)

const diskSize = 1 << 20

func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestReadAndWrite(t *testing.T) {
	img := newMemory(diskSize)
	g := boot(t, Config{Name: "vda", Image: img, Queues: 2})
	want := noise(1, 8192)
	require.EqualValues(t, statusOK, g.write(0, 8, want))
	assert.Equal(t, want, img.contents()[4096:4096+8192])
	got, status := g.read(1, 8, 8192)
	require.EqualValues(t, statusOK, status)
	assert.Equal(t, want, got)
	require.EqualValues(t, statusOK, g.flush(0))

	// The last sector, and none behind it.
	require.EqualValues(t, statusOK, g.write(0, diskSize/512-1, want[:512]))
	assert.Equal(t, want[:512], img.contents()[diskSize-512:])

	s := g.dev.Stats()
	assert.Equal(t, Ops{Requests: 2, Bytes: 8192 + 512}, s.Write)
	assert.Equal(t, Ops{Requests: 1, Bytes: 8192}, s.Read)
	assert.Equal(t, Ops{Requests: 1}, s.Flush)
	var counted uint64
	for _, n := range s.Latency {
		counted += n
	}
	assert.EqualValues(t, 4, counted)
	assert.NotZero(t, s.LatencyTotal)
	assert.LessOrEqual(t, s.Batches, uint64(4))
	text, err := json.Marshal(s)
	require.NoError(t, err)
	var back Stats
	require.NoError(t, json.Unmarshal(text, &back))
	assert.Equal(t, s, back)
}

// A driver may cut header, data and status as it likes (virtio 1.2, section 2.7.4).
func TestAnyFraming(t *testing.T) {
	img := newMemory(diskSize)
	g := boot(t, Config{Image: img})
	data := noise(2, 1024)
	h := header(typeOut, 3)
	whole := append(bytes.Clone(h), data...)
	for _, cuts := range [][]int{{}, {1}, {15, 17}, {16}, {16, 17, 528}, {7, 8, 100, 101, 1039}} {
		img.zero(0, diskSize)
		var readable [][]byte
		at := 0
		for _, c := range cuts {
			readable = append(readable, whole[at:c])
			at = c
		}
		readable = append(readable, whole[at:])
		require.EqualValues(t, statusOK, g.send(0, readable, 1).status(), cuts)
		require.Equal(t, data, img.contents()[3*512:3*512+1024], cuts)
	}
	for _, cuts := range [][]int{{1025}, {1024, 1}, {1, 1023, 1}, {511, 514}, {3, 500, 522}} {
		b, written := g.send(0, [][]byte{header(typeIn, 3)}, cuts...).answer()
		require.Equal(t, append(bytes.Clone(data), statusOK), b, cuts)
		require.EqualValues(t, 1025, written)
	}
}

func TestSerial(t *testing.T) {
	for _, serial := range []string{"", "disk-1", "exactly-twenty-bytes"} {
		g := boot(t, Config{Image: newMemory(512), Serial: serial})
		want := make([]byte, 20)
		copy(want, serial)
		b, written := g.send(0, [][]byte{header(typeGetID, 0)}, 20, 1).answer()
		assert.Equal(t, append(bytes.Clone(want), statusOK), b)
		assert.EqualValues(t, 21, written)
		b, _ = g.send(0, [][]byte{header(typeGetID, 0)}, 2, 3, 1).answer()
		assert.Equal(t, append(bytes.Clone(want[:5]), statusOK), b)
		b, _ = g.send(0, [][]byte{header(typeGetID, 0)}, 30, 1).answer()
		assert.Equal(t, append(append(want, make([]byte, 10)...), statusOK), b)
		assert.EqualValues(t, 3, g.dev.Stats().Identify)
	}
}

func TestDiscardAndZeroes(t *testing.T) {
	img := newMemory(diskSize)
	copy(img.data, noise(3, diskSize))
	img.log = true
	g := boot(t, Config{Image: img})
	want := img.contents()
	require.EqualValues(t, statusOK, g.ranged(typeDiscard, 0, 8, 0, 100, 1, 0, 5, 0, 0))
	clear(want[:4096])
	clear(want[100*512 : 101*512])
	require.EqualValues(t, statusOK, g.ranged(typeWriteZeroes, 200, 16, 0, diskSize/512-1, 1, flagUnmap))
	clear(want[200*512 : 216*512])
	clear(want[diskSize-512:])
	assert.True(t, bytes.Equal(want, img.contents()))
	assert.Equal(t, []string{"discard", "discard", "zero", "unmap"}, img.operations())
	s := g.dev.Stats()
	assert.Equal(t, Ops{Requests: 1, Bytes: 9 * 512}, s.Discard)
	assert.Equal(t, Ops{Requests: 1, Bytes: 17 * 512}, s.WriteZeroes)
}

func TestReadOnly(t *testing.T) {
	img := newMemory(diskSize)
	img.log = true
	d := newDevice(t, Config{Image: img, ReadOnly: true})
	assert.NotZero(t, d.Features()&FeatureReadOnly)
	assert.Zero(t, d.Features()&(FeatureDiscard|FeatureWriteZeroes))
	// Also if the driver does not know that it is read-only.
	for _, features := range []uint64{d.Features(), FeatureFlush} {
		g := bootWith(t, d, features)
		assert.EqualValues(t, statusIOErr, g.write(0, 0, make([]byte, 512)))
		assert.EqualValues(t, statusUnsupported, g.ranged(typeDiscard, 0, 1, 0))
		assert.EqualValues(t, statusUnsupported, g.ranged(typeWriteZeroes, 0, 1, 0))
		_, status := g.read(0, 0, 512)
		assert.EqualValues(t, statusOK, status)
		assert.EqualValues(t, statusOK, g.flush(0))
		g.h.Core.Close()
	}
	assert.Equal(t, []string{"read", "flush", "read", "flush"}, img.operations())
}

func TestNotNegotiated(t *testing.T) {
	img := newMemory(diskSize)
	img.log = true
	g := bootWith(t, newDevice(t, Config{Image: img}), FeatureFlush)
	assert.EqualValues(t, statusUnsupported, g.ranged(typeDiscard, 0, 1, 0))
	assert.EqualValues(t, statusUnsupported, g.ranged(typeWriteZeroes, 0, 1, 0))
	assert.Empty(t, img.operations())
	assert.EqualValues(t, 2, g.dev.Stats().Unsupported)
}

func TestConfigSpace(t *testing.T) {
	d := newDevice(t, Config{Image: newMemory(diskSize), Queues: 4, BlockSize: 512})
	b := make([]byte, d.ConfigSize())
	d.ReadConfig(0, b)
	le := binary.LittleEndian
	assert.EqualValues(t, diskSize/512, le.Uint64(b))
	assert.EqualValues(t, 254, le.Uint32(b[12:]), "seg_max")
	assert.EqualValues(t, 512, le.Uint32(b[20:]), "blk_size")
	assert.Equal(t, []byte{3, 0, 8, 0, 0, 0, 0, 0}, b[24:32], "topology: 4096 bytes of physical block")
	assert.EqualValues(t, 1, b[32], "writeback")
	assert.EqualValues(t, 4, le.Uint16(b[34:]), "num_queues")
	assert.EqualValues(t, maxDiscard, le.Uint32(b[36:]))
	assert.EqualValues(t, maxRanges, le.Uint32(b[40:]))
	assert.EqualValues(t, 8, le.Uint32(b[44:]))
	assert.EqualValues(t, maxZeroes, le.Uint32(b[48:]))
	assert.EqualValues(t, maxRanges, le.Uint32(b[52:]))
	assert.Equal(t, []byte{1, 0, 0, 0}, b[56:60])
	assert.Len(t, d.QueueSizes(), 4)
	assert.EqualValues(t, 2, d.ID())

	// Any part of it, and what the driver may not change.
	for off := range b {
		for n := 1; off+n <= len(b); n++ {
			p := make([]byte, n)
			d.ReadConfig(off, p)
			require.Equal(t, b[off:off+n], p)
		}
	}
	d.WriteConfig(0, bytes.Repeat([]byte{0xff}, 32))
	d.WriteConfig(33, bytes.Repeat([]byte{0xff}, configSize-33))
	p := make([]byte, len(b))
	d.ReadConfig(0, p)
	assert.Equal(t, b, p)

	d = newDevice(t, Config{Image: newMemory(diskSize), BlockSize: 4096, ReadOnly: true})
	d.ReadConfig(0, b)
	assert.EqualValues(t, 4096, le.Uint32(b[20:]))
	assert.Equal(t, make([]byte, configSize-36), b[36:])
}

func TestNewRefuses(t *testing.T) {
	for says, c := range map[string]Config{
		"no image":                   {},
		"not a positive multiple":    {Image: newMemory(0)},
		"multiple of 512":            {Image: newMemory(513)},
		"logical block size 4096":    {Image: newMemory(512), BlockSize: 4096},
		"use 512 or 4096":            {Image: newMemory(4096), BlockSize: 1024},
		"use 1 to 16":                {Image: newMemory(512), Queues: 17},
		"use at most 20":             {Image: newMemory(512), Serial: "twenty-one-bytes-long"},
		"physical block size 1000":   {Image: newMemory(512), PhysicalBlockSize: 1000},
		"cache mode Cache(9) is not": {Image: newMemory(512), Cache: 9},
	} {
		c.Name = "vdz"
		_, err := New(c)
		require.ErrorContains(t, err, says)
		require.ErrorContains(t, err, "vdz")
	}
	assert.Equal(t, []int{1, 1, 2, 4, 4}, []int{DefaultQueues(0), DefaultQueues(1), DefaultQueues(2), DefaultQueues(4), DefaultQueues(64)})
}

func TestFeaturesOfCacheModes(t *testing.T) {
	for c, flush := range map[disk.Cache]bool{disk.Writeback: true, disk.Writethrough: true, disk.None: true, disk.Unsafe: false} {
		d := newDevice(t, Config{Image: newMemory(512), Cache: c})
		assert.Equal(t, flush, d.Features()&FeatureFlush != 0, c)
		assert.Equal(t, flush, d.Features()&FeatureConfigWCE != 0, c)
	}
}
