// Package qcow2 reads and writes disk images in QEMU's qcow2 format, versions 2 and 3, as QEMU's docs/interop/qcow2.txt
// describes it.
//
// An image file may come from anybody: whatever it says is checked, memory is bounded by the options and not by the file, and an
// image that cannot be written safely is refused with the reason and the remedy.
//
// # Order of writes
//
// Data goes to the file at once, tables stay in memory until a flush or until the cache is full of changes. Then they are
// written in groups, with fdatasync between: refcount blocks, the refcount table, and L2 tables together with the L1 table. A cluster is
// therefore counted and filled before anything points to it; a new table is all zeroes in the file
// before that. A cluster that is no longer used is counted down and used again only after the tables without it are on
// stable storage and no transfer that began earlier goes on. Entries do not cross a sector, so that after a crash at any point the
// file holds no wrong reference and everything that was flushed. Clusters may leak, that is be counted and not used,
// which [Image.Check] repairs.
package qcow2
