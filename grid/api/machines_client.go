package api

import (
	"context"
	"net/http"

	"github.com/talka-grid/talka/grid/machines"
	"github.com/talka-grid/talka/workunits"
)

// At is a client of a paired machine, by way of this one's node. It has what paired
// machines may ask for; the rest gives KindNotFound.
func (c *Client) At(id workunits.NodeID) *Client {
	return &Client{http: c.http, at: machineRoute(id, "")}
}

func machineRoute(id workunits.NodeID, rest string) string {
	return "/v1/machines/" + id.String() + "/" + rest
}

// Machines lists the paired machines and what they do, fresh or as it was told last.
func (c *Client) Machines(ctx context.Context, fresh bool) (l MachineList, err error) {
	route := "/v1/machines"
	if fresh {
		route += "?fresh=true"
	}
	return l, c.call(ctx, http.MethodGet, route, nil, &l)
}

// OfferMachine makes a pairing code, shows it, and waits until another machine used it.
// The code is void when ctx ends.
func (c *Client) OfferMachine(ctx context.Context, name string, role machines.Role, show func(machines.Offer) error) (m machines.Machine, err error) {
	err = receive(ctx, c, http.MethodPost, "/v1/machines/offer", offerBody{name, role}, nil, func(o Offered) error {
		if o.Machine != nil {
			m = *o.Machine
		}
		if o.Offer != nil {
			return show(*o.Offer)
		}
		return nil
	})
	return m, err
}

// PairMachine pairs the node with the machine that made the code, which may then do
// here what role says.
func (c *Client) PairMachine(ctx context.Context, code, name string, role machines.Role) (m machines.Machine, err error) {
	return m, c.call(ctx, http.MethodPost, "/v1/machines/pair", pairBody{code, name, role}, &m)
}

// RenameMachine changes what the node calls a machine.
func (c *Client) RenameMachine(ctx context.Context, id workunits.NodeID, name string) (m machines.Machine, err error) {
	return m, c.call(ctx, http.MethodPost, machineRoute(id, "rename"), renameBody{name}, &m)
}

// RemoveMachine cuts a machine off.
func (c *Client) RemoveMachine(ctx context.Context, id workunits.NodeID) (r Removed, err error) {
	return r, c.call(ctx, http.MethodPost, machineRoute(id, "remove"), nil, &r)
}

// IntroduceMachines makes all paired machines known to each other.
func (c *Client) IntroduceMachines(ctx context.Context) (list []machines.Introduction, err error) {
	return list, c.call(ctx, http.MethodPost, "/v1/machines/introduce", nil, &list)
}

// LeaveMachines ends all pairings of the node.
func (c *Client) LeaveMachines(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/v1/machines/leave", nil, &none{})
}
