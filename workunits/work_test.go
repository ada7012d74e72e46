package workunits

import "testing"

func TestWork(t *testing.T) {
	t.Parallel()
	a, b := testNode(1), testNode(2)
	const want = 12
	proof := FindWork("net", a, want, 1, 1<<20)
	if Work("net", a, proof) < want {
		t.Fatalf("proof %x shows %d bits, want %d", proof, Work("net", a, proof), want)
	}
	// Another's proof shows what chance gives, and what is no proof nothing.
	if Work("net", b, proof) >= want || Work("other", a, proof) >= want {
		t.Error("a proof serves another node or network")
	}
	for _, bad := range [][]byte{nil, proof[:7], append([]byte{0}, proof...)} {
		if w := Work("net", a, bad); w != 0 {
			t.Errorf("%x shows %d bits", bad, w)
		}
	}
	if FindWork("net", a, MaxWork, 0, 1000) != nil {
		t.Error("a thousand tries give 48 bits")
	}
}

func TestAdmits(t *testing.T) {
	t.Parallel()
	publisher, trusted, other := testNode(1), testNode(2), testNode(3)
	m := Manifest{Network: "net", Publisher: publisher, Policy: Policy{Work: 12, Trusted: []NodeID{trusted}}}
	proof := FindWork("net", other, 12, 0, 1<<20)
	if !m.Admits(publisher, nil) || !m.Admits(trusted, nil) || !m.Admits(other, proof) {
		t.Error("one is kept out who is trusted or has worked")
	}
	if m.Admits(other, nil) || m.Admits(testNode(4), proof) {
		t.Error("one is let in who has not worked")
	}
	if m.Policy.Work = 0; !m.Admits(other, nil) {
		t.Error("where no work is asked, one is kept out")
	}
}

func BenchmarkWork(b *testing.B) {
	proof := FindWork("net", testNode(1), 8, 0, 1<<20)
	b.Run("check", func(b *testing.B) {
		for b.Loop() {
			Work("net", testNode(1), proof)
		}
	})
	b.Run("try", func(b *testing.B) { FindWork("net", testNode(1), 256, 0, uint64(b.N)) })
}
