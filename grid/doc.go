// Package grid drives a node: it runs the steward's and the volunteer's machines,
// performs their effects, and answers the owner.
//
// One goroutine, the loop, owns all machines and ledgers; everything else sends
// it functions. The loop takes whatever has arrived, steps the machines, writes
// all that must be durable in one transaction, and only then lets messages leave.
// Executions, fetches and sends run on goroutines of their own and report back
// to the loop.
//
// The package declares what it needs of the network, of data and of the
// sandbox as interfaces, so that it imports no libp2p.
package grid
