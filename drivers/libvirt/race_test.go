//go:build race

package libvirt_test

// raceDetector says that more is allocated than otherwise.
const raceDetector = true
