// Package gridtest runs a whole grid in one goroutine and in virtual time: the
// very machines that nodes run (steward.Machine, volunteer.Machine and their
// ledgers), over a network with latency, loss and partitions, disks that outlive
// crashes, and volunteers of which some are slow, stuck or liars.
//
// A World is a discrete-event simulator. Equal seeds and equal commands give
// equal runs, to the byte. Every step checks what must hold at any time: nothing
// leaves a node before it is durable there, and nobody accepts a wrong result;
// Check holds what must hold once everything has come to rest.
//
// Frames pass through the wire's encoding, so limits hold here as they do
// between processes. Frames between two nodes keep their order; a lost frame is
// a broken stream.
//
// A World belongs to one goroutine.
package gridtest
