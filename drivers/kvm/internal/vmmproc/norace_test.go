//go:build !race

package vmmproc

const raceEnabled = false
