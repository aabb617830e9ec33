package xdr_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/xdr"
)

// The bytes are those of RFC 4506.
func TestWriter(t *testing.T) {
	some := "ab"
	for _, tt := range []struct {
		name  string
		write func(*xdr.Writer)
		want  string
	}{
		{"int", func(w *xdr.Writer) { w.Int32(-2) }, "\xff\xff\xff\xfe"},
		{"unsigned int", func(w *xdr.Writer) { w.Uint32(0x01020304) }, "\x01\x02\x03\x04"},
		{"hyper", func(w *xdr.Writer) { w.Int64(-2) }, "\xff\xff\xff\xff\xff\xff\xff\xfe"},
		{"unsigned hyper", func(w *xdr.Writer) { w.Uint64(0x0102030405060708) }, "\x01\x02\x03\x04\x05\x06\x07\x08"},
		{"double", func(w *xdr.Writer) { w.Float64(1) }, "\x3f\xf0\x00\x00\x00\x00\x00\x00"},
		{"true", func(w *xdr.Writer) { w.Bool(true) }, "\x00\x00\x00\x01"},
		{"false", func(w *xdr.Writer) { w.Bool(false) }, "\x00\x00\x00\x00"},
		{"count", func(w *xdr.Writer) { w.Count(3) }, "\x00\x00\x00\x03"},
		{"fixed", func(w *xdr.Writer) { w.Fixed([]byte("abcde")) }, "abcde\x00\x00\x00"},
		{"fixed of four", func(w *xdr.Writer) { w.Fixed([]byte("abcd")) }, "abcd"},
		{"opaque", func(w *xdr.Writer) { w.Opaque([]byte("abc")) }, "\x00\x00\x00\x03abc\x00"},
		{"string", func(w *xdr.Writer) { w.String("a") }, "\x00\x00\x00\x01a\x00\x00\x00"},
		{"empty string", func(w *xdr.Writer) { w.String("") }, "\x00\x00\x00\x00"},
		{"no string", func(w *xdr.Writer) { w.OptString(nil) }, "\x00\x00\x00\x00"},
		{"some string", func(w *xdr.Writer) { w.OptString(&some) }, "\x00\x00\x00\x01\x00\x00\x00\x02ab\x00\x00"},
		{"two", func(w *xdr.Writer) { w.String("abc"); w.Int32(1) }, "\x00\x00\x00\x03abc\x00\x00\x00\x00\x01"},
	} {
		var w xdr.Writer
		tt.write(&w)
		require.NoError(t, w.Err(), tt.name)
		assert.Equal(t, tt.want, string(w.Bytes()), tt.name)
		assert.Equal(t, len(tt.want), w.Len(), tt.name)
	}
}

func TestWriterLimits(t *testing.T) {
	var w xdr.Writer
	w.String(strings.Repeat("x", xdr.StringMax))
	require.NoError(t, w.Err())
	w.String(strings.Repeat("x", xdr.StringMax+1))
	assert.ErrorIs(t, w.Err(), xdr.ErrTooLong)
	w.Fail(errors.New("second"))
	assert.ErrorIs(t, w.Err(), xdr.ErrTooLong, "the first error stays")
	w.Reset([]byte("begun"))
	assert.NoError(t, w.Err())
	w.Count(-1)
	assert.ErrorIs(t, w.Err(), xdr.ErrTooLong)
	w.Reset([]byte("begun"))
	w.Uint32(0)
	assert.Equal(t, "begun\x00\x00\x00\x00", string(w.Bytes()))
}

