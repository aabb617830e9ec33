package domainxml_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/domainxml"
)

// A set that is written with ranges has each of its CPUs and no other.
func TestPinRanges(t *testing.T) {
	for first := range 20 {
		for last := first; last < 36; last++ {
			c, err := domainxml.Parse(domain(fmt.Sprintf("<cputune><vcpupin vcpu='0' cpuset='40,%d-%d,^41,^99'/></cputune>", first, last)))
			require.NoError(t, err)
			set := c.VCPU[0].Affinity
			require.Equal(t, last-first+2, set.Len())
			for cpu := range 50 {
				require.Equal(t, cpu >= first && cpu <= last || cpu == 40, set.Has(cpu), "%d-%d: %d", first, last, cpu)
			}
		}
	}
}
