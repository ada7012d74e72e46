package p2p

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/talka-grid/talka/p2p/membership"
	"github.com/talka-grid/talka/workunits"
)

var update = flag.Bool("update", false, "write the test vectors anew")

// vector is an invite in testdata/invites.json.
type vector struct {
	Name    string `json:"name"`
	Text    string `json:"text"`
	Network string `json:"network,omitempty"`
	By      string `json:"by,omitempty"`
	Peers   []Peer `json:"peers,omitempty"`
	Expires string `json:"expires,omitempty"`
	Private string `json:"private,omitempty"` // the name of its key
	Error   string `json:"error,omitempty"`   // a part of it
}

func samplePeer(name string, addrs ...string) Peer {
	return Peer{ID: workunits.NodeIDOf(keyOf(name)), Addrs: addrs}
}

// samples makes the vectors. They are reviewed in testdata and must not change:
// invites live longer than releases.
func samples(t *testing.T) (all []vector) {
	key := keyOf("alice")
	sign := func(i Invite) string {
		text, err := i.Sign(key)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	one := sign(Invite{Network: "talka", Peers: []Peer{samplePeer("alice", "/ip4/198.51.100.7/udp/4001/quic-v1")}})
	many := sign(Invite{Network: "lab-7", Expires: time.Unix(1900000000, 0), Peers: []Peer{
		samplePeer("alice", "/ip4/192.168.1.20/tcp/4001", "/ip6/2001:db8::7/udp/4001/quic-v1"),
		samplePeer("bob", "/dns4/node.example.org/tcp/4001"),
	}})
	private := func(change func(p *membership.Pass)) string {
		network, card := keyOf("network"), keyOf("card")
		cert, err := membership.Issue(network, membership.Certificate{
			Network: "lab-7", Subject: workunits.NodeIDOf(card), Invite: true, By: workunits.NodeIDOf(key), Issued: 1_899_900_000_000, Until: 1_900_000_000_000,
		})
		if err != nil {
			t.Fatal(err)
		}
		pass := membership.Pass{Key: membership.KeyOf(network), Cert: cert, Secret: card.Seed()}
		change(&pass)
		r := inviteRecord{Network: "lab-7", By: workunits.NodeIDOf(key), Expires: 1_900_000_000, Pass: &pass, Peers: []invitePeer{{ID: workunits.NodeIDOf(key), Addrs: [][]byte{{4, 5, 9, 1, 1, 6, 15, 161}}}}}
		return r.sign(key)
	}
	flipped := []byte(one)
	flipped[40] ^= 1 // another letter of the alphabet
	unsigned := func(change func(r *inviteRecord)) string {
		r := inviteRecord{Network: "talka", By: workunits.NodeIDOf(key), Peers: []invitePeer{{ID: workunits.NodeIDOf(key), Addrs: [][]byte{{4, 127, 0, 0, 1, 6, 0, 1}}}}}
		change(&r)
		return r.sign(key)
	}
	for _, v := range []vector{
		{Name: "one peer", Text: one},
		{Name: "two peers and an end", Text: many},
		{Name: "into a private network", Text: private(func(*membership.Pass) {})},
		{Name: "of a private network, without its key", Text: private(func(p *membership.Pass) { p.Secret = nil })},
		{Name: "of a private network that did not sign it", Text: private(func(p *membership.Pass) { p.Key[0] ^= 1 })},
		{Name: "upper case and space", Text: " \n" + strings.ToUpper(one) + "\n"},
		{Name: "empty", Text: ""},
		{Name: "something else", Text: "/ip4/127.0.0.1/tcp/4001"},
		{Name: "another version", Text: "talka2" + one[6:]},
		{Name: "cut off", Text: one[:len(one)-9]},
		{Name: "one letter changed", Text: string(flipped)},
		{Name: "not base32", Text: one + "!"},
		{Name: "too long", Text: invitePrefix + strings.Repeat("a", 8000)},
		{Name: "no peers", Text: unsigned(func(r *inviteRecord) { r.Peers = nil })},
		{Name: "no addresses", Text: unsigned(func(r *inviteRecord) { r.Peers[0].Addrs = nil })},
		{Name: "bad address", Text: unsigned(func(r *inviteRecord) { r.Peers[0].Addrs = [][]byte{{4, 1}} })},
		{Name: "bad network", Text: unsigned(func(r *inviteRecord) { r.Network = "a/b" })},
		{Name: "nobody", Text: unsigned(func(r *inviteRecord) { r.Peers[0].ID = workunits.NodeID{} })},
	} {
		i, err := ParseInvite(v.Text)
		if err != nil {
			v.Error = err.Error()
		} else {
			v.Network, v.By, v.Peers = i.Network, i.By.String(), i.Peers
			if i.Pass != nil {
				v.Private = i.Pass.Key.String()
			}
			if !i.Expires.IsZero() {
				v.Expires = i.Expires.Format(time.RFC3339)
			}
		}
		all = append(all, v)
	}
	return all
}

func TestInviteVectors(t *testing.T) {
	t.Parallel()
	path := filepath.Join("testdata", "invites.json")
	if *update {
		b, err := json.MarshalIndent(samples(t), "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(b, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var want []vector
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, samples(t)); diff != "" {
		t.Error(diff)
	}
	good := 0
	for _, v := range want {
		i, err := ParseInvite(v.Text)
		if v.Error != "" {
			if !errors.Is(err, ErrInvite) || err.Error() != v.Error {
				t.Errorf("%s: error %v, want %s", v.Name, err, v.Error)
			}
			continue
		}
		good++
		if err != nil || i.Network != v.Network || i.By.String() != v.By {
			t.Errorf("%s: %+v, %v", v.Name, i, err)
		}
	}
	if good < 3 {
		t.Errorf("%d good vectors", good)
	}
}

func TestSignRefusesWhatItCannotRead(t *testing.T) {
	t.Parallel()
	many := make([]Peer, MaxInvitePeers+1)
	for i := range many {
		many[i] = samplePeer("x", "/ip4/127.0.0.1/tcp/1")
	}
	for name, i := range map[string]Invite{
		"no peers":   {Network: "talka"},
		"many peers": {Network: "talka", Peers: many},
		"no network": {Peers: many[:1]},
		"no address": {Network: "talka", Peers: []Peer{samplePeer("x")}},
	} {
		if text, err := i.Sign(keyOf("alice")); err == nil {
			t.Errorf("%s: %s", name, text)
		}
	}
}

func FuzzParseInvite(f *testing.F) {
	text, err := Invite{Network: "talka", Peers: []Peer{samplePeer("alice", "/ip4/198.51.100.7/udp/4001/quic-v1")}}.Sign(keyOf("alice"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add("talka1")
	f.Fuzz(func(t *testing.T, text string) {
		i, err := ParseInvite(text)
		if err != nil {
			if !errors.Is(err, ErrInvite) {
				t.Errorf("error %v is no %v", err, ErrInvite)
			}
			return
		}
		for _, p := range i.Peers {
			if _, err := p.info(); err != nil {
				t.Error(err)
			}
		}
	})
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 'x'})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		frame, err := readFrame(r, 1000, nil)
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := writeFrame(&again, frame, 1000); err != nil || !bytes.Equal(again.Bytes(), b[:len(b)-r.Len()]) {
			t.Errorf("%x was read as %x: %v", b, frame, err)
		}
	})
}

