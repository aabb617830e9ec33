package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRoundTrip(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b)
	require.NoError(t, w.JSON(KindStart, Start{Index: 7}))
	big := bytes.Repeat([]byte("0123456789abcdef"), MaxPayload/16+100)
	n, err := Stream{W: w, Kind: KindStdout}.Write(big)
	require.NoError(t, err)
	require.Equal(t, len(big), n)
	require.NoError(t, w.Frame(KindStderr, nil))

	r := NewReader(&b)
	k, p, err := r.Next()
	require.NoError(t, err)
	require.Equal(t, KindStart, k)
	var s Start
	require.NoError(t, json.Unmarshal(p, &s))
	require.Equal(t, 7, s.Index)

	var got []byte
	for len(got) < len(big) {
		k, p, err = r.Next()
		require.NoError(t, err)
		require.Equal(t, KindStdout, k)
		got = append(got, p...)
	}
	require.True(t, bytes.Equal(big, got), "what was streamed came back changed")
	k, p, err = r.Next()
	require.NoError(t, err)
	require.Equal(t, KindStderr, k)
	require.Empty(t, p)
	_, _, err = r.Next()
	require.ErrorIs(t, err, io.EOF)
}

func TestReaderRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want error
	}{
		"empty":             {"", io.EOF},
		"cut in the header": {"\x04\x01", io.ErrUnexpectedEOF},
		"cut in the body":   {"\x04\x05\x00\x00\x00abc", io.ErrUnexpectedEOF},
		"no body":           {"\x04\x05\x00\x00\x00", io.ErrUnexpectedEOF},
		"kind 0":            {"\x00\x00\x00\x00\x00", ErrFrame},
		"kind too high":     {"\xff\x00\x00\x00\x00", ErrFrame},
		"length too high":   {"\x04\x01\x00\x10\x00", ErrFrame},
		"length all ones":   {"\x04\xff\xff\xff\xff", ErrFrame},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := NewReader(bytes.NewReader([]byte(c.in))).Next()
			require.ErrorIs(t, err, c.want)
		})
	}
}

func TestWriterRefusesBigPayload(t *testing.T) {
	require.ErrorIs(t, NewWriter(io.Discard).Frame(KindStdout, make([]byte, MaxPayload+1)), ErrFrame)
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("\x04\x03\x00\x00\x00abc\x08\x02\x00\x00\x00{}"))
	f.Add([]byte("\x04\xff\xff\xff\xff"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, in []byte) {
		r := NewReader(bytes.NewReader(in))
		var out bytes.Buffer
		w := NewWriter(&out)
		for {
			k, p, err := r.Next()
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, ErrFrame) {
					t.Fatalf("untyped error %v", err)
				}
				break
			}
			if err := w.Frame(k, p); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.HasPrefix(in, out.Bytes()) {
			t.Fatalf("frames read do not spell the input: %q of %q", out.Bytes(), in)
		}
	})
}
