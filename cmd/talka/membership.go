package main

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/talka-grid/talka/chunkstore/whole"
	"github.com/talka-grid/talka/configs"
	"github.com/talka-grid/talka/grid/phrase"
	"github.com/talka-grid/talka/p2p"
	"github.com/talka-grid/talka/p2p/membership"
	"github.com/talka-grid/talka/workunits"
)

// Files of a data directory in a private network, mode 0600.
const (
	memberName     = "membership"  // a membership.State
	networkKeyName = "network.key" // the network key, where this node issues; as identity.key
)

// loadPrivate reads the directory's membership; nil where it is in an open network.
func loadPrivate(dir string) (*p2p.Private, error) {
	path := filepath.Join(dir, memberName)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s, err := membership.ParseState(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	p := &p2p.Private{State: s, Save: func(s membership.State) error { return whole.Write(path, s.Encode()) }}
	switch p.Issuer, err = readKey(filepath.Join(dir, networkKeyName)); {
	case errors.Is(err, fs.ErrNotExist):
		return p, nil
	case err != nil:
		return nil, err
	case membership.KeyOf(p.Issuer) != s.Key:
		return nil, fmt.Errorf("%s is not the key of network %q; put it elsewhere", filepath.Join(dir, networkKeyName), s.Network)
	}
	return p, nil
}

// openPrivate is loadPrivate for a node that starts with these settings.
func openPrivate(dir string, cfg configs.Config) (*p2p.Private, error) {
	p, err := loadPrivate(dir)
	if err == nil && p != nil && p.State.Network != cfg.Network {
		return nil, usage("%s is a member of the private network %q, but the settings say network %q: talka config set network %s, or take another --dir",
			dir, p.State.Network, cfg.Network, p.State.Network)
	}
	return p, err
}

// admit makes the directory's node a member by the passes of invites, if that
// gives it more than it has, and reports whether it did.
func (a *app) admit(dir string, node workunits.NodeID, invites []string) (bool, error) {
	for _, text := range invites {
		i, err := p2p.ParseInvite(text)
		if err != nil || i.Pass == nil {
			continue // it is refused, or followed, where peers are looked for
		}
		have, err := loadPrivate(dir)
		if err != nil {
			return false, err
		}
		now := time.Now()
		state, err := i.Pass.Admit(node, now)
		switch {
		case have != nil && have.State.Key != i.Pass.Key:
			return false, usage("%s is a member of another private network, %q; take another --dir, or run: talka network leave", dir, have.State.Network)
		case have != nil && have.State.Stands(have.State.Own, now) == nil, have != nil && errors.Is(err, membership.ErrExpired):
			continue
		case errors.Is(err, membership.ErrExpired):
			return false, usage("the invite expired at %s; ask for a new one", i.Expires.Format(time.RFC3339))
		case err != nil:
			return false, usage("the invite is not for this node, %s: %w", node, err)
		}
		if have != nil { // its removals stay known
			have.State.Own = state.Own
			state = have.State
		}
		// The invite itself is a key to the network, so it is kept nowhere.
		if err := p2p.Remember(filepath.Join(dir, peersName), state.Network, i.Peers); err != nil {
			a.note("%v", err)
		}
		return true, a.enter(dir, state)
	}
	return false, nil
}

// enter writes a membership and makes the network the node's.
func (a *app) enter(dir string, s membership.State) error {
	if err := whole.Write(filepath.Join(dir, memberName), s.Encode()); err != nil {
		return err
	}
	return (&settings{app: a, dir: dir}).Set("network", s.Network)
}

// found makes a private network, and the directory's node its first member.
func (a *app) found(dir, name string, node workunits.NodeID, valid time.Duration) (membership.State, error) {
	for _, file := range []string{memberName, networkKeyName} {
		if _, err := os.Stat(filepath.Join(dir, file)); err == nil {
			return membership.State{}, fmt.Errorf("%s has a private network already (%s); take another --dir, or run: talka network leave", dir, file)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return membership.State{}, err
		}
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return membership.State{}, err
	}
	s, err := membership.New(name, key, node, time.Now(), valid)
	if err != nil {
		return s, err
	}
	if err := writeKey(filepath.Join(dir, networkKeyName), key); err != nil {
		return s, err
	}
	return s, a.enter(dir, s)
}

// expired says of an invite in the settings that it is of no use any longer, if so.
// A node that has met others does without it.
func expired(i p2p.Invite, dir string, log *slog.Logger) error {
	if i.Expires.IsZero() || time.Now().Before(i.Expires) {
		return nil
	}
	if _, err := os.Stat(filepath.Join(dir, peersName)); err != nil {
		return usage("join: the invite expired at %s; ask for a new one", i.Expires.Format(time.RFC3339))
	}
	log.Warn("an invite in the settings has expired; peers of earlier runs are tried", "expired", i.Expires)
	return nil
}

// diagnoseMembership looks at the membership of a private network, if there is one.
func diagnoseMembership(d *diagnosis, dir string) {
	p, err := loadPrivate(dir)
	if err != nil {
		d.add("membership", fault, failure(err))
		return
	}
	if p == nil {
		return
	}
	info := infoOf(p)
	left := time.Until(info.Until).Round(time.Minute)
	switch {
	case p.Issuer != nil:
		d.add("membership", healthy, phrase.New("doc_issues", "of private network {name}, which this node has the key of", "name", info.Network))
	case info.State == "expired" || info.State == "removed":
		said := phrase.New("doc_expired", "of private network {name}: expired", "name", info.Network)
		if info.State == "removed" {
			said = phrase.New("doc_removed", "of private network {name}: removed", "name", info.Network)
		}
		d.add("membership", fault, said, phrase.New("doc_ask_owner", "ask the owner of node {node} for an invite, and run: talka network join INVITE", "node", info.By))
	case left < memberValid/10:
		d.add("membership", warning, phrase.New("doc_ends", "of private network {name} ends in {left}", "name", info.Network, "left", left),
			phrase.New("doc_renews", "node {node} renews it when it meets this one; it has to run", "node", info.By))
	default:
		d.add("membership", healthy, phrase.New("doc_member", "of private network {name} until {until}", "name", info.Network, "until", info.Until.Format(time.RFC3339)))
	}
}
