package p2p

import (
	"cmp"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	libp2pmetrics "github.com/libp2p/go-libp2p/core/metrics"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics count what the network does; nil counts nothing. What libp2p counts of
// itself is beside it in the same registry.
type metrics struct {
	bytes  *prometheus.CounterVec // by protocol and direction
	gossip *prometheus.CounterVec // by what happened to an announcement or an RPC
	prefix string                 // of the network's protocols
}

func newMetrics(network string) *metrics {
	return &metrics{
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "talka_p2p_bytes_total", Help: "Bytes of streams, by protocol; the network's own without its prefix.",
		}, []string{"protocol", "direction"}),
		gossip: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "talka_p2p_gossip_total", Help: "Announcements and gossip messages, by what happened to them.",
		}, []string{"event"}),
		prefix: "/talka/" + network,
	}
}

// metricsOptions register what libp2p counts, or switch it off.
func (h *Host) metricsOptions() ([]libp2p.Option, error) {
	if h.metrics == nil {
		return []libp2p.Option{libp2p.DisableMetrics()}, nil
	}
	rcmgr.MustRegisterWith(h.cfg.Metrics)
	for _, c := range []prometheus.Collector{h.metrics.bytes, h.metrics.gossip, hostCollector{h}} {
		if err := h.cfg.Metrics.Register(c); err != nil {
			return nil, err
		}
	}
	return []libp2p.Option{libp2p.PrometheusRegisterer(h.cfg.Metrics), libp2p.BandwidthReporter(h.metrics)}, nil
}

// hostCollector tells, when it is asked, how things stand.
type hostCollector struct{ h *Host }

// What hostCollector tells. They are constants of a kind that Go has none for.
func peersDesc() *prometheus.Desc {
	return prometheus.NewDesc("talka_p2p_peers", "Connected peers, by the way they are connected: direct, lan or relayed.", []string{"way"}, nil)
}

func keptDesc() *prometheus.Desc {
	return prometheus.NewDesc("talka_p2p_peers_protected", "Peers that are never closed for want of room.", nil, nil)
}

func reachDesc() *prometheus.Desc {
	return prometheus.NewDesc("talka_p2p_reach", "1 for how others reach this node: public, private or unknown.", []string{"state"}, nil)
}

func punchDesc() *prometheus.Desc {
	return prometheus.NewDesc("talka_p2p_hole_punches_total", "Attempts to make a relayed connection direct.", []string{"result"}, nil)
}

// Describe implements prometheus.Collector.
func (c hostCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{peersDesc(), keptDesc(), reachDesc(), punchDesc()} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c hostCollector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, n int, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	ways := map[string]int{"direct": 0, "lan": 0, "relayed": 0}
	kept := 0
	for _, p := range c.h.Peers() {
		switch {
		case p.Relayed:
			ways["relayed"]++
		case p.LAN:
			ways["lan"]++
		default:
			ways["direct"]++
		}
		if p.Protected {
			kept++
		}
	}
	for way, n := range ways {
		gauge(peersDesc(), n, way)
	}
	gauge(keptDesc(), kept)
	r := c.h.Reach()
	yes := map[bool]int{true: 1}
	gauge(reachDesc(), yes[r.Public], "public")
	gauge(reachDesc(), yes[r.Private], "private")
	gauge(reachDesc(), yes[!r.Public && !r.Private], "unknown")
	for result, n := range map[string]int{"direct": r.Punched, "failed": r.Failed} {
		out <- prometheus.MustNewConstMetric(punchDesc(), prometheus.CounterValue, float64(n), result)
	}
}

// count adds bytes of a stream. Protocols are those that both ends agreed upon,
// so they are few.
func (m *metrics) count(n int64, p protocol.ID, direction string) {
	name := cmp.Or(strings.TrimPrefix(string(p), m.prefix), "negotiation")
	m.bytes.WithLabelValues(name, direction).Add(float64(n))
}

// LogSentMessageStream implements libp2p's metrics.Reporter, as do those below.
func (m *metrics) LogSentMessageStream(n int64, p protocol.ID, _ peer.ID) { m.count(n, p, "sent") }

// LogRecvMessageStream is one of them.
func (m *metrics) LogRecvMessageStream(n int64, p protocol.ID, _ peer.ID) { m.count(n, p, "received") }

// The rest of the interface is about keeping figures, which Prometheus does.

func (m *metrics) LogSentMessage(int64)                                        {}
func (m *metrics) LogRecvMessage(int64)                                        {}
func (m *metrics) GetBandwidthForPeer(peer.ID) (s libp2pmetrics.Stats)         { return s }
func (m *metrics) GetBandwidthForProtocol(protocol.ID) (s libp2pmetrics.Stats) { return s }
func (m *metrics) GetBandwidthTotals() (s libp2pmetrics.Stats)                 { return s }
func (m *metrics) GetBandwidthByPeer() map[peer.ID]libp2pmetrics.Stats         { return nil }
func (m *metrics) GetBandwidthByProtocol() map[protocol.ID]libp2pmetrics.Stats { return nil }
func (m *metrics) Reset()                                                      {}
func (m *metrics) TrimIdle(time.Time)                                          {}

// event counts what happened in gossip.
func (m *metrics) event(name string) { m.gossip.WithLabelValues(name).Inc() }

// The metrics are gossipsub's tracer, too; each method is called when it happens.

func (m *metrics) OnNewOutboundStream(peer.ID, protocol.ID)             {}
func (m *metrics) OnClosedOutboundStream(peer.ID)                       {}
func (m *metrics) Join(string)                                          {}
func (m *metrics) Leave(string)                                         {}
func (m *metrics) Graft(peer.ID, string)                                { m.event("grafted") }
func (m *metrics) Prune(peer.ID, string)                                { m.event("pruned") }
func (m *metrics) ValidateMessage(*pubsub.Message)                      { m.event("arrived") }
func (m *metrics) DeliverMessage(*pubsub.Message)                       { m.event("delivered") }
func (m *metrics) DuplicateMessage(*pubsub.Message)                     { m.event("duplicate") }
func (m *metrics) ThrottlePeer(peer.ID)                                 { m.event("throttled") }
func (m *metrics) RecvRPC(*pubsub.RPC)                                  { m.event("rpc received") }
func (m *metrics) SendRPC(*pubsub.RPC, peer.ID)                         { m.event("rpc sent") }
func (m *metrics) SendRPCCompleted(*pubsub.RPC, peer.ID, time.Duration) {}
func (m *metrics) DropRPC(*pubsub.RPC, peer.ID)                         { m.event("rpc dropped") }
func (m *metrics) UndeliverableMessage(*pubsub.Message)                 { m.event("undeliverable") }
func (m *metrics) RejectMessage(_ *pubsub.Message, reason string) {
	if reason == pubsub.RejectValidationIgnored {
		m.event("ignored")
	} else {
		m.event("rejected")
	}
}
