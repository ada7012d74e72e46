package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/workunits"
)

type peerPath struct {
	Peer workunits.NodeID `path:"peer" doc:"Id of a node"`
}

type peerBody struct {
	Peer workunits.NodeID `json:"peer_id"`
}

func (s *Server) networkRoutes(h huma.API) {
	get(h, "netcheck", "/v1/netcheck", ScopeRead, "How others can reach this node, and what to try next", func(context.Context, *none) (grid.NetReport, error) {
		r := s.node.Reach()
		r.Relays, r.Listen = notNull(r.Relays), notNull(r.Listen)
		return r.Report(), nil
	})
	block := func(yes bool) func(context.Context, *peerPath) (peerBody, error) {
		return func(_ context.Context, in *peerPath) (peerBody, error) {
			if err := s.node.BlockPeer(in.Peer, yes); err != nil {
				return peerBody{}, &Error{KindRequest, err.Error()}
			}
			return peerBody{in.Peer}, nil
		}
	}
	post(h, "block-peer", "/v1/peers/{peer}/block", ScopeControl, "Cut off a node and keep it away until the node ends", block(true))
	post(h, "remove-member", "/v1/members/{peer}/remove", ScopeControl, "Take back a node's membership of a private network, and all invites that are out", func(_ context.Context, in *peerPath) (peerBody, error) {
		return peerBody{in.Peer}, s.node.RemoveMember(in.Peer)
	})
	post(h, "unblock-peer", "/v1/peers/{peer}/unblock", ScopeControl, "Take a block back", block(false))
}

// Netcheck tells how others can reach the node.
func (c *Client) Netcheck(ctx context.Context) (r grid.NetReport, err error) {
	return r, c.call(ctx, http.MethodGet, "/v1/netcheck", nil, &r)
}

// RemoveMember takes back a node's membership of a private network, and all invites
// that are out.
func (c *Client) RemoveMember(ctx context.Context, id workunits.NodeID) error {
	return c.call(ctx, http.MethodPost, "/v1/members/"+id.String()+"/remove", nil, &peerBody{})
}

// BlockPeer cuts off a node and keeps it away until the node ends, or takes that
// back.
func (c *Client) BlockPeer(ctx context.Context, id workunits.NodeID, block bool) error {
	verb := "unblock"
	if block {
		verb = "block"
	}
	return c.call(ctx, http.MethodPost, "/v1/peers/"+id.String()+"/"+verb, nil, &peerBody{})
}
