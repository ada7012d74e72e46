package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/configs"
	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/workunits"
)

// clientHost is the Host that clients of the socket name.
const clientHost = "talka"

// Client talks to the node of one data directory. Its errors have a [Kind]; a
// missing node gives KindNotRunning. Calls take as long as the node needs: the
// context bounds them.
type Client struct {
	http *http.Client
	at   string // where routes begin, if not at this node; see At
}

// NewClient makes a client for the node in dir. It connects when it is used.
func NewClient(dir string) *Client {
	return &Client{http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, dir) },
	}}}
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status is what the node says of itself.
func (c *Client) Status(ctx context.Context) (st grid.Status, err error) {
	return st, c.call(ctx, http.MethodGet, "/v1/status", nil, &st)
}

// Peers lists the connected peers.
func (c *Client) Peers(ctx context.Context) (peers []grid.PeerInfo, err error) {
	return peers, c.call(ctx, http.MethodGet, "/v1/peers", nil, &peers)
}

// Invite makes an invite that is valid for a time of whole seconds, or as long as is
// usual if that is zero; for one node if that is not zero.
func (c *Client) Invite(ctx context.Context, valid time.Duration, to workunits.NodeID) (string, error) {
	q := url.Values{"seconds": {strconv.FormatInt(int64(valid/time.Second), 10)}}
	if !to.IsZero() {
		q.Set("to", to.String())
	}
	var out inviteBody
	err := c.call(ctx, http.MethodPost, "/v1/invite?"+q.Encode(), nil, &out)
	return out.Invite, err
}

// Join connects to the peers of an invite.
func (c *Client) Join(ctx context.Context, invite string) (st grid.Status, err error) {
	return st, c.call(ctx, http.MethodPost, "/v1/join", inviteBody{invite}, &st)
}

// Pause stops execution for d, or until Resume if d is 0.
func (c *Client) Pause(ctx context.Context, d time.Duration) (st grid.Status, err error) {
	return st, c.call(ctx, http.MethodPost, "/v1/pause", pauseBody{d.Seconds()}, &st)
}

// Finish lets running copies end and begins no other until Resume.
func (c *Client) Finish(ctx context.Context) (st grid.Status, err error) {
	return st, c.call(ctx, http.MethodPost, "/v1/finish", nil, &st)
}

// Save pauses as soon as running copies have saved their state or end.
func (c *Client) Save(ctx context.Context) (st grid.Status, err error) {
	return st, c.call(ctx, http.MethodPost, "/v1/save", nil, &st)
}

// Why says why the node does what it does.
func (c *Client) Why(ctx context.Context) (w grid.Why, err error) {
	return w, c.call(ctx, http.MethodGet, "/v1/why", nil, &w)
}

// Settings lists the node's settings.
func (c *Client) Settings(ctx context.Context) (list []configs.Setting, err error) {
	return list, c.call(ctx, http.MethodGet, "/v1/settings", nil, &list)
}

// Set changes a setting of the running node, or forgets what was changed where value
// is nil, and returns all of them.
func (c *Client) Set(ctx context.Context, key string, value *string) (list []configs.Setting, err error) {
	return list, c.call(ctx, http.MethodPost, "/v1/settings", settingBody{key, value}, &list)
}

// Resume ends a pause.
func (c *Client) Resume(ctx context.Context) (st grid.Status, err error) {
	return st, c.call(ctx, http.MethodPost, "/v1/resume", nil, &st)
}

// OpenPage makes a link that signs a browser in, once, within a minute.
func (c *Client) OpenPage(ctx context.Context) (string, error) {
	var out linkBody
	err := c.call(ctx, http.MethodPost, "/v1/page", nil, &out)
	return out.URL, err
}

// Projects lists the projects that the node publishes, trusts or has heard of.
func (c *Client) Projects(ctx context.Context) (projects []grid.ProjectInfo, err error) {
	return projects, c.call(ctx, http.MethodGet, "/v1/projects", nil, &projects)
}

// Project tells a project's jobs, the newest first.
func (c *Client) Project(ctx context.Context, p workunits.ProjectID) (d grid.ProjectDetail, err error) {
	return d, c.call(ctx, http.MethodGet, "/v1/projects/"+url.PathEscape(p.String()), nil, &d)
}

// NewProject makes a project of the node's.
func (c *Client) NewProject(ctx context.Context, name string) (workunits.ProjectID, error) {
	var out projectBody
	err := c.call(ctx, http.MethodPost, "/v1/projects", projectNameBody{name}, &out)
	return out.Project, err
}

