package workunits

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// roundTrip wants a record to come back equal from its bytes.
func roundTrip[T any](t *rapid.T, want T, b []byte, parse func([]byte) (T, error)) {
	t.Helper()
	got, err := parse(b)
	if err != nil {
		t.Fatalf("%T: %v\n%x", want, err, b)
	}
	if diff := cmp.Diff(want, got, sameRecord()); diff != "" {
		t.Errorf("%T differs (-want +got):\n%s", want, diff)
	}
	if again := Encode(got); !bytes.Equal(again, Encode(want)) {
		t.Errorf("%T is encoded as %x, then as %x", want, Encode(want), again)
	}
}

func TestRoundTripBodies(t *testing.T) {
	t.Parallel()
	for k := Kind(1); k.Known(); k++ {
		t.Run(k.String(), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				want := genBody(k).Draw(t, "body")
				roundTrip(t, want, State(want).Body, func(b []byte) (Body, error) { return Statement{Kind: k, Body: b}.Decode() })
			})
		})
	}
}

func TestRoundTripRecords(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		segment := genSegment().Draw(t, "segment")
		roundTrip(t, segment, segment.Encode(), ParseSegment)
		outcome := genOutcome().Draw(t, "outcome")
		b, _ := outcome.Encode()
		roundTrip(t, outcome, b, ParseOutcome)
		announcement := genAnnouncement().Draw(t, "announcement")
		key := testKey(rapid.Byte().Draw(t, "key"))
		b = announcement.Sign(key)
		announcement.Author = NodeIDOf(key)
		announcement.Sig = sign(key, domainAnnounce, announcement.unsigned())
		roundTrip(t, announcement, b, ParseAnnouncement)
		opening := genSealedOpening().Draw(t, "opening")
		roundTrip(t, opening, Encode(opening), func(b []byte) (SealedOpening, error) { return Decode[SealedOpening](b, MaxSealed) })
	})
}

func TestRoundTripManifest(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := genManifest().Draw(t, "manifest")
		key := testKey(rapid.Byte().Draw(t, "key"))
		job, block, err := want.Sign(key)
		if err != nil {
			t.Fatal(err)
		}
		want.Publisher = NodeIDOf(key)
		roundTrip(t, want, block, func(b []byte) (Manifest, error) {
			id, m, err := ParseManifest(b)
			if id != job {
				t.Errorf("job id is %s, then %s", job, id)
			}
			return m, err
		})
	})
}
