// Package net is the virtio network device: Ethernet frames between the guest's queues and a back end, which is a tap or
// a socket that carries one frame per message.
//
//	dev, err := net.New(net.Config{MAC: mac, MTU: 1500, Backend: net.Backend{Files: []*os.File{sock}}})
//
// Each queue has one goroutine, which waits for its file in Go's poller and for the guest at its doorbell, never on a
// thread of its own.
//
// Transmission hands the guest's memory straight to writev(2). Only the header in front of a frame is copied before it
// is judged, since the guest may change it meanwhile; what the frame says itself the back end must not trust anyway.
//
// Reception reads into a buffer of the queue and copies once. Reading into guest memory would need buffers for the
// largest frame, 64 KiB, taken from the guest before each read, and could neither tell that a frame was cut nor keep one
// while the guest has no room.
//
// When the guest has no buffers the back end is not read, so that its queue fills and slows or drops at the source. When
// the back end takes no more the guest's frames wait in its queue.
//
// Source: virtio 1.2, section 5.1.
package net
