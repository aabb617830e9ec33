// Package all links every driver of this module into a program: import it for its side
// effect.
//
//	import _ "github.com/polyvisor/polyvisor/drivers/all"
package all

import (
	_ "github.com/polyvisor/polyvisor/drivers/fake"
	_ "github.com/polyvisor/polyvisor/drivers/kvm"
	_ "github.com/polyvisor/polyvisor/drivers/libvirt"
)
