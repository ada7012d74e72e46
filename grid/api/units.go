package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"
	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/configs"
	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/workunits"
)

// filePolicy is for what volunteers wrote: whatever it is, it does nothing.
const filePolicy = "default-src 'none'; frame-ancestors 'none'; sandbox"

// maxFile is how many bytes of a file this interface hands to a browser.
const maxFile = 32 << 20

// UnitDetail is a unit with its copies, and its result once it has one.
type UnitDetail struct {
	grid.UnitInfo
	List   []grid.CopyInfo `json:"list" doc:"Copies that are not void"`
	Result *Result         `json:"result,omitempty"`
}

type (
	unitsRequest struct {
		ID    workunits.JobID `path:"id" doc:"Job id"`
		From  uint32          `query:"from"`
		Count uint32          `query:"count" default:"1024" minimum:"1" maximum:"4096"`
	}
	fileRequest struct {
		ID   workunits.JobID `path:"id" doc:"Job id"`
		Unit uint32          `path:"unit"`
		Path string          `query:"path" maxLength:"4096" doc:"In the unit's /out; empty for standard output"`
	}
	fileAnswer struct {
		ContentType string `header:"Content-Type"`
		Disposition string `header:"Content-Disposition"`
		Policy      string `header:"Content-Security-Policy"`
		Body        []byte
	}
	settingBody struct {
		Key   string  `json:"key" maxLength:"128"`
		Value *string `json:"value,omitempty" maxLength:"4096" doc:"Missing: forget what was set"`
	}
)

func (s *Server) unitRoutes(h huma.API) {
	get(h, "unit", "/v1/jobs/{id}/units/{unit}", ScopeRead, "How the verdict on a unit came about", func(ctx context.Context, in *unitPath) (grid.UnitStory, error) {
		return s.node.Story(ctx, in.ID, in.Unit)
	})
	get(h, "units", "/v1/jobs/{id}/units", ScopeRead, "Units of a job, in order", func(ctx context.Context, in *unitsRequest) ([]grid.UnitInfo, error) {
		list, err := s.node.Units(ctx, in.ID, in.From, in.Count)
		return notNull(list), err
	})
	get(h, "unit-result", "/v1/jobs/{id}/units/{unit}/result", ScopeRead, "A unit with its copies and its result", func(ctx context.Context, in *unitPath) (UnitDetail, error) {
		return s.unit(ctx, in.ID, in.Unit)
	})
	o := op("file", http.MethodGet, "/v1/jobs/{id}/units/{unit}/file", ScopeRead, "A file of a unit's result")
	huma.Register(h, o, func(ctx context.Context, in *fileRequest) (*fileAnswer, error) {
		b, err := s.file(ctx, in.ID, in.Unit, in.Path)
		if err != nil {
			return nil, problem(err)
		}
		return &fileAnswer{picture(b), "attachment", filePolicy, b}, nil
	})
}

func (s *Server) unit(ctx context.Context, id workunits.JobID, unit uint32) (d UnitDetail, err error) {
	list, err := s.node.Units(ctx, id, unit, 1)
	if err != nil {
		return d, err
	}
	if len(list) == 0 {
		return d, fmt.Errorf("unit %d of job %s: %w", unit, id, grid.ErrNotFound)
	}
	d.UnitInfo = list[0]
	if d.List, err = s.node.Copies(ctx, id, unit); err != nil {
		return d, err
	}
	d.List = notNull(d.List)
	if d.State != grid.UnitAccepted && d.State != grid.UnitFailed {
		return d, nil
	}
	u, err := s.node.Result(ctx, id, unit)
	if errors.Is(err, grid.ErrNotFound) {
		return d, nil // reopened since
	}
	if err == nil {
		r := resultOf(u)
		d.Result = &r
	}
	return d, err
}

// file is the content of a file of a result.
func (s *Server) file(ctx context.Context, id workunits.JobID, unit uint32, path string) ([]byte, error) {
	u, err := s.node.Result(ctx, id, unit)
	if err != nil {
		return nil, err
	}
	for _, f := range append(u.Outcome.Files, u.Outcome.Out) {
		switch {
		case f.Path != path:
		case f.Size > maxFile:
			return nil, fmt.Errorf("%q has %d bytes and this route gives %d: use `talka job fetch`: %w", path, f.Size, maxFile, workunits.ErrTooLarge)
		case f.Cid == nil:
			return f.Data, nil
		default:
			return s.content(ctx, f.Cid.Cid)
		}
	}
	return nil, fmt.Errorf("unit %d of job %s wrote no file %q: %w", unit, id, path, grid.ErrNotFound)
}

// content is a file of the store.
func (s *Server) content(ctx context.Context, c cid.Cid) ([]byte, error) {
	f, err := s.node.OpenData(ctx, c, nil)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("content %s has over %d bytes: %w", c, maxFile, workunits.ErrTooLarge)
	}
	return b, errors.Join(err, f.Close())
}

// picture is the type of content that browsers show as a picture and in which
// nothing can be executed; everything else is bytes. It goes by the content: names
// are the volunteer's.
func picture(b []byte) string {
	for kind, magic := range map[string]string{
		"image/png": "\x89PNG\r\n\x1a\n", "image/jpeg": "\xff\xd8\xff", "image/gif": "GIF8",
	} {
		if bytes.HasPrefix(b, []byte(magic)) {
			return kind
		}
	}
	if len(b) > 12 && string(b[:4]) == "RIFF" && string(b[8:12]) == "WEBP" {
		return "image/webp"
	}
	return "application/octet-stream"
}

// settings are what the caller may see of them: paired machines have a say in limits
// and rules, which are those that count at once, and in nothing else.
func (s *Server) settings(ctx context.Context) ([]configs.Setting, error) {
	list, err := s.cfg.Settings.Explain()
	if byMachine(ctx) {
		list = slices.DeleteFunc(list, func(o configs.Setting) bool { return !o.Live })
	}
	return list, err
}

func (s *Server) settingRoutes(h huma.API) {
	mirror(s, h, mirrored{"settings", http.MethodGet, "settings", ScopeRead, "Settings, what they mean and what decided them"}, notNull, s.settings)
	mirrorBody(s, h, mirrored{"set", http.MethodPost, "settings", ScopeSettings, "Change a setting, at once or from the next start on, as it says"}, notNull, func(ctx context.Context, in settingBody) ([]configs.Setting, error) {
		list, err := s.settings(ctx)
		if err != nil {
			return nil, err
		}
		if byMachine(ctx) && !slices.ContainsFunc(list, func(o configs.Setting) bool { return o.Key == in.Key }) {
			return nil, &Error{KindUnauthorised, "paired machines may change limits and rules alone"}
		}
		if in.Value == nil {
			err = s.cfg.Settings.Unset(in.Key)
		} else {
			err = s.cfg.Settings.Set(in.Key, *in.Value)
		}
		if err != nil {
			return nil, &Error{KindRequest, err.Error()}
		}
		return s.settings(ctx)
	})
}
