package p2p

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/talka-grid/talka/workunits"
)

// Limits of gossip.
const (
	maxGossip     = 64 << 10 // bytes of a gossip message with all that it carries
	gossipQueue   = 256      // messages that wait for validation, for delivery, for a peer
	maxTopics     = 4        // topics that one message of a peer may name
	validateLimit = 5 * time.Second
	scoreEvery    = 10 * time.Second // scores are looked at, to be shown, and fade
	graylisted    = -2500            // score below which a peer is not listened to: six lies within the hour
	shunTime      = 10 * time.Minute // that such a peer is kept away
	maxShunned    = 1024
)

// Verdict is a validator's word on an announcement.
type Verdict int

// The verdicts. Reject counts against the peer that passed the announcement on:
// use it for what is provably wrong, and Ignore for what is stale or unknown.
const (
	Accept Verdict = iota
	Ignore
	Reject
)

// Validator judges an announcement that a peer passed on, which need not be its
// author. It is called on several goroutines and must be quick: others wait.
type Validator func(from workunits.NodeID, data []byte) Verdict

// Announcements sets who judges announcements and who gets the accepted ones.
// deliver is called serially, never with this node's own; it owns data. Call
// before Run.
func (h *Host) Announcements(v Validator, deliver func(data []byte)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.handlers.validate, h.handlers.deliver = v, deliver
}

// Announce gives an announcement of at most workunits.MaxAnnouncement bytes to
// gossip. A nil error says nothing about who hears it; it is not even an error
// if no peer is connected. Peers that miss it pull it from the Catalogue.
func (h *Host) Announce(ctx context.Context, data []byte) error {
	if len(data) == 0 || len(data) > workunits.MaxAnnouncement {
		return fmt.Errorf("announce: %d bytes, want 1 to %d: %w", len(data), workunits.MaxAnnouncement, ErrTooLarge)
	}
	if h.ctx.Err() != nil {
		return fmt.Errorf("announce: %w", ErrClosed)
	}
	if h.topic == nil {
		return nil
	}
	err := h.topic.Publish(ctx, data)
	if err != nil && !errors.As(err, new(pubsub.ValidationError)) { // one of those was announced before
		return fmt.Errorf("announce: %w", err)
	}
	return nil
}

func (h *Host) openGossip() error {
	if h.cfg.NoGossip {
		return nil
	}
	topic := string(h.protocol("announce"))
	params := pubsub.DefaultGossipSubParams()
	params.D, params.Dlo, params.Dhi, params.Dscore, params.Dout, params.Dlazy = 8, 6, 12, 5, 3, 8
	score, thresholds := scoring(topic)
	protocols, features := h.gossipProtocols()
	options := []pubsub.Option{
		pubsub.WithGossipSubProtocols(protocols, features),
		pubsub.WithGossipSubParams(params),
		pubsub.WithPeerScore(score, thresholds),
		pubsub.WithPeerScoreInspect(h.noteScores, scoreEvery),
		pubsub.WithFloodPublish(true), // own announcements are few, and a young mesh has holes
		// Announcements carry their author's signature. Naming them by content
		// alone makes copies of one announcement one message, whoever sent it.
		pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign),
		pubsub.WithNoAuthor(),
		pubsub.WithMessageIdFn(func(m *pb.Message) string { d := workunits.Sum(m.GetData()); return string(d[:20]) }),
		pubsub.WithMaxMessageSize(maxGossip),
		pubsub.WithMaxControlMessageSize(maxGossip),
		pubsub.WithPeerOutboundQueueSize(gossipQueue),
		pubsub.WithValidateQueueSize(gossipQueue),
		pubsub.WithSubscriptionFilter(subscriptions(topic)),
	}
	if h.metrics != nil {
		options = append(options, pubsub.WithRawTracer(h.metrics))
	}
	gossip, err := pubsub.NewGossipSub(h.ctx, h.base, options...)
	if err != nil {
		return err
	}
	h.gossip = gossip
	if err := gossip.RegisterTopicValidator(topic, h.judge, pubsub.WithValidatorTimeout(validateLimit)); err != nil {
		return err
	}
	h.topic, err = gossip.Join(topic)
	return err
}

// subscriptions lets peers speak of the network's topic alone: gossip would keep
// whatever else they name.
func subscriptions(topic string) pubsub.SubscriptionFilter {
	return pubsub.WrapLimitSubscriptionFilter(pubsub.NewAllowlistSubscriptionFilter(topic), maxTopics)
}

