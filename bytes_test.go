package polyvisor_test

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor"
)

func TestParseBytes(t *testing.T) {
	for in, want := range map[string]polyvisor.Bytes{
		"0": 0, "1": 1, "4096": 4 * polyvisor.KiB, "0B": 0, "17B": 17, "17 B": 17,
		"1K": 1 << 10, "1KiB": 1 << 10, "1M": 1 << 20, "512MiB": 512 << 20, "512 MiB": 512 << 20,
		"3G": 3 << 30, "3GiB": 3 << 30, "2T": 2 << 40, "2TiB": 2 << 40,
		"18446744073709551615": math.MaxUint64, "16777215TiB": 16777215 << 40, "007": 7,
	} {
		got, err := polyvisor.ParseBytes(in)
		require.NoError(t, err, in)
		assert.Equal(t, want, got, in)
	}
	for in, want := range map[string]string{
		"": "want a number and a unit", " ": "want a number", "MiB": "want a number", "-1": "want a number", "+1": "want a number",
		"1.5GiB": "want a number", "0x10": "want a number", "1_000": "want a number", "1e3": "want a number", " 1": "want a number",
		"１": "want a number", "1MB": "want B, KiB, MiB, GiB or TiB", "1kb": "want a number", "1KB": "unknown unit", "5iB": "unknown unit",
		"1 K iB": "unknown unit", "1PiB": "want a number", "1MiBs": "want a number", "1\tMiB": "want a number",
		"18446744073709551616": "does not fit 64 bits", "16777216TiB": "does not fit 64 bits", "99999999999999999999TiB": "does not fit 64 bits",
	} {
		got, err := polyvisor.ParseBytes(in)
		assert.ErrorContains(t, err, want, "%q", in)
		assert.Zero(t, got, in)
	}
}

func TestBytesString(t *testing.T) {
	for in, want := range map[polyvisor.Bytes]string{
		0: "0B", 1: "1B", 1023: "1023B", 1024: "1KiB", 1025: "1025B", 1536 * polyvisor.MiB: "1536MiB",
		2 * polyvisor.GiB: "2GiB", 3 * polyvisor.TiB: "3TiB", math.MaxUint64: "18446744073709551615B",
	} {
		assert.Equal(t, want, in.String())
	}
}

func TestBytesJSON(t *testing.T) {
	for in, want := range map[string]polyvisor.Bytes{
		"0": 0, "4096": 4096, `"512MiB"`: 512 << 20, "18446744073709551615": math.MaxUint64, `"4096"`: 4096,
	} {
		var b polyvisor.Bytes
		require.NoError(t, json.Unmarshal([]byte(in), &b), in)
		assert.Equal(t, want, b)
		out, err := json.Marshal(b)
		require.NoError(t, err)
		var again polyvisor.Bytes
		require.NoError(t, json.Unmarshal(out, &again))
		assert.Equal(t, b, again)
	}
	for _, in := range []string{"-1", "1.5", "1e30", "true", "{}", "[]", `"lots"`, `""`, "18446744073709551616"} {
		var b polyvisor.Bytes
		assert.Error(t, json.Unmarshal([]byte(in), &b), in)
	}
}

func FuzzParseBytes(f *testing.F) {
	for _, s := range []string{"0", "512MiB", "1 K", "16777216TiB", "18446744073709551615", "-1", "1.5G", "5iB", " ", "1KiBB"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b, err := polyvisor.ParseBytes(s)
		if err != nil {
			if b != 0 {
				t.Errorf("%q: %d with the error %v", s, b, err)
			}
			return
		}
		again, err := polyvisor.ParseBytes(b.String())
		if err != nil || again != b {
			t.Errorf("%q is %d, written %q, read as %d, %v", s, b, b, again, err)
		}
	})
}
