package workunits

import (
	"errors"
	"fmt"
	"slices"
)

// Kind tells what a statement says. The numbers are part of the wire format.
type Kind uint16

// The kinds of law version 1.
const (
	KindIdentity       Kind = 1
	KindAmendment      Kind = 2
	KindGrant          Kind = 3
	KindExpiry         Kind = 4
	KindCommit         Kind = 5
	KindReceipt        Kind = 6
	KindDraw           Kind = 7
	KindOpening        Kind = 8
	KindComparison     Kind = 9
	KindHead           Kind = 10
	KindStorageReceipt Kind = 11
	KindFault          Kind = 12
	KindStanding       Kind = 13
	KindSeal           Kind = 14
	KindCancel         Kind = 15
	KindCollected      Kind = 16
	KindRetry          Kind = 17
)

var kindNames = [...]string{"", "identity", "amendment", "grant", "expiry", "commit", "receipt", "draw", "opening",
	"comparison", "head", "storage receipt", "fault", "standing", "seal", "cancel", "collected", "retry"}

// Known reports whether this version understands the kind.
func (k Kind) Known() bool { return k > 0 && int(k) < len(kindNames) }

func (k Kind) String() string {
	if !k.Known() {
		return fmt.Sprintf("kind %d", uint16(k))
	}
	return kindNames[k]
}

// Limits on what a statement holds.
const (
	MaxBatch      = 1024 // units of a grant
	MaxStewards   = 32
	MaxSealed     = 96 << 10 // bytes of one sealed box
	MaxCustodians = 4
	MaxEvidence   = 8
	MaxAuthors    = 10 << 10    // entries of a head's vector
	MaxWordLen    = 128         // an architecture, a reason
	MaxLease      = 3 * MaxTime // milliseconds
)

// Body is the record of a statement of a known kind.
type Body interface {
	Kind() Kind
	check() error
}

// State wraps a body as a statement.
func State(b Body) Statement { return Statement{Kind: b.Kind(), Body: Encode(b)} }

// Decode reads the body of a statement of a known kind and checks its limits.
// What a segment's reader decoded is shared and must not be changed.
func (s Statement) Decode() (Body, error) {
	if s.decoded != nil {
		return s.decoded, nil
	}
	return s.decode(true)
}

func (s Statement) decode(check bool) (Body, error) {
	switch s.Kind {
	case KindIdentity:
		return decodeBody[Identity](s.Body, check)
	case KindAmendment:
		return decodeBody[Amendment](s.Body, check)
	case KindGrant:
		return decodeBody[Grant](s.Body, check)
	case KindExpiry:
		return decodeBody[Expiry](s.Body, check)
	case KindCommit:
		return decodeBody[Commit](s.Body, check)
	case KindReceipt:
		return decodeBody[Receipt](s.Body, check)
	case KindDraw:
		return decodeBody[Draw](s.Body, check)
	case KindOpening:
		return decodeBody[Opening](s.Body, check)
	case KindComparison:
		return decodeBody[Comparison](s.Body, check)
	case KindHead:
		return decodeBody[Head](s.Body, check)
	case KindStorageReceipt:
		return decodeBody[StorageReceipt](s.Body, check)
	case KindFault:
		return decodeBody[Fault](s.Body, check)
	case KindStanding:
		return decodeBody[Standing](s.Body, check)
	case KindSeal:
		return decodeBody[Seal](s.Body, check)
	case KindCancel:
		return decodeBody[Cancel](s.Body, check)
	case KindCollected:
		return decodeBody[Collected](s.Body, check)
	case KindRetry:
		return decodeBody[Retry](s.Body, check)
	}
	return nil, fmt.Errorf("%s: unknown to law version %d", s.Kind, LawVersion)
}

func decodeBody[T Body](b []byte, check bool) (Body, error) {
	if !check {
		return decodeOwn[T](b)
	}
	v, err := Decode[T](b, MaxBody)
	if err != nil {
		return nil, err
	}
	return v, v.check()
}

// Identity opens every log (number 0 and nowhere else).
type Identity struct {
	Enc    [32]byte `cbor:"enc"`    // X25519 key that openings are sealed to
	Anchor Digest   `cbor:"anchor"` // end of the author's hash chain for draws
	Length uint32   `cbor:"len"`    // values in that chain
	Arch   string   `cbor:"arch"`   // platform that executes here, as "amd64" or "amd64-wazero"
	Proof  []byte   `cbor:"pow"`    // proof of work, empty where the network asks none
}

