//go:build linux

package main

import (
	"bytes"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// sector is the unit of the commands read and write, in bytes.
const sector = 512

// disk opens a disk by the name that the host has for it, which is its serial number
// where the host gives it none; a disk that is alone needs no name.
func disk(name string, flags int) (int, error) {
	found := disks[name]
	if found == "" || read("/sys/block/"+found+"/size") == "" {
		findDisks() // it was plugged in or out
		found = disks[name]
	}
	if found == "" && len(disks) == 1 {
		for _, dev := range disks {
			found = dev
		}
	}
	if found == "" {
		return -1, unix.ENODEV
	}
	return unix.Open("/dev/"+found, flags|unix.O_CLOEXEC, 0)
}

// disks are the devices by serial number. The kernel asks the disk for it each time,
// which would be among the requests that a test counts.
var disks map[string]string

func findDisks() {
	disks = map[string]string{}
	for _, dev := range names("/sys/block") {
		if strings.HasPrefix(dev, "vd") {
			disks[strings.TrimSpace(read("/sys/block/"+dev+"/serial"))] = dev
		}
	}
}

// readSector prints the text at the beginning of a sector, which a zero byte ends. It
// is one request to the disk, past the cache.
func readSector(name string, n int64) error {
	fd, err := disk(name, unix.O_RDONLY|unix.O_DIRECT)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	b := alignedSector()
	got, err := unix.Pread(fd, b, n*sector)
	if err == nil && got < sector {
		err = unix.EIO
	}
	if err != nil {
		return err
	}
	text, _, _ := bytes.Cut(b, []byte{0})
	say(strings.Map(printable, string(text)))
	return nil
}

// writeSector writes a text and zeroes behind it to a sector, as one request.
func writeSector(name string, n int64, text string) error {
	fd, err := disk(name, unix.O_WRONLY|unix.O_DIRECT)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	b := alignedSector()
	copy(b[:sector-1], text)
	put, err := unix.Pwrite(fd, b, n*sector)
	if err == nil && put < sector {
		err = unix.EIO
	}
	if err == nil {
		say("written")
	}
	return err
}

// flush makes durable what was written to the disk.
func flush(name string) error {
	fd, err := disk(name, unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err = unix.Fsync(fd); err == nil {
		say("flushed")
	}
	return err
}

// page is memory that direct I/O accepts: it begins at a page.
var page, _ = unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)

// alignedSector gives a buffer of zeroes for direct I/O.
func alignedSector() []byte {
	clear(page)
	return page[:sector]
}

func printable(r rune) rune {
	if r < ' ' || r > '~' {
		return '?'
	}
	return r
}

// onDisk runs the commands about disks: WORD TARGET [SECTOR [TEXT]].
func onDisk(cmd, arg string) bool {
	name, rest, _ := strings.Cut(arg, " ")
	number, text, _ := strings.Cut(rest, " ")
	n, err := strconv.ParseInt(number, 10, 40)
	switch cmd {
	case "read":
		if err == nil {
			err = readSector(name, n)
		}
	case "write":
		if err == nil {
			err = writeSector(name, n, text)
		}
	case "flush":
		err = flush(name)
	default:
		return false
	}
	if err != nil {
		say(prefix + "error=" + cmd + " " + arg + ": " + err.Error())
	}
	return true
}

// names lists a directory.
func names(dir string) []string {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	var all []string
	buf := make([]byte, 4096)
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return all
		}
		_, _, all = unix.ParseDirent(buf[:n], -1, all)
	}
}
