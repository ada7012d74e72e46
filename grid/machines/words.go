package machines

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/talka-grid/talka/workunits"
)

const (
	maxWords   = 32               // removals or introductions at a time
	wordBytes  = 16               // of a removal's number
	firstDelay = 5 * time.Second  // until somebody who was away is tried again; then twice that
	lastDelay  = 30 * time.Minute // at last
	untoldTime = 400 * 24 * time.Hour
	lostTime   = 30 * 24 * time.Hour // for who was removed: it has lost already
)

// words are what a machine tells another of others.
type words struct {
	Removed    []removed    `cbor:"removed"`
	Introduced []introduced `cbor:"introduced"`
}

func (w words) empty() bool { return len(w.Removed) == 0 && len(w.Introduced) == 0 }

type removed struct {
	ID   workunits.NodeID `cbor:"id"`
	Word string           `cbor:"word"` // hex
}

type introduced struct {
	ID    workunits.NodeID `cbor:"id"`
	Name  string           `cbor:"name"`
	Role  Role             `cbor:"role"`  // that it may have at most
	Gives Role             `cbor:"gives"` // that it is told to give
	Addrs []string         `cbor:"addrs"`
}

// delay is when somebody who was away is tried again.
type delay struct {
	wait time.Duration
	next time.Time
}

// Remove cuts a machine off, and those that it introduced. It returns them, and the
// machines at which the owner must do the same, since they let this node only look.
func (s *Set) Remove(id workunits.NodeID) (gone, deaf []Machine, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept.find(id) == nil {
		return nil, nil, fmt.Errorf("%w: %s", ErrUnknown, id)
	}
	err = s.change(func(k *kept) {
		gone = k.drop(id)
		k.tell(id, newWord(), s.cfg.Now().UTC())
	})
	if err != nil {
		return nil, nil, err
	}
	for _, m := range s.kept.list() {
		if m.Gives != RoleControl {
			deaf = append(deaf, m)
		}
	}
	s.cfg.Log.Info("cut machines off", "names", short(gone))
	s.cfg.Tell(id, short(gone)+": cut off")
	s.signal()
	return gone, deaf, nil
}

// Leave ends all pairings of this node, and tells the other machines.
func (s *Set) Leave() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.change(func(k *kept) {
		k.tell(s.cfg.Self, newWord(), s.cfg.Now().UTC(), s.cfg.Self)
		k.Machines = nil
	})
	s.signal()
	return err
}

func newWord() string { return hex.EncodeToString(newSecret(wordBytes)) }

// Introduction is what came of introducing all machines to one of them.
type Introduction struct {
	Machine Machine `json:"machine"`
	Error   string  `json:"error,omitempty"`
}

// Introduce makes all machines known to each other, none with more than its role here.
func (s *Set) Introduce(ctx context.Context) []Introduction {
	list := s.List()
	told := make([]Introduction, len(list))
	done := make(chan struct{})
	for i, to := range list {
		told[i].Machine = to
		go func() {
			defer func() { done <- struct{}{} }()
			var w words
			for _, m := range list {
				if m.ID != to.ID {
					w.Introduced = append(w.Introduced, introduced{m.ID, m.Name, m.Role, to.Role, m.Addrs})
				}
			}
			for part := range slices.Chunk(w.Introduced, maxWords) {
				if _, err := s.send(ctx, to, asked{Version: askVersion, Request: Request{Body: []byte{}}, Words: words{Introduced: part}}); err != nil {
					told[i].Error = err.Error()
					return
				}
			}
		}()
	}
	for range list {
		<-done
	}
	return told
}

// errNotKept is what a machine is told that shall say its words again later.
var errNotKept = errors.New("it could not be kept; the machine's log says why")

