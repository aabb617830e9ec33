// Package proto is what the agent in a guest and the host say to each other,
// described in docs/agent-protocol.md: frames on one connection for each request,
// and streams of bytes in them that do not hold each other up.
//
// Both sides are written against a hostile peer. A frame is bounded before it is
// read, what a peer sends beyond its window ends the connection, and a connection
// holds a window of memory for each stream at most.
package proto
