package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/talka-grid/talka/configs"
	"github.com/talka-grid/talka/grid/machines"
	"github.com/talka-grid/talka/workunits"
)

const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 16 << 10        // bytes
	goodbye       = 2 * time.Second // for requests in flight when the node stops
)

// Config is what a server needs beside its node. All but Page is needed.
type Config struct {
	Dir      string // the node's data directory
	Version  string // the node's version, as it stands in the OpenAPI document
	Settings Settings
	Machines *machines.Set // its Run is the caller's
	Watts    float64       // that a busy processor draws, for estimates
	Page     configs.API
	Doctor   func(context.Context) Diagnosis // looks at the node and its machine; called by one goroutine at a time
	Recent   *Recent                         // what Log wrote of late
	Log      *slog.Logger
}

// Server answers for a node.
type Server struct {
	node     Node
	cfg      Config
	page     *page
	mux      *http.ServeMux
	handler  http.Handler
	spec     []byte          // OpenAPI document
	mirrored map[string]bool // method and path of what paired machines may ask for
	views    views
	found    diagnoses
	ctx      context.Context // of looks at paired machines; ends with Run
	stop     context.CancelFunc
}

// New makes a server for the node.
func New(node Node, cfg Config) (*Server, error) {
	s := &Server{node: node, cfg: cfg, mux: http.NewServeMux(), mirrored: map[string]bool{}}
	s.views.seen = map[workunits.NodeID]*view{}
	s.found.turn = make(chan struct{}, 1)
	s.ctx, s.stop = context.WithCancel(context.Background())
	var err error
	if s.page, err = newPage(cfg.Dir, cfg.Page); err != nil {
		return nil, err
	}
	mux := s.mux
	config := huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI:    "3.1.0",
			Info:       &huma.Info{Title: "Talka node", Version: cfg.Version},
			Components: &huma.Components{Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)},
		},
		Formats:                      huma.DefaultFormats,
		DefaultFormat:                "application/json",
		Transformers:                 []huma.Transformer{nameKind},
		RejectUnknownQueryParameters: true,
	}
	h := humago.New(mux, config)
	h.UseMiddleware(authorise)
	s.routes(h)
	if s.spec, err = json.Marshal(h.OpenAPI()); err != nil {
		return nil, fmt.Errorf("describe the interface: %w", err)
	}
	mux.HandleFunc("GET /openapi.json", s.openAPI)
	mux.HandleFunc("GET /ipfs/{cid}", s.gateway)
	mux.HandleFunc("GET /ipfs/{cid}/{path...}", s.gateway)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, newProblem(KindNotFound, http.StatusNotFound, "no such route: "+r.Method+" "+r.URL.Path))
	})
	s.handler = s.page.guard(mux)
	return s, nil
}

func (s *Server) openAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/openapi+json")
	_, _ = w.Write(s.spec) // the client is gone if this fails
}

// Run serves the socket, and the page's port while browsers may come, until ctx
// ends; then it cancels the requests in flight and waits for them. It closes the
// socket.
func (s *Server) Run(ctx context.Context, socket *Socket) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := s.page.resume(ctx); err != nil {
		s.cfg.Log.Warn("the page is not there", "err", err)
	}
	served := make(chan error, 2)
	serving := 1
	go func() { served <- s.serve(ctx, socket.listener, ctxSocket) }()
	var err error
	for serving > 0 {
		select {
		case l := <-s.page.opened:
			serving++
			go func() { served <- s.serve(ctx, l, ctxPage) }()
		case ended := <-served:
			serving--
			err = errors.Join(err, ended)
			cancel() // one does not live without the other
		}
	}
	s.stop()
	s.views.group.Wait()
	return errors.Join(err, s.page.close(), socket.Close())
}

// serve answers one listener's requests, marked by the way on which they came.
func (s *Server) serve(ctx context.Context, l net.Listener, way ctxKey) error {
	srv := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return context.WithValue(ctx, way, true) },
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err := <-served:
		return closed(err)
	case <-ctx.Done():
	}
	bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
	defer cancel()
	err := srv.Shutdown(bye)
	if err != nil {
		err = srv.Close() // somebody does not read its answer
	}
	return errors.Join(err, closed(<-served))
}

// closed passes every error of Serve but the one that says it was told to end.
func closed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
