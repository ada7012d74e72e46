package api

import (
	"context"
	"net/http"
	"path/filepath"
	"time"

	"github.com/danielgtaylor/huma/v2"

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
	inviteRequest struct {
		Seconds int64            `query:"seconds" minimum:"0" maximum:"34560000" doc:"How long it is valid; 0: as long as is usual"`
		To      workunits.NodeID `query:"to" doc:"In a private network: the only node that may use it"`
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
	auditRequest struct {
		ID   workunits.JobID `path:"id" doc:"Job id"`
		Body struct {
			Units int `json:"units" minimum:"1" maximum:"1000000" doc:"How many at most"`
		}
	}
	cancelRequest struct {
		ID   workunits.JobID `path:"id" doc:"Job id"`
		Body struct {
			Reason string `json:"reason" maxLength:"128"`
		}
	}
	logsRequest struct {
		ID   workunits.JobID `path:"id" doc:"Job id"`
		Unit int64           `query:"unit" default:"-1" minimum:"-1" maximum:"10000000" doc:"Number of the unit, from 0; -1: every one"`
	}
	eventsRequest struct {
		After  uint64 `query:"after" doc:"Number of the last event seen"`
		LastID uint64 `header:"Last-Event-ID"`
		Job    string `query:"job" doc:"Only events of this job"`
	}
)

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
	s.diagnosisRoutes(h)
	s.projectRoutes(h)
	s.jobRoutes(h)
	s.jobFileRoutes(h)
	s.dataRoutes(h)
	s.unitRoutes(h)
	s.settingRoutes(h)
	s.impactRoutes(h)
	s.eventRoutes(h)
	s.pageRoutes(h)
	s.tokenRoutes(h)
	s.desktopRoutes(h)
	s.machineRoutes(h)
}

func (s *Server) nodeRoutes(h huma.API) {
	mirror(s, h, mirrored{"status", http.MethodGet, "status", ScopeRead, "What the node is doing, and why"}, statusNotNull, func(context.Context) (grid.Status, error) {
		return s.node.Status(), nil
	})
	get(h, "peers", "/v1/peers", ScopeRead, "Connected peers", func(context.Context, *none) ([]grid.PeerInfo, error) {
		peers := s.node.Peers()
		for i := range peers {
			peers[i].Addrs = notNull(peers[i].Addrs)
		}
		return notNull(peers), nil
	})
	post(h, "invite", "/v1/invite", ScopeControl, "Make an invite to this network", func(_ context.Context, in *inviteRequest) (inviteBody, error) {
		invite, err := s.node.Invite(time.Duration(in.Seconds)*time.Second, in.To)
		return inviteBody{invite}, err
	})
	post(h, "join", "/v1/join", ScopeControl, "Join by an invite", func(ctx context.Context, in *request[inviteBody]) (grid.Status, error) {
		err := s.node.Join(ctx, in.Body.Invite)
		return statusNotNull(s.node.Status()), err
	})
	mirrorBody(s, h, mirrored{"pause", http.MethodPost, "pause", ScopeControl, "Stop executing units"}, statusNotNull, func(_ context.Context, in pauseBody) (grid.Status, error) {
		s.node.Pause(time.Duration(in.Seconds * float64(time.Second)))
		return s.node.Status(), nil
	})
	mirror(s, h, mirrored{"finish", http.MethodPost, "finish", ScopeControl, "Finish the units that run and begin no other until resumed"}, statusNotNull, func(context.Context) (grid.Status, error) {
		s.node.Finish()
		return s.node.Status(), nil
	})
	mirror(s, h, mirrored{"save", http.MethodPost, "save", ScopeControl, "Pause as soon as the units that run have saved their state or are finished"}, statusNotNull, func(context.Context) (grid.Status, error) {
		s.node.Save()
		return s.node.Status(), nil
	})
	stream(h, op("sample", http.MethodPost, "/v1/sample", ScopeControl, "Execute units whose result is known, for 20 seconds"),
		func(ctx context.Context, _ *none, out *lines[grid.SampleReport]) error {
			r, err := s.node.Sample(ctx, out.bytes)
			if err != nil {
				return err
			}
			return out.result(r)
		})
	mirror(s, h, mirrored{"presets", http.MethodGet, "presets", ScopeRead, "What the presets give of this machine"}, notNull, func(context.Context) ([]PresetInfo, error) {
		return s.presets()
	})
	mirror(s, h, mirrored{"why", http.MethodGet, "why", ScopeRead, "Why the node does what it does, what would change it, and the latest decisions"}, whyNotNull, func(context.Context) (grid.Why, error) {
		return s.node.Why(), nil
	})
	mirror(s, h, mirrored{"resume", http.MethodPost, "resume", ScopeControl, "Execute units again"}, statusNotNull, func(context.Context) (grid.Status, error) {
		s.node.Resume()
		return s.node.Status(), nil
	})
}

