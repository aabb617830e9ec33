// Package blk is the virtio block device (virtio 1.2, section 5.2) on a [disk.Image].
//
// # What a guest may rely on
//
// A flush is answered when everything that was answered before it is on stable storage. A driver that does not negotiate
// FLUSH, or switches its cache off (CONFIG_WCE), gets each write answered when that is on stable storage; so does every driver with
// [disk.Writethrough]. Only [disk.Unsafe] promises nothing, and it does not offer FLUSH either. Once storage has
// failed to make writes durable, the kernel has dropped what it could not write, and a later success would say
// nothing of it: from then on every flush fails until the disk is opened anew.
//
// # Who does the work
//
// Each queue has a goroutine that takes requests from the ring. It does itself what is expected to be brief, reads and writes as long
// as the last ones of their kind were, and answers these with one interrupt for a batch. All else goes to a pool of at
// most [Helpers] goroutines a device, which are started when they are first needed, so that requests overtake each other and the
// device goes on taking new ones. File I/O holds a thread: a device uses at most Helpers and one for each queue. No work
// is done on a vCPU's thread, and a request causes no allocation.
package blk
