// Package unpack finds the ELF vmlinux inside a bzImage and unpacks it on the
// host, because a guest that unpacks its own kernel spends most of its boot
// doing so. [Cache] keeps the results by the content of the bzImage.
//
// A bzImage names its payload in the setup header (payload_offset and
// payload_length, boot protocol 2.08). The payload is one compressed stream,
// followed by the length of the unpacked data as a 32-bit little-endian number
// (gzip ends with such a number of its own). What comes out is vmlinux, and
// for a relocatable kernel its relocation table behind it, which ELF loaders
// never look at; it stays in the result.
//
// All compressions of x86 kernels are known: gzip, bzip2, lzma, xz (with the
// x86 filter), lzo, lz4 (legacy frame) and zstd. Kernel files are not trusted:
// the output is bounded by the length that the file promises, which is bounded
// by the init_size of its header and by [MaxUnpacked]; the memory for
// dictionaries is bounded too, and checksums are verified where the format has
// any. Failures are *linux.Error values that name the file and wrap a
// sentinel error of this package or of package linux.
//
// The package belongs into the process that prepares a start, not into the
// process of the virtual machine, which needs none of this code.
package unpack
