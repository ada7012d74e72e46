package api

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/talka-grid/talka/configs"
	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/machines"
	"github.com/talka-grid/talka/workunits"
)

// memNet connects sets by TCP on loopback, and believes who they say they are. The real
// network is tested with the sets.
type memNet struct {
	self workunits.NodeID

	mu    *sync.Mutex
	nodes map[workunits.NodeID]*machines.Set
}

type conn struct{ net.Conn }

func (c conn) Reset() error { return c.Close() }

func (n *memNet) Addrs() []string { return []string{"/ip4/127.0.0.1/tcp/1"} }

func (n *memNet) Open(_ context.Context, to workunits.NodeID, _ []string, name string) (machines.Stream, error) {
	if n.mu == nil {
		return nil, errors.New("there is nobody else")
	}
	n.mu.Lock()
	set := n.nodes[to]
	n.mu.Unlock()
	if set == nil {
		return nil, errors.New("it is away")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	here, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, err
	}
	there, err := l.Accept()
	if err != nil {
		return nil, err
	}
	if name == machines.PairStream {
		go set.ServePair(n.self, conn{there})
	} else {
		go set.ServeOwner(n.self, conn{there})
	}
	return conn{here}, nil
}

// owned is machines of one owner, each with its local interface.
type owned struct {
	*testing.T
	mu    sync.Mutex
	nodes map[workunits.NodeID]*machines.Set
}

type ownedNode struct {
	*Client
	id     workunits.NodeID
	node   *memNode
	dir    string
	server *Server
}

// machine starts one. Answer, if not nil, answers other machines instead of its
// interface.
func (o *owned) machine(id byte, answer func(context.Context, machines.Role, machines.Request) machines.Answer) *ownedNode {
	o.Helper()
	n := &ownedNode{id: workunits.NodeID{id}, node: newMemNode(), dir: o.TempDir()}
	n.node.key = n.id
	set, err := machines.New(machines.Config{
		Dir: n.dir, Self: n.id, Network: memNetwork, Name: "machine " + string(rune('A'+id)), Net: &memNet{self: n.id, mu: &o.mu, nodes: o.nodes},
	})
	if err != nil {
		o.Fatal(err)
	}
	cfg := testConfig(n.dir)
	cfg.Machines = set
	n.Client, _ = serveWith(o.T, cfg, n.node)
	if answer == nil {
		// A second server on the same node: serveWith keeps its own.
		if n.server, err = New(n.node, cfg); err != nil {
			o.Fatal(err)
		}
		answer = n.server.Answer
	}
	set.Serve(answer)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.nodes[n.id] = set
	return n
}

// pair pairs two, with what the joiner may do at the maker, and the maker at the joiner.
func (o *owned) pair(maker, joiner *ownedNode, there, here machines.Role) {
	o.Helper()
	var met machines.Machine
	m, err := maker.OfferMachine(o.Context(), "", there, func(offer machines.Offer) (err error) {
		met, err = joiner.PairMachine(o.Context(), offer.Code, "", here)
		return err
	})
	if err != nil || m.ID != joiner.id || m.Role != there || met.ID != maker.id || met.Role != here {
		o.Fatalf("%+v, %+v, %v", m, met, err)
	}
}

func newOwned(t *testing.T) *owned {
	t.Parallel()
	return &owned{T: t, nodes: map[workunits.NodeID]*machines.Set{}}
}

