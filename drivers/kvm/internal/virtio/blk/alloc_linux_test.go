package blk

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/disk"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/disk/raw"
)

// rawImage opens a new raw image of so many bytes that are all there.
func rawImage(t testing.TB, size int, o disk.Options) (disk.Image, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.img")
	require.NoError(t, os.WriteFile(path, noise(8, size), 0o600))
	img, err := disk.Open(path, o, raw.Open)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, img.Close()) })
	return img, path
}

// From the ring to the answer a request allocates nothing, on the queue's goroutine and on a helper.
func TestAllocs(t *testing.T) {
	img, _ := rawImage(t, diskSize, disk.Options{})
	data := make([]byte, 4096)
	for _, cache := range []disk.Cache{disk.Writeback, disk.Writethrough} {
		for _, tt := range []struct {
			name     string
			readable [][]byte
			writable []int
		}{
			{"read", [][]byte{header(typeIn, 8)}, []int{4096, 1}},
			{"read of many segments", [][]byte{header(typeIn, 8)}, []int{512, 512, 512, 512, 512, 512, 512, 512, 512, 512, 512, 512, 1}},
			{"write", [][]byte{header(typeOut, 8), data}, []int{1}},
			{"write of many segments", [][]byte{header(typeOut, 8), data[:512], data[512:1024], data[1024:2048], data[2048:]}, []int{1}},
			{"flush", [][]byte{header(typeFlush, 0)}, []int{1}},
			{"serial", [][]byte{header(typeGetID, 0)}, []int{20, 1}},
			{"discard", [][]byte{header(typeDiscard, 0), ranges(0, 8, 0)}, []int{1}},
			{"zeroes", [][]byte{header(typeWriteZeroes, 0), ranges(0, 8, 0)}, []int{1}},
			{"refused", [][]byte{header(77, 0)}, []int{1}},
		} {
			t.Run(tt.name+" "+cache.String(), func(t *testing.T) {
				g := boot(t, Config{Image: img, Cache: cache})
				again := g.repeated(tt.readable, tt.writable...)
				for range 2 * slots {
					again() // every slot gets the room it needs, and the helper is there
				}
				assert.Zero(t, testing.AllocsPerRun(100, again))
			})
		}
	}
}
