//go:build !race

package libvirt_test

const raceDetector = false
