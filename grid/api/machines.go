package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"rsc.io/qr"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/machines"
	"github.com/talka-grid/talka/grid/phrase"
	"github.com/talka-grid/talka/workunits"
)

const (
	lookTime  = time.Second      // that a look at all machines waits for them
	freshTime = 10 * time.Second // that one waits which wants them fresh
	awayFirst = 2 * time.Second  // until one that is away is tried again; then twice that
	awayLast  = 30 * time.Second // at last
)

// Overview is what a node does, in short.
type Overview struct {
	State         grid.State      `json:"state"`
	Reason        string          `json:"reason" doc:"One sentence: why this state, and what would change it"`
	Said          []phrase.Phrase `json:"said" doc:"What reason is the English of, to be worded in other languages"`
	RunningUnits  int             `json:"running_units"`
	AcceptedUnits int             `json:"accepted_units"`
	Peers         int             `json:"peers"`
	Processors    int             `json:"processors" doc:"That units may use now"`
	Percent       int             `json:"percent" doc:"Of its time that each may work"`
	Measured      grid.Measured   `json:"measured"`
	Version       string          `json:"version"`
	Addrs         []string        `json:"addrs"`
}

// MachineInfo is a paired machine, and what it does as far as it told.
type MachineInfo struct {
	machines.Machine
	Here     bool      `json:"here" doc:"It answers"`
	Refuses  bool      `json:"refuses" doc:"It answers that it will not: it does not know this node, or no longer"`
	Error    string    `json:"error,omitempty" doc:"Why it does not answer"`
	Seen     time.Time `json:"seen,omitzero" doc:"When it told what it does"`
	Overview *Overview `json:"overview,omitempty"`
}

// MachineList is this machine and those that are paired with it, by name.
type MachineList struct {
	ID       workunits.NodeID `json:"peer_id"`
	Name     string           `json:"name"`
	This     Overview         `json:"this"`
	Machines []MachineInfo    `json:"machines"`
}

// Offered is a line of an offer: the code, then who used it.
type Offered struct {
	Offer   *machines.Offer   `json:"offer,omitempty"`
	QR      []string          `json:"qr,omitempty" doc:"The code as a QR code, 1 for black, without its margin"`
	Machine *machines.Machine `json:"machine,omitempty"`
}

// Removed is what was cut off.
type Removed struct {
	Gone []machines.Machine `json:"gone" doc:"The machine, and those that it introduced"`
	Deaf []machines.Machine `json:"deaf" doc:"Machines that this one may not tell: remove it there, too"`
}

type (
	offerBody struct {
		Name string        `json:"name,omitempty" maxLength:"48" doc:"What the other machine shall call this one; empty: the host's name"`
		Role machines.Role `json:"role" enum:"read,control" doc:"What the other machine may do here"`
	}
	codeBody struct {
		Code string `json:"code" maxLength:"2048"`
	}
	pairBody struct {
		Code string        `json:"code" maxLength:"2048"`
		Name string        `json:"name,omitempty" maxLength:"48" doc:"What the other machine shall call this one; empty: the host's name"`
		Role machines.Role `json:"role" enum:"read,control" doc:"What the other machine may do here"`
	}
	renameBody struct {
		Name string `json:"name" maxLength:"48"`
	}
	machinesRequest struct {
		Fresh bool `query:"fresh" doc:"Ask all machines now, those that were away, too, and wait for them"`
	}
)

func (s *Server) machineRoutes(h huma.API) {
	mirror(s, h, mirrored{"overview", http.MethodGet, "overview", ScopeRead, "What the node does, in short"}, overviewNotNull, func(context.Context) (Overview, error) {
		return s.overview(), nil
	})
	get(h, "machines", "/v1/machines", scopeMachines|ScopeRead, "This machine, those that are paired with it, and what they do", func(ctx context.Context, in *machinesRequest) (MachineList, error) {
		l := MachineList{ID: s.node.Status().PeerID, Name: s.cfg.Machines.Name(), This: overviewNotNull(s.overview())}
		l.Machines = s.look(ctx, in.Fresh)
		return l, nil
	})
	stream(h, op("offer-machine", http.MethodPost, "/v1/machines/offer", scopeMachines, "Make a code that pairs another machine with this one, once, while this request lasts"),
		func(ctx context.Context, in *request[offerBody], out *lines[Offered]) error {
			m, err := s.cfg.Machines.Offer(ctx, in.Body.Name, in.Body.Role, func(o machines.Offer) { _ = out.result(Offered{Offer: &o, QR: drawn(o.Code)}) })
			if err != nil {
				return err
			}
			return out.result(Offered{Machine: &m})
		})
	post(h, "read-code", "/v1/machines/code", scopeMachines, "What a pairing code says", func(_ context.Context, in *request[codeBody]) (machines.Code, error) {
		return machines.ParseCode(in.Body.Code)
	})
	post(h, "pair-machine", "/v1/machines/pair", scopeMachines, "Pair this machine with the one that made a code", func(ctx context.Context, in *request[pairBody]) (machines.Machine, error) {
		return s.cfg.Machines.Join(ctx, in.Body.Code, in.Body.Name, in.Body.Role)
	})
	post(h, "rename-machine", "/v1/machines/{machine}/rename", scopeMachines, "Change what this node calls a machine", func(_ context.Context, in *machineRequest[renameBody]) (machines.Machine, error) {
		return s.cfg.Machines.Rename(in.Machine, in.Body.Name)
	})
	post(h, "remove-machine", "/v1/machines/{machine}/remove", scopeMachines, "Cut a machine off, here and at the machines that this one may control", func(_ context.Context, in *machinePath) (r Removed, err error) {
		r.Gone, r.Deaf, err = s.cfg.Machines.Remove(in.Machine)
		r.Gone, r.Deaf = notNull(r.Gone), notNull(r.Deaf)
		return r, err
	})
	post(h, "introduce-machines", "/v1/machines/introduce", scopeMachines, "Make all paired machines known to each other", func(ctx context.Context, _ *none) ([]machines.Introduction, error) {
		return s.cfg.Machines.Introduce(ctx), nil
	})
	post(h, "leave-machines", "/v1/machines/leave", scopeMachines, "End all pairings of this machine", func(context.Context, *none) (none, error) {
		return none{}, s.cfg.Machines.Leave()
	})
}