// SetShare lets the node execute units of a project, with a share of processor time.
func (c *Client) SetShare(ctx context.Context, p workunits.ProjectID, share int) error {
	return c.call(ctx, http.MethodPost, "/v1/projects/"+url.PathEscape(p.String())+"/share", shareBody{share}, &projectBody{})
}

// Trust lets the node execute units of a project, or stops that.
func (c *Client) Trust(ctx context.Context, p workunits.ProjectID, trust bool) error {
	verb := "revoke"
	if trust {
		verb = "trust"
	}
	return c.call(ctx, http.MethodPost, "/v1/projects/"+url.PathEscape(p.String())+"/"+verb, nil, &projectBody{})
}

// Submit publishes a job. Progress gets one sentence at a time.
func (c *Client) Submit(ctx context.Context, m workunits.Manifest, progress func(string)) (workunits.JobID, error) {
	out, err := receiveOne[jobBody](ctx, c, "/v1/jobs", SpecOf(m), func(p Progress) { progress(p.Text) })
	return out.Job, err
}

// Audit has the node execute up to so many accepted units of its job itself.
func (c *Client) Audit(ctx context.Context, id workunits.JobID, units int, progress func(string)) (grid.AuditReport, error) {
	return receiveOne[grid.AuditReport](ctx, c, jobRoute(id, "/audit"), map[string]int{"units": units}, func(p Progress) { progress(p.Text) })
}

// Jobs lists the jobs that the node knows.
func (c *Client) Jobs(ctx context.Context) (jobs []grid.JobInfo, err error) {
	return jobs, c.call(ctx, http.MethodGet, "/v1/jobs", nil, &jobs)
}

// Job is what the node, or the network, knows of a job.
func (c *Client) Job(ctx context.Context, id workunits.JobID) (info grid.JobInfo, err error) {
	return info, c.call(ctx, http.MethodGet, jobRoute(id, ""), nil, &info)
}

// JobWhy says why a job is where it is, and what would change it.
func (c *Client) JobWhy(ctx context.Context, id workunits.JobID) (w grid.JobWhy, err error) {
	return w, c.call(ctx, http.MethodGet, jobRoute(id, "/why"), nil, &w)
}

// Story tells how the verdict on a unit of a job came about.
func (c *Client) Story(ctx context.Context, id workunits.JobID, unit uint32) (u grid.UnitStory, err error) {
	return u, c.call(ctx, http.MethodGet, jobRoute(id, fmt.Sprintf("/units/%d", unit)), nil, &u)
}

// WaitJob returns when the job is done, failed or cancelled.
func (c *Client) WaitJob(ctx context.Context, id workunits.JobID) (info grid.JobInfo, err error) {
	return info, c.call(ctx, http.MethodGet, jobRoute(id, "/wait"), nil, &info)
}

// Ledger is what the node has of a job. Nothing of it is checked yet.
func (c *Client) Ledger(ctx context.Context, id workunits.JobID) (x workunits.Export, err error) {
	err = receive(ctx, c, http.MethodGet, jobRoute(id, "/ledger"), nil, nil, func(p LedgerPart) error {
		if p.Segment != nil {
			x.Segments = append(x.Segments, p.Segment)
		} else {
			x.Manifest, x.Standing = p.Manifest, p.Standing
		}
		return nil
	})
	return x, err
}

// Logs yields what copies of a job wrote on standard error, of all units that were
// executed on the node or of one. An error of yield ends it and is returned.
func (c *Client) Logs(ctx context.Context, id workunits.JobID, unit *uint32, yield func(grid.CopyLog) error) error {
	route := jobRoute(id, "/logs")
	if unit != nil {
		route += "?unit=" + strconv.FormatUint(uint64(*unit), 10)
	}
	return receive(ctx, c, http.MethodGet, route, nil, nil, yield)
}

// GatherResults makes one folder in the node's store of what is accepted of a job.
func (c *Client) GatherResults(ctx context.Context, id workunits.JobID, progress func(done, total int64)) (cid.Cid, error) {
	out, err := receiveOne[cidBody](ctx, c, jobRoute(id, "/gather"), nil, bytesOf(progress))
	if err != nil {
		return cid.Undef, err
	}
	return cid.Decode(out.Cid)
}

// ImportJob takes in the file at an absolute path that an export of a job wrote.
func (c *Client) ImportJob(ctx context.Context, path string, progress func(done, total int64)) (grid.ImportReport, error) {
	return receiveOne[grid.ImportReport](ctx, c, "/v1/jobs/import", addBody{path}, bytesOf(progress))
}

