package verdict_test

import (
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
	"github.com/talka-grid/talka/workunits/verdict"
)

// world writes a job's ledger by hand: each method says one statement, as a node
// that keeps to the protocol would.
type world struct {
	manifest workunits.Manifest
	job      workunits.JobID
	ledger   *ledger.Ledger
	nodes    map[string]*author
	entries  []ledger.Entry
	chainLen uint32
	arch     string        // of the nodes' identities
	live     *verdict.Book // of entries as they come
}

type author struct {
	*ledger.Author
	chain    *workunits.Chain
	receipts map[workunits.Ref]uint32
}

const chainLen = 64

func seedOf(name string) [32]byte { return workunits.Sum([]byte("verdict test " + name)) }

var keys sync.Map // by name; making one takes long

func keyOf(name string) ed25519.PrivateKey {
	k, ok := keys.Load(name)
	if !ok {
		seed := seedOf(name)
		k, _ = keys.LoadOrStore(name, ed25519.NewKeyFromSeed(seed[:]))
	}
	return k.(ed25519.PrivateKey)
}

func idOf(name string) workunits.NodeID { return workunits.NodeIDOf(keyOf(name)) }

// newWorld is a job of publisher p with stewards p, s1, s2 and s3; change, which
// may be nil, changes its manifest.
func newWorld(change func(*workunits.Manifest)) *world { return newWorldOn("amd64", change) }

// newWorldOn is newWorld of nodes on another platform.
func newWorldOn(arch string, change func(*workunits.Manifest)) *world {
	m := workunits.Manifest{
		Network: "test", Publisher: idOf("p"), Project: "test", Name: "test",
		Program: workunits.Link{Cid: workunits.RawCid(workunits.Sum(nil))}, Units: 8, Days: 30, Active: 3, Listed: 8, Shard: 8,
		Limits: workunits.Limits{Memory: 1, Output: 1, Wall: 1, Tries: 2},
		Policy: workunits.Policy{Mode: workunits.VerifyAudit, Error: 1e-2, Share: 0.2, Price: 10, MaxAgree: 2, Compare: workunits.Comparator{Kind: workunits.CompareBytes}},
	}
	if change != nil {
		change(&m)
	}
	job, _, err := m.Sign(keyOf("p"))
	if err != nil {
		panic(err)
	}
	w := &world{manifest: m, job: job, ledger: ledger.New(m.Network, job), nodes: map[string]*author{},
		live: verdict.New(job, m), chainLen: chainLen, arch: arch}
	var list []workunits.Steward
	for _, name := range []string{"p", "s1", "s2", "s3"} {
		list = append(list, workunits.Steward{Node: idOf(name)})
	}
	w.say("p", workunits.Amendment{Stewards: list})
	return w
}

func (w *world) node(who string) *author {
	if w.nodes[who] == nil {
		n := &author{ledger.NewAuthor(keyOf(who), w.ledger), workunits.NewChain(seedOf(who), w.chainLen), map[workunits.Ref]uint32{}}
		w.nodes[who] = n
		w.say(who, workunits.Identity{Arch: w.arch, Anchor: n.chain.Value(0), Length: w.chainLen})
	}
	return w.nodes[who]
}

func (w *world) say(who string, b workunits.Body) workunits.Ref {
	_, entries := w.node(who).Say(b)
	w.entries = append(w.entries, entries...)
	for _, e := range entries {
		if w.live != nil {
			w.live.Apply(e)
		}
	}
	return entries[0].Ref
}

// grant is a grant of one unit, and what is known of who executes it.
type grant struct {
	ref   workunits.Ref
	bound workunits.Digest
	to    string
	unit  uint32
}

// grant grants a unit; custodians are s2 and s3.
func (w *world) grant(by, to string, unit uint32) grant {
	return w.grantFor(by, to, unit, "amd64", false)
}

func (w *world) grantFor(by, to string, unit uint32, arch string, canonical bool) grant {
	return w.grantOf(w.live.Inputs(unit), by, to, unit, arch, canonical)
}

func (w *world) grantOf(inputs workunits.Digest, by, to string, unit uint32, arch string, canonical bool) grant {
	r := w.say(by, workunits.Grant{To: idOf(to), Units: []uint32{unit}, Inputs: inputs, Lease: 1000,
		Custodians: []workunits.NodeID{idOf("s2"), idOf("s3")}, Arch: arch, Canonical: canonical})
	return grant{r, w.ledger.Last(idOf(by)), to, unit}
}

func result(text string) workunits.Result {
	return workunits.Result{Digest: workunits.Sum([]byte(text))}
}

