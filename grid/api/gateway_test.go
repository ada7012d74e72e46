package api

import (
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/chunkstore/exchange"
	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/workunits"
)

// wish is one request of the gateway: its route below /ipfs/, a header or none, and what
// is expected.
type wish struct {
	route  string
	header map[string]string
	status int
	want   string // in the body; of an error in its words
}

// answer asks the gateway. Whatever is refused has no etag.
func (k wish) answer(t *testing.T, c *Client, method string) (http.Header, []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+clientHost+"/ipfs/"+k.route, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range k.header {
		r.Header.Set(name, value)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || resp.StatusCode != k.status {
		t.Errorf("%s %.200s %v: %d %.200q, %v; want %d", method, k.route, k.header, resp.StatusCode, got, err, k.status)
	}
	if tag := resp.Header.Get("Etag"); (tag != "") != (k.status < 400) {
		t.Errorf("%.200s: etag %q with status %d", k.route, tag, resp.StatusCode)
	}
	return resp.Header, got
}

func TestGateway(t *testing.T) {
	t.Parallel()
	node := newMemNode()
	content := []byte("0123456789")
	id := workunits.RawCid(workunits.Sum(content))
	node.blobs[id] = content
	c, _, _ := serve(t, node)
	route := id.String()
	for _, k := range []wish{
		{route, nil, 200, "0123456789"},
		{route, map[string]string{"Range": "bytes=3-5"}, 206, "345"},
		{route, map[string]string{"Range": "bytes=-2"}, 206, "89"},
		{route, map[string]string{"Range": "bytes=20-"}, 416, ""},
		{route + "?format=raw", nil, 200, "0123456789"},
		{route, map[string]string{"Accept": rawType}, 200, "0123456789"},
		{route + "?format=car", nil, 200, "archive 0123456789"},
		{route, map[string]string{"Accept": carType + "; version=1"}, 200, "archive 0123456789"},
		{route + "?format=tar", nil, 400, "format is raw or car"},
		{route + "/name", nil, 400, ""},
		{route + "/name?format=raw", nil, 400, "ask for the CID"},
		{"nonsense", nil, 400, ""},
		{workunits.RawCid(workunits.Digest{1}).String(), nil, 404, ""},
		{workunits.RawCid(workunits.Digest{1}).String() + "?format=car", nil, 404, ""},
	} {
		if _, got := k.answer(t, c, http.MethodGet); !strings.Contains(string(got), k.want) {
			t.Errorf("%s %v: %q, want %q", k.route, k.header, got, k.want)
		}
	}
}

// dataNode is a node with a real store, which knows no peers.
type dataNode struct {
	*memNode
	store *chunkstore.Store
	x     *exchange.Exchange
}

func newDataNode(t *testing.T) dataNode {
	t.Helper()
	s, err := chunkstore.Open(t.TempDir(), chunkstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return dataNode{newMemNode(), s, exchange.New(exchange.Config{Store: s})}
}

func (n dataNode) OpenData(ctx context.Context, root cid.Cid, path []string) (io.ReadSeekCloser, error) {
	return n.x.Open(ctx, root, path, nil)
}

func (n dataNode) ArchiveData(ctx context.Context, root cid.Cid, sel grid.Selection, begin func() io.Writer) error {
	if err := n.x.Archive(ctx, root, sel, nil, begin); err != nil {
		return notFound{err}
	}
	return nil
}

// notFound gives errors of the exchange their kinds, as package main does.
type notFound struct{ error }

func (e notFound) Unwrap() []error { return []error{e.error} }
func (e notFound) Is(target error) bool {
	return target == grid.ErrNotFound && strings.Contains(e.Error(), exchange.ErrNotFound.Error())
}

// tree is a folder with a file of four leaves in a folder in a folder, and a small one
// beside that: its root, and the names of its chunks.
func (n dataNode) tree(t *testing.T) (root cid.Cid, names map[cid.Cid]string) {
	t.Helper()
	dir := t.TempDir()
	large := make([]byte, 3<<20+5)
	rand.NewChaCha8([32]byte{1}).Read(large) //nolint:errcheck // it never fails
	if err := os.MkdirAll(filepath.Join(dir, "a", "b"), 0o700); err != nil {
		t.Fatal(err)
	}
	for path, data := range map[string][]byte{"a/b/large": large, "a/small": []byte("small"), "z": []byte("z")} {
		if err := os.WriteFile(filepath.Join(dir, path), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a, err := n.store.Add(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	names = map[cid.Cid]string{a.Cid: "root"}
	var name func(c cid.Cid, as ...string)
	name = func(c cid.Cid, as ...string) {
		b, err := n.store.Get(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		links, err := chunkstore.Links(b)
		if err != nil || len(links) != len(as) {
			t.Fatalf("%s: %d links, %v", c, len(links), err)
		}
		for i, l := range links {
			names[l] = as[i]
			switch as[i] {
			case "a":
				name(l, "b", "small")
			case "b":
				name(l, "large")
			case "large":
				name(l, "0", "1", "2", "3")
			}
		}
	}
	name(a.Cid, "a", "z")
	return a.Cid, names
}

// inArchive names the chunks of an archive in their order, and verifies each.
func inArchive(t *testing.T, car []byte, names map[cid.Cid]string) string {
	t.Helper()
	var list []string
	for first := true; len(car) > 0; first = false {
		n, k := binary.Uvarint(car)
		if k <= 0 || n > uint64(len(car)-k) {
			t.Fatalf("the archive is cut off after %v", list)
		}
		part := car[k:][:n]
		if car = car[k:][n:]; first {
			continue // the header
		}
		k, c, err := cid.CidFromBytes(part)
		if err == nil {
			err = chunkstore.Verify(c, part[k:])
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, names[c])
	}
	return strings.Join(list, " ")
}

// TestGatewayArchives asks the real store for archives of a path, as
// https://specs.ipfs.tech/http-gateways/trustless-gateway/ has them: the chunks on the
// way, then as much of what it leads to as is asked for.
func TestGatewayArchives(t *testing.T) {
	t.Parallel()
	n := newDataNode(t)
	c, _, _ := serve(t, n)
	root, names := n.tree(t)
	tags := map[string]string{}
	for query, want := range map[string]string{
		"":                            "root a b large 0 1 2 3 small z",
		"?dag-scope=all":              "root a b large 0 1 2 3 small z",
		"?dag-scope=entity":           "root",
		"?dag-scope=block":            "root",
		"/a":                          "root a b large 0 1 2 3 small",
		"/a?dag-scope=entity":         "root a",
		"/a?entity-bytes=0:5":         "root a", // no file: it counts for nothing
		"/a/b/":                       "root a b large 0 1 2 3",
		"/a/b/large":                  "root a b large 0 1 2 3",
		"/a/b/large?dag-scope=block":  "root a b large",
		"/a/b/large?dag-scope=entity": "root a b large 0 1 2 3",
		"/a/b/large?entity-bytes=0:*": "root a b large 0 1 2 3",
		"/a/b/large?entity-bytes=0:0": "root a b large 0",
		"/a/b/large?entity-bytes=1048575:1048576":                          "root a b large 0 1",
		"/a/b/large?entity-bytes=1048576:1048576":                          "root a b large 1",
		"/a/b/large?entity-bytes=-5:*":                                     "root a b large 3",
		"/a/b/large?entity-bytes=-6:-6&dag-scope=entity":                   "root a b large 2",
		"/a/b/large?entity-bytes=1048576:-6":                               "root a b large 1 2",
		"/a/b/large?entity-bytes=3145000:9999999":                          "root a b large 2 3",
		"/a/b/large?entity-bytes=-99999999:3":                              "root a b large 0",
		"/a/b/large?entity-bytes=5:3":                                      "root a b large",
		"/a/b/large?entity-bytes=3145733:*":                                "root a b large", // behind its end
		"/a/b/large?entity-bytes=0:-9999999":                               "root a b large",
		"/a/b/large?entity-bytes=-9223372036854775808:9223372036854775807": "root a b large 0 1 2 3",
		"/a/small?entity-bytes=1:2":                                        "root a small",
		"/z":                                                               "root z",
	} {
		k := wish{root.String() + query, map[string]string{"Accept": carType}, 200, ""}
		header, car := k.answer(t, c, http.MethodGet)
		if got := inArchive(t, car, names); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
		if form := header.Get("Content-Type"); form != carType+"; version=1; order=dfs; dups=n" {
			t.Errorf("%s: %s", query, form)
		}
		tag := header.Get("Etag")
		if other, again := tags[tag]; again && inArchive(t, car, names) != other {
			t.Errorf("%s: etag %s is that of another archive", query, tag)
		}
		tags[tag] = want
		if header, car := k.answer(t, c, http.MethodHead); len(car) > 0 || header.Get("Etag") != tag {
			t.Errorf("HEAD %s: %d bytes, %v", query, len(car), header)
		}
	}
}

// TestGatewayRefuses asks for what is no archive of anything.
func TestGatewayRefuses(t *testing.T) {
	t.Parallel()
	n := newDataNode(t)
	c, _, _ := serve(t, n)
	root, _ := n.tree(t)
	sha512, err := mh.Sum([]byte("x"), mh.SHA2_512, -1)
	if err != nil {
		t.Fatal(err)
	}
	var all []wish
	for query, want := range map[string]string{
		"?dag-scope=everything":               "dag-scope is all, entity or block",
		"?dag-scope=Entity":                   "dag-scope is",
		"?entity-bytes=":                      "entity-bytes is FROM:TO",
		"?entity-bytes=5":                     "entity-bytes is FROM:TO",
		"?entity-bytes=a:b":                   "entity-bytes is FROM:TO",
		"?entity-bytes=1:2:3":                 "entity-bytes is FROM:TO",
		"?entity-bytes=*:5":                   "entity-bytes is FROM:TO",
		"?entity-bytes=1.5:3":                 "entity-bytes is FROM:TO",
		"?entity-bytes=9223372036854775808:*": "entity-bytes is FROM:TO",
		"?entity-bytes=0:5&dag-scope=block":   "goes with dag-scope=entity",
		"?car-version=2":                      "version=1",
		"?car-dups=y":                         "dups=n",
		"?car-order=bfs":                      "order=dfs",
		"/%2e%2e":                             "no plain name",
		"/a/%2e%2e/a":                         "no plain name",
		"/a%2f..%2fa":                         "no plain name",
		"/a%00":                               "no plain name",
		"/" + strings.Repeat("x", 10_000):     "no plain name",
		strings.Repeat("/a", 65):              "a path of more than 64 names",
		"/z/x":                                "is no folder",
		"/a/b/large/x":                        "is no folder",
	} {
		all = append(all, wish{root.String() + query, map[string]string{"Accept": carType}, 400, want})
	}
	all = append(all,
		wish{root.String(), map[string]string{"Accept": carType + ";version=2"}, 400, "version=1"},
		wish{root.String(), map[string]string{"Accept": "text/html, " + carType + ";dups=y;order=dfs"}, 400, "dups=n"},
		wish{root.String(), map[string]string{"Accept": carType + ";dups=y, " + carType + ";dups=n;q=0.5"}, 200, ""},
		wish{root.String() + "?format=car&car-order=unk", nil, 200, ""},
		wish{root.String() + "/nothing?format=car", nil, 404, "does not exist"},
		wish{root.String() + "/a/nothing/x?format=car", nil, 404, "does not exist"},
		wish{root.String() + "/a/%2e%2e/z", nil, 400, "no plain name"},
		wish{cid.NewCidV1(cid.Raw, sha512).String() + "?format=car", nil, 400, "another hash"},
		wish{workunits.RawCid(workunits.Digest{1}).String() + "/a?format=car", nil, 404, "no peer"},
	)
	for _, k := range all {
		if _, got := k.answer(t, c, http.MethodGet); !strings.Contains(string(got), k.want) {
			t.Errorf("%.200s %v: %.300s does not say %q", k.route, k.header, got, k.want)
		}
	}
	if got := n.store.Stat().Damaged; got > 0 {
		t.Errorf("%d chunks are damaged", got)
	}
}
