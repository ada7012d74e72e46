// Package workunits is Talka's vocabulary: the ids, records and statements
// that nodes sign, hash, keep and send, and the limits on each of them.
//
// # Encoding
//
// Everything signed or hashed is dag-cbor: length-first sorted string keys, tag
// 42 for CIDs, shortest integers, 64-bit floats, no indefinite lengths. Decode
// accepts nothing else: it decodes, encodes again and compares.
//
// # Statements
//
// What a node says about a job is a log: statements numbered from 0, each bound
// to the one before by a hash chain (see [Segment]). A signature covers a
// segment, a run of statements of one log. Two signed segments that give
// different statements the same place prove that their author equivocated.
// Kinds that this version does not know are carried as opaque bytes.
//
// # Words
//
//   - node: one running Talka process with one identity; a peer is another node
//   - network: the nodes that share a network name
//   - project: a publisher's key plus a name; what a volunteer consents to support
//   - publisher: the node that signs jobs of a project
//   - volunteer: a node that executes units
//   - steward: a node that looks after a job: grants units, keeps its ledger and its results
//   - job: a signed manifest: program, inputs, units, limits, verification policy
//   - program: a WebAssembly module (WASI preview 1 command) with its CID
//   - unit: one independent piece of a job, numbered from 0
//   - copy: one execution of a unit by one volunteer
//   - grant: a steward's signed, expiring permission to execute units; its units are a batch, its time a lease
//   - commit, opening: the sealed digest of a copy's result; what unseals it
//   - receipt: a steward's word that it holds a commit or (storage receipt) a result
//   - draw: the random decision whether a unit needs another copy, and by whom
//   - head: co-signed fingerprint of the ledger
//   - shard: a run of consecutive units; the steward that grants in it now is its primary
//   - ledger: the grow-only set of signed statements about a job
//   - verdict: what the ledger implies for a unit
//   - accepted: a unit whose verdict names a result; settled once the publisher has sealed it
//   - void: a copy that counts neither for nor against anyone
//   - burn, strike: a volunteer proven wrong loses its stake; each time is a strike
//   - stake: accepted copies of a volunteer within a project
//   - standing: a project's signed table of stakes carried from job to job
//   - custodian: a steward that keeps the sealed openings of a grant's copies
//
// The package is pure: no clock, no randomness of its own, no I/O. All values
// are safe for concurrent reads.
package workunits