func nonce(text string) [16]byte {
	d := workunits.Sum([]byte("nonce " + text))
	return [16]byte(d[:16])
}

// copied is a committed copy with its result.
type copied struct {
	grant
	commit workunits.Ref
	text   string
}

func (w *world) commit(g grant, text string) copied {
	c := workunits.Copy{Network: w.manifest.Network, Job: w.job, Volunteer: idOf(g.to), Unit: g.unit}
	r := w.say(g.to, workunits.Commit{Grant: g.ref, Bound: g.bound, Units: []uint32{g.unit},
		Hashes: []workunits.Digest{c.CommitHash(result(text).Digest, nonce(text))}})
	return copied{g, r, text}
}

func (w *world) void(g grant) {
	w.say(g.to, workunits.Commit{Grant: g.ref, Bound: g.bound,
		Void: []workunits.VoidUnit{{Unit: g.unit, Reason: workunits.VoidDisk}}})
}

func (w *world) receipt(by string, c copied) {
	n := w.node(by)
	n.receipts[c.commit] = uint32(len(n.receipts) + 1)
	w.say(by, workunits.Receipt{Commit: c.commit, Hash: w.ledger.At(c.commit.Author, c.commit.Seq+1), Index: n.receipts[c.commit]})
}

func (w *world) draw(by string, c copied) {
	n := w.node(by)
	i := n.receipts[c.commit]
	w.say(by, workunits.Draw{Commit: c.commit, Index: i, Value: n.chain.Value(i)})
}

func (w *world) open(by string, c copied) workunits.Ref {
	return w.say(by, workunits.Opening{Commit: c.commit,
		Units: []workunits.OpenUnit{{Unit: c.unit, Nonce: nonce(c.text), Result: result(c.text)}}})
}

func (w *world) store(by string, opening workunits.Ref, unit uint32) {
	w.say(by, workunits.StorageReceipt{Results: []workunits.StoredUnits{{Opening: opening, Units: []uint32{unit}}}})
}

// drawn has every steward named receipt the copy and draw.
func (w *world) drawn(c copied, by ...string) {
	for _, s := range by {
		w.receipt(s, c)
	}
	for _, s := range by {
		w.draw(s, c)
	}
}

// execute is a whole copy as it should go, but for its opening.
func (w *world) execute(by, to string, unit uint32, text string) copied {
	c := w.commit(w.grant(by, to, unit), text)
	w.drawn(c, "s1", "s2")
	return c
}

// keep opens copies and has the active stewards keep the first.
func (w *world) keep(copies ...copied) {
	for i, c := range copies {
		if o := w.open("s2", c); i == 0 {
			w.store("s1", o, c.unit)
			w.store("s2", o, c.unit)
			w.store("s3", o, c.unit)
		}
	}
}

func (w *world) book() *verdict.Book { return w.read(w.ledger.Heads()) }

func (w *world) read(heads []workunits.LogHead) *verdict.Book {
	return verdict.Read(w.job, w.manifest, w.ledger, heads)
}

// shuffled reads the statements in a random order that keeps each author's, with
// some of them twice.
func (w *world) shuffled(r *rand.Rand) *verdict.Book {
	logs := map[workunits.NodeID][]ledger.Entry{}
	for _, e := range w.entries {
		logs[e.Author] = append(logs[e.Author], e)
	}
	b := verdict.New(w.job, w.manifest)
	authors, next := w.ledger.Authors(), map[workunits.NodeID]int{}
	for len(authors) > 0 {
		i := r.IntN(len(authors))
		a := authors[i]
		if next[a] == len(logs[a]) {
			authors = slices.Delete(authors, i, i+1)
			continue
		}
		b.Apply(logs[a][next[a]])
		next[a]++
		b.Apply(logs[a][r.IntN(next[a])])
	}
	return b
}

// inAnyOrder fails the test if the statements in another order give other verdicts than
// the book's.
func (w *world) inAnyOrder(t *testing.T, b *verdict.Book) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		if got, want := w.fingerprint(w.shuffled(r)), w.fingerprint(b); got != want {
			t.Fatalf("another order gives\n%s\nwant\n%s", got, want)
		}
	}
}

// fingerprint is all that a book says.
func (w *world) fingerprint(b *verdict.Book) string {
	s := fmt.Sprintf("%v %v %v\n%v\n%v\n%v %d %d", b.Inputs(w.manifest.Units), b.Digest(), b.Results(), b.Stakes(), b.Faults(), b.Counts(), b.Copies(), b.Expired())
	for u := range w.manifest.Total() {
		s += fmt.Sprintf("\n%+v", b.Unit(u))
	}
	return s
}
