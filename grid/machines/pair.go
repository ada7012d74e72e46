package machines

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/talka-grid/talka/workunits"
)

const (
	pairVersion = 1
	codeTime    = 10 * time.Minute
	maxTries    = 5  // wrong proofs until a code is void
	maxPairs    = 16 // pairings that are served at a time
	maxPeer     = 2  // of which one node has
	maxPairMsg  = 4 << 10
	nonceBytes  = 32
)

// Offer is a code that is good, and what its maker agrees to by giving it away.
type Offer struct {
	Code  string    `json:"code"`
	Name  string    `json:"name" doc:"What the other machine will call this one"`
	Role  Role      `json:"role" doc:"What the other machine may do here"`
	Until time.Time `json:"until"`
}

// offer is a code that this node made.
type offer struct {
	told  Offer
	code  Code
	until time.Time
	tries int
	ended chan struct{} // closed with met or err set
	met   Machine
	err   error
}

// Records of a pairing. All are bounded by maxPairMsg.
type (
	hello struct {
		Version uint64   `cbor:"v"`
		Name    string   `cbor:"name"`
		Role    Role     `cbor:"role"` // of the maker, at the joiner
		Nonce   []byte   `cbor:"nonce"`
		Addrs   []string `cbor:"addrs"`
	}
	challenge struct {
		Refused string `cbor:"refused"` // why, if so; then nothing else counts
		Name    string `cbor:"name"`
		Role    Role   `cbor:"role"` // of the joiner, at the maker
		Nonce   []byte `cbor:"nonce"`
	}
	proof struct {
		Refused string `cbor:"refused"`
		MAC     []byte `cbor:"mac"`
	}
	transcript struct {
		_             struct{} `cbor:",toarray"`
		Label         string
		Network       string
		Maker, Joiner workunits.NodeID
		Hello         hello
		Challenge     challenge
	}
)

// errNotGood is all that whoever has no good code is told.
var errNotGood = errors.New("this code is not good: it was used, withdrawn or mistyped, or is older than ten minutes; make a new one")

// mac is the proof of one side; label says whose.
func (t transcript) mac(secret []byte, label string) []byte {
	t.Label = "talka/1 pairing " + label
	h := hmac.New(sha256.New, secret)
	_, _ = h.Write(workunits.Encode(t)) // never fails
	return h.Sum(nil)
}

// Offer makes a code by which one other machine may be paired with this one, shows
// it, and waits until that has happened. The code is void when ctx ends, after ten
// minutes, and when another is made. An empty name is this node's own.
func (s *Set) Offer(ctx context.Context, name string, role Role, show func(Offer)) (Machine, error) {
	if name == "" {
		name = s.cfg.Name
	}
	if err := ValidName(name); err != nil {
		return Machine{}, err
	}
	if !role.Valid() {
		return Machine{}, fmt.Errorf("%w: no role %q: want read or control", ErrLimit, role)
	}
	o := &offer{
		code:  Code{Network: s.cfg.Network, ID: s.cfg.Self, Name: name, Role: role, secret: newSecret(secretBytes), addrs: s.addrs()},
		until: s.cfg.Now().Add(codeTime), ended: make(chan struct{}),
	}
	o.told = Offer{Code: o.code.text(), Name: name, Role: role, Until: o.until.UTC()}
	s.mu.Lock()
	if s.offer != nil {
		s.offer.end(Machine{}, fmt.Errorf("%w: a newer code was made", ErrCode))
	}
	s.offer = o
	s.mu.Unlock()
	show(o.told)
	timer := time.NewTimer(codeTime)
	defer timer.Stop()
	err := fmt.Errorf("%w: nobody used it within ten minutes", ErrCode)
	select {
	case <-o.ended:
	case <-timer.C:
	case <-ctx.Done():
		err = ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.offer == o {
		s.offer = nil
		o.end(Machine{}, err)
	}
	return o.met, o.err
}

// end is called once for each offer, with the lock of its set.
func (o *offer) end(m Machine, err error) {
	o.met, o.err = m, err
	close(o.ended)
}

// live is the code that is good now, or nil. The caller holds the lock.
func (s *Set) live() *offer {
	if o := s.offer; o != nil && s.cfg.Now().Before(o.until) {
		return o
	}
	return nil
}

// ServePair serves a stream of PairStream and ends it.
func (s *Set) ServePair(from workunits.NodeID, st Stream) {
	defer st.Close()
	if st.SetDeadline(time.Now().Add(serveTime)) != nil {
		_ = st.Reset()
		return
	}
	s.mu.Lock()
	o := s.live()
	full := len(s.pairs) >= maxPairs || s.pairs[from] >= maxPeer
	if o != nil && !full {
		s.pairs[from]++
	}
	s.mu.Unlock()
	if o == nil || full {
		_ = writeFrame(st, challenge{Refused: errNotGood.Error(), Nonce: []byte{}})
		return
	}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.pairs[from]--; s.pairs[from] == 0 {
			delete(s.pairs, from)
		}
	}()
	if err := s.servePair(from, st, o); err != nil {
		s.cfg.Log.Debug("a pairing failed", "peer", from, "err", err)
		_ = st.Reset()
	}
}

