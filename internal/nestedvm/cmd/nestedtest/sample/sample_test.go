//go:build linux

package sample

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if os.Getenv("NESTEDTEST_SAMPLE") == "" {
		return // in a run of all packages
	}
	if len(os.Args) == 2 && os.Args[1] == "sleep" {
		time.Sleep(time.Hour)
	}
	m.Run()
}

func TestEnvironment(t *testing.T) {
	if os.Getenv("POLYVISOR_NESTED") != "1" {
		t.Fatal("not in the nested machine")
	}
	if os.Getenv("EXTRA") != "given" {
		t.Error("-env did not come through")
	}
	for _, name := range []string{"POLYVISOR_TEST_KERNEL", "POLYVISOR_TEST_INITRD", "POLYVISOR_TEST_INIT"} {
		if info, err := os.Stat(os.Getenv(name)); err != nil || info.Size() < 1<<20 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if f, err := elf.Open(os.Getenv("POLYVISOR_TEST_INIT")); err != nil || f.Machine != elf.EM_X86_64 {
		t.Errorf("init of the guest: %v", err)
	}
	for _, glob := range []string{"kernel/drivers/block/virtio_blk.ko", "kernel/drivers/virtio/virtio.ko"} {
		if found, _ := filepath.Glob(filepath.Join(os.Getenv("POLYVISOR_TEST_MODULES"), glob)); len(found) != 1 {
			t.Errorf("no module %s", glob)
		}
	}
	for _, file := range []string{"testdata/file", "doc.go", "/given/file"} {
		if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
	}
	kvm, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	kvm.Close()
	if err := os.WriteFile(filepath.Join(os.Getenv("POLYVISOR_ARTIFACTS"), "made"), []byte("in the machine"), 0o644); err != nil {
		t.Error(err)
	}
}

func TestCovered(t *testing.T) {
	if Double(2) != 4 {
		t.Error("wrong")
	}
}

func TestSkipped(t *testing.T) { t.Skip("needs a reason") }

func TestSub(t *testing.T) {
	t.Run("good", func(t *testing.T) {})
	t.Run("bad", func(t *testing.T) { t.Error("wrong on purpose") })
}

func TestLeft(t *testing.T) {
	if err := exec.Command(os.Args[0], "sleep").Start(); err != nil {
		t.Fatal(err)
	}
}

func TestNotChosen(t *testing.T) { t.Error("-skip does not come through") }
