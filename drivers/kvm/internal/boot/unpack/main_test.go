package unpack

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/polyvisor/polyvisor/internal/leaktest"
)

// A test binary started with this variable set is a second process using the
// cache: it asks for the kernel named by its value and exits.
const childEnv = "UNPACK_TEST_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		c := &Cache{Dir: os.Getenv(childEnv + "_DIR")}
		k, err := c.Vmlinux(context.Background(), path)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(k.Origin, k.Size)
		os.Exit(0)
	}
	leaktest.Main(m)
}
