package exchange

import (
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
)

// asking is a queue of so many chunks of which sources have brought some at these
// rates, in chunks a second, and bring as many now.
func asking(t *testing.T, chunks int, rates, open []int) (q *queue, now time.Time) {
	t.Helper()
	list := make([]cid.Cid, chunks)
	for i := range list {
		sum, err := mh.Sum([]byte{byte(i)}, mh.BLAKE3, -1)
		if err != nil {
			t.Fatal(err)
		}
		list[i] = cid.NewCidV1(cid.Raw, sum)
	}
	q, now = newQueue(list, perSource, len(rates), nil), time.Now()
	for i, rate := range rates {
		*q.of(id(byte(i))) = supply{heard: now, rate: float64(rate), open: open[i]}
	}
	return q, now
}

// TestLastChunk: a chunk that is left goes to who brings it first, and is not left by
// each to the others.
func TestLastChunk(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		rates, open []int
		want        []bool // is given the chunk
	}{
		"all idle":      {[]int{5, 5, 5, 5}, []int{0, 0, 0, 0}, []bool{true, true, true, true}},
		"all at work":   {[]int{5, 5, 5, 5}, []int{1, 1, 1, 1}, []bool{true, true, true, true}},
		"one has much":  {[]int{5, 5, 5, 5}, []int{9, 0, 0, 0}, []bool{false, true, true, true}},
		"one is slow":   {[]int{1, 9, 9, 9}, []int{0, 1, 1, 1}, []bool{false, true, true, true}},
		"slow but free": {[]int{3, 9, 9, 9}, []int{0, 9, 9, 9}, []bool{true, false, false, false}},
	} {
		for i, want := range c.want {
			q, now := asking(t, 1, c.rates, c.open)
			if batch, wait := q.next(id(byte(i)), 1, now); len(batch) == 1 != want || !want && (wait <= 0 || wait > 100*time.Millisecond) {
				t.Errorf("%s: source %d is given %d chunks and waits %v", name, i, len(batch), wait)
			}
		}
	}
}

// TestSlowSource: who is far behind the others has one chunk at a time. All are slow
// while the windows of their streams are small.
func TestSlowSource(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		rates []int
		want  bool // the first is given more than one
	}{
		"not known":   {[]int{0, 9}, false},
		"all slow":    {[]int{1, 1}, true},
		"slower":      {[]int{1, 2}, true},
		"far slower":  {[]int{1, 3}, false},
		"fast enough": {[]int{2, 9}, true},
	} {
		q, now := asking(t, 100, c.rates, []int{1, 1})
		if batch, _ := q.next(id(0), 1, now); len(batch) == 1 != c.want {
			t.Errorf("%s: %d chunks", name, len(batch))
		}
	}
}
