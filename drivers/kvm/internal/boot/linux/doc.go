// Package linux puts a Linux x86-64 kernel, its initial RAM disk and its
// command line into guest memory and says how the first CPU must enter it.
//
// Two file formats are recognised: an ELF vmlinux (entered at its 64-bit entry
// point, or at its PVH entry point) and a bzImage (entered at its 64-bit entry
// point, after which it unpacks itself). The boot data follow the Linux/x86
// boot protocol (Documentation/arch/x86/boot.rst and zero-page.rst in the
// kernel sources) and, for PVH, the Xen x86/HVM direct boot ABI
// (struct hvm_start_info, version 1).
//
// Files are read through io.ReaderAt directly into guest memory: the package
// keeps no copy of a kernel and allocates a few kilobytes. Nothing in a kernel
// file is trusted. Every number in it is checked before it is used, every
// write goes through [Memory], and every refusal is an [*Error] that wraps one
// of the package's sentinel errors.
//
// # Low memory
//
// The package and its caller share the first megabyte like this:
//
//	0x00500            GDT (caller)
//	0x06000 - 0x06fff  hvm_start_info, its module list and memory map (PVH)
//	0x07000 - 0x07fff  boot_params, the "zero page"
//	0x09000 - 0x0efff  initial page tables (caller)
//	0x20000 - 0x9fbff  kernel command line
//	0x9fc00 - 0xfffff  reported as reserved; ACPI tables from 0xe0000 (caller)
//
// Guest memory from 1 MiB on holds the kernel, and the initial RAM disk lies
// as high as possible below the hole at 3 GiB.
package linux
