// Package vsock is the socket device (virtio 1.2, section 5.10): stream connections between programs in the guest and
// programs on the host, which see them as unix sockets. Nothing of it is in the host's kernel.
//
// A host program reaches a port of the guest through one listening socket: it connects, writes "CONNECT port\n" and reads
// "OK hostport\n" once the guest has accepted; if the guest refuses, the connection is closed instead. What a guest opens
// to a port of the host goes to whatever [Config.Connect] finds for that port. From then on both are plain streams, which can be
// closed in one direction.
//
// Three goroutines do the work, for any number of connections: one for each queue, and one that waits for all
// sockets. All they share is behind one mutex, which nobody holds across a blocking call. Nobody polls: sockets are
// watched edge-triggered, a stalled one costs nothing.
//
// Memory is bounded by the number of connections: a guest may have bufferSize bytes under way in each, which is what the
// device tells it as credit, and one that sends more loses the connection.
package vsock
