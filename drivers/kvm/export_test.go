//go:build linux && amd64

package kvm

import (
	"testing"
	"time"
)

// ShortenPatience makes hung VM processes a matter of a second.
func ShortenPatience(t *testing.T) {
	look, destroy := lookPatience, destroyPatience
	lookPatience, destroyPatience = time.Second, time.Second
	t.Cleanup(func() { lookPatience, destroyPatience = look, destroy })
}

// ShortenLook has a VM process count as silent after a second.
func ShortenLook(t *testing.T) {
	look := lookPatience
	lookPatience = time.Second
	t.Cleanup(func() { lookPatience = look })
}
