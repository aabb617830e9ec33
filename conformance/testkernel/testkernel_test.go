package testkernel

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestELF(t *testing.T) {
	f, err := elf.NewFile(bytes.NewReader(ELF()))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Type != elf.ET_EXEC || f.Machine != elf.EM_X86_64 || len(f.Progs) != 1 {
		t.Fatalf("%s for %s of %d parts", f.Type, f.Machine, len(f.Progs))
	}
	p := f.Progs[0]
	loaded := make([]byte, p.Filesz)
	if _, err := p.ReadAt(loaded, 0); err != nil || !bytes.Equal(loaded, code) {
		t.Errorf("what is loaded is not the code: %v", err)
	}
	if p.Type != elf.PT_LOAD || f.Entry < p.Paddr || f.Entry >= p.Paddr+p.Filesz {
		t.Errorf("the entry %#x is not in the part %+v", f.Entry, p.ProgHeader)
	}
}

// The code is what the source assembles to: by the recorded hashes everywhere,
// by assembling it where binutils for amd64 are installed.
func TestCurrent(t *testing.T) {
	const remedy = "kernel.S was changed without `go generate`; run it in this directory"
	var want strings.Builder
	for _, name := range []string{"kernel.S", "kernel.bin"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&want, "%x  %s\n", sha256.Sum256(b), name)
	}
	have, err := os.ReadFile("kernel.sum")
	if err != nil || string(have) != want.String() {
		t.Errorf("%s (%v)", remedy, err)
	}
	obj, bin := filepath.Join(t.TempDir(), "kernel.o"), filepath.Join(t.TempDir(), "kernel.bin")
	for _, args := range [][]string{{"as", "--64", "-o", obj, "kernel.S"}, {"objcopy", "-O", "binary", "-j", ".text", obj, bin}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Skipf("only the hashes were compared: %v: %s; install binutils for amd64", err, out)
		}
	}
	if b, err := os.ReadFile(bin); err != nil || !bytes.Equal(b, code) {
		t.Errorf("%s (%v)", remedy, err)
	}
}