// Steward is an entry of a succession list.
type Steward struct {
	_    struct{} `cbor:",toarray"`
	Node NodeID
	Enc  [32]byte
}

// Amendment extends the job's succession list; only the publisher's count.
type Amendment struct {
	Stewards []Steward `cbor:"stewards"`
}

// Grant permits one volunteer to execute units until the lease ends. It follows
// every commit whose receipt stands before it in its author's log.
type Grant struct {
	To         NodeID   `cbor:"to"`
	Units      []uint32 `cbor:"units"`  // ascending
	Inputs     Digest   `cbor:"inputs"` // digest of the manifest's inputs for these units
	Lease      uint64   `cbor:"lease"`  // milliseconds from receipt
	Custodians []NodeID `cbor:"keep"`   // whom to seal the openings to
	Arch       string   `cbor:"arch"`
	Canonical  bool     `cbor:"canon"` // NaNs are made canonical
}

// Expiry says that a lease ended without a commit.
type Expiry struct {
	Grant Ref `cbor:"grant"`
}

// Sealed is a SealedOpening in a box that only its custodian opens.
type Sealed struct {
	_    struct{} `cbor:",toarray"`
	To   NodeID
	Data []byte
}

// VoidUnit is a unit of a grant whose copy counts neither for nor against anyone.
type VoidUnit struct {
	_      struct{} `cbor:",toarray"`
	Unit   uint32
	Reason VoidReason
}

// Commit binds a volunteer to the results of units of one grant.
type Commit struct {
	Grant  Ref        `cbor:"grant"`
	Bound  Digest     `cbor:"bound"`  // chain hash of the grant
	Units  []uint32   `cbor:"units"`  // ascending
	Hashes []Digest   `cbor:"hashes"` // one for each unit, see CommitHash
	Void   []VoidUnit `cbor:"void"`
	Sealed []Sealed   `cbor:"sealed"`
	Millis uint64     `cbor:"ms"` // processor time of all units together
	Trace  []byte     `cbor:"trace"`
}

// Receipt says that a steward holds a commit. The n-th receipt of a log fixes
// value n of its author's hash chain for that commit's draws.
type Receipt struct {
	Commit Ref    `cbor:"commit"`
	Hash   Digest `cbor:"hash"`  // chain hash of the commit
	Index  uint32 `cbor:"index"` // from 1
	// Next is the end of the author's next chain, in the receipt of the last value
	// of one: values go on counting, and those of a chain follow its end in the log.
	Next Digest `cbor:"next,omitzero"`
}

// Draw reveals the value that the author's receipt of a commit fixed.
type Draw struct {
	Commit Ref    `cbor:"commit"`
	Index  uint32 `cbor:"index"`
	Value  Digest `cbor:"value"`
	Head   Digest `cbor:"head"` // id of the head whose stakes decide, stated before; zero for none
	// With is the steward whose receipt of the commit was there first, and whose own
	// value this one goes with. Should that never come, the copy wants another one.
	With NodeID `cbor:"with,omitzero"`
}

// OpenUnit opens one unit of a commit.
type OpenUnit struct {
	_      struct{} `cbor:",toarray"`
	Unit   uint32
	Nonce  Nonce
	Result Result
}

// Opening unseals units of a commit; a custodian or the volunteer itself says it.
type Opening struct {
	Commit Ref        `cbor:"commit"`
	Units  []OpenUnit `cbor:"units"` // ascending
}

// Comparison says whether two results agree.
type Comparison struct {
	Program Digest `cbor:"prog"` // id of the comparator, zero for bytes
	Unit    uint32 `cbor:"unit"`
	A       Digest `cbor:"a"`
	B       Digest `cbor:"b"`
	Equal   bool   `cbor:"equal"`
}

// LogHead is the length of one log and the chain hash of its last statement.
type LogHead struct {
	_      struct{} `cbor:",toarray"`
	Author NodeID
	Len    uint64
	Hash   Digest
}