func (s *Set) servePair(from workunits.NodeID, st Stream, o *offer) error {
	h, err := readFrame[hello](st, maxPairMsg)
	if err != nil {
		return err
	}
	if err := h.check(); err != nil {
		return writeFrame(st, challenge{Refused: err.Error(), Nonce: []byte{}})
	}
	c := challenge{Name: o.told.Name, Role: o.told.Role, Nonce: newSecret(nonceBytes)}
	if err := writeFrame(st, c); err != nil {
		return err
	}
	p, err := readFrame[proof](st, maxPairMsg)
	if err != nil {
		return err
	}
	t := transcript{Network: s.cfg.Network, Maker: s.cfg.Self, Joiner: from, Hello: h, Challenge: c}
	if err := s.meet(o, t, p); err != nil {
		s.cfg.Log.Info("a pairing was refused", "peer", from, "err", err)
		why := "it could not keep the pairing; it says why itself"
		if errors.Is(err, errNotGood) || errors.Is(err, ErrLimit) {
			why = err.Error()
		}
		return writeFrame(st, proof{Refused: why, MAC: []byte{}})
	}
	return writeFrame(st, proof{MAC: t.mac(o.code.secret, "maker")})
}

func (h hello) check() error {
	if h.Version != pairVersion {
		return fmt.Errorf("%w: the machines speak different versions of pairing; update the older Talka", ErrCode)
	}
	if !h.Role.Valid() || len(h.Nonce) != nonceBytes {
		return fmt.Errorf("%w: malformed", ErrCode)
	}
	return errors.Join(ValidName(h.Name), checkAddrs(h.Addrs))
}

// meet uses the code up if the joiner's proof is right, and adds the joiner.
func (s *Set) meet(o *offer, t transcript, p proof) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live() != o {
		return errNotGood
	}
	if !hmac.Equal(p.MAC, t.mac(o.code.secret, "joiner")) {
		if o.tries++; o.tries >= maxTries {
			s.offer = nil
			o.end(Machine{}, fmt.Errorf("%w: it is void after %d wrong tries; somebody may be guessing", ErrCode, maxTries))
		}
		return errNotGood
	}
	s.offer = nil // whatever comes of it
	m, err := s.add(Machine{ID: t.Joiner, Name: t.Hello.Name, Role: o.told.Role, Gives: t.Hello.Role, Addrs: t.Hello.Addrs})
	o.end(m, err)
	return err
}