func TestRoundTrip(t *testing.T) {
	var w xdr.Writer
	s := "something"
	w.Int32(math.MinInt32)
	w.Uint32(math.MaxUint32)
	w.Int64(math.MinInt64)
	w.Uint64(math.MaxUint64)
	w.Float64(math.Pi)
	w.Bool(true)
	w.Bool(false)
	w.Fixed([]byte{1, 2, 3, 4, 5})
	w.Opaque([]byte{6})
	w.Opaque(nil)
	w.String("grüße")
	w.OptString(&s)
	w.OptString(nil)
	w.Count(2)
	w.Int32(1)
	w.Int32(2)

	r := xdr.NewReader(w.Bytes())
	assert.Equal(t, int32(math.MinInt32), r.Int32())
	assert.Equal(t, uint32(math.MaxUint32), r.Uint32())
	assert.Equal(t, int64(math.MinInt64), r.Int64())
	assert.Equal(t, uint64(math.MaxUint64), r.Uint64())
	assert.Equal(t, math.Pi, r.Float64())
	assert.True(t, r.Bool())
	assert.False(t, r.Bool())
	fixed := make([]byte, 5)
	r.Fixed(fixed)
	assert.Equal(t, []byte{1, 2, 3, 4, 5}, fixed)
	assert.Equal(t, []byte{6}, r.Opaque(1))
	assert.Empty(t, r.Opaque(0))
	assert.Equal(t, "grüße", r.String())
	assert.Equal(t, &s, r.OptString())
	assert.Nil(t, r.OptString())
	assert.Equal(t, 2, r.Count(2, 4))
	assert.Equal(t, 8, r.Remaining())
	r.Int32()
	r.Int32()
	assert.Zero(t, r.Remaining())
	require.NoError(t, r.Err())
	r.Int32()
	assert.ErrorIs(t, r.Err(), xdr.ErrMalformed)
}

func TestReaderRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		read     func(*xdr.Reader)
		text     string
	}{
		{"end", "", func(r *xdr.Reader) { r.Uint32() }, "at byte 0: 4 bytes wanted, 0 left"},
		{"half a number", "\x00\x00", func(r *xdr.Reader) { r.Uint32() }, "4 bytes wanted, 2 left"},
		{"half a hyper", "\x00\x00\x00\x00", func(r *xdr.Reader) { r.Uint64() }, "8 bytes wanted, 4 left"},
		{"bool", "\x00\x00\x00\x02", func(r *xdr.Reader) { r.Bool() }, "at byte 0: bool of value 2"},
		{"optional", "\xff\xff\xff\xff\x00\x00\x00\x00", func(r *xdr.Reader) { r.OptString() }, "bool of value 4294967295"},
		{"optional without it", "\x00\x00\x00\x01", func(r *xdr.Reader) { r.OptString() }, "at byte 4"},
		{"string over the limit", "\x00\x40\x00\x01", func(r *xdr.Reader) { _ = r.String() }, "4194305 bytes of data, the limit is 4194304"},
		{"string of 4 GiB", "\xff\xff\xff\xff", func(r *xdr.Reader) { _ = r.String() }, "4294967295 bytes of data"},
		{"string longer than the message", "\x00\x00\x00\x05abcd", func(r *xdr.Reader) { _ = r.String() }, "5 bytes of data, 4 left"},
		{"string without its padding", "\x00\x00\x00\x05abcde", func(r *xdr.Reader) { _ = r.String() }, "8 bytes wanted, 5 left"},
		{"fixed", "abc", func(r *xdr.Reader) { r.Fixed(make([]byte, 3)) }, "4 bytes wanted, 3 left"},
		{"opaque over a limit of none", "\x00\x00\x00\x01a\x00\x00\x00", func(r *xdr.Reader) { r.Opaque(-1) }, "the limit is -1"},
		{"array over the limit", "\x00\x00\x00\x03abcdefghijkl", func(r *xdr.Reader) { r.Count(2, 4) }, "at byte 0: array of 3 elements, the limit is 2"},
		{"array longer than the message", "\x00\x00\x00\x03abcdefgh", func(r *xdr.Reader) { r.Count(100, 4) }, "array of 3 elements in 8 bytes"},
		{"array of 4 GiB of nothing", "\xff\xff\xff\xff", func(r *xdr.Reader) { r.Count(math.MaxInt, 0) }, "array of 4294967295 elements in 0 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := xdr.NewReader([]byte(tt.in))
			tt.read(r)
			require.ErrorIs(t, r.Err(), xdr.ErrMalformed)
			assert.ErrorContains(t, r.Err(), tt.text)
			first := r.Err()
			// From here on, everything is zero and the first error stays.
			assert.Zero(t, r.Uint32())
			assert.Zero(t, r.Int64())
			assert.Zero(t, r.Float64())
			assert.False(t, r.Bool())
			assert.Zero(t, r.Count(1<<20, 1))
			assert.Nil(t, r.Opaque(1<<20))
			assert.Empty(t, r.String())
			assert.Nil(t, r.OptString())
			r.Fail(errors.New("other"))
			assert.Equal(t, first, r.Err())
		})
	}
}

