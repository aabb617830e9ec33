//go:build race

package vmmproc

// raceEnabled says that memory is not what it is without the race detector.
const raceEnabled = true
