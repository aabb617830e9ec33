// Package raw is the disk image without a format: byte n of a file or block device is byte n of the disk.
//
// A transfer is one system call on the calling goroutine's thread. With O_DIRECT, what the kernel would refuse for its
// alignment goes through buffers of our own, and a write of less than the storage's unit is read, changed and written with all
// other writes held up.
package raw
