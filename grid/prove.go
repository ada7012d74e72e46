package grid

import (
	"context"
	"crypto/rand"
	"encoding/binary"

	"github.com/talka-grid/talka/grid/steward"
	"github.com/talka-grid/talka/workunits"
)

// proveStep is how many tries are made between two looks at whether to go on.
const proveStep = 1 << 20

// prove finds the proof of work that this node's identity needs in its network,
// once for all its jobs. It takes one processor about half a minute where
// strangers meet.
func (n *Node) prove(ctx context.Context) {
	var start [8]byte
	rand.Read(start[:])
	n.log.Info("works for an identity, once", "bits", n.cfg.Work)
	for first := binary.BigEndian.Uint64(start[:]); ctx.Err() == nil; first += proveStep {
		proof := workunits.FindWork(n.cfg.Network, n.self, n.cfg.Work, first, proveStep)
		if proof == nil {
			continue
		}
		n.post(func() {
			if err := n.db.setProof(n.cfg.Network, proof); err != nil {
				n.log.Warn("keep the proof of work", "err", err)
			}
			n.proof = proof
			for _, j := range n.sortedJobs() {
				n.volunteerFor(j)
			}
			n.changed()
		})
		return
	}
}

// proofFor is the proof that the job asks for, nil where it asks for none.
func (n *Node) proofFor(j *job) []byte {
	if j.manifest.Policy.Work == 0 {
		return nil
	}
	return n.proof
}

// price is what the job's policy counts for an identity: the time that its proof
// of work takes, in units. Where none is asked, people let members in, which is
// taken to be worth the most that the law allows.
func (n *Node) price(m workunits.Manifest) float64 {
	if n.cfg.Work == 0 || m.Nominal == 0 {
		return workunits.MaxPrice
	}
	return min(workunits.MaxPrice, workunits.WorkMillis(n.cfg.Work)/float64(m.Nominal))
}

// identity is how this node begins its log in a job.
func (n *Node) identity(j *job) workunits.Identity {
	enc, _ := workunits.EncryptionKey(n.cfg.Key)
	id := workunits.Identity{Enc: enc, Arch: n.cfg.Arch, Proof: n.proofFor(j)}
	return steward.Identify(id, j.manifest, chainSecret(n.cfg.Key, j.id))
}
