//go:build !race

package qcow2

func times(n int) int { return n }