// Head is the fingerprint of a ledger and what each author earned in it. It is
// co-signed once another steward states the same head.
type Head struct {
	Logs   []LogHead `cbor:"logs"`   // ascending by author
	Set    Digest    `cbor:"set"`    // of Logs
	Credit []uint64  `cbor:"credit"` // for each of Logs, the copies in accepted units
}

// ID names the head.
func (b Head) ID() Digest { return Sum(Encode(b)) }

// StoredUnits are units of an opening.
type StoredUnits struct {
	_       struct{} `cbor:",toarray"`
	Opening Ref
	Units   []uint32
}

// StorageReceipt says that its author keeps statements with the results they
// name, or the job's program and inputs.
type StorageReceipt struct {
	Job     bool          `cbor:"job"` // manifest, program and inputs are kept
	Results []StoredUnits `cbor:"results"`
}

// Fault accuses a node, with evidence that anyone can check.
type Fault struct {
	Name     FaultName `cbor:"name"`
	Against  NodeID    `cbor:"who"`
	Unit     uint32    `cbor:"unit"`
	Evidence [][]byte  `cbor:"proof"`
}

// FaultName is the kind of a fault.
type FaultName string

// The faults of law version 1.
const (
	FaultEquivocation FaultName = "equivocation" // proof: two segments
	FaultWrong        FaultName = "wrong"        // the verdict on Unit speaks against the node
	FaultOpening      FaultName = "opening"      // the sealed opening does not open the commit
	FaultDraw         FaultName = "draw"         // the value is not of the chain
	FaultHead         FaultName = "head"         // the statements give other stakes than a head told
	FaultComparison   FaultName = "comparison"   // the program answers otherwise on Unit
	FaultWithheld     FaultName = "withheld"     // receipts whose draws never came, or statements that a signed one follows
	FaultAbsent       FaultName = "absent"       // a steward does not answer: no reproach, see verdict
)

// Standing names the table of stakes that the project's next job may start from.
type Standing struct {
	Number uint32 `cbor:"n"`
	Table  Link   `cbor:"table"`
}

// Seal is the publisher's last word: these units are settled.
type Seal struct {
	Accepted uint32 `cbor:"accepted"`
	Failed   uint32 `cbor:"failed"`
	Results  Digest `cbor:"results"` // of the accepted results in unit order
	Head     Digest `cbor:"head"`    // set root of the ledger that it judged
}

// Cancel ends a job; only the publisher's counts.
type Cancel struct {
	Reason string `cbor:"reason"`
}

// Collected says that the publisher has the results of a finished job, so that nobody
// need keep its data any more; only the publisher's counts.
type Collected struct {
	Results Digest `cbor:"results"` // as in a Seal
}

// Retry gives units further tries: each may come back void as many times more as its
// job allows at first. Only the publisher's count, and each of them does.
type Retry struct {
	Units []uint32 `cbor:"units"` // ascending
}

// Kind methods make each body a Body.
func (Identity) Kind() Kind       { return KindIdentity }
func (Amendment) Kind() Kind      { return KindAmendment }
func (Grant) Kind() Kind          { return KindGrant }
func (Expiry) Kind() Kind         { return KindExpiry }
func (Commit) Kind() Kind         { return KindCommit }
func (Receipt) Kind() Kind        { return KindReceipt }
func (Draw) Kind() Kind           { return KindDraw }
func (Opening) Kind() Kind        { return KindOpening }
func (Comparison) Kind() Kind     { return KindComparison }
func (Head) Kind() Kind           { return KindHead }
func (StorageReceipt) Kind() Kind { return KindStorageReceipt }
func (Fault) Kind() Kind          { return KindFault }
func (Standing) Kind() Kind       { return KindStanding }
func (Seal) Kind() Kind           { return KindSeal }
func (Cancel) Kind() Kind         { return KindCancel }
func (Collected) Kind() Kind      { return KindCollected }
func (Retry) Kind() Kind          { return KindRetry }

func (b Identity) check() error {
	if b.Length == 0 || b.Length > MaxChain || len(b.Proof) > MaxProof {
		return fmt.Errorf("chain of %d values, proof of %d bytes: %w", b.Length, len(b.Proof), ErrTooLarge)
	}
	return checkWord("architecture", b.Arch)
}

func (b Amendment) check() error { return checkCount("stewards", len(b.Stewards), 1, MaxStewards) }

