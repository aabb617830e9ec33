package testkernel

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"fmt"
	"os"
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

// The code is what the source was assembled to.
func TestSum(t *testing.T) {
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
		t.Errorf("kernel.S or kernel.bin was changed by itself (%v); run go generate", err)
	}
}