func TestReaderOfOwnErrors(t *testing.T) {
	r := xdr.NewReader(make([]byte, 8))
	r.Uint32()
	r.Malformed("type %d of a parameter", 9)
	assert.EqualError(t, r.Err(), "malformed XDR at byte 4: type 9 of a parameter")
	r.Reset(nil)
	own := errors.New("own")
	r.Fail(own)
	assert.Equal(t, own, r.Err())
}

// FuzzReader takes a message apart by a script: nothing panics, nothing gives
// more than there is, and what was read encodes to the same bytes where the
// encoding is unique.
func FuzzReader(f *testing.F) {
	var w xdr.Writer
	s := "name"
	w.Uint32(1)
	w.Uint64(2)
	w.Bool(true)
	w.String("domain")
	w.OptString(&s)
	w.Count(2)
	w.Int32(1)
	w.Int32(2)
	w.Fixed(make([]byte, 16))
	f.Add([]byte{0, 1, 2, 3, 4, 5, 0, 0, 6}, w.Bytes())
	f.Add([]byte{3}, []byte{0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{5, 5, 5}, []byte{0x7f, 0xff, 0xff, 0xff, 0x80, 0, 0, 0})
	f.Add([]byte{4, 4, 2}, []byte{0, 0, 0, 1, 0, 0, 0, 3, 'a', 'b', 'c', 'd', 0, 0, 0, 2})
	f.Fuzz(func(t *testing.T, script, in []byte) {
		r := xdr.NewReader(in)
		var w xdr.Writer
		unique := true
		for _, op := range script {
			before := r.Remaining()
			var w1 xdr.Writer
			switch op % 8 {
			case 0:
				w1.Uint32(r.Uint32())
			case 1:
				w1.Uint64(r.Uint64())
			case 2:
				w1.Bool(r.Bool())
			case 3:
				s := r.String()
				if len(s) > before {
					t.Fatalf("string of %d bytes from %d", len(s), before)
				}
				unique = unique && len(s)%4 == 0 // padding is not checked
				w1.String(s)
			case 4:
				s := r.OptString()
				unique = unique && (s == nil || len(*s)%4 == 0)
				w1.OptString(s)
			case 5:
				n := r.Count(1<<30, 4)
				if 4*n > before {
					t.Fatalf("array of %d from %d bytes", n, before)
				}
				w1.Count(n)
			case 6:
				p := make([]byte, 16)
				r.Fixed(p)
				w1.Fixed(p)
			case 7:
				p := r.Opaque(1 << 20)
				unique = unique && len(p)%4 == 0
				w1.Opaque(p)
			}
			if r.Err() != nil {
				if !errors.Is(r.Err(), xdr.ErrMalformed) {
					t.Fatal(r.Err())
				}
				break
			}
			if r.Remaining() > before {
				t.Fatal("went back")
			}
			w.Fixed(w1.Bytes())
		}
		if unique && r.Err() == nil && string(w.Bytes()) != string(in[:len(in)-r.Remaining()]) {
			t.Fatalf("%x read from %x", w.Bytes(), in)
		}
	})
}
