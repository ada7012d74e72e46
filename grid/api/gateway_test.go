package api

import (
	"io"
	"net/http"
	"testing"

	"github.com/talka-grid/talka/workunits"
)

func TestGateway(t *testing.T) {
	t.Parallel()
	node := newMemNode()
	content := []byte("0123456789")
	id := workunits.RawCid(workunits.Sum(content))
	node.blobs[id] = content
	c, _, _ := serve(t, node)
	route := "/ipfs/" + id.String()
	for _, k := range []struct {
		route  string
		header map[string]string
		status int
		want   string
	}{
		{route, nil, 200, "0123456789"},
		{route, map[string]string{"Range": "bytes=3-5"}, 206, "345"},
		{route, map[string]string{"Range": "bytes=-2"}, 206, "89"},
		{route, map[string]string{"Range": "bytes=20-"}, 416, ""},
		{route + "?format=raw", nil, 200, "0123456789"},
		{route, map[string]string{"Accept": rawType}, 200, "0123456789"},
		{route + "?format=car", nil, 200, "archive false 0123456789"},
		{route + "?dag-scope=block", map[string]string{"Accept": carType + "; version=1"}, 200, "archive true 0123456789"},
		{route + "?format=car&dag-scope=entity", nil, 400, ""},
		{route + "?format=car&entity-bytes=0:5", nil, 400, ""},
		{route + "?format=tar", nil, 400, ""},
		{route + "/name", nil, 400, ""},
		{route + "/name?format=raw", nil, 400, ""},
		{"/ipfs/nonsense", nil, 400, ""},
		{"/ipfs/" + workunits.RawCid(workunits.Digest{1}).String(), nil, 404, ""},
		{"/ipfs/" + workunits.RawCid(workunits.Digest{1}).String() + "?format=car", nil, 404, ""},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+clientHost+k.route, nil)
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
		if err != nil || resp.StatusCode != k.status || k.want != "" && string(got) != k.want {
			t.Errorf("%s %v: %d %q, %v; want %d %q", k.route, k.header, resp.StatusCode, got, err, k.status, k.want)
		}
		if tag := resp.Header.Get("Etag"); (tag != "") != (k.status < 400) {
			t.Errorf("%s: etag %q with status %d", k.route, tag, resp.StatusCode)
		}
	}
}
