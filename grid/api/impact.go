package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/workunits"
)

// Impact is what a node gave, with an estimate of the energy.
type Impact struct {
	grid.Impact
	Watts float64 `json:"watts" doc:"That a busy processor draws, for estimates"`
	KWh   float64 `json:"kwh" doc:"Estimate of what the processor time took"`
}

// ContributionBody is a record for others to check.
type ContributionBody struct {
	Record  []byte              `json:"record" doc:"For \"talka record verify\""`
	Vouched []workunits.Vouched `json:"vouched" doc:"What publishers say that this node earned"`
}

func (s *Server) impactRoutes(h huma.API) {
	mirror(s, h, mirrored{"impact", http.MethodGet, "impact", ScopeRead, "What the node gave, and what came of it"}, impactNotNull, func(context.Context) (Impact, error) {
		i, err := s.node.Impact()
		return Impact{i, s.cfg.Watts, i.All.CPU * s.cfg.Watts / 3.6e6}, err
	})
	get(h, "record", "/v1/record", ScopeRead, "A signed record of what the node gave, for others to check", func(ctx context.Context, _ *none) (b ContributionBody, err error) {
		if b.Record, err = s.node.Contribution(ctx); err != nil {
			return b, err
		}
		_, b.Vouched, err = workunits.ParseContribution(b.Record)
		b.Vouched = notNull(b.Vouched)
		return b, err
	})
}

func impactNotNull(i Impact) Impact {
	i.Days = notNull(i.Days)
	return i
}

// Impact tells what the node gave.
func (c *Client) Impact(ctx context.Context) (i Impact, err error) {
	return i, c.call(ctx, http.MethodGet, "/v1/impact", nil, &i)
}

// Record makes a signed record of what the node gave.
func (c *Client) Record(ctx context.Context) (b ContributionBody, err error) {
	return b, c.call(ctx, http.MethodGet, "/v1/record", nil, &b)
}
