package p2p

import (
	"time"

	"github.com/talka-grid/talka/p2p/membership"
	"github.com/talka-grid/talka/workunits"
)

// Bound is a line of the table of limits: what all peers together, or one of them,
// can take of a node, and what becomes of more.
type Bound struct {
	Name string
	Most int           // a number, or bytes
	Time time.Duration // of limits in time
	Then string        // what becomes of more
}

// Bounds is the table of limits. Each line has a test of its name, those in time in
// package p2ptest, where time is virtual.
func Bounds(l Limits) []Bound { return append(numbers(l.withDefaults()), times()...) }

func numbers(l Limits) []Bound {
	return []Bound{
		{"connections", l.Connections, 0, "refused"},
		{"connections of one address", l.PerIP, 0, "refused"},
		{"new connections of one address in a minute", l.NewPerIP, 0, "refused"},
		{"connections of one peer", maxPeerConns, 0, "refused"},
		{"connections that are half open", l.Connections, 0, "refused"},
		{"bytes that one peer reserves", int(l.Memory / 2), 0, "stream reset"},

		{"streams of one peer", maxPeerStreams, 0, "refused"},
		{"frame streams of one peer", maxFrameStreams, 0, "refused; the newest counts"},
		{"catalogue streams of one peer", maxCatalogueStreams, 0, "refused"},
		{"peers streams of one peer", maxPeersStreams, 0, "refused"},
		{"member streams of one peer", maxMemberStreams, 0, "refused"},
		{"streams of one peer to another package", maxNamedStreams, 0, "refused"},

		{"bytes of a frame", MaxFrame, 0, "stream reset"},
		{"bytes of a catalogue message", catalogueFrame, 0, "stream reset"},
		{"names in a catalogue message", maxCatalogue, 0, "stream reset"},
		{"announcements in a catalogue message", maxEntries, 0, "stream reset, all dropped"},
		{"bytes of an announcement", workunits.MaxAnnouncement, 0, "rejected"},
		{"bytes of a gossip message", maxGossip, 0, "stream reset"},
		{"topics that a gossip message names", maxTopics, 0, "ignored"},
		{"bytes of an answer with peers", peersFrame, 0, "stream reset"},
		{"peers in an answer", maxTold, 0, "all dropped"},
		{"bytes of a peer's record in an answer", maxRecordBytes, 0, "all dropped"},
		{"addresses of a peer", maxAddrs, 0, "refused"},
		{"bytes of news of a membership", memberFrame, 0, "stream reset"},
		{"bytes of a hello", membership.MaxHello, 0, "connection closed"},
		{"bytes of an invite", maxInviteBytes, 0, "refused"},

		{"records for others in the DHT", maxRecords, 0, "dropped"},
		{"records of one provider in the DHT", maxPerPeer, 0, "dropped"},
		{"pointers for others in the DHT", maxPointers, 0, "any gives way"},
		{"keys that this node provides", maxProvided, 0, "refused"},
		{"peers of one place in a bucket of the DHT", maxOfBucket, 0, "not taken"},
		{"peers heard of in one way", maxHeard, 0, "the newest counts"},
		{"peers that could not be reached", maxFailed, 0, "the rest is forgotten"},
		{"peers that are remembered between runs", maxCached, 0, "the oldest is forgotten"},
		{"nodes on a list", maxListed, 0, "refused"},
		{"peers that are shunned", maxShunned, 0, "any is forgiven"},
		{"frames that wait for one peer", maxWaiting, 0, "refused"},
		{"protected peers", maxProtect, 0, "not protected"},
		{"protected peers of one place", maxOfRange, 0, "not protected"},
		{"protected peers that dialled this node", maxDialled, 0, "not protected"},
		{"dials at a time", dialsAtOnce, 0, "wait"},
		{"connections that have not said hello", maxGreeted, 0, "closed"},
		{"memberships by one invite", maxPerInvite, 0, "refused"},
		{"relayed nodes", relaySlots, 0, "refused"},
		{"relayed nodes of one address", relayPerIP, 0, "refused"},
		{"bytes over a relay, each way", relayBytes, 0, "connection closed"},
	}
}

func times() []Bound {
	return []Bound{
		{"a frame", 0, frameTimeout, "stream reset"},
		{"a catalogue exchange", 0, catalogueTime, "stream reset"},
		{"asking for peers", 0, peersTime, "given up"},
		{"news of a membership", 0, memberTime, "stream reset"},
		{"a hello", 0, greetTime, "connection closed"},
		{"a visit of whom a member speaks for", 0, visitTime, "connection closed"},
		{"no word on who one is", 0, strangerGrace + 10*time.Second, "connection closed"}, // identify's own time included
		{"a relayed connection", 0, relayDuration, "closed"},
		{"until a node's next certificate", 0, issueEvery, "none is issued"},
		{"a doubted connection", 0, probeTimeout, "closed"},
		{"lies in gossip", 0, shunTime, "not let in"},
	}
}
