package blk

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/disk"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/disk/raw"
)

const (
	killEnv     = "POLYVISOR_BLK_KILL"
	killSectors = 512
)

// killWrites gives what round n writes: 16 sectors from a place on, each with its number and the round's.
func killWrites(n int) (first int, data []byte) {
	first = rand.New(rand.NewPCG(7, uint64(n))).IntN(killSectors - 16)
	data = make([]byte, 16*512)
	for i := range 16 {
		binary.LittleEndian.PutUint64(data[i*512:], uint64(first+i))
		binary.LittleEndian.PutUint64(data[i*512+504:], uint64(n))
	}
	return first, data
}

// killedWriter writes and flushes for ever, and tells after each flush that it was answered.
func killedWriter(t *testing.T, path string) {
	img, err := disk.Open(path, disk.Options{}, raw.Open)
	require.NoError(t, err)
	g := boot(t, Config{Image: img})
	answers := os.NewFile(3, "answers")
	for n := 1; ; n++ {
		first, data := killWrites(n)
		require.EqualValues(t, statusOK, g.write(0, uint64(first), data))
		require.EqualValues(t, statusOK, g.flush(0))
		_, err := answers.WriteString(strconv.Itoa(n) + "\n")
		require.NoError(t, err)
	}
}

// A process that is killed at any moment leaves an image that holds all that was flushed, is not locked, and has no sector that
// nobody wrote. The page cache outlives the process, so that this alone does not show that flushes reach
// the storage: TestPowerCut does.
func TestKill(t *testing.T) {
	if path := os.Getenv(killEnv); path != "" {
		killedWriter(t, path)
	}
	for try := range 5 {
		img, path := rawImage(t, killSectors*512, disk.Options{NoLock: true})
		require.NoError(t, img.WriteZeroes(0, killSectors*512, true))
		r, w, err := os.Pipe()
		require.NoError(t, err)
		defer r.Close()
		cmd := exec.Command(os.Args[0], "-test.run=^TestKill$")
		cmd.Env = append(os.Environ(), killEnv+"="+path)
		cmd.ExtraFiles = []*os.File{w}
		require.NoError(t, cmd.Start())
		w.Close()
		last, lines := 0, bufio.NewScanner(r)
		for lines.Scan() {
			if last, err = strconv.Atoi(lines.Text()); last == 20+17*try {
				require.NoError(t, cmd.Process.Kill())
			}
			require.NoError(t, err)
		}
		require.Error(t, cmd.Wait())
		require.GreaterOrEqual(t, last, 20+17*try, "it ended too early")

		after, err := disk.Open(path, disk.Options{}, raw.Open)
		require.NoError(t, err, "the lock went with the process")
		var must [killSectors]int
		for n := 1; n <= last; n++ {
			first, _ := killWrites(n)
			for i := range 16 {
				must[first+i] = n
			}
		}
		got := make([]byte, killSectors*512)
		_, err = after.ReadAt(got, 0)
		require.NoError(t, err)
		for s := range killSectors {
			b := got[s*512 : s*512+512]
			version := int(binary.LittleEndian.Uint64(b[504:]))
			if assert.GreaterOrEqual(t, version, must[s], "sector %d", s); version > 0 {
				assert.EqualValues(t, s, binary.LittleEndian.Uint64(b), "sector %d", s)
			}
		}
		require.NoError(t, after.Close())
	}
}

// What other engines fell for, which guess the format of an image (CVE-2010-2237, GHSA-jmr4-g2hv-mjj6): a guest that writes a header of
// qcow2 with a file of the host's behind it into its raw disk finds its raw disk again, with what it wrote.
func TestGuestWritesAnotherFormat(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, bytes.Repeat([]byte("secret"), 1000), 0o600))
	_, path := rawImage(t, 64*512, disk.Options{NoLock: true})
	cow := make([]byte, 64*512)
	be := binary.BigEndian
	copy(cow, "QFI\xfb")
	be.PutUint32(cow[4:], 2)
	be.PutUint64(cow[8:], 512)                  // where the name of the backing file is
	be.PutUint32(cow[16:], uint32(len(secret))) // and how long
	be.PutUint32(cow[20:], 9)
	be.PutUint64(cow[24:], 64*512)
	be.PutUint32(cow[36:], 8)
	be.PutUint64(cow[40:], 1024)
	be.PutUint64(cow[48:], 1536)
	be.PutUint32(cow[56:], 1)
	copy(cow[512:], secret)
	for range 2 { // at the second start it is there
		img, err := disk.Open(path, disk.Options{}, raw.Open)
		require.NoError(t, err)
		g := boot(t, Config{Image: img})
		got, status := g.read(0, 0, 64*512)
		require.EqualValues(t, statusOK, status)
		require.NotContains(t, string(got), "secretsecret")
		require.EqualValues(t, statusOK, g.write(0, 0, cow))
		require.EqualValues(t, statusOK, g.flush(0))
		g.h.Core.Close()
		require.NoError(t, img.Close())
		now, err := os.ReadFile(path)
		require.NoError(t, err)
		require.True(t, bytes.Equal(cow, now))
	}
}