func TestMachines(t *testing.T) {
	o := newOwned(t)
	a, b, c := o.machine(1, nil), o.machine(2, nil), o.machine(3, nil)
	o.pair(a, b, machines.RoleRead, machines.RoleControl)
	o.pair(a, c, machines.RoleControl, machines.RoleRead)
	l, err := a.Machines(t.Context(), true)
	if err != nil || l.ID != a.id || l.Name != "machine B" || len(l.Machines) != 2 || l.This.State != grid.StateIdle {
		t.Fatalf("%+v, %v", l, err)
	}
	for i, m := range l.Machines {
		if m.ID != []workunits.NodeID{b.id, c.id}[i] || !m.Here || m.Error != "" || m.Overview == nil || m.Overview.Version != "v0" || m.Seen.IsZero() {
			t.Errorf("%+v", m)
		}
	}
	// The same client, at another machine.
	st, err := a.At(b.id).Pause(t.Context(), 0)
	if err != nil || st.PeerID != b.id || st.State != grid.StatePaused || b.node.Status().State != grid.StatePaused {
		t.Errorf("%+v, %v", st, err)
	}
	if st, err := a.At(b.id).Status(t.Context()); err != nil || st.PeerID != b.id || st.State != grid.StatePaused {
		t.Errorf("%+v, %v", st, err)
	}
	if st := a.node.Status(); st.State != grid.StateIdle {
		t.Errorf("this one is %s", st.State)
	}
	if l, err := a.Machines(t.Context(), true); err != nil || l.Machines[0].Overview.State != grid.StatePaused {
		t.Errorf("%+v, %v", l, err)
	}
	// A role of read looks.
	_, err = a.At(c.id).Pause(t.Context(), 0)
	wantKind(t, err, KindUnauthorised)
	_, err = a.At(c.id).Set(t.Context(), "cpu_percent", new(string))
	wantKind(t, err, KindUnauthorised)
	if _, err := a.At(c.id).Why(t.Context()); err != nil || c.node.Status().State != grid.StateIdle {
		t.Error(err)
	}
	// Nobody.
	_, err = a.At(workunits.NodeID{9}).Status(t.Context())
	wantKind(t, err, KindNotFound)
	_, err = a.RenameMachine(t.Context(), b.id, "bad\n")
	wantKind(t, err, KindRequest)
	if m, err := a.RenameMachine(t.Context(), b.id, "desk"); err != nil || m.Name != "desk" {
		t.Errorf("%+v, %v", m, err)
	}
	// One that is away is told from one that is there, and remembered.
	o.mu.Lock()
	delete(o.nodes, b.id)
	o.mu.Unlock()
	_, err = a.At(b.id).Status(t.Context())
	wantKind(t, err, KindTimeout)
	if l, err := a.Machines(t.Context(), true); err != nil || l.Machines[0].Here || l.Machines[0].Error == "" || l.Machines[0].Overview == nil || !l.Machines[1].Here {
		t.Errorf("%+v, %v", l, err)
	}
	r, err := a.RemoveMachine(t.Context(), c.id)
	if err != nil || len(r.Gone) != 1 || len(r.Deaf) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	_, err = c.At(a.id).Status(t.Context())
	wantKind(t, err, KindUnauthorised)
	if err := a.LeaveMachines(t.Context()); err != nil {
		t.Error(err)
	}
	if l, err := a.Machines(t.Context(), false); err != nil || len(l.Machines) > 0 {
		t.Errorf("%+v, %v", l, err)
	}
}

