package api

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

type (
	tokenBody struct {
		Name    string  `json:"name" maxLength:"64"`
		Role    Role    `json:"role" enum:"read,control,publish,admin"`
		Seconds float64 `json:"seconds" exclusiveMinimum:"0" maximum:"31622400" doc:"That it is good for"`
	}
	tokenPath struct {
		Name string `path:"name" maxLength:"64"`
	}
)

// NewToken is a token that was made. Its text is told once.
type NewToken struct {
	Token
	Text string `json:"token" doc:"Goes behind \"Authorization: Bearer \""`
	URL  string `json:"url" doc:"Where it is good"`
}

func (s *Server) tokenRoutes(h huma.API) {
	get(h, "tokens", "/v1/tokens", scopeInvite, "Tokens that may come in", func(context.Context, *none) ([]Token, error) {
		return s.page.tokens.list(), nil
	})
	post(h, "new-token", "/v1/tokens", scopeInvite, "Make a token by which a program may come in", func(ctx context.Context, in *request[tokenBody]) (n NewToken, err error) {
		life := time.Duration(in.Body.Seconds * float64(time.Second))
		if n.Text, n.Token, err = s.page.tokens.mint(Token{Name: in.Body.Name, Role: in.Body.Role}, life); err != nil {
			return n, err
		}
		n.URL, err = s.page.url(ctx)
		return n, err
	})
	post(h, "revoke-token", "/v1/tokens/{name}/revoke", scopeInvite, "End a token", func(_ context.Context, in *tokenPath) (none, error) {
		return none{}, s.page.tokens.revoke(in.Name)
	})
}

// NewToken makes a token of a role, good for life.
func (c *Client) NewToken(ctx context.Context, name string, role Role, life time.Duration) (n NewToken, err error) {
	return n, c.call(ctx, http.MethodPost, "/v1/tokens", tokenBody{name, role, life.Seconds()}, &n)
}

// Tokens lists the live tokens by name.
func (c *Client) Tokens(ctx context.Context) (list []Token, err error) {
	return list, c.call(ctx, http.MethodGet, "/v1/tokens", nil, &list)
}

// RevokeToken ends a token.
func (c *Client) RevokeToken(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodPost, "/v1/tokens/"+url.PathEscape(name)+"/revoke", nil, &none{})
}