// Retry has the units of a job of this node tried again that have failed.
func (c *Client) Retry(ctx context.Context, id workunits.JobID) (r grid.RetryReport, err error) {
	return r, c.call(ctx, http.MethodPost, jobRoute(id, "/retry"), nil, &r)
}

// Cancel cancels a job of this node.
func (c *Client) Cancel(ctx context.Context, id workunits.JobID, reason string) error {
	var in cancelRequest
	in.Body.Reason = reason
	return c.call(ctx, http.MethodPost, jobRoute(id, "/cancel"), in.Body, &jobBody{})
}

// FreeData says that a finished job of the node is collected: nobody need keep its
// data any more.
func (c *Client) FreeData(ctx context.Context, id workunits.JobID) error {
	return c.call(ctx, http.MethodPost, jobRoute(id, "/free"), nil, &jobBody{})
}

// Results yields accepted and failed units in ascending order. An error of yield
// ends it and is returned.
func (c *Client) Results(ctx context.Context, id workunits.JobID, yield func(Result) error) error {
	return receive(ctx, c, http.MethodGet, jobRoute(id, "/results"), nil, nil, yield)
}

// Events yields what happens after the event with the given number; with a job,
// only events of that job. It returns when ctx ends, yield fails or the node
// stops; a caller resumes after the last event that it saw.
func (c *Client) Events(ctx context.Context, after uint64, job workunits.JobID, yield func(Event) error) error {
	route := "/v1/events?after=" + strconv.FormatUint(after, 10)
	if !job.IsZero() {
		route += "&job=" + job.String()
	}
	resp, err := c.do(ctx, http.MethodGet, route, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	// Each event is one data line: JSON has no line breaks.
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxBody)
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !ok {
			continue
		}
		var e Event
		if err := json.Unmarshal(data, &e); err != nil {
			return fmt.Errorf("event of the node: %w", err)
		}
		if err := yield(e); err != nil {
			return err
		}
	}
	return cutOff(ctx, lines.Err())
}

// OpenAPI is the description of the interface.
func (c *Client) OpenAPI(ctx context.Context) (doc json.RawMessage, err error) {
	return doc, c.call(ctx, http.MethodGet, "/openapi.json", nil, &doc)
}

func jobRoute(id workunits.JobID, rest string) string { return "/v1/jobs/" + id.String() + rest }

// call sends a request and decodes the one value of its answer.
func (c *Client) call(ctx context.Context, method, route string, in, out any) error {
	resp, err := c.do(ctx, method, route, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return cutOff(ctx, err)
	}
	return nil
}

// receiveOne is receive for a request whose answer has one result at most.
func receiveOne[R any](ctx context.Context, c *Client, route string, in any, progress func(Progress)) (out R, err error) {
	err = receive(ctx, c, http.MethodPost, route, in, progress, func(r R) error { out = r; return nil })
	return out, err
}

// receive sends a request and hands out the lines of its answer.
func receive[R any](ctx context.Context, c *Client, method, route string, in any, progress func(Progress), yield func(R) error) error {
	resp, err := c.do(ctx, method, route, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for d := json.NewDecoder(resp.Body); ; {
		var line Line[R]
		if err := d.Decode(&line); err != nil {
			return cutOff(ctx, err)
		}
		switch {
		case line.Problem != nil:
			return asError(line.Problem)
		case line.End:
			return nil
		case line.Progress != nil && progress != nil:
			progress(*line.Progress)
		case line.Result != nil:
			if err := yield(*line.Result); err != nil {
				return err
			}
		}
	}
}

// do returns a successful answer, or an error.
func (c *Client) do(ctx context.Context, method, route string, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	if rest, ok := strings.CutPrefix(route, "/v1/"); ok && c.at != "" {
		route = c.at + rest
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+clientHost+route, body)
	if err != nil {
		return nil, err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, unreachable(ctx, err)
	}
	if resp.StatusCode < http.StatusBadRequest {
		return resp, nil
	}
	defer resp.Body.Close()
	p := huma.ErrorModel{Title: "the node answered " + resp.Status}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/problem+json") {
		_ = json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(&p) // the title says enough
	}
	return nil, asError(&p)
}

func unreachable(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return &Error{KindNotRunning, "node not running: start it with talka up"}
	case errors.Is(err, fs.ErrPermission):
		return &Error{KindUnauthorised, "not allowed to talk to this node: its socket belongs to another user"}
	}
	return cutOff(ctx, err)
}

// cutOff explains an answer that ended early.
func cutOff(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) {
		return &Error{KindNotRunning, "the node stopped while it was answering"}
	}
	return fmt.Errorf("answer of the node: %w", err)
}
