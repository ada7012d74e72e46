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
	"github.com/talka-grid/talka/workunits"
)

// Event is what happened on the node; the number of the server-sent event is its
// Seq.
type Event = grid.Event

type (
	none           struct{}
	answer[T any]  struct{ Body T }
	request[T any] struct{ Body T }
	jobPath        struct {
		ID workunits.JobID `path:"id" doc:"Job id"`
	}
	unitPath struct {
		ID   workunits.JobID `path:"id" doc:"Job id"`
		Unit uint32          `path:"unit" doc:"Number of the unit, from 0"`
	}
	projectPath struct {
		Project workunits.ProjectID `path:"project" doc:"NAME@NODE"`
	}
	shareBody struct {
		Share int `json:"share" minimum:"1" maximum:"100" doc:"Of two projects with work, one with twice the share gets twice the processor time"`
	}
	shareRequest struct {
		Project workunits.ProjectID `path:"project" doc:"NAME@NODE"`
		Body    shareBody
	}
	inviteBody struct {
		Invite string `json:"invite" maxLength:"4096"`
	}
	projectBody struct {
		Project workunits.ProjectID `json:"project"`
	}
	projectNameBody struct {
		Name string `json:"name"`
	}
	jobBody struct {
		Job workunits.JobID `json:"job"`
	}
	pauseBody struct {
		Seconds float64 `json:"seconds" minimum:"0" maximum:"31536000" doc:"0: until it is resumed"`
	}
	addBody struct {
		Path string `json:"path" maxLength:"4096" doc:"Absolute path on the node's machine"`
	}
	auditRequest struct {
		ID   workunits.JobID `path:"id" doc:"Job id"`
		Body struct {
			Units int `json:"units" minimum:"1" maximum:"1000000" doc:"How many at most"`
		}
	}
	cancelRequest struct {
		ID   workunits.JobID `path:"id" doc:"Job id"`
		Body struct {
			Reason string `json:"reason" maxLength:"1024"`
		}
	}
	getBody struct {
		Cid     string  `json:"cid"`
		Dest    string  `json:"dest" maxLength:"4096" doc:"Absolute path on the node's machine; must not exist"`
		Timeout float64 `json:"timeout" exclusiveMinimum:"0" maximum:"31536000" doc:"Seconds without progress"`
	}
	eventsRequest struct {
		After  uint64 `query:"after" doc:"Number of the last event seen"`
		LastID uint64 `header:"Last-Event-ID"`
		Job    string `query:"job" doc:"Only events of this job"`
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

// LedgerPart is a piece of a job, in its own encoding: its manifest and
// standing, or a segment of its ledger.
type LedgerPart struct {
	Manifest []byte `json:"manifest,omitempty"`
	Standing []byte `json:"standing,omitempty"`
	Segment  []byte `json:"segment,omitempty"`
}

func op(id, method, path string, scope Scope, summary string) huma.Operation {
	return huma.Operation{
		OperationID: id, Method: method, Path: path, Summary: summary,
		Metadata: map[string]any{scopeKey: scope},
		// guard has bounded the body already; huma's deadline would cancel
		// whatever runs longer.
		BodyReadTimeout: -1, MaxBodyBytes: maxBody,
		Errors: []int{http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound, http.StatusInternalServerError},
	}
}

// get and post register operations that answer with one value.
func get[I, O any](h huma.API, id, path string, scope Scope, summary string, f func(context.Context, *I) (O, error)) {
	register(h, op(id, http.MethodGet, path, scope, summary), f)
}

func post[I, O any](h huma.API, id, path string, scope Scope, summary string, f func(context.Context, *I) (O, error)) {
	register(h, op(id, http.MethodPost, path, scope, summary), f)
}

func register[I, O any](h huma.API, o huma.Operation, f func(context.Context, *I) (O, error)) {
	huma.Register(h, o, func(ctx context.Context, in *I) (*answer[O], error) {
		out, err := f(ctx, in)
		if err != nil {
			return nil, problem(err)
		}
		return &answer[O]{out}, nil
	})
}

func (s *Server) routes(h huma.API) {
	s.nodeRoutes(h)
	s.networkRoutes(h)
	s.projectRoutes(h)
	s.jobRoutes(h)
	s.dataRoutes(h)
	s.unitRoutes(h)
	s.settingRoutes(h)
	s.impactRoutes(h)
	s.eventRoutes(h)
	s.pageRoutes(h)
	s.tokenRoutes(h)
}

func (s *Server) nodeRoutes(h huma.API) {
	get(h, "status", "/v1/status", ScopeRead, "What the node is doing, and why", func(context.Context, *none) (grid.Status, error) {
		return s.status(), nil
	})
	get(h, "peers", "/v1/peers", ScopeRead, "Connected peers", func(context.Context, *none) ([]grid.PeerInfo, error) {
		peers := s.node.Peers()
		for i := range peers {
			peers[i].Addrs = notNull(peers[i].Addrs)
		}
		return notNull(peers), nil
	})
	post(h, "invite", "/v1/invite", ScopeControl, "Make an invite to this network", func(context.Context, *none) (inviteBody, error) {
		invite, err := s.node.Invite()
		return inviteBody{invite}, err
	})
	post(h, "join", "/v1/join", ScopeControl, "Join by an invite", func(ctx context.Context, in *request[inviteBody]) (grid.Status, error) {
		err := s.node.Join(ctx, in.Body.Invite)
		return s.status(), err
	})
	post(h, "pause", "/v1/pause", ScopeControl, "Stop executing units", func(_ context.Context, in *request[pauseBody]) (grid.Status, error) {
		s.node.Pause(time.Duration(in.Body.Seconds * float64(time.Second)))
		return s.status(), nil
	})
	post(h, "finish", "/v1/finish", ScopeControl, "Finish the units that run and begin no other until resumed", func(context.Context, *none) (grid.Status, error) {
		s.node.Finish()
		return s.status(), nil
	})
	stream(h, op("sample", http.MethodPost, "/v1/sample", ScopeControl, "Execute units whose result is known, for 20 seconds"),
		func(ctx context.Context, _ *none, out *lines[grid.SampleReport]) error {
			r, err := s.node.Sample(ctx, out.bytes)
			if err != nil {
				return err
			}
			return out.result(r)
		})
	get(h, "presets", "/v1/presets", ScopeRead, "What the presets give of this machine", func(context.Context, *none) ([]PresetInfo, error) {
		return s.presets()
	})
	get(h, "why", "/v1/why", ScopeRead, "Why the node does what it does, what would change it, and the latest decisions", func(context.Context, *none) (grid.Why, error) {
		w := s.node.Why()
		w.Rules, w.Decisions, w.Executions = notNull(w.Rules), notNull(w.Decisions), notNull(w.Executions)
		return w, nil
	})
	post(h, "resume", "/v1/resume", ScopeControl, "Execute units again", func(context.Context, *none) (grid.Status, error) {
		s.node.Resume()
		return s.status(), nil
	})
}

func (s *Server) status() grid.Status {
	st := s.node.Status()
	st.Addrs = notNull(st.Addrs)
	return st
}

func (s *Server) projectRoutes(h huma.API) {
	get(h, "projects", "/v1/projects", ScopeRead, "Projects published, trusted or heard of", func(context.Context, *none) ([]grid.ProjectInfo, error) {
		return notNull(s.node.Projects()), nil
	})
	get(h, "project", "/v1/projects/{project}", ScopeRead, "A project and its jobs, the newest first", func(ctx context.Context, in *projectPath) (grid.ProjectDetail, error) {
		d, err := s.node.Project(ctx, in.Project)
		d.Jobs = notNull(d.Jobs)
		return d, err
	})
	post(h, "new-project", "/v1/projects", ScopePublish, "Make a project", func(_ context.Context, in *request[projectNameBody]) (projectBody, error) {
		p, err := s.node.NewProject(in.Body.Name)
		return projectBody{p}, err
	})
	trust := func(yes bool) func(context.Context, *projectPath) (projectBody, error) {
		return func(_ context.Context, in *projectPath) (projectBody, error) {
			return projectBody{in.Project}, s.node.Trust(in.Project, yes)
		}
	}
	post(h, "trust-project", "/v1/projects/{project}/trust", ScopeControl, "Execute units of a project", trust(true))
	post(h, "share-project", "/v1/projects/{project}/share", ScopeControl, "Execute units of a project, with a share of processor time", func(_ context.Context, in *shareRequest) (projectBody, error) {
		return projectBody{in.Project}, s.node.SetShare(in.Project, in.Body.Share)
	})
	post(h, "revoke-project", "/v1/projects/{project}/revoke", ScopeControl, "Execute no more units of a project", trust(false))
}

func (s *Server) jobRoutes(h huma.API) {
	get(h, "jobs", "/v1/jobs", ScopeRead, "Jobs that this node knows", func(context.Context, *none) ([]grid.JobInfo, error) {
		jobs := notNull(s.node.Jobs())
		for i := range jobs {
			jobs[i] = jobNotNull(jobs[i])
		}
		return jobs, nil
	})
	stream(h, op("submit-job", http.MethodPost, "/v1/jobs", ScopePublish, "Publish a job; its program and inputs are in the store"),
		func(ctx context.Context, in *request[JobSpec], out *lines[jobBody]) error {
			m, err := in.Body.Manifest()
			if err != nil {
				return err
			}
			id, err := s.node.Submit(ctx, m, out.text)
			if err != nil {
				return err
			}
			return out.result(jobBody{id})
		})
	get(h, "job", "/v1/jobs/{id}", ScopeRead, "A job, looked up on the network if need be", func(ctx context.Context, in *jobPath) (grid.JobInfo, error) {
		info, err := s.node.Job(ctx, in.ID)
		return jobNotNull(info), err
	})
	stream(h, op("ledger", http.MethodGet, "/v1/jobs/{id}/ledger", ScopeRead, "The signed manifest with the table of stakes that it names, then the ledger's segments, as far as they are here"),
		func(ctx context.Context, in *jobPath, out *lines[LedgerPart]) error {
			x, err := s.node.Ledger(ctx, in.ID)
			if err == nil {
				err = out.result(LedgerPart{Manifest: x.Manifest, Standing: x.Standing})
			}
			for _, b := range x.Segments {
				if err == nil {
					err = out.result(LedgerPart{Segment: b})
				}
			}
			return err
		})
	get(h, "wait-job", "/v1/jobs/{id}/wait", ScopeRead, "The job, once it is done, failed or cancelled", func(ctx context.Context, in *jobPath) (grid.JobInfo, error) {
		info, err := s.node.WaitJob(ctx, in.ID)
		return jobNotNull(info), err
	})
	get(h, "unit", "/v1/jobs/{id}/units/{unit}", ScopeRead, "How the verdict on a unit came about", func(ctx context.Context, in *unitPath) (grid.UnitStory, error) {
		return s.node.Story(ctx, in.ID, in.Unit)
	})
	stream(h, op("audit-job", http.MethodPost, "/v1/jobs/{id}/audit", ScopePublish, "Execute accepted units of a job of this node here, those most in doubt first"),
		func(ctx context.Context, in *auditRequest, out *lines[grid.AuditReport]) error {
			r, err := s.node.Audit(ctx, in.ID, in.Body.Units, out.text)
			if err != nil {
				return err
			}
			return out.result(r)
		})
	post(h, "cancel-job", "/v1/jobs/{id}/cancel", ScopePublish, "Cancel a job of this node", func(ctx context.Context, in *cancelRequest) (jobBody, error) {
		return jobBody{in.ID}, s.node.Cancel(ctx, in.ID, in.Body.Reason)
	})
	stream(h, op("results", http.MethodGet, "/v1/jobs/{id}/results", ScopeRead, "Accepted results in unit order"),
		func(ctx context.Context, in *jobPath, out *lines[Result]) error {
			return s.node.Results(ctx, in.ID, func(u grid.UnitResult) error { return out.result(resultOf(u)) })
		})
}

func (s *Server) dataRoutes(h huma.API) {
	get(h, "data", "/v1/data", ScopeRead, "What the store holds, and why", func(ctx context.Context, _ *none) (grid.DataInfo, error) {
		info, err := s.node.DataInfo(ctx)
		info.Reasons = notNull(info.Reasons)
		return info, err
	})
	stream(h, op("add-data", http.MethodPost, "/v1/data/add", ScopeFiles, "Add a file or folder to the store"),
		func(ctx context.Context, in *request[addBody], out *lines[Added]) error {
			if !filepath.IsAbs(in.Body.Path) {
				return &Error{KindRequest, "path must be absolute"}
			}
			c, bytes, chunks, err := s.node.AddData(ctx, in.Body.Path, out.bytes)
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
			func(ctx context.Context, in *request[getBody], out *lines[none]) error {
				return getData(ctx, way.get, in.Body, out.bytes)
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
}

// getter is how a node writes content to a file.
type getter func(ctx context.Context, c cid.Cid, dest string, timeout time.Duration, progress func(done, total int64)) error

// getData gives up when no byte has arrived for timeout.
func getData(ctx context.Context, get getter, in getBody, progress func(done, total int64)) error {
	c, err := parseCid(in.Cid)
	if err != nil {
		return err
	}
	if !filepath.IsAbs(in.Dest) {
		return &Error{KindRequest, "dest must be absolute"}
	}
	timeout := time.Duration(in.Timeout * float64(time.Second))
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := fmt.Errorf("get %s: nothing arrived for %v: %w", c, timeout, grid.ErrTimeout)
	watchdog := time.AfterFunc(timeout, func() { cancel(stalled) })
	defer watchdog.Stop()
	var mu sync.Mutex
	var most int64
	err = get(ctx, c, in.Dest, 0, func(done, total int64) {
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

func (s *Server) eventRoutes(h huma.API) {
	o := op("events", http.MethodGet, "/v1/events", ScopeRead, "What happens on the node, as server-sent events")
	events(h, o, func(ctx context.Context, in *eventsRequest, send func(Event) error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel() // the node stops sending
		for e := range s.node.Events(ctx, max(in.After, in.LastID)) {
			if in.Job != "" && e.Job.String() != in.Job {
				continue
			}
			if send(e) != nil {
				return // the client is gone
			}
		}
	})
}

func jobNotNull(j grid.JobInfo) grid.JobInfo {
	j.Stewards = notNull(j.Stewards)
	j.Faults = notNull(j.Faults)
	return j
}

// notNull makes an empty list of a missing one: clients need not care.
func notNull[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