// gossipProtocols puts gossipsub under the network's prefix.
func (h *Host) gossipProtocols() ([]protocol.ID, pubsub.GossipSubFeatureTest) {
	prefix := protocol.ID("/talka/" + h.cfg.Network)
	v12, v11 := prefix+pubsub.GossipSubID_v12, prefix+pubsub.GossipSubID_v11
	return []protocol.ID{v12, v11}, func(f pubsub.GossipSubFeature, id protocol.ID) bool {
		switch f {
		case pubsub.GossipSubFeatureMesh, pubsub.GossipSubFeaturePX:
			return id == v12 || id == v11
		case pubsub.GossipSubFeatureIdontwant:
			return id == v12
		}
		return false
	}
}

// scoring counts invalid messages, broken gossip promises and many peers behind
// one address. It does not count how much a peer delivers: announcements are
// too rare for that to mean anything.
func scoring(topic string) (*pubsub.PeerScoreParams, *pubsub.PeerScoreThresholds) {
	fade := pubsub.ScoreParameterDecayWithBase(time.Hour, scoreEvery, pubsub.DefaultDecayToZero)
	params := &pubsub.PeerScoreParams{
		AppSpecificScore: func(peer.ID) float64 { return 0 },
		// A campus or a home is one address; private ranges say nothing at all.
		IPColocationFactorWeight:    -10,
		IPColocationFactorThreshold: 16,
		BehaviourPenaltyWeight:      -10,
		BehaviourPenaltyThreshold:   6,
		BehaviourPenaltyDecay:       fade,
		DecayInterval:               scoreEvery,
		DecayToZero:                 pubsub.DefaultDecayToZero,
		// Scores of who is gone stand still. One that outlived the peer's time away
		// would send it away again at once, with nothing told meanwhile.
		RetainScore: shunTime - scoreEvery,
		Topics: map[string]*pubsub.TopicScoreParams{topic: {
			SkipAtomicValidation:           true,
			TopicWeight:                    1,
			TimeInMeshWeight:               0.0027, // at most 1, after an hour
			TimeInMeshQuantum:              10 * time.Second,
			TimeInMeshCap:                  360,
			FirstMessageDeliveriesWeight:   0.5, // at most 50
			FirstMessageDeliveriesDecay:    fade,
			FirstMessageDeliveriesCap:      100,
			InvalidMessageDeliveriesWeight: -100,
			InvalidMessageDeliveriesDecay:  fade,
		}},
	}
	for _, p := range append(private4(), private6()...) {
		params.IPColocationFactorWhitelist = append(params.IPColocationFactorWhitelist,
			&net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())})
	}
	return params, &pubsub.PeerScoreThresholds{
		GossipThreshold: -500, PublishThreshold: -1000, GraylistThreshold: graylisted,
		AcceptPXThreshold: 1000, OpportunisticGraftThreshold: 3.5,
	}
}

// noteScores is told the scores every now and then. Whom gossip does not listen to
// any longer the node has no other use for.
func (h *Host) noteScores(all map[peer.ID]float64) {
	h.scores.set(all)
	for p, score := range all {
		if score < graylisted && h.gate.shun(p, time.Now()) {
			h.log.Info("a peer passes on what is false; it is kept away for a while", "peer", p, "score", score)
			h.spawn(func() { _ = h.base.Network().ClosePeer(p) }) // it is gone either way
		}
	}
}

// scores are the peers' scores as gossip last told them.
type scores struct {
	mu  sync.Mutex
	all map[peer.ID]float64
}

func (s *scores) set(all map[peer.ID]float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = all
}

func (s *scores) of(p peer.ID) float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[p]
}

// judge asks the caller's validator, once Run has begun.
func (h *Host) judge(ctx context.Context, from peer.ID, m *pubsub.Message) pubsub.ValidationResult {
	if from == h.base.ID() {
		return pubsub.ValidationAccept
	}
	select {
	case <-h.started:
	case <-ctx.Done():
		return pubsub.ValidationIgnore
	}
	id, ok := nodeID(from)
	validate := h.registered().validate
	if n := len(m.GetData()); !ok || n == 0 || n > workunits.MaxAnnouncement {
		return pubsub.ValidationReject
	}
	if validate == nil {
		return pubsub.ValidationIgnore
	}
	switch validate(id, m.GetData()) {
	case Accept:
		return pubsub.ValidationAccept
	case Ignore:
		return pubsub.ValidationIgnore
	}
	return pubsub.ValidationReject
}

// listenGossip delivers accepted announcements.
func (h *Host) listenGossip() {
	deliver := h.registered().deliver
	if h.topic == nil {
		return
	}
	sub, err := h.topic.Subscribe(pubsub.WithBufferSize(gossipQueue))
	if err != nil {
		h.log.Error("cannot listen to announcements", "error", err)
		return
	}
	defer sub.Cancel()
	for {
		m, err := sub.Next(h.ctx)
		if err != nil {
			return
		}
		if m.ReceivedFrom != h.base.ID() && deliver != nil {
			deliver(m.GetData())
		}
	}
}
