package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/grid"
)

type getBody struct {
	Cid     string   `json:"cid"`
	Dest    string   `json:"dest" maxLength:"4096" doc:"Absolute path on the node's machine; must not exist"`
	From    []string `json:"from,omitempty" maxItems:"16" doc:"Multiaddrs of peers to ask as well, IPFS nodes too"`
	Timeout float64  `json:"timeout" exclusiveMinimum:"0" maximum:"31536000" doc:"Seconds without progress"`
}

type (
	addBody struct {
		Path string `json:"path" maxLength:"4096" doc:"Absolute path on the node's machine"`
	}
	cidBody struct {
		Cid string `json:"cid" maxLength:"256"`
	}
	pinBody struct {
		Cid     string  `json:"cid" maxLength:"256"`
		Timeout float64 `json:"timeout" exclusiveMinimum:"0" maximum:"31536000" doc:"Seconds without progress"`
	}
)

// Added is what the store made of a file or folder.
type Added struct {
	Cid    string `json:"cid"`
	Bytes  int64  `json:"bytes"`
	Chunks int    `json:"chunks"`
}

// Imported is what a content archive held.
type Imported struct {
	Roots  []string `json:"roots"`
	Bytes  int64    `json:"bytes" doc:"Of chunks"`
	Chunks int      `json:"chunks"`
}

// Pinned is content that the node now keeps for its owner.
type Pinned struct {
	Cid   string `json:"cid"`
	Bytes int64  `json:"bytes"`
}

// hashSHA256 is what multihash calls it.
const hashSHA256 = "sha2-256"

type addDataBody struct {
	Path   string `json:"path" maxLength:"4096" doc:"Absolute path on the node's machine"`
	NoCopy bool   `json:"no_copy,omitempty" doc:"Leave files where they are, and read them there; the node finds out what changes"`
	Hash   string `json:"hash,omitempty" enum:"blake3,sha2-256" doc:"How chunks are named; blake3 if not given"`
}

func (b addDataBody) adding() (as grid.Adding) {
	as.Link = b.NoCopy
	if b.Hash == hashSHA256 {
		as.Hash = grid.SHA256
	}
	return as
}

func (s *Server) dataRoutes(h huma.API) {
	post(h, "free-job", "/v1/jobs/{id}/free", ScopePublish, "Say that a finished job of this node is collected: nobody need keep its data any more", func(ctx context.Context, in *jobPath) (jobBody, error) {
		return jobBody{in.ID}, s.node.FreeData(ctx, in.ID)
	})
	get(h, "data", "/v1/data", ScopeRead, "What the store holds, and why", func(ctx context.Context, _ *none) (grid.DataInfo, error) {
		info, err := s.node.DataInfo(ctx)
		info.Reasons = notNull(info.Reasons)
		return info, err
	})
	stream(h, op("add-data", http.MethodPost, "/v1/data/add", ScopeFiles, "Add a file or folder to the store"),
		func(ctx context.Context, in *request[addDataBody], out *lines[Added]) error {
			if !filepath.IsAbs(in.Body.Path) {
				return &Error{KindRequest, "path must be absolute"}
			}
			c, bytes, chunks, err := s.node.AddData(ctx, in.Body.Path, in.Body.adding(), out.bytes)
			if err != nil {
				return err
			}
			return out.result(Added{c.String(), bytes, chunks})
		})
	for _, way := range []struct {
		id, doc string
		get     getter
	}{
		{"get", "Write content to a new file or folder", s.node.GetData},
		{"export", "Write content to a new content archive (CAR)", s.node.ExportData},
	} {
		stream(h, op(way.id+"-data", http.MethodPost, "/v1/data/"+way.id, ScopeFiles, way.doc),
			func(ctx context.Context, in *request[getBody], out *lines[grid.DataOrigin]) error {
				origin, err := getData(ctx, way.get, in.Body, out.bytes)
				if err != nil {
					return err
				}
				return out.result(origin)
			})
	}
	stream(h, op("import-data", http.MethodPost, "/v1/data/import", ScopeFiles, "Store what a content archive (CAR) holds, and keep it"),
		func(ctx context.Context, in *request[addBody], out *lines[Imported]) error {
			if !filepath.IsAbs(in.Body.Path) {
				return &Error{KindRequest, "path must be absolute"}
			}
			roots, bytes, chunks, err := s.node.ImportData(ctx, in.Body.Path, out.bytes)
			if err != nil {
				return err
			}
			list := Imported{Bytes: bytes, Chunks: chunks}
			for _, c := range roots {
				list.Roots = append(list.Roots, c.String())
			}
			return out.result(list)
		})
	s.pinRoutes(h)
}

func (s *Server) pinRoutes(h huma.API) {
	stream(h, op("kept-data", http.MethodGet, "/v1/data/kept", ScopeRead, "What the store keeps, once for each reason"),
		func(_ context.Context, _ *none, out *lines[grid.Kept]) error { return s.node.Kept(out.result) })
	stream(h, op("pin-data", http.MethodPost, "/v1/data/pin", ScopeFiles, "Keep content, fetched from peers if need be"),
		func(ctx context.Context, in *request[pinBody], out *lines[Pinned]) error {
			c, err := parseCid(in.Body.Cid)
			if err != nil {
				return err
			}
			var bytes int64
			err = whileMoving(ctx, "pin "+c.String(), in.Body.Timeout, out.bytes, func(ctx context.Context, p func(done, total int64)) error {
				bytes, err = s.node.Pin(ctx, c, p)
				return err
			})
			if err != nil {
				return err
			}
			return out.result(Pinned{c.String(), bytes})
		})
	post(h, "unpin-data", "/v1/data/unpin", ScopeFiles, "Keep content for the owner no longer", func(_ context.Context, in *request[cidBody]) (cidBody, error) {
		c, err := parseCid(in.Body.Cid)
		if err == nil {
			err = s.node.Unpin(c)
		}
		return in.Body, err
	})
}

