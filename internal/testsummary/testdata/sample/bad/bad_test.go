package bad

import "testing"

func TestSub(t *testing.T) {
	t.Run("one", func(t *testing.T) { t.Error("one is wrong") })
	t.Run("two", func(t *testing.T) {})
}

func TestParent(t *testing.T) {
	t.Run("fine", func(t *testing.T) {})
	t.Error("only the parent is wrong")
}

func TestPass(t *testing.T) { t.Log("said by a test that passes") }
