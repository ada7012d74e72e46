package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/talka-grid/talka/grid/volunteer/policy"
)

// Desktop is what a process in a user's session tells of its keyboard and mouse.
type Desktop struct {
	Who     string  `json:"who" minLength:"1" maxLength:"64" doc:"Names the process that tells"`
	Session string  `json:"session" maxLength:"64" doc:"The system's name of the session; empty if it is not known"`
	Source  string  `json:"source" maxLength:"64" doc:"What knows, for people"`
	Idle    float64 `json:"idle" minimum:"0" maximum:"1e9" doc:"Seconds without input"`
	Locked  bool    `json:"locked"`
	End     bool    `json:"end" doc:"There will be nothing more, and what was told counts no more"`
}

func (s *Server) desktopRoutes(h huma.API) {
	post(h, "desktop", "/v1/desktop", ScopeControl, "Tell whether the user of a desktop is there; good for 30 seconds", func(_ context.Context, in *request[Desktop]) (none, error) {
		d := in.Body
		s.node.Desktop(d.Who, policy.Session{
			ID: d.Session, Source: d.Source, Idle: time.Duration(d.Idle * float64(time.Second)), Locked: d.Locked,
		}, d.End)
		return none{}, nil
	})
}

// Desktop tells the node whether the user of a desktop is there.
func (c *Client) Desktop(ctx context.Context, d Desktop) error {
	return c.call(ctx, http.MethodPost, "/v1/desktop", d, &none{})
}