// getter is how a node writes content to a file.
type getter func(ctx context.Context, c cid.Cid, dest string, from []string, progress func(done, total int64)) (grid.DataOrigin, error)

// getData gives up when no byte has arrived for timeout.
func getData(ctx context.Context, get getter, in getBody, progress func(done, total int64)) (grid.DataOrigin, error) {
	c, err := parseCid(in.Cid)
	if err != nil {
		return grid.DataOrigin{}, err
	}
	if !filepath.IsAbs(in.Dest) {
		return grid.DataOrigin{}, &Error{KindRequest, "dest must be absolute"}
	}
	var origin grid.DataOrigin
	err = whileMoving(ctx, "get "+c.String(), in.Timeout, progress, func(ctx context.Context, p func(done, total int64)) error {
		origin, err = get(ctx, c, in.Dest, in.From, p)
		return err
	})
	origin.Sources = notNull(origin.Sources)
	return origin, err
}

// whileMoving does something until no further byte has arrived for so many seconds.
func whileMoving(ctx context.Context, what string, seconds float64, progress func(done, total int64),
	do func(ctx context.Context, p func(done, total int64)) error,
) error {
	timeout := time.Duration(seconds * float64(time.Second))
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := fmt.Errorf("%s: nothing arrived for %v: %w", what, timeout, grid.ErrTimeout)
	watchdog := time.AfterFunc(timeout, func() { cancel(stalled) })
	defer watchdog.Stop()
	var mu sync.Mutex
	var most int64
	err := do(ctx, func(done, total int64) {
		mu.Lock()
		if done > most {
			most = done
			watchdog.Reset(timeout)
		}
		mu.Unlock()
		progress(done, total)
	})
	if err != nil && errors.Is(context.Cause(ctx), stalled) {
		return stalled
	}
	return err
}

// AddData adds the file or folder at an absolute path to the node's store.
func (c *Client) AddData(ctx context.Context, path string, progress func(done, total int64)) (Added, error) {
	return c.AddDataAs(ctx, path, grid.Adding{}, progress)
}

// AddDataAs is AddData in a way that the caller chooses.
func (c *Client) AddDataAs(ctx context.Context, path string, as grid.Adding, progress func(done, total int64)) (Added, error) {
	body := addDataBody{Path: path, NoCopy: as.Link}
	if as.Hash == grid.SHA256 {
		body.Hash = hashSHA256
	}
	return receiveOne[Added](ctx, c, "/v1/data/add", body, bytesOf(progress))
}

// GetData writes content to the absolute path dest, which must not exist. The
// node gives up after timeout without progress.
func (c *Client) GetData(ctx context.Context, id cid.Cid, dest string, timeout time.Duration, progress func(done, total int64)) error {
	_, err := c.BringData(ctx, id, dest, nil, timeout, progress)
	return err
}

// BringData is GetData that asks the peers at some addresses as well, and tells
// where the content came from.
func (c *Client) BringData(ctx context.Context, id cid.Cid, dest string, from []string, timeout time.Duration, progress func(done, total int64)) (grid.DataOrigin, error) {
	return receiveOne[grid.DataOrigin](ctx, c, "/v1/data/get", getBody{id.String(), dest, from, timeout.Seconds()}, bytesOf(progress))
}

// DataInfo tells what the node's store holds and why.
func (c *Client) DataInfo(ctx context.Context) (info grid.DataInfo, err error) {
	return info, c.call(ctx, http.MethodGet, "/v1/data", nil, &info)
}

// ExportData is BringData for a content archive (CAR).
func (c *Client) ExportData(ctx context.Context, id cid.Cid, dest string, from []string, timeout time.Duration, progress func(done, total int64)) (grid.DataOrigin, error) {
	return receiveOne[grid.DataOrigin](ctx, c, "/v1/data/export", getBody{id.String(), dest, from, timeout.Seconds()}, bytesOf(progress))
}

// ImportData stores what the content archive (CAR) at an absolute path holds.
func (c *Client) ImportData(ctx context.Context, path string, progress func(done, total int64)) (Imported, error) {
	return receiveOne[Imported](ctx, c, "/v1/data/import", addBody{path}, bytesOf(progress))
}

// KeptData yields what the node's store keeps, once for each reason.
func (c *Client) KeptData(ctx context.Context, yield func(grid.Kept) error) error {
	return receive(ctx, c, http.MethodGet, "/v1/data/kept", nil, nil, yield)
}

// Pin has the node keep content, fetched from peers if need be. The node gives up
// after timeout without progress.
func (c *Client) Pin(ctx context.Context, id cid.Cid, timeout time.Duration, progress func(done, total int64)) (Pinned, error) {
	return receiveOne[Pinned](ctx, c, "/v1/data/pin", pinBody{id.String(), timeout.Seconds()}, bytesOf(progress))
}

// Unpin has the node keep content for its owner no longer.
func (c *Client) Unpin(ctx context.Context, id cid.Cid) error {
	return c.call(ctx, http.MethodPost, "/v1/data/unpin", cidBody{id.String()}, &cidBody{})
}

// bytesOf hands progress on, if somebody wants it.
func bytesOf(progress func(done, total int64)) func(Progress) {
	return func(p Progress) {
		if progress != nil {
			progress(p.Done, p.Total)
		}
	}
}
