package oracle

import (
	"cmp"
	"slices"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
)

type (
	node   = workunits.NodeID
	ref    = workunits.Ref
	digest = workunits.Digest
)

// said is a statement of one kind in its place.
type said[T any] struct {
	ref
	hash digest
	body T
}

// reading is the statements of a job, sorted by kind, each kind ascending by
// author and place.
type reading struct {
	job      workunits.JobID
	manifest workunits.Manifest
	standing workunits.StakeTable
	law      Law
	forked   map[node]bool
	burned   map[life]bool
	first    map[life]said[workunits.Commit] // see differ; nil while it is not known who is burned

	home        string          // the publisher's architecture
	anchors     map[node]digest // of first chains
	lengths     map[node]uint32
	amendments  []said[workunits.Amendment]
	grants      []said[workunits.Grant]
	expiries    []said[workunits.Expiry]
	commits     []said[workunits.Commit]
	receipts    []said[workunits.Receipt]
	draws       []said[workunits.Draw]
	openings    []said[workunits.Opening]
	storage     []said[workunits.StorageReceipt]
	heads       []said[workunits.Head]
	faults      []said[workunits.Fault]
	comparisons []said[workunits.Comparison]
	retries     []said[workunits.Retry]
}

// life is a volunteer between two of its burns.
type life struct {
	who    node
	number int
}

// sort puts the statements into their places. A log that does not begin with an
// identity says nothing.
func (r *reading) sort(entries []ledger.Entry) {
	entries = slices.Clone(entries)
	slices.SortStableFunc(entries, func(x, y ledger.Entry) int { return compare(x.Ref, y.Ref) })
	entries = slices.CompactFunc(entries, func(x, y ledger.Entry) bool { return x.Ref == y.Ref })
	r.anchors, r.lengths = map[node]digest{}, map[node]uint32{}
	for _, e := range entries {
		if id, ok := e.Body.(workunits.Identity); ok && e.Seq == 0 {
			r.anchors[e.Author], r.lengths[e.Author] = id.Anchor, id.Length
			if e.Author == r.manifest.Publisher {
				r.home = id.Arch
			}
		}
		if _, begun := r.anchors[e.Author]; begun {
			r.place(e)
		}
	}
}

func (r *reading) place(e ledger.Entry) {
	switch b := e.Body.(type) {
	case workunits.Amendment:
		r.amendments = append(r.amendments, said[workunits.Amendment]{e.Ref, e.Hash, b})
	case workunits.Grant:
		r.grants = append(r.grants, said[workunits.Grant]{e.Ref, e.Hash, b})
	case workunits.Expiry:
		r.expiries = append(r.expiries, said[workunits.Expiry]{e.Ref, e.Hash, b})
	case workunits.Commit:
		r.commits = append(r.commits, said[workunits.Commit]{e.Ref, e.Hash, b})
	case workunits.Receipt:
		r.receipts = append(r.receipts, said[workunits.Receipt]{e.Ref, e.Hash, b})
	case workunits.Draw:
		r.draws = append(r.draws, said[workunits.Draw]{e.Ref, e.Hash, b})
	case workunits.Opening:
		r.openings = append(r.openings, said[workunits.Opening]{e.Ref, e.Hash, b})
	case workunits.StorageReceipt:
		r.storage = append(r.storage, said[workunits.StorageReceipt]{e.Ref, e.Hash, b})
	case workunits.Head:
		r.heads = append(r.heads, said[workunits.Head]{e.Ref, e.Hash, b})
	case workunits.Fault:
		r.faults = append(r.faults, said[workunits.Fault]{e.Ref, e.Hash, b})
	case workunits.Comparison:
		r.comparisons = append(r.comparisons, said[workunits.Comparison]{e.Ref, e.Hash, b})
	case workunits.Retry:
		r.retries = append(r.retries, said[workunits.Retry]{e.Ref, e.Hash, b})
	}
}

func compare(x, y ref) int { return cmp.Or(x.Author.Compare(y.Author), cmp.Compare(x.Seq, y.Seq)) }

// succession lists the stewards in rank, as the publisher's amendments name them.
func (r *reading) succession() (list []node) {
	for _, a := range r.amendments {
		for _, s := range a.body.Stewards {
			if a.Author == r.manifest.Publisher && !slices.Contains(list, s.Node) && len(list) < workunits.MaxStewards {
				list = append(list, s.Node)
			}
		}
	}
	return list
}

func (r *reading) listed(n node) bool {
	return n == r.manifest.Publisher || slices.Contains(r.succession(), n)
}

func (r *reading) trusts(n node) bool {
	return n == r.manifest.Publisher || slices.Contains(r.manifest.Policy.Trusted, n)
}

// free reports whether a steward's grants count without bound.
func (r *reading) free(n node) bool {
	return n == r.manifest.Publisher || r.manifest.Policy.Mode == workunits.VerifyNone && slices.Contains(r.succession(), n)
}

// binding reports whether the word of these authors binds everyone: the
// publisher's, or that of two other listed stewards.
func (r *reading) binding(authors []node) bool {
	var others []node
	for _, n := range authors {
		if n == r.manifest.Publisher {
			return true
		}
		if r.listed(n) && !slices.Contains(others, n) {
			others = append(others, n)
		}
	}
	return len(others) >= 2
}