// TestMachineReaches tries what paired machines may ask for of all that there is: what
// nobody listed is refused.
func TestMachineReaches(t *testing.T) {
	o := newOwned(t)
	a := o.machine(1, nil)
	ask := func(role machines.Role, method, path, body string) uint64 {
		return a.server.Answer(t.Context(), role, machines.Request{Method: method, Path: path, Body: []byte(body)}).Status
	}
	may := map[string][2]uint64{ // by role: read, control
		"GET /v1/status": {200, 200}, "GET /v1/why": {200, 200}, "GET /v1/impact": {200, 200}, "GET /v1/jobs": {200, 200},
		"GET /v1/overview": {200, 200}, "GET /v1/presets": {200, 200}, "GET /v1/settings": {200, 200},
		"POST /v1/pause": {403, 200}, "POST /v1/resume": {403, 200}, "POST /v1/finish": {403, 200}, "POST /v1/save": {403, 200}, "POST /v1/settings": {403, 200},
	}
	bodies := map[string]string{"POST /v1/pause": `{"seconds":1}`, "POST /v1/settings": `{"key":"processors"}`}
	for i, role := range []machines.Role{machines.RoleRead, machines.RoleControl} {
		for route, want := range may {
			method, path, _ := strings.Cut(route, " ")
			if got := ask(role, method, path, bodies[route]); got != want[i] {
				t.Errorf("%s: %s: status %d, want %d", role, route, got, want[i])
			}
		}
	}
	var doc struct {
		Paths map[string]map[string]any
	}
	if err := json.Unmarshal(a.server.spec, &doc); err != nil || len(doc.Paths) < 40 {
		t.Fatalf("%d routes, %v", len(doc.Paths), err)
	}
	id := workunits.NodeID{2}.String()
	for path, methods := range doc.Paths {
		for method := range methods {
			route := strings.ToUpper(method) + " " + path
			if _, listed := may[route]; listed {
				continue
			}
			path := strings.NewReplacer("{machine}", id, "{id}", id, "{peer}", id, "{unit}", "0", "{name}", "x").Replace(path)
			if got := ask(machines.RoleControl, strings.ToUpper(method), path, "{}"); got != http.StatusForbidden {
				t.Errorf("%s: status %d", route, got)
			}
		}
	}
	for _, path := range []string{"/openapi.json", "/ipfs/x", "/", "", "/v1/status?x=1", "/v1/../v1/status", "//v1/status", "/v1/status/", "http://evil/v1/status", "/v1/status#x", "/v1/status HTTP/1.1"} {
		if got := ask(machines.RoleControl, "GET", path, ""); got != http.StatusForbidden {
			t.Errorf("%q: status %d", path, got)
		}
	}
	for _, role := range []machines.Role{"", "owner", "admin"} {
		if got := ask(role, "GET", "/v1/status", ""); got != http.StatusForbidden {
			t.Errorf("role %q: status %d", role, got)
		}
	}
	// Of settings, limits and rules alone.
	if got := ask(machines.RoleControl, "POST", "/v1/settings", `{"key":"api.listen","value":"0.0.0.0:1"}`); got != http.StatusForbidden {
		t.Errorf("api.listen: status %d", got)
	}
	for body, want := range map[string]uint64{`{"seconds":`: 400, `{"seconds":-1}`: 422, `{"seconds":1,"x":1}`: 422, "": 400} {
		if got := ask(machines.RoleControl, "POST", "/v1/pause", body); got != want {
			t.Errorf("body %q: status %d, want %d", body, got, want)
		}
	}
	var list []configs.Setting
	b := a.server.Answer(t.Context(), machines.RoleRead, machines.Request{Method: "GET", Path: "/v1/settings"}).Body
	if err := json.Unmarshal(b, &list); err != nil || len(list) == 0 || slices.ContainsFunc(list, func(s configs.Setting) bool { return !s.Live }) {
		t.Errorf("settings %s, %v", b, err)
	}
	// What is large stays here.
	w := &answerWriter{header: http.Header{}}
	for range maxMirrored >> 10 {
		if _, err := w.Write(make([]byte, 1<<10)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Write([]byte{0}); err == nil {
		t.Error("more is taken")
	}
	if got := w.answer(); got.Status != http.StatusRequestEntityTooLarge || len(got.Body) > 1<<10 {
		t.Errorf("large: status %d, %d bytes", got.Status, len(got.Body))
	}
}

// TestHostileMachine asks a machine that answers what no node does.
func TestHostileMachine(t *testing.T) {
	o := newOwned(t)
	var answer machines.Answer
	a, evil := o.machine(1, nil), o.machine(2, func(context.Context, machines.Role, machines.Request) machines.Answer { return answer })
	o.pair(a, evil, machines.RoleRead, machines.RoleControl)
	for name, c := range map[string]struct {
		status uint64
		body   string
		kind   Kind
	}{
		"no JSON":          {200, "<script>", KindError},
		"other JSON":       {200, `[1]`, KindError},
		"signed out":       {401, `{"type":"urn:talka:problem:unauthorised","status":401}`, KindUnauthorised},
		"problem":          {500, strings.Repeat("x", 1000), KindError},
		"kind of its own":  {404, `{"type":"urn:talka:problem:not-running"}`, KindError},
		"empty":            {200, "", KindError},
		"status beyond":    {1 << 40, "{}", KindError},
		"long problem":     {400, `{"type":"urn:talka:problem:conflict","detail":"` + strings.Repeat("é", 1<<16) + `"}`, KindConflict},
		"no number fields": {200, `{"state":1}`, KindError},
	} {
		answer = machines.Answer{Status: c.status, Body: []byte(c.body)}
		_, err := a.At(evil.id).Status(t.Context())
		if KindOf(err) != c.kind || err == nil || len(err.Error()) > 2<<10 {
			t.Errorf("%s: %v of kind %s, want %s", name, err, KindOf(err), c.kind)
		}
	}
	// Nothing that a list of the page's could stumble over.
	answer = machines.Answer{Status: 200, Body: []byte(`{"state":"<img src=x onerror=alert(1)>","reason":"\u001b[2J","addrs":null,"x":{"y":1}}`)}
	if w, err := a.At(evil.id).Why(t.Context()); err != nil || w.Executions == nil || w.Rules == nil || w.Decisions == nil {
		t.Errorf("%+v, %v", w, err)
	}
	if l, err := a.Machines(t.Context(), true); err != nil || l.Machines[0].Overview.Addrs == nil || !l.Machines[0].Here {
		t.Errorf("%+v, %v", l, err)
	}
}

func TestMachineOffer(t *testing.T) {
	o := newOwned(t)
	a, b := o.machine(1, nil), o.machine(2, nil)
	_, err := a.OfferMachine(t.Context(), "x\n", machines.RoleRead, nil)
	wantKind(t, err, KindRequest)
	_, err = a.OfferMachine(t.Context(), "", "admin", nil)
	wantKind(t, err, KindRequest)
	_, err = b.PairMachine(t.Context(), "pair1nonsense", "", machines.RoleRead)
	wantKind(t, err, KindRequest)
	code := ""
	if _, err := a.OfferMachine(t.Context(), "", machines.RoleRead, func(o machines.Offer) error { code = o.Code; return errors.New("enough") }); err == nil || err.Error() != "enough" {
		t.Error(err)
	}
	if rows := drawn(code); len(rows) < 21 || len(rows) != len(rows[0]) || !strings.HasPrefix(rows[0], "1111111") {
		t.Errorf("QR code %v", rows)
	}
}
