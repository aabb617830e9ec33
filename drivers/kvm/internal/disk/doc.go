// Package disk says what an image of a virtual disk is, opens image files and locks them against each other. Formats are
// packages of their own below this one; what a guest sees of a disk is a device's business.
//
// A format is stated by whoever opens an image, by the [Opener] that it passes, and never found out by looking: a guest
// that may write a raw disk could otherwise turn it into a qcow2 image that names files of the host.
package disk
