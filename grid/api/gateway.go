package api

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
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
// application/vnd.ipld.raw or ?format=raw one chunk, for the CID alone; with
// application/vnd.ipld.car or ?format=car an archive, see selection: the client can
// check both. Without either it is the file itself, ranges of it too, which the node has
// checked and which are fetched as they are read.
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
	switch format := wanted(r); {
	case format == "":
		w.Header().Set("Etag", etag(c, path))
		err = s.gatewayFile(w, r, c, path)
	case format == "raw" && len(path) > 0:
		err = &Error{KindRequest, "a path is answered as a file or an archive (format=car): ask for the CID that it leads to"}
	case format == "raw":
		w.Header().Set("Etag", etag(c, nil, format))
		err = s.gatewayRaw(w, r, c)
	case format == "car":
		err = s.gatewayCar(w, r, c, path)
	default:
		err = &Error{KindRequest, "format is raw or car"}
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

// etag names an answer by its form; the content of a CID never changes.
func etag(c cid.Cid, path []string, form ...string) string {
	return strconv.QuoteToASCII(strings.Join(append([]string{c.String(), strings.Join(path, "/")}, form...), "."))
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

func (s *Server) gatewayCar(w http.ResponseWriter, r *http.Request, c cid.Cid, path []string) error {
	query := r.URL.Query()
	sel, err := selection(query, path)
	if err == nil {
		err = carForm(r)
	}
	if err != nil {
		return err
	}
	w.Header().Set("Etag", etag(c, path, "car", query.Get("dag-scope"), query.Get("entity-bytes")))
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
	err = s.node.ArchiveData(r.Context(), c, sel, func() io.Writer {
		started = true
		return begin()
	})
	if err != nil && started {
		panic(http.ErrAbortHandler) // an archive that is cut off must not look whole
	}
	return err
}

// selection reads what an archive is to hold beside the chunks that lead along the path:
// by dag-scope all below, the file or folder itself, or its first chunk; by entity-bytes
// the chunks in which some bytes of a file are.
func selection(query url.Values, path []string) (sel grid.Selection, err error) {
	sel.Path = path
	scope, bytes := query.Get("dag-scope"), query.Get("entity-bytes")
	scopes := map[string]grid.Scope{"": grid.ScopeAll, "all": grid.ScopeAll, "entity": grid.ScopeEntity, "block": grid.ScopeBlock}
	var known bool
	if sel.Scope, known = scopes[scope]; !known {
		return sel, &Error{KindRequest, "dag-scope is all, entity or block"}
	}
	if !query.Has("entity-bytes") {
		return sel, nil
	}
	if scope != "" && sel.Scope != grid.ScopeEntity {
		return sel, &Error{KindRequest, "entity-bytes goes with dag-scope=entity"}
	}
	from, to, both := strings.Cut(bytes, ":")
	if to == "*" {
		to = "-1"
	}
	first, err1 := strconv.ParseInt(from, 10, 64)
	last, err2 := strconv.ParseInt(to, 10, 64)
	if !both || err1 != nil || err2 != nil {
		return sel, &Error{KindRequest, "entity-bytes is FROM:TO, the numbers of the first and the last byte, from the end if below zero; TO may be *"}
	}
	sel.Scope, sel.Bytes = grid.ScopeEntity, &grid.Range{From: first, To: last}
	return sel, nil
}

// carForm refuses archives in another form than the one that there is. Of several that
// the client would take, one has to be.
func carForm(r *http.Request) (err error) {
	query := r.URL.Query()
	asked := func(params map[string]string) error {
		for name, has := range map[string]string{"version": "1", "order": "dfs", "dups": "n"} {
			v := cmp.Or(params[name], query.Get("car-"+name))
			if free := name == "order" && v == "unk"; v != "" && v != has && !free {
				return &Error{KindRequest, fmt.Sprintf("archives have %s=%s, not %.20q", name, has, v)}
			}
		}
		return nil
	}
	for _, part := range strings.Split(r.Header.Get("Accept"), ",") {
		if kind, params, perr := mime.ParseMediaType(part); perr == nil && kind == carType {
			if err = asked(params); err == nil {
				return nil
			}
		}
	}
	return cmp.Or(err, asked(nil))
}
