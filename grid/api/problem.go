package api

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"strings"
	"syscall"

	"github.com/danielgtaylor/huma/v2"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/machines"
	"github.com/talka-grid/talka/workunits"
)

// Kind classifies an error for programs. The set is closed: a client that meets
// a kind it does not know treats it as KindError.
type Kind string

// The kinds of error. KindNotRunning is found by the client only.
const (
	KindError        Kind = "error"
	KindRequest      Kind = "bad-request"  // the caller must change the request
	KindConflict     Kind = "conflict"     // not in this state
	KindTooLarge     Kind = "too-large"    // over a limit of the API
	KindNoSpace      Kind = "no-space"     // the disk or the store's quota is full
	KindUnauthorised Kind = "unauthorised" // not allowed to this caller
	KindNotFound     Kind = "not-found"
	KindTimeout      Kind = "timeout"
	KindNoVolunteer  Kind = "no-volunteer" // nobody can take the work
	KindNotRunning   Kind = "not-running"  // there is no node behind the socket
)

// kindStatus is the HTTP status of each kind that travels.
var kindStatus = map[Kind]int{
	KindError:        http.StatusInternalServerError,
	KindRequest:      http.StatusBadRequest,
	KindConflict:     http.StatusConflict,
	KindTooLarge:     http.StatusRequestEntityTooLarge,
	KindNoSpace:      http.StatusInsufficientStorage,
	KindUnauthorised: http.StatusForbidden,
	KindNotFound:     http.StatusNotFound,
	KindTimeout:      http.StatusGatewayTimeout,
	KindNoVolunteer:  http.StatusServiceUnavailable,
}

const kindPrefix = "urn:talka:problem:"

// Error is a problem that the node, or the way to it, answered with.
type Error struct {
	Kind   Kind
	Detail string
}

func (e *Error) Error() string { return e.Detail }

// KindOf is the kind of an error that a Client or a Node returned.
func KindOf(err error) Kind {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e.Kind
	case errors.Is(err, grid.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return KindNotFound
	case errors.Is(err, grid.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return KindTimeout
	case errors.Is(err, machines.ErrUnknown):
		return KindNotFound
	case errors.Is(err, machines.ErrAway):
		return KindTimeout
	case errors.Is(err, machines.ErrRefused):
		return KindUnauthorised
	case errors.Is(err, machines.ErrCode), errors.Is(err, machines.ErrLimit):
		return KindRequest
	case errors.Is(err, workunits.ErrID), errors.Is(err, workunits.ErrManifest):
		return KindRequest
	case errors.Is(err, workunits.ErrTooLarge):
		return KindTooLarge
	case errors.Is(err, fs.ErrExist):
		return KindConflict
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, grid.ErrFull):
		return KindNoSpace
	case errors.Is(err, grid.ErrDenied), errors.Is(err, fs.ErrPermission):
		return KindUnauthorised
	}
	return KindError
}

// problem is the document for an error of the node.
func problem(err error) *huma.ErrorModel {
	kind := KindOf(err)
	return newProblem(kind, kindStatus[kind], err.Error())
}

func newProblem(kind Kind, status int, detail string) *huma.ErrorModel {
	return &huma.ErrorModel{
		Type:   kindPrefix + string(kind),
		Title:  http.StatusText(status),
		Status: status,
		Detail: detail,
	}
}

// nameKind gives the problems that huma makes (malformed requests) their kind.
func nameKind(_ huma.Context, _ string, v any) (any, error) {
	if p, ok := v.(*huma.ErrorModel); ok && p.Type == "" {
		kind := KindRequest
		switch {
		case p.Status == http.StatusRequestEntityTooLarge:
			kind = KindTooLarge
		case p.Status >= http.StatusInternalServerError:
			kind = KindError
		}
		p.Type = kindPrefix + string(kind)
	}
	return v, nil
}

// asError is the client's view of a problem.
func asError(p *huma.ErrorModel) *Error {
	kind := Kind(strings.TrimPrefix(p.Type, kindPrefix))
	if _, known := kindStatus[kind]; !known {
		kind = KindError
	}
	detail := p.Detail
	for _, d := range p.Errors {
		detail += "; " + d.Error()
	}
	if detail == "" {
		detail = p.Title
	}
	return &Error{kind, detail}
}