// hear takes in what a machine on the list said.
func (s *Set) hear(from Machine, w words) error {
	if len(w.Removed) > maxWords || len(w.Introduced) > maxWords {
		return fmt.Errorf("%w: at most %d words at a time", ErrLimit, maxWords)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// What it may do is what it may do now.
	if known := s.kept.find(from.ID); known == nil {
		return errors.New(notPaired)
	} else if from = known.clone(); from.Role != RoleControl {
		// Whoever may only look may still go.
		w.Removed = slices.DeleteFunc(w.Removed, func(r removed) bool { return r.ID != s.cfg.Self && r.ID != from.ID })
		if w.empty() || len(w.Introduced) > 0 {
			return errors.New("this machine lets you only look: remove and introduce machines at it yourself")
		}
	}
	for _, r := range w.Removed {
		if b, err := hex.DecodeString(r.Word); err != nil || len(b) != wordBytes || r.ID.IsZero() {
			return fmt.Errorf("%w: malformed word", ErrLimit)
		}
	}
	for _, i := range w.Introduced {
		if err := errors.Join(ValidName(i.Name), checkAddrs(i.Addrs)); err != nil || !i.Role.Valid() || !i.Gives.Valid() || i.ID.IsZero() {
			return fmt.Errorf("%w: malformed introduction", ErrLimit)
		}
	}
	var gone []Machine
	err := s.change(func(k *kept) {
		for _, r := range w.Removed {
			switch {
			case k.heard(r.Word):
			case r.ID == s.cfg.Self:
				gone = append(gone, k.drop(from.ID)...)
			default:
				gone = append(gone, k.drop(r.ID)...)
				k.tell(r.ID, r.Word, s.cfg.Now().UTC(), from.ID)
			}
		}
		for _, i := range w.Introduced {
			if i.ID != s.cfg.Self && k.find(i.ID) == nil && !k.removed(i.ID) && k.find(from.ID) != nil {
				// With the list full, the introduction is passed over like others that this machine does not follow.
				_ = k.put(Machine{ID: i.ID, Name: i.Name, Role: i.Role, Gives: i.Gives, Since: s.cfg.Now().UTC(), By: from.ID, Addrs: i.Addrs})
			}
		}
	})
	if err != nil {
		s.cfg.Log.Warn("what another machine said is not kept", "name", from.Name, "err", err)
		return errNotKept
	}
	if len(gone) > 0 {
		s.cfg.Log.Info("machines were cut off by another", "by", from.Name, "names", short(gone))
		s.cfg.Tell(from.ID, short(gone)+": cut off by "+from.Name)
	}
	s.signal()
	return nil
}

// Run tells removals to whom they concern, as soon as each can be reached, until ctx
// ends.
func (s *Set) Run(ctx context.Context) error {
	for {
		wait := s.tellAll(ctx)
		timer := time.NewTimer(wait)
		select {
		case <-s.wake:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		timer.Stop()
	}
}

// tellAll tells who is due and returns when the next one is.
func (s *Set) tellAll(ctx context.Context) (wait time.Duration) {
	wait = lastDelay
	for _, to := range s.due(&wait) {
		if ctx.Err() != nil {
			return wait
		}
		s.mu.Lock()
		list := s.kept.untold(to.ID)
		s.mu.Unlock()
		if len(list) == 0 {
			continue
		}
		_, err := s.send(ctx, to, asked{Version: askVersion, Request: Request{Body: []byte{}}, Words: words{Removed: list}})
		if err != nil && !errors.Is(err, ErrRefused) {
			wait = min(wait, s.later(to.ID))
			continue
		}
		s.mu.Lock()
		err = s.change(func(k *kept) { k.told(to.ID, list) })
		s.mu.Unlock()
		if err != nil {
			s.cfg.Log.Warn("what machines were told is not kept", "err", err)
			return min(wait, s.later(to.ID))
		}
		if len(list) == maxWords {
			wait = 0 // there may be more
		}
	}
	return wait
}

// due are those that have something to hear now; wait becomes shorter if others have
// it soon.
func (s *Set) due(wait *time.Duration) (list []Machine) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, r := range s.kept.Removals {
		for _, id := range r.Untold {
			if age := s.cfg.Now().Sub(r.At); age > untoldTime || id == r.ID && age > lostTime {
				continue // nobody is looked for for ever
			}
			if slices.ContainsFunc(list, func(m Machine) bool { return m.ID == id }) {
				continue
			}
			if d := s.delays[id]; d != nil && now.Before(d.next) {
				*wait = min(*wait, d.next.Sub(now))
				continue
			}
			m := Machine{ID: id, Name: "a removed machine"} // who was removed is on no list
			if known := s.kept.find(id); known != nil {
				m = known.clone()
			}
			list = append(list, m)
		}
	}
	return list
}

// later puts off somebody who is away, and returns for how long.
func (s *Set) later(id workunits.NodeID) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.delays[id]
	if d == nil {
		d = &delay{wait: firstDelay / 2}
		s.delays[id] = d
	}
	d.wait = min(2*d.wait, lastDelay)
	d.next = time.Now().Add(d.wait)
	return d.wait
}

// back notes that a machine is there: whatever waits for it is told now.
func (s *Set) back(id workunits.NodeID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.delays[id] != nil {
		delete(s.delays, id)
		s.signal()
	}
}

func (s *Set) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
