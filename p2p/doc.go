// Package p2p is Talka's network: it finds the peers of a network, keeps
// connections to some of them, and carries frames, announcements and streams.
// It is the only package, with those below it, that knows libp2p.
//
// # What it promises
//
//   - A frame given to Send reaches the peer after all frames that were sent to
//     it before, or not at all. A nil error means that the frame was handed to a
//     live stream, not that the peer has read it: frames are lost when a peer or
//     a connection dies, so whoever needs an answer asks again.
//   - Frames of one peer are handled one after the other. A handler that blocks
//     holds back that peer and no other.
//   - An announcement travels by gossip and, because gossip drops silently, by
//     the pull catalogue too. Each of the two suffices alone.
//   - A peer is found by the addresses of an invite, by the cache of earlier
//     runs, by the DHT from its id, by the network's rendezvous in the DHT, by
//     what members tell of each other, and by multicast on the LAN.
//   - A node of another network is told nothing and is disconnected.
//   - In a private network both ends of a connection show that they are members
//     before anything else can be asked or said on it, see package membership. A
//     stranger learns nothing but that something answers. Who is no member any
//     longer, by time or by removal, is cut off.
//   - What peers send is bounded: connections, streams, frames, entries, records
//     and the time they may take. See Bounds, the table
//     of limits, and Limits. Who passes on what is false is kept away for a while.
//
// # Protocols
//
// Every protocol id begins with /talka/<network>.
//
//	/grid/1            one-way frames: 4 bytes length, big-endian, 1 to MaxFrame; then the bytes
//	/catalogue/1       three frames of dag-cbor: what I have; what you lack and what I want; what you want
//	/peers/1           one frame of dag-cbor from who is asked: signed records of peers
//	/member/1          private networks: a frame of dag-cbor each way: what I show; your new certificate
//	/<name>/1          streams of other packages, see Open and Handle
//	/kad/1.0.0         kad-dht; peers and providers only, no values
//	/meshsub/1.x.0     gossipsub, one topic: /talka/<network>/announce/1
//
// libp2p's own protocols (identify, ping, relay, hole punching, AutoNAT) keep
// their ids.
//
// # Concurrency
//
// New listens, and Run does the rest; peers that arrive between the two wait.
// Register handlers between New and Run. All methods are safe for concurrent
// use. Handlers are called on goroutines of this package and get a context that
// ends with Run; Run returns after all of them have returned.
package p2p
