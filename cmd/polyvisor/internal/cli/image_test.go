package cli_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestImage(t *testing.T) {
	dir := t.TempDir()
	disk, raw, back := filepath.Join(dir, "d.qcow2"), filepath.Join(dir, "d.img"), filepath.Join(dir, "back.img")
	data := make([]byte, 3<<20)
	copy(data[1<<20:], bytes.Repeat([]byte("polyvisor"), 1000))
	require.NoError(t, os.WriteFile(raw, data, 0o600))

	must(t, "image", "create", disk, "1GiB")
	require.Contains(t, must(t, "image", "info", disk), "1GiB (1073741824 bytes)")
	code, _, err := invoke(t, "", "image", "create", disk, "1GiB")
	require.Equal(t, 1, code)
	require.Contains(t, err, "force it to be replaced")
	must(t, "image", "convert", "--force", raw, disk)
	must(t, "image", "convert", "--to", "raw", disk, back)
	got, e := os.ReadFile(back)
	require.NoError(t, e)
	require.True(t, bytes.Equal(data, got))

	var info struct {
		Format string
		Size   int64
	}
	require.NoError(t, json.Unmarshal([]byte(must(t, "image", "info", "-o", "json", disk)), &info))
	require.Equal(t, "qcow2", info.Format)
	require.EqualValues(t, 3<<20, info.Size)
	must(t, "image", "resize", disk, "5MiB")
	code, _, err = invoke(t, "", "image", "resize", disk, "1MiB")
	require.Equal(t, 1, code)
	require.Contains(t, err, "smaller")
	must(t, "image", "resize", "--shrink", disk, "1MiB")
	require.Contains(t, must(t, "image", "check", disk), "Corruptions:")

	names, e := os.ReadDir(dir)
	require.NoError(t, e)
	require.Len(t, names, 3, "nothing else is left")
}

func TestImageUsage(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"image", "create", "x"}, "want a file and a size"},
		{[]string{"image", "create", "x", "much"}, "image create: "},
		{[]string{"image", "create", "-b", "y", "x"}, "--backing-format"},
		{[]string{"image", "convert", "x"}, "want an image and a new file"},
		{[]string{"image", "frobnicate"}, "frobnicate"},
	} {
		code, _, err := invoke(t, "", tc.args...)
		require.Equal(t, 2, code, tc.args)
		require.Contains(t, err, tc.want)
	}
}

func TestImageCheckSaysWhatIsWrong(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "d.qcow2")
	must(t, "image", "create", disk, "1MiB")
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	require.NoError(t, err)
	// The refcount of the cluster behind the last, in the block at the third cluster.
	_, err = f.WriteAt([]byte{0, 1}, 2*65536+4*2)
	require.NoError(t, err)
	code, out, _ := invoke(t, "", "image", "check", disk)
	require.Equal(t, 5, code)
	require.Contains(t, out, "counted 1 times and used 0 times")
	must(t, "image", "check", "--repair", disk)
	must(t, "image", "check", disk)

	_, err = f.WriteAt([]byte{0, 0}, 2*65536)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	code, _, _ = invoke(t, "", "image", "check", "--repair", disk)
	require.Equal(t, 4, code)

	vmdk := filepath.Join(t.TempDir(), "d.vmdk")
	require.NoError(t, os.WriteFile(vmdk, append([]byte("KDMV"), make([]byte, 508)...), 0o600))
	code, _, msg := invoke(t, "", "image", "info", vmdk)
	require.Equal(t, 1, code)
	require.Contains(t, msg, "qemu-img convert -f vmdk")
}