// add puts a machine that was paired by a code on the list. The caller holds the lock.
func (s *Set) add(m Machine) (Machine, error) {
	m.Since = s.cfg.Now().UTC()
	var err error
	wrote := s.change(func(k *kept) {
		if err = k.put(m); err == nil {
			k.undo(m.ID)
		}
	})
	if err != nil || wrote != nil {
		return m, errors.Join(err, wrote)
	}
	delete(s.delays, m.ID)
	m = s.kept.find(m.ID).clone()
	s.cfg.Log.Info("paired with a machine", "name", m.Name, "peer", m.ID, "role", m.Role)
	s.cfg.Tell(m.ID, m.Name+": paired; it may "+string(m.Role)+" here")
	return m, nil
}

// Join pairs this node with the maker of a code and lets it do here what role says. An
// empty name is this node's own. The error wraps ErrCode, ErrAway or ErrRefused.
func (s *Set) Join(ctx context.Context, text, name string, role Role) (Machine, error) {
	c, err := ParseCode(text)
	if err != nil {
		return Machine{}, err
	}
	if name == "" {
		name = s.cfg.Name
	}
	h := hello{Version: pairVersion, Name: name, Role: role, Nonce: newSecret(nonceBytes), Addrs: s.addrs()}
	switch {
	case c.Network != s.cfg.Network:
		return Machine{}, fmt.Errorf("%w: it is of network %q, this node is in %q; paired machines are in one network", ErrCode, c.Network, s.cfg.Network)
	case c.ID == s.cfg.Self:
		return Machine{}, fmt.Errorf("%w: it was made by this node; use it on the other machine", ErrCode)
	}
	if err := h.check(); err != nil {
		return Machine{}, err
	}
	joined, err := s.joining(c)
	if err != nil {
		return Machine{}, err
	}
	defer joined()
	ctx, cancel := context.WithTimeout(ctx, serveTime)
	defer cancel()
	st, err := s.cfg.Net.Open(ctx, c.ID, c.addrs, PairStream)
	if err != nil {
		return Machine{}, s.away(c.Name, err)
	}
	defer st.Close()
	defer context.AfterFunc(ctx, func() { _ = st.Reset() })()
	m, err := s.join(st, c, h)
	if err != nil {
		_ = st.Reset()
		return Machine{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.add(m)
}

// joining has what the maker asks wait until the pairing has ended: the maker knows that
// it succeeded before this node does.
func (s *Set) joining(c Code) (end func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.joins[c.ID] != nil {
		return nil, fmt.Errorf("%w: this node is pairing with %s already", ErrCode, c.Name)
	}
	ended := make(chan struct{})
	s.joins[c.ID] = ended
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.joins, c.ID)
		close(ended)
	}, nil
}

// join speaks the joiner's part and returns the maker.
func (s *Set) join(st Stream, c Code, h hello) (Machine, error) {
	away := func(err error) error { return s.away(c.Name, err) }
	wrote := writeFrame(st, h) // who refuses does not read
	ch, err := readFrame[challenge](st, maxPairMsg)
	if err != nil {
		return Machine{}, away(errors.Join(wrote, err))
	}
	if ch.Refused != "" {
		return Machine{}, refused(c.Name, ch.Refused)
	}
	if ValidName(ch.Name) != nil || ch.Role != c.Role || len(ch.Nonce) != nonceBytes {
		return Machine{}, fmt.Errorf("%w: %s says other than its code", ErrRefused, c.Name)
	}
	t := transcript{Network: s.cfg.Network, Maker: c.ID, Joiner: s.cfg.Self, Hello: h, Challenge: ch}
	wrote = writeFrame(st, proof{MAC: t.mac(c.secret, "joiner")})
	p, err := readFrame[proof](st, maxPairMsg)
	if err != nil {
		return Machine{}, away(errors.Join(wrote, err))
	}
	if p.Refused != "" {
		return Machine{}, refused(c.Name, p.Refused)
	}
	if !hmac.Equal(p.MAC, t.mac(c.secret, "maker")) {
		return Machine{}, fmt.Errorf("%w: %s does not know the secret of its code", ErrRefused, c.Name)
	}
	return Machine{ID: c.ID, Name: ch.Name, Role: h.Role, Gives: c.Role, Addrs: c.addrs}, nil
}
