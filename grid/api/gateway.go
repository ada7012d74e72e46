package api

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/grid"
)

// Types of what the gateway answers with.
const (
	rawType = "application/vnd.ipld.raw"
	carType = "application/vnd.ipld.car"
)

// gateway answers GET and HEAD /ipfs/CID[/PATH], after the trustless gateway of IPFS
// (https://specs.ipfs.tech/http-gateways/trustless-gateway/): with the type
// application/vnd.ipld.raw or ?format=raw one chunk, with application/vnd.ipld.car
// or ?format=car an archive of the content, or of its first chunk with
// dag-scope=block; both are for the CID alone, and the client can check them.
// Without either it is the file itself, ranges of it too, which the node has checked
// and which are fetched as they are read.
func (s *Server) gateway(w http.ResponseWriter, r *http.Request) {
	has, _ := r.Context().Value(ctxGranted).(Scope)
	if has&ScopeRead == 0 {
		refuse(w, http.StatusForbidden, "this caller may not do that")
		return
	}
	c, err := parseCid(r.PathValue("cid"))
	if err != nil {
		writeProblem(w, problem(err))
		return
	}
	// Strangers' pages have no part in this origin.
	w.Header().Set("Content-Security-Policy", "sandbox; default-src 'none'; frame-ancestors 'none'")
	path := strings.FieldsFunc(r.PathValue("path"), func(r rune) bool { return r == '/' })
	format := wanted(r)
	if format != "" && len(path) > 0 {
		err = &Error{KindRequest, "a path is answered as a file only: ask for the CID that it leads to"}
	}
	if err == nil {
		w.Header().Set("Etag", etag(c, path, format))
		switch format {
		case "":
			err = s.gatewayFile(w, r, c, path)
		case "raw":
			err = s.gatewayRaw(w, r, c)
		case "car":
			err = s.gatewayCar(w, r, c)
		default:
			err = &Error{KindRequest, "format is raw or car"}
		}
	}
	if err != nil {
		w.Header().Del("Etag")
		p := problem(err)
		if errors.Is(err, grid.ErrForeign) {
			p = newProblem(KindRequest, http.StatusBadRequest, err.Error())
		}
		writeProblem(w, p)
	}
}

// wanted is the format that a request asks for; empty for the file itself.
func wanted(r *http.Request) string {
	if f := r.URL.Query().Get("format"); f != "" {
		return f
	}
	switch accept := r.Header.Get("Accept"); {
	case strings.Contains(accept, rawType):
		return "raw"
	case strings.Contains(accept, carType):
		return "car"
	}
	return ""
}

// etag names an answer; the content of a CID never changes.
func etag(c cid.Cid, path []string, format string) string {
	return strconv.QuoteToASCII(strings.Join(append(append([]string{c.String()}, path...), format), "."))
}

func (s *Server) gatewayFile(w http.ResponseWriter, r *http.Request, c cid.Cid, path []string) error {
	f, err := s.node.OpenData(r.Context(), c, path)
	if err != nil {
		return err
	}
	defer f.Close()
	http.ServeContent(w, r, "", time.Time{}, f)
	return nil
}

func (s *Server) gatewayRaw(w http.ResponseWriter, r *http.Request, c cid.Cid) error {
	data, err := s.node.ChunkData(r.Context(), c)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", rawType)
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", c.String()+".bin"))
	if r.Method != http.MethodHead {
		_, _ = w.Write(data) // the client is gone if this fails
	}
	return nil
}

func (s *Server) gatewayCar(w http.ResponseWriter, r *http.Request, c cid.Cid) error {
	query := r.URL.Query()
	scope := query.Get("dag-scope")
	if scope != "" && scope != "all" && scope != "block" || query.Has("entity-bytes") {
		return &Error{KindRequest, "dag-scope is all or block; ask for ranges of the file itself"}
	}
	begin := func() io.Writer {
		w.Header().Set("Content-Type", carType+"; version=1; order=dfs; dups=n")
		w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", c.String()+".car"))
		w.WriteHeader(http.StatusOK)
		return w
	}
	if r.Method == http.MethodHead {
		begin()
		return nil
	}
	started := false
	err := s.node.ArchiveData(r.Context(), c, scope == "block", func() io.Writer {
		started = true
		return begin()
	})
	if err != nil && started {
		panic(http.ErrAbortHandler) // an archive that is cut off must not look whole
	}
	return err
}
