//go:build e2e

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/workunits"
)

// TestJSON holds the fields that other programs rely on: that they are there, and
// of which type. More fields may come; none of these goes.
func TestJSON(t *testing.T) {
	g := newTestGrid(t, 2*time.Minute)
	a := g.up("a", "--seed")
	status := map[string]string{
		"peer_id": "string", "network": "string", "addrs": "[]string", "peers": "number", "state": "string", "reason": "string",
		"running_units": "number", "accepted_units": "number", "store_bytes": "number",
	}
	g.shape(g.json(a, "status"), status)
	var peers []any
	if g.ok(a, &peers, "peers"); peers == nil || len(peers) > 0 {
		t.Errorf("peers of a lonely node: %v, want []", peers)
	}
	invite := g.json(a, "invite")
	g.shape(invite, map[string]string{"invite": "string"})
	project := g.json(a, "project", "new", "atoms")
	g.shape(project, map[string]string{"project": "string"})

	// What they print is what other commands take.
	b := g.up("b", "--join", fmt.Sprint(invite["invite"]), "--trust", fmt.Sprint(project["project"]))
	g.meet(a, b)
	g.ok(b, &peers, "peers")
	if len(peers) != 1 {
		t.Fatalf("%d peers, want 1", len(peers))
	}
	peer := map[string]string{"peer_id": "string", "addrs": "[]string", "relayed": "bool", "latency_ms": "number"}
	g.shape(peers[0].(map[string]any), peer)
	if id := peers[0].(map[string]any)["peer_id"]; id != g.json(a, "status")["peer_id"] {
		t.Errorf("the peer is %v", id)
	}

	content := g.random("content", 5<<20+1)
	added := g.json(a, "data", "add", content)
	g.shape(added, map[string]string{"cid": "string", "bytes": "number", "chunks": "number"})
	if added["bytes"] != float64(5<<20+1) || added["chunks"].(float64) < 6 {
		t.Errorf("added %v, want %d bytes in 6 leaves and a root", added, 5<<20+1)
	}
	g.shape(g.json(b, "data", "get", fmt.Sprint(added["cid"]), "-o", filepath.Join(g.dir, "dest")), map[string]string{"cid": "string", "path": "string"})

	submitted := g.json(a, "job", "submit", g.ljJob(3, 13, "none"))
	g.shape(submitted, map[string]string{"job": "string"})
	id, err := workunits.ParseJobID(fmt.Sprint(submitted["job"]))
	if err != nil {
		t.Fatal(err)
	}
	job := map[string]string{
		"job": "string", "name": "string", "state": "string", "units": "object", "copies": "number", "copies_per_accepted": "number",
		"stewards": "[]string", "volunteers": "number",
	}
	g.shape(g.json(a, "job", "show", id.String()), job)
	g.until("the job is done", func() bool { return g.job(a, id).State == grid.JobDone })
	done := g.json(a, "job", "show", id.String())
	g.shape(done, job)
	units := done["units"].(map[string]any)
	g.shape(units, map[string]string{"total": "number", "open": "number", "running": "number", "accepted": "number", "failed": "number"})
	copies := done["copies"].(float64) // a spare one if two stewards granted a unit at once
	if done["state"] != "done" || units["total"] != 3.0 || units["accepted"] != 3.0 || copies < 3 || done["copies_per_accepted"] != copies/3 || done["volunteers"].(float64) < 1 {
		t.Errorf("done it is %v", done)
	}
	paused := g.json(a, "pause")
	g.shape(paused, status)
	if paused["state"] != "paused" || g.json(a, "resume")["state"] == "paused" {
		t.Errorf("after a pause the node is %v", paused)
	}
}

// json runs a command that must print one line: a JSON object.
func (g *testGrid) json(n *demoNode, args ...string) map[string]any {
	g.Helper()
	got := g.talka(n, args...)
	var out map[string]any
	if err := json.Unmarshal([]byte(got.stdout), &out); err != nil || got.code != exitOK {
		g.Fatalf("talka %s: exit code %d, %v: %s%s", strings.Join(args, " "), got.code, err, got.stdout, got.stderr)
	}
	if n := bytes.Count([]byte(got.stdout), []byte("\n")); n != 1 {
		g.Errorf("talka %s printed %d lines, want 1", strings.Join(args, " "), n)
	}
	return out
}

// shape compares the types of an object's fields.
func (g *testGrid) shape(object map[string]any, want map[string]string) {
	g.Helper()
	for field, kind := range want {
		v, there := object[field]
		got := fmt.Sprintf("%T", v)
		switch v := v.(type) {
		case float64:
			got = "number"
		case map[string]any:
			got = "object"
		case []any:
			got = "[]string"
			for _, e := range v {
				if _, ok := e.(string); !ok {
					got = fmt.Sprintf("[]%T", e)
				}
			}
		}
		if !there || got != kind {
			g.Errorf("field %q is %s, want %s, in %v", field, got, kind, object)
		}
	}
}