// keepers is how many stewards must keep a result: as many as are active, and
// two at least, where so many others are listed and not known to be absent.
func (r *reading) keepers() int {
	list := r.succession()
	if len(list) < 2 || r.manifest.Policy.Mode == workunits.VerifyNone {
		return 1
	}
	present := 0
	for _, n := range list {
		var gone []node
		for _, f := range r.faults {
			if f.body.Name == workunits.FaultAbsent && f.body.Against == n && f.Author != n {
				gone = append(gone, f.Author)
			}
		}
		if !r.binding(gone) {
			present++
		}
	}
	return max(1, min(present, max(2, min(int(r.manifest.Active), len(list)-1))))
}

// receipt is a steward's first receipt of a commit.
func (r *reading) receipt(by node, commit ref) (said[workunits.Receipt], bool) {
	for _, s := range r.receipts {
		if s.Author == by && s.body.Commit == commit {
			return s, true
		}
	}
	return said[workunits.Receipt]{}, false
}

// draw is a steward's last draw on a commit that is of its chain and was not
// revealed before by a later value; ok reports whether it is the one that the
// steward's receipt of just this commit fixed.
func (r *reading) draw(by node, commit said[workunits.Commit]) (d said[workunits.Draw], ok bool) {
	receipt, got := r.receipt(by, commit.ref)
	if !got || receipt.body.Hash != commit.hash {
		return d, false
	}
	var shown uint32
	for _, s := range r.draws {
		if s.Author != by || s.body.Index <= shown {
			continue
		}
		announced, linked := r.linked(s)
		if !linked {
			continue
		}
		shown = s.body.Index
		if s.body.Commit == commit.ref {
			d, ok = s, s.body.Index == receipt.body.Index && (announced == 0 || announced < receipt.Seq)
		}
	}
	return d, ok
}

// linked reports whether a draw's value is of its author's chains, and where in
// its log the end of that chain was announced: in the identity, or in the first
// receipt of the last value of the chain before that tells it.
func (r *reading) linked(d said[workunits.Draw]) (announced uint64, ok bool) {
	length := r.lengths[d.Author]
	before := (d.body.Index - 1) / length * length // values of earlier chains
	if before == 0 {
		return 0, workunits.ChainLink(r.anchors[d.Author], d.body.Value, d.body.Index)
	}
	for _, s := range r.receipts {
		if s.Author == d.Author && s.Seq < d.Seq && s.body.Index == before && s.body.Next != (digest{}) {
			return s.Seq, workunits.ChainLink(s.body.Next, d.body.Value, d.body.Index-before)
		}
	}
	return 0, false
}

// missing tells of draws that name a steward whose value they go with, and who
// received the commit, but whose draw is not here: whether all of them are known
// not to come, by the word of the publisher or two others on a steward that
// withholds or is absent. The publisher's draw goes with nothing.
func (r *reading) missing(k copied, draws []said[workunits.Draw], list []copied) (some, final bool) {
	final = true
	for _, d := range draws {
		if d.Author == r.manifest.Publisher {
			return false, true
		}
	}
	for _, d := range draws {
		n := d.body.With
		receipt, got := r.receipt(n, k.commit.ref)
		_, drew := r.draw(n, k.commit)
		executes := slices.ContainsFunc(list, func(o copied) bool { return o.who() == n })
		if !got || !r.listed(n) || receipt.body.Hash != k.commit.hash || drew || executes {
			continue
		}
		var who []node
		for _, f := range r.faults {
			if f.body.Against == n && f.Author != n && (f.body.Name == workunits.FaultAbsent || f.body.Name == workunits.FaultWithheld) {
				who = append(who, f.Author)
			}
		}
		some, final = true, final && r.binding(who)
	}
	return some, final
}

// opened lists the openings of a commit's unit that fit its hash, in the order of
// their places, with what they open it to.
func (r *reading) opened(commit said[workunits.Commit], unit uint32) (refs []ref, results []workunits.Result) {
	i := slices.Index(commit.body.Units, unit)
	name := workunits.Copy{Network: r.manifest.Network, Job: r.job, Volunteer: commit.Author, Unit: unit}
	for _, s := range r.openings {
		for _, o := range s.body.Units {
			if i >= 0 && s.body.Commit == commit.ref && o.Unit == unit && name.CommitHash(o.Result.Digest, o.Nonce) == commit.body.Hashes[i] {
				refs, results = append(refs, s.ref), append(results, o.Result)
			}
		}
	}
	return refs, results
}

// givenUp reports whether a commit's grant was given up by who had receipted the
// commit before.
func (r *reading) givenUp(commit said[workunits.Commit]) bool {
	var who []node
	for _, x := range r.expiries {
		receipt, got := r.receipt(x.Author, commit.ref)
		if x.body.Grant == commit.body.Grant && got && receipt.Seq < x.Seq {
			who = append(who, x.Author)
		}
	}
	return r.binding(who)
}

// withholds reports whether an author's log lacks a commit that the publisher, or
// two stewards, received.
func (r *reading) withholds(n node) bool {
	return slices.ContainsFunc(r.receipts, func(s said[workunits.Receipt]) bool {
		if s.body.Commit.Author != n || slices.ContainsFunc(r.commits, func(c said[workunits.Commit]) bool { return c.ref == s.body.Commit }) {
			return false
		}
		var who []node
		for _, t := range r.receipts {
			if t.body.Commit == s.body.Commit {
				who = append(who, t.Author)
			}
		}
		return r.binding(who)
	})
}

// brought is a volunteer's line in the standing.
func (r *reading) brought(n node) (s workunits.Stake) {
	for _, t := range r.standing.Stakes {
		if t.Node == n {
			return t
		}
	}
	return s
}
