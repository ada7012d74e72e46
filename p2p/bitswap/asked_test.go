package bitswap

import (
	"testing"
	"time"

	blocks "github.com/ipfs/go-block-format"
	mh "github.com/multiformats/go-multihash"
)

// The server runs while somebody wants something, and for a while after that.
func TestServerRunsWhenAsked(t *testing.T) {
	t.Parallel()
	a, b := newNode(t), newNode(t)
	runs := func() bool { return a.serve.running(false) != nil }
	a.connect(t, b)
	ctx := limit(t)
	for round := range 2 {
		if runs() {
			t.Fatal("it runs before anybody asks")
		}
		data := chunk(t, mh.BLAKE3, []byte{byte(round)})
		if err := a.store.PutMany(ctx, []blocks.Block{data}); err != nil {
			t.Fatal(err)
		}
		a.keep(t, data.Cid())
		if got, err := b.block(ctx, data.Cid()); err != nil || string(got.RawData()) != string(data.RawData()) {
			t.Fatal(got, err)
		}
		if !runs() {
			t.Error("it does not run when asked")
		}
		a.serve.quiet(time.Now()) // just asked
		if !runs() {
			t.Error("it has ended at once")
		}
		for a.serve.quiet(time.Now().Add(unasked)); runs(); a.serve.quiet(time.Now().Add(unasked)) {
			if ctx.Err() != nil {
				t.Fatal("it goes on") // the cancel of what was got may still be on its way
			}
		}
	}
}
