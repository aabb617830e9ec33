package mainexit

import (
	"fmt"
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	m.Run()
	fmt.Println("leaked a thing")
	os.Exit(1)
}

func TestFine(t *testing.T) {}
