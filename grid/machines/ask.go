package machines

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"time"

	"github.com/talka-grid/talka/workunits"
)

const (
	askVersion = 1
	askTime    = 10 * time.Second // that a request may take, all in all
	maxAsk     = 64 << 10         // bytes of a request
	maxAnswer  = 256 << 10        // bytes of an answer
	maxBusy    = 8                // streams of one machine at a time
)

// Request is one of the local interface of another machine.
type Request struct {
	Method string `cbor:"method"`
	Path   string `cbor:"path"`
	Body   []byte `cbor:"body"`
}

// Answer is what came of it: a status of HTTP, and a body that is as hostile as any
// peer's.
type Answer struct {
	Status uint64 `cbor:"status"`
	Body   []byte `cbor:"body"`
}

// asked and answered are the two frames of a stream.
type (
	asked struct {
		Version uint64  `cbor:"v"`
		Request Request `cbor:"request"`
		Words   words   `cbor:"words"` // in place of a request
	}
	answered struct {
		Version uint64 `cbor:"v"`
		Refused string `cbor:"refused"` // why, if so; then there is no answer
		Later   bool   `cbor:"later"`   // another time there may be one
		Answer  Answer `cbor:"answer"`
	}
)

func refusal(why string) answered {
	return answered{Version: askVersion, Refused: why, Answer: Answer{Body: []byte{}}}
}

func later(why string) answered {
	a := refusal(why)
	a.Later = true
	return a
}

// refused is the error for what a machine said instead of an answer.
func refused(name, why string) error {
	return fmt.Errorf("%w by %s: %s", ErrRefused, name, why[:min(len(why), maxRefusal)])
}

// notPaired is all that a stranger learns.
const notPaired = "the machines are not paired, or no longer"

// ServeOwner serves a stream of OwnerStream and ends it.
func (s *Set) ServeOwner(from workunits.NodeID, st Stream) {
	defer st.Close()
	if st.SetDeadline(time.Now().Add(serveTime)) != nil {
		_ = st.Reset()
		return
	}
	s.mu.Lock()
	joined := s.joins[from]
	if s.kept.find(from) == nil && joined == nil {
		s.mu.Unlock()
		_ = writeFrame(st, refusal(notPaired)) // what it asks is not even read
		return
	}
	if s.busy[from] >= maxBusy {
		s.mu.Unlock()
		_ = writeFrame(st, later("too many requests at a time"))
		return
	}
	s.busy[from]++
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.busy[from]--; s.busy[from] == 0 {
			delete(s.busy, from)
		}
	}()
	if joined != nil {
		<-joined // it has this node on its list already, and this node has it in a moment
	}
	s.back(from)
	q, err := readFrame[asked](st, maxAsk)
	if err != nil {
		_ = st.Reset()
		return
	}
	a := s.serve(from, q)
	if len(a.Answer.Body) > maxAnswer {
		a = refusal("the answer is too large")
	}
	if writeFrame(st, a) != nil {
		_ = st.Reset()
	}
}

// serve answers what was read. What a machine may do is what it may do now, not when it
// opened the stream.
func (s *Set) serve(from workunits.NodeID, q asked) answered {
	m, err := s.Machine(from)
	s.mu.Lock()
	answer := s.answer
	s.mu.Unlock()
	switch {
	case err != nil:
		return refusal(notPaired)
	case q.Version != askVersion:
		return later("the machines speak different versions; update the older Talka")
	case !q.Words.empty():
		switch err := s.hear(m, q.Words); {
		case errors.Is(err, errNotKept):
			return later(err.Error())
		case err != nil:
			return refusal(err.Error())
		}
		return answered{Version: askVersion, Answer: Answer{Status: http.StatusOK, Body: []byte{}}}
	case answer == nil:
		return later("the node is starting; try again")
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	a := answer(ctx, m.Role, q.Request)
	if q.Request.Method != http.MethodGet && a.Status < http.StatusBadRequest {
		s.cfg.Log.Info("a paired machine changed something", "name", m.Name, "peer", m.ID, "role", m.Role, "path", q.Request.Path)
		s.cfg.Tell(m.ID, m.Name+": "+path.Base(q.Request.Path))
	}
	return answered{Version: askVersion, Answer: a}
}

// Ask sends a request to a machine. The error wraps ErrUnknown, ErrAway, or ErrRefused
// if the machine does not answer this node.
func (s *Set) Ask(ctx context.Context, id workunits.NodeID, r Request) (Answer, error) {
	m, err := s.Machine(id)
	if err != nil {
		return Answer{}, err
	}
	if r.Body == nil {
		r.Body = []byte{}
	}
	return s.send(ctx, m, asked{Version: askVersion, Request: r})
}

func (s *Set) send(ctx context.Context, m Machine, q asked) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	away := func(err error) (Answer, error) { return Answer{}, s.away(m.Name, err) }
	st, err := s.cfg.Net.Open(ctx, m.ID, m.Addrs, OwnerStream)
	if err != nil {
		return away(err)
	}
	defer st.Close()
	defer context.AfterFunc(ctx, func() { _ = st.Reset() })()
	if err := st.SetDeadline(time.Now().Add(askTime)); err != nil {
		return away(err)
	}
	wrote := writeFrame(st, q) // who refuses does not read
	a, err := readFrame[answered](st, maxAnswer+1<<10)
	switch {
	case err != nil:
		_ = st.Reset()
		return away(errors.Join(wrote, err))
	case a.Version != askVersion:
		return Answer{}, fmt.Errorf("%s %w: it speaks another version of Talka", m.Name, ErrAway)
	case a.Refused != "" && a.Later:
		return Answer{}, fmt.Errorf("%s %w: %s", m.Name, ErrAway, a.Refused[:min(len(a.Refused), maxRefusal)])
	case a.Refused != "":
		return Answer{}, refused(m.Name, a.Refused)
	}
	s.back(m.ID)
	return a.Answer, nil
}

// away is the error for a machine that cannot be reached. Why not is for the log: it
// names every address that was tried.
func (s *Set) away(name string, err error) error {
	s.cfg.Log.Debug("a machine does not answer", "name", name, "err", err)
	return fmt.Errorf("%s %w", name, ErrAway)
}

// maxRefusal bounds what a machine may say instead of an answer.
const maxRefusal = 1 << 10

// Seen notes where a machine says that it is, if it is nowhere any more where it was.
func (s *Set) Seen(id workunits.NodeID, addrs []string) error {
	addrs = addrs[:min(len(addrs), maxAddrs)]
	if err := checkAddrs(addrs); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.kept.find(id)
	still := func(a string) bool { return slices.Contains(addrs, a) }
	if m == nil || len(addrs) == 0 || slices.ContainsFunc(m.Addrs, still) {
		return nil
	}
	return s.change(func(k *kept) { k.find(id).Addrs = slices.Clone(addrs) })
}