func overviewNotNull(o Overview) Overview {
	o.Addrs, o.Said = notNull(o.Addrs), notNull(o.Said)
	return o
}

func (s *Server) overview() Overview {
	st, w := s.node.Status(), s.node.Why()
	return Overview{
		State: st.State, Reason: st.Reason, Said: st.Said, RunningUnits: st.RunningUnits, AcceptedUnits: st.AcceptedUnits, Peers: st.Peers,
		Processors: w.Processors, Percent: w.Percent, Measured: w.Measured, Version: s.cfg.Version, Addrs: st.Addrs,
	}
}

// drawn is a text as a QR code; nil if it does not fit.
func drawn(text string) (rows []string) {
	code, err := qr.Encode(strings.ToUpper(text), qr.L)
	if err != nil {
		return nil
	}
	for y := range code.Size {
		row := make([]byte, code.Size)
		for x := range row {
			row[x] = '0'
			if code.Black(x, y) {
				row[x] = '1'
			}
		}
		rows = append(rows, string(row))
	}
	return rows
}

// views are what paired machines told last. Looks ask all machines at once; one that
// takes long answers the next look.
type views struct {
	mu    sync.Mutex
	seen  map[workunits.NodeID]*view
	group sync.WaitGroup
}

type view struct {
	info  MachineInfo
	asked chan struct{} // closed when it has answered; nil when it is not asked
	wait  time.Duration // that it is left alone when it is away
	next  time.Time
}

// look is the machines with what they do. It asks those that are not being asked, and
// waits a little.
func (s *Server) look(ctx context.Context, fresh bool) []MachineInfo {
	connected := map[workunits.NodeID]bool{}
	for _, p := range s.node.Peers() {
		connected[p.PeerID] = true
	}
	timeout := lookTime
	if fresh {
		timeout = freshTime
	}
	limit := time.NewTimer(timeout)
	defer limit.Stop()
	list := s.cfg.Machines.List()
	seen := make([]*view, len(list))
	var asked []chan struct{}
	s.views.mu.Lock()
	for i, m := range list {
		v := s.views.seen[m.ID]
		if v == nil {
			v = &view{}
			s.views.seen[m.ID] = v
		}
		seen[i] = v
		if v.asked == nil && (fresh || connected[m.ID] || !time.Now().Before(v.next)) {
			v.asked = make(chan struct{})
			s.views.group.Go(func() { s.lookAt(m.ID, v) })
		}
		if v.asked != nil {
			asked = append(asked, v.asked)
		}
	}
	s.views.mu.Unlock()
	for _, c := range asked {
		select {
		case <-c:
		case <-limit.C:
			limit.Reset(0) // for the others, too
		case <-ctx.Done():
		}
	}
	infos := make([]MachineInfo, 0, len(list))
	s.views.mu.Lock()
	defer s.views.mu.Unlock()
	for i, m := range list {
		info := seen[i].info
		info.Machine = m
		infos = append(infos, info)
	}
	s.views.forget(list)
	return infos
}

// forget drops the views of machines that are gone. The caller holds the lock.
func (v *views) forget(but []machines.Machine) {
	stay := map[workunits.NodeID]bool{}
	for _, m := range but {
		stay[m.ID] = true
	}
	for id := range v.seen {
		if !stay[id] {
			delete(v.seen, id)
		}
	}
}

// lookAt asks one machine; it takes no longer than Ask does.
func (s *Server) lookAt(id workunits.NodeID, v *view) {
	o, err := ask[Overview](s.ctx, s, id, http.MethodGet, "overview", nil)
	s.views.mu.Lock()
	defer s.views.mu.Unlock()
	close(v.asked)
	v.asked = nil
	v.info.Here, v.info.Refuses, v.info.Error = err == nil, errors.Is(err, machines.ErrRefused), ""
	if err != nil {
		v.info.Error = err.Error()
		v.wait = min(max(2*v.wait, awayFirst), awayLast)
		v.next = time.Now().Add(v.wait)
		return
	}
	o = overviewNotNull(o)
	v.info.Overview, v.info.Seen = &o, time.Now().UTC()
	v.wait, v.next = 0, time.Time{}
	if err := s.cfg.Machines.Seen(id, o.Addrs); err != nil {
		s.cfg.Log.Debug("where a machine is cannot be kept", "err", err)
	}
}
