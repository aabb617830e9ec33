package pflash

import (
	"bytes"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// file is a store.
type file struct {
	data   []byte
	writes int
	err    error
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	f.writes++
	return copy(f.data[off:], p), nil
}

type rig struct {
	*Device
	memory []byte
	store  *file
	shown  bool
	shows  int
	errs   []error
}

func newRig(t testing.TB, blocks int) *rig {
	r := &rig{memory: make([]byte, blocks*BlockSize), store: &file{data: make([]byte, blocks*BlockSize)}, shown: true}
	var err error
	r.Device, err = New(Config{Memory: r.memory, Store: r.store,
		Show:    func(on bool) { r.shown = on; r.shows++ },
		OnError: func(err error) { r.errs = append(r.errs, err) }})
	require.NoError(t, err)
	return r
}

func (r *rig) put(off uint64, p ...byte) {
	for _, b := range p {
		r.Write(off, []byte{b})
	}
}

func (r *rig) get(off uint64) byte {
	p := []byte{0xaa}
	r.Read(off, p)
	return p[0]
}

func TestSize(t *testing.T) {
	for _, n := range []int{0, 1, BlockSize + 1} {
		_, err := New(Config{Memory: make([]byte, n)})
		require.Error(t, err)
	}
}

// How firmware tells flash memory from RAM and ROM: the byte after the two commands is the status.
func TestDetection(t *testing.T) {
	r := newRig(t, 2)
	r.memory[0] = 0x12
	r.put(0, 0x50)
	require.False(t, r.shown)
	r.put(0, 0x70)
	require.Zero(t, r.get(0), "cleared")
	r.put(0, 0xff)
	require.True(t, r.shown)
	require.EqualValues(t, 0x12, r.get(0))
	require.Equal(t, 2, r.shows)
	r.put(0, 0xff)
	require.Equal(t, 2, r.shows, "it appears already")
	r.put(0, 0x90)
	require.Equal(t, []byte{idMaker, idDevice, 0}, []byte{r.get(0), r.get(1), r.get(2)})
}

func TestProgram(t *testing.T) {
	r := newRig(t, 2)
	for i, b := range []byte("variable") {
		r.put(BlockSize+uint64(i), 0x10, b)
	}
	require.EqualValues(t, statusReady, r.get(0))
	require.Zero(t, r.store.writes, "not before the end")
	r.put(BlockSize+7, 0xff)
	require.Equal(t, 1, r.store.writes)
	require.Equal(t, "variable", string(r.store.data[BlockSize:][:8]))
	require.Equal(t, r.memory, r.store.data)
	r.put(5, 0x40, 0xff) // data, not a command
	require.EqualValues(t, 0xff, r.memory[5])
	require.False(t, r.shown)
	r.put(5, 0xff)
	require.True(t, r.shown)
}

func TestErase(t *testing.T) {
	r := newRig(t, 3)
	r.put(BlockSize+17, 0x20, 0xd0)
	r.Close()
	want := append(make([]byte, BlockSize), bytes.Repeat([]byte{0xff}, BlockSize)...)
	want = append(want, make([]byte, BlockSize)...)
	require.Equal(t, want, r.memory)
	require.Equal(t, want, r.store.data, "written when it is closed")
	r.put(0, 0x20, 0x55)
	require.EqualValues(t, statusReady|statusSequence, r.get(0), "not confirmed")
	require.Zero(t, r.memory[0])
	r.put(0, 0x50)
	require.Zero(t, r.get(0))
	r.put(0, 0x20, 0xff)
	require.True(t, r.shown)
}

// What could not be written is told, and written with the next change.
func TestStoreFails(t *testing.T) {
	r := newRig(t, 2)
	r.store.err = errors.New("no space")
	r.put(1, 0x10, 1, 0xff)
	require.Equal(t, []error{r.store.err}, r.errs)
	r.put(1, 0x10, 1, 0xff)
	require.Len(t, r.errs, 1, "a guest that goes on writing floods nobody")
	r.store.err = nil
	r.put(BlockSize, 0x10, 2, 0xff)
	require.Equal(t, r.memory, r.store.data)
	require.Len(t, r.errs, 1)
	r.store.err = errors.New("no space again")
	r.put(1, 0x10, 1, 0xff)
	require.Equal(t, r.store.err, r.errs[1])
}

func TestWithoutStore(t *testing.T) {
	m := make([]byte, BlockSize)
	d, err := New(Config{Memory: m, Show: func(bool) {}})
	require.NoError(t, err)
	for _, b := range []byte{0x10, 3, 0xff} {
		d.Write(0, []byte{b})
	}
	d.Close()
	require.EqualValues(t, 3, m[0])
}

// Whatever the guest writes, at the end the store has what the memory has, and the memory appears exactly while it is read.
func FuzzDevice(f *testing.F) {
	f.Add([]byte{0, 0, 0x10, 0, 0, 7, 0, 0, 0xff})
	f.Add([]byte{1, 5, 0x20, 1, 5, 0xd0, 1, 5, 0x70, 1, 5, 0xff})
	f.Add([]byte{1, 0xff, 0x40, 1, 0xff, 9})
	f.Fuzz(func(t *testing.T, ops []byte) {
		r := newRig(t, 2)
		for ; len(ops) > 2; ops = ops[3:] {
			off, n := uint64(ops[0]%4)*(BlockSize-1)+uint64(ops[1]%9), 1+int(ops[1]%8)
			p := bytes.Repeat(ops[2:3], n)
			if ops[0]&0x80 != 0 {
				r.Read(off, p)
			} else {
				r.Write(off, p)
			}
			if r.shown != (r.mode == readArray) {
				t.Fatal("the memory appears in the wrong mode")
			}
		}
		r.Close()
		if !bytes.Equal(r.memory, r.store.data) {
			t.Fatal("the store has something else")
		}
	})
}