func statusNotNull(st grid.Status) grid.Status {
	st.Addrs, st.Said = notNull(st.Addrs), notNull(st.Said)
	return st
}

func whyNotNull(w grid.Why) grid.Why {
	w.Said, w.Rules, w.Decisions, w.Executions = notNull(w.Said), notNull(w.Rules), notNull(w.Decisions), notNull(w.Executions)
	return w
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
	mirror(s, h, mirrored{"jobs", http.MethodGet, "jobs", ScopeRead, "Jobs that this node knows"}, jobsNotNull, func(context.Context) ([]grid.JobInfo, error) {
		return s.node.Jobs(), nil
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
	get(h, "job-why", "/v1/jobs/{id}/why", ScopeRead, "Why a job is where it is, what would change it, and who may execute its units", func(ctx context.Context, in *jobPath) (grid.JobWhy, error) {
		return s.node.JobWhy(ctx, in.ID)
	})
	stream(h, op("audit-job", http.MethodPost, "/v1/jobs/{id}/audit", ScopePublish, "Execute accepted units of a job of this node here, those most in doubt first"),
		func(ctx context.Context, in *auditRequest, out *lines[grid.AuditReport]) error {
			r, err := s.node.Audit(ctx, in.ID, in.Body.Units, out.text)
			if err != nil {
				return err
			}
			return out.result(r)
		})
	post(h, "retry-job", "/v1/jobs/{id}/retry", ScopePublish, "Try the units of a job of this node again that have failed", func(ctx context.Context, in *jobPath) (grid.RetryReport, error) {
		return s.node.Retry(ctx, in.ID)
	})
	post(h, "cancel-job", "/v1/jobs/{id}/cancel", ScopePublish, "Cancel a job of this node", func(ctx context.Context, in *cancelRequest) (jobBody, error) {
		return jobBody{in.ID}, s.node.Cancel(ctx, in.ID, in.Body.Reason)
	})
	stream(h, op("results", http.MethodGet, "/v1/jobs/{id}/results", ScopeRead, "Accepted results in unit order"),
		func(ctx context.Context, in *jobPath, out *lines[Result]) error {
			return s.node.Results(ctx, in.ID, func(u grid.UnitResult) error { return out.result(resultOf(u)) })
		})
}

// jobFileRoutes are about what jobs leave in files.
func (s *Server) jobFileRoutes(h huma.API) {
	stream(h, op("logs", http.MethodGet, "/v1/jobs/{id}/logs", ScopeRead, "What copies executed here wrote on standard error; of a unit of this node's job, what its volunteers tell, too"),
		func(ctx context.Context, in *logsRequest, out *lines[grid.CopyLog]) error {
			var unit *uint32
			if in.Unit >= 0 {
				u := uint32(in.Unit)
				unit = &u
			}
			return s.node.Logs(ctx, in.ID, unit, out.result)
		})
	stream(h, op("gather-results", http.MethodPost, "/v1/jobs/{id}/gather", ScopeFiles, "Make one folder in the store of the accepted results of a job"),
		func(ctx context.Context, in *jobPath, out *lines[cidBody]) error {
			root, err := s.node.GatherResults(ctx, in.ID, out.bytes)
			if err != nil {
				return err
			}
			return out.result(cidBody{root.String()})
		})
	stream(h, op("import-job", http.MethodPost, "/v1/jobs/import", ScopeFiles, "Take in a job from a file that an export wrote"),
		func(ctx context.Context, in *request[addBody], out *lines[grid.ImportReport]) error {
			if !filepath.IsAbs(in.Body.Path) {
				return &Error{KindRequest, "path must be absolute"}
			}
			r, err := s.node.ImportJob(ctx, in.Body.Path, out.bytes)
			if err != nil {
				return err
			}
			return out.result(r)
		})
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

func jobsNotNull(jobs []grid.JobInfo) []grid.JobInfo {
	jobs = notNull(jobs)
	for i := range jobs {
		jobs[i] = jobNotNull(jobs[i])
	}
	return jobs
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
