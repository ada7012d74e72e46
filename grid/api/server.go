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
)

const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 16 << 10        // bytes
	goodbye       = 2 * time.Second // for requests in flight when the node stops
)

// Server answers for a node.
type Server struct {
	node    Node
	log     *slog.Logger
	handler http.Handler
	spec    []byte // OpenAPI document
}

// New makes a server for the node. Version is the node's version, as it stands
// in the OpenAPI document.
func New(node Node, version string, log *slog.Logger) (*Server, error) {
	s := &Server{node: node, log: log}
	mux := http.NewServeMux()
	config := huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI:    "3.1.0",
			Info:       &huma.Info{Title: "Talka node", Version: version},
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
	var err error
	if s.spec, err = json.Marshal(h.OpenAPI()); err != nil {
		return nil, fmt.Errorf("describe the interface: %w", err)
	}
	mux.HandleFunc("GET /openapi.json", s.openAPI)
	mux.HandleFunc("GET /ipfs/{cid}", s.gateway)
	mux.HandleFunc("GET /ipfs/{cid}/{path...}", s.gateway)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, newProblem(KindNotFound, http.StatusNotFound, "no such route: "+r.Method+" "+r.URL.Path))
	})
	s.handler = guard(mux)
	return s, nil
}

func (s *Server) openAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/openapi+json")
	_, _ = w.Write(s.spec) // the client is gone if this fails
}

// Run serves the socket until ctx ends, then cancels the requests in flight and
// waits for them. It closes the socket.
func (s *Server) Run(ctx context.Context, socket *Socket) error {
	srv := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return context.WithValue(ctx, ctxSocket, true) },
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(socket.listener) }()
	var err error
	select {
	case ended := <-served:
		err = closed(ended)
	case <-ctx.Done():
		bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
		defer cancel()
		if err = srv.Shutdown(bye); err != nil {
			err = srv.Close() // somebody does not read its answer
		}
		err = errors.Join(err, closed(<-served))
	}
	return errors.Join(err, socket.Close())
}

// closed passes every error of Serve but the one that says it was told to end.
func closed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
