package all_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/polyvisor/polyvisor"
	_ "github.com/polyvisor/polyvisor/drivers/all"
)

func TestEveryDriverIsLinked(t *testing.T) {
	drivers := polyvisor.Drivers()
	for _, scheme := range []string{"fake", "kvm", "libvirt", "qemu", "test", "xen", "ch", "lxc"} {
		assert.Contains(t, drivers, scheme)
	}
}