func (b Grant) check() error {
	if b.Lease > MaxLease {
		return fmt.Errorf("lease of %d ms, limit %d: %w", b.Lease, uint64(MaxLease), ErrTooLarge)
	}
	return errors.Join(checkUnits(b.Units, 1), checkCount("custodians", len(b.Custodians), 0, MaxCustodians),
		checkWord("architecture", b.Arch))
}

func (Expiry) check() error { return nil }

func (b Commit) check() error {
	if len(b.Units) != len(b.Hashes) {
		return fmt.Errorf("%d hashes for %d units", len(b.Hashes), len(b.Units))
	}
	if err := errors.Join(checkDigest("trace root", b.Trace), checkUnits(b.Units, 0), checkCount("sealed openings", len(b.Sealed), 0, MaxCustodians),
		checkCount("units", len(b.Units)+len(b.Void), 1, MaxBatch)); err != nil {
		return err
	}
	for i, v := range b.Void {
		if i > 0 && b.Void[i-1].Unit >= v.Unit || slices.Contains(b.Units, v.Unit) {
			return fmt.Errorf("void unit %d out of order", v.Unit)
		}
		if err := checkWord("reason", string(v.Reason)); err != nil {
			return err
		}
	}
	for _, s := range b.Sealed {
		if err := checkCount("bytes of a sealed opening", len(s.Data), 1, MaxSealed); err != nil {
			return err
		}
	}
	return nil
}

func (b Receipt) check() error { return checkCount("index", int(b.Index), 1, MaxDraws) }
func (b Draw) check() error    { return checkCount("index", int(b.Index), 1, MaxDraws) }

func (b Opening) check() error {
	for i, u := range b.Units {
		if i > 0 && b.Units[i-1].Unit >= u.Unit {
			return fmt.Errorf("unit %d out of order", u.Unit)
		}
		if err := u.Result.check(); err != nil {
			return err
		}
	}
	return checkCount("units", len(b.Units), 1, MaxBatch)
}

func (b Comparison) check() error { return nil }

func (b Head) check() error {
	for i, l := range b.Logs {
		if i > 0 && b.Logs[i-1].Author.Compare(l.Author) >= 0 {
			return errors.New("logs out of order")
		}
	}
	if b.Set != Sum(Encode(b.Logs)) {
		return errors.New("set root does not fit the logs")
	}
	if len(b.Credit) != len(b.Logs) {
		return fmt.Errorf("credit of %d authors for %d logs", len(b.Credit), len(b.Logs))
	}
	return checkCount("logs", len(b.Logs), 1, MaxAuthors)
}

func (b StorageReceipt) check() error {
	for _, r := range b.Results {
		if err := checkUnits(r.Units, 1); err != nil {
			return err
		}
	}
	return checkCount("openings", len(b.Results), 0, MaxBatch)
}

func (b Fault) check() error {
	return errors.Join(checkCount("pieces of evidence", len(b.Evidence), 0, MaxEvidence), checkWord("fault", string(b.Name)))
}

func (b Standing) check() error { return nil }
func (b Seal) check() error     { return nil }
func (b Cancel) check() error   { return checkWord("reason", b.Reason) }

func (Collected) check() error { return nil }
func (b Retry) check() error   { return checkUnits(b.Units, 1) }

func checkCount(what string, n, low, high int) error {
	if n < low || n > high {
		return fmt.Errorf("%d %s, want %d to %d: %w", n, what, low, high, ErrTooLarge)
	}
	return nil
}

// checkDigest checks a digest that may be absent.
func checkDigest(what string, b []byte) error {
	if len(b) != 0 && len(b) != len(Digest{}) {
		return fmt.Errorf("%s of %d bytes", what, len(b))
	}
	return nil
}

func checkWord(what, s string) error {
	if len(s) <= MaxWordLen { // as nearly always: no text for nothing
		return nil
	}
	return checkCount("bytes of "+what, len(s), 0, MaxWordLen)
}

func checkUnits(units []uint32, low int) error {
	for i, u := range units {
		if i > 0 && units[i-1] >= u {
			return fmt.Errorf("unit %d out of order", u)
		}
	}
	return checkCount("units", len(units), low, MaxBatch)
}