func FuzzReadCatalogue(f *testing.F) {
	add := func(m any) {
		var b bytes.Buffer
		if err := writeCatalogue(&b, m); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	add(catalogueHave{[]short{{1}, {2}}})
	add(catalogueReply{[][]byte{[]byte("x")}, []short{{3}}})
	add(catalogueRest{[][]byte{[]byte("x")}})
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := readCatalogue[catalogueHave](bytes.NewReader(b)); err == nil && len(m.Have) > maxCatalogue {
			t.Errorf("%d names", len(m.Have))
		}
		if m, err := readCatalogue[catalogueRest](bytes.NewReader(b)); err == nil && len(m.Live) > maxEntries {
			t.Errorf("%d entries", len(m.Live))
		}
		if m, err := readCatalogue[catalogueReply](bytes.NewReader(b)); err == nil {
			for _, data := range m.Live {
				if len(data) == 0 || len(data) > workunits.MaxAnnouncement {
					t.Errorf("entry of %d bytes", len(data))
				}
			}
		}
	})
}

func FuzzParseCache(f *testing.F) {
	b, err := json.Marshal(cacheFile{1, "talka", []cachedPeer{{samplePeer("alice", "/ip4/198.51.100.7/tcp/1"), time.Unix(1, 0)}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseCache(b)
		if err != nil {
			return
		}
		for _, p := range c.Peers {
			if _, err := p.info(); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestReadFrameOnCutStreams(t *testing.T) {
	t.Parallel()
	for cut, want := range map[int]error{0: io.EOF, 2: io.ErrUnexpectedEOF, 4: io.ErrUnexpectedEOF, 6: io.ErrUnexpectedEOF} {
		if _, err := readFrame(bytes.NewReader([]byte{0, 0, 0, 3, 'a', 'b', 'c'}[:cut]), 10, nil); !errors.Is(err, want) {
			t.Errorf("cut after %d bytes: %v, want %v", cut, err, want)
		}
	}
}

func TestCacheFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "peers.json")
	c, err := readCache(path, "talka")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1e9, 0)
	if !c.saw(now, []Peer{samplePeer("a", "/ip4/127.0.0.1/tcp/1"), samplePeer("nowhere")}) {
		t.Error("a new peer changes nothing")
	}
	if c.saw(now.Add(time.Minute), []Peer{samplePeer("a", "/ip4/127.0.0.1/tcp/1")}) {
		t.Error("the same peer a minute later changes something")
	}
	for i := range 2 * maxCached {
		c.saw(now, []Peer{samplePeer(string(rune('A'+i)), "/ip4/127.0.0.1/tcp/2")})
	}
	c.saw(now, []Peer{samplePeer("last", "/ip4/127.0.0.1/tcp/3")})
	if err := c.write(); err != nil {
		t.Fatal(err)
	}
	again, err := readCache(path, "talka")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c.peers(), again.peers()); diff != "" || len(again.peers()) != maxCached {
		t.Errorf("%d peers: %s", len(again.peers()), diff)
	}
	if p := again.peers()[0]; p.ID != samplePeer("last").ID {
		t.Errorf("first is %s, want the last one seen", p.ID)
	}
	if other, err := readCache(path, "other"); err != nil || len(other.peers()) != 0 {
		t.Errorf("another network reads %d peers, %v", len(other.peers()), err)
	}
	if left, _ := filepath.Glob(path + ".*"); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A damaged cache is no reason not to start.
func TestDamagedCache(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"empty":   "",
		"garbage": "\x00\x01",
		"version": `{"version":2}`,
		"address": `{"version":1,"network":"test","peers":[{"id":"12D3KooWKaB8VHpCojaU1UWVJJHyrhp9wnLgMG54LKGaJ37aqfSk","addrs":["x"]}]}`,
		"huge":    strings.Repeat(" ", maxCacheKB<<10+1),
	} {
		path := filepath.Join(t.TempDir(), "peers.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readCache(path, "test"); err == nil {
			t.Errorf("%s: no error", name)
		}
		newHost(t, name, Config{CachePath: path}, nil)
	}
}
