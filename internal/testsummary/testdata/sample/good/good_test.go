package good

import "testing"

func TestPass(t *testing.T) { t.Log("said by a test that passes") }

func TestSkip(t *testing.T) {
	t.Log("said before")
	t.Skip("needs /dev/kvm: none here\nsecond line")
}

func TestNested(t *testing.T) { t.Skip("needs the nested machine, which lacks: qemu") }

func TestSub(t *testing.T) {
	t.Run("one", func(t *testing.T) {})
	t.Run("two", func(t *testing.T) { t.SkipNow() })
}
