package exchange

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/workunits"
)

// Progress tells how many bytes were fetched; their total is not known before.
// Calls follow one another, on any goroutine.
type Progress func(done, total int64)

// Fetch brings a root and all below it into the store: from the hinted nodes,
// else from those that the finder names, else by the fallback. It ends with
// ErrNotFound once nobody has a chunk, with the cause of ctx, or with the error of
// the store; what came until then stays for the next try. What is fetched is
// covered until Fetch returns: Keep it before or at once.
func (x *Exchange) Fetch(ctx context.Context, root cid.Cid, hints []workunits.NodeID, progress Progress) error {
	_, err := x.Collect(ctx, root, hints, progress)
	return err
}

// Collect is Fetch, and tells where the content came from.
func (x *Exchange) Collect(ctx context.Context, root cid.Cid, hints []workunits.NodeID, progress Progress) (Origin, error) {
	defer x.cfg.Store.Hold(root)()
	f := x.fetch(ctx, root, hints)
	f.progress = progress
	err := f.all(chunkstore.Selection{}.First(root))
	if err != nil {
		err = fmt.Errorf("fetch %s: %w", root, err)
	}
	return f.origin(), err
}

// FetchEntry brings an entry of a folder and all below it into the store, and no
// more of the folder than leads there. Otherwise it is Fetch.
func (x *Exchange) FetchEntry(ctx context.Context, root cid.Cid, name string, hints []workunits.NodeID) (cid.Cid, error) {
	defer x.cfg.Store.Hold(root)()
	f := x.fetch(ctx, root, hints)
	entry, err := f.follow([]string{name})
	if err == nil {
		err = f.all(chunkstore.Selection{}.First(entry))
	}
	if err != nil {
		return cid.Undef, fmt.Errorf("fetch %.40q of %s: %w", name, root, err)
	}
	return entry, nil
}

// Archive writes what is selected of a root, as a content archive (CAR), to what begin
// returns, after bringing that into the store and no more. It calls begin once all is
// here: an error before is of Fetch, or as of Open for what the path leads to.
func (x *Exchange) Archive(ctx context.Context, root cid.Cid, sel chunkstore.Selection, hints []workunits.NodeID, begin func() io.Writer) error {
	defer x.cfg.Store.Hold(root)()
	f := x.fetch(ctx, root, hints)
	top, err := f.follow(sel.Path)
	if err == nil {
		err = f.all(sel.First(top))
	}
	if err != nil {
		return fmt.Errorf("archive of %s: %w", root, err)
	}
	return x.cfg.Store.Export(ctx, root, sel, begin())
}

// follow finds what a path of names leads to from the root, bringing what is missing
// on the way.
func (f *fetch) follow(path []string) (cid.Cid, error) {
	if len(path) > maxSegments {
		return cid.Undef, fmt.Errorf("a path of more than %d names: %w", maxSegments, chunkstore.ErrForeign)
	}
	at := f.root
	for _, name := range path {
		next, err := f.entry(at, name)
		if err != nil {
			return cid.Undef, err
		}
		at = next
	}
	return at, nil
}

// entry finds an entry of a folder.
func (f *fetch) entry(folder cid.Cid, name string) (cid.Cid, error) {
	for range maxLevels {
		entry, err := f.x.cfg.Store.Entry(f.ctx, folder, name)
		var missing ipld.ErrNotFound
		if err == nil || !errors.As(err, &missing) {
			return entry, err
		}
		if err := f.bring([]cid.Cid{missing.Cid}); err != nil {
			return cid.Undef, err
		}
	}
	return cid.Undef, fmt.Errorf("more than %d levels: %w", maxLevels, chunkstore.ErrForeign)
}

// fetch is one call of Fetch.
type fetch struct {
	x        *Exchange
	ctx      context.Context
	root     cid.Cid
	sources  []workunits.NodeID
	reserve  []workunits.NodeID // sources once the others have nothing
	crowd    bool               // sources may be fetching, too; see FetchNear
	searched bool
	pauses   int // taken
	progress Progress
	session  func(context.Context, cid.Cid) (Found, error) // of the fallback, once it is needed
	here     int64                                         // bytes that were here before

	mu      sync.Mutex
	done    int64
	came    map[Source]int64          // bytes
	gone    map[workunits.NodeID]bool // did not answer
	late    map[workunits.NodeID]bool // had given nothing when others had given all that was wanted
	left    int64                     // bytes that may still come; below zero: without limit
	soonest time.Duration             // the fallback's fastest answer
}

func (x *Exchange) fetch(ctx context.Context, root cid.Cid, hints []workunits.NodeID) *fetch {
	f := &fetch{x: x, ctx: ctx, root: root, came: map[Source]int64{}, gone: map[workunits.NodeID]bool{}, late: map[workunits.NodeID]bool{}}
	f.sources = slices.Clone(hints)
	f.left, f.soonest = -1, math.MaxInt64
	if left, limited, err := x.cfg.Store.Left(root); limited || err != nil {
		f.left = left
	}
	return f
}

// take takes n bytes of what may still come.
func (f *fetch) take(n int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left < 0 {
		return nil
	}
	if int64(n) > f.left {
		return fmt.Errorf("%w: it may be larger (disk_share), or something of it may go", chunkstore.ErrShare)
	}
	f.left -= int64(n)
	return nil
}

// Source is what content came from: a peer, over this protocol or by the fallback.
type Source struct {
	Peer     string
	Fallback bool
}

// Origin tells where content came from, in bytes: who gave how much, who gave most
// first, and what was here before.
type Origin struct {
	Sources []Given
	Here    int64
}

// Given is what a source gave.
type Given struct {
	Source
	Bytes int64
}

func (f *fetch) origin() Origin {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := Origin{Here: f.here}
	for s, n := range f.came {
		o.Sources = append(o.Sources, Given{s, n})
	}
	slices.SortFunc(o.Sources, func(a, b Given) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Peer, b.Peer))
	})
	return o
}

// all walks the levels of what a step leads to.
func (f *fetch) all(first chunkstore.Step) error {
	nodes := map[chunkstore.Step]bool{} // with children, met on any level
	level := []chunkstore.Step{first}
	for left, depth := maxFetched-1, 0; len(level) > 0; depth++ {
		if depth > maxLevels {
			return fmt.Errorf("more than %d levels: %w", maxLevels, chunkstore.ErrForeign)
		}
		for part := range slices.Chunk(level, window) {
			if err := f.bring(cids(part)); err != nil {
				return err
			}
		}
		next, err := f.below(level, nodes, left)
		if err != nil {
			return err
		}
		level, left = next, left-len(next)
	}
	return nil
}

// cids are those of steps, each once.
func cids(steps []chunkstore.Step) []cid.Cid {
	seen, list := make(map[cid.Cid]bool, len(steps)), make([]cid.Cid, 0, len(steps))
	for _, s := range steps {
		if !seen[s.Cid] {
			seen[s.Cid] = true
			list = append(list, s.Cid)
		}
	}
	return list
}

// below lists the steps from chunks that are here, each once, if there are no more than
// most.
func (f *fetch) below(level []chunkstore.Step, nodes map[chunkstore.Step]bool, most int) (next []chunkstore.Step, err error) {
	leaves := map[chunkstore.Step]bool{}
	for _, at := range level {
		if at.Cid.Prefix().Codec != cid.DagProtobuf {
			continue
		}
		if f.ctx.Err() != nil {
			return nil, context.Cause(f.ctx)
		}
		b, err := f.x.cfg.Store.Get(f.ctx, at.Cid)
		if err != nil {
			return nil, err
		}
		steps, err := at.Below(b)
		if err != nil {
			return nil, err
		}
		for _, s := range steps {
			seen := leaves
			if s.Cid.Prefix().Codec == cid.DagProtobuf {
				seen = nodes
			}
			if seen[s] {
				continue
			}
			if len(next) == most {
				return nil, fmt.Errorf("more than %d chunks: %w", maxFetched, chunkstore.ErrForeign)
			}
			seen[s] = true
			next = append(next, s)
		}
	}
	return next, nil
}

// usable lists the nodes that may be asked, each once.
func (f *fetch) usable(nodes []workunits.NodeID) (list []workunits.NodeID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range nodes {
		if len(list) < maxHints && n != f.x.cfg.Self && !f.gone[n] && !f.late[n] && !f.x.isBanned(n) && !slices.Contains(list, n) {
			list = append(list, n)
		}
	}
	return list
}

// bring brings the chunks here that are missing.
func (f *fetch) bring(list []cid.Cid) error {
	for first := true; ; first = false {
		missing, here, err := f.missing(list)
		if first {
			f.here += here
		}
		if err != nil || len(missing) == 0 {
			return err
		}
		left, err := f.from(missing)
		if err != nil || len(left) == 0 {
			return err
		}
		if len(left) < len(missing) {
			if f.crowd {
				f.pauses = 0 // they are fetching, too
			}
			continue // a stream that broke is not the end of its source
		}
		if f.forgive() {
			continue
		}
		if again, err := f.pause(); err != nil {
			return err
		} else if again {
			continue
		}
		if len(f.reserve) > 0 {
			f.sources, f.reserve, f.pauses = append(f.sources, f.reserve...), nil, 0
			continue
		}
		if f.searched || f.x.cfg.Finder == nil {
			return f.others(missing)
		}
		f.searched = true
		ctx, cancel := context.WithTimeout(f.ctx, findTime)
		found, err := f.x.cfg.Finder.FindProviders(ctx, f.root, maxSources)
		cancel()
		if f.ctx.Err() != nil {
			return context.Cause(f.ctx)
		}
		before := len(f.usable(f.sources))
		f.sources = append(f.sources, found...)
		if err != nil || len(f.usable(f.sources)) <= before {
			return f.others(missing)
		}
	}
}

// missing lists the chunks that are not here, and tells the bytes of those that are.
func (f *fetch) missing(level []cid.Cid) (list []cid.Cid, here int64, err error) {
	for _, c := range level {
		size, err := f.x.cfg.Store.GetSize(f.ctx, c)
		switch {
		case err == nil:
			here += int64(size)
		case errors.Is(err, chunkstore.ErrNotFound):
			if err := chunkstore.Storable(c); err != nil {
				return nil, 0, err // nobody is asked for it
			}
			list = append(list, c)
		default:
			return nil, 0, err
		}
	}
	return list, here, nil
}

// others brings chunks by the fallback, and ends with the first that it lacks.
func (f *fetch) others(missing []cid.Cid) error {
	if f.x.cfg.Fallback == nil {
		return fmt.Errorf("%s: %w", missing[0], ErrNotFound)
	}
	ctx, cancel := context.WithCancelCause(f.ctx)
	defer cancel(nil)
	quiet := time.AfterFunc(otherTime, func() { cancel(fmt.Errorf("%s: nothing came for a while: %w", missing[0], ErrNotFound)) })
	defer quiet.Stop()
	if f.session == nil {
		f.session = f.x.cfg.Fallback.Session(f.ctx)
	}
	work := make(chan cid.Cid)
	var group sync.WaitGroup
	for range min(f.ahead(), len(missing)) {
		group.Go(func() {
			for c := range work {
				err := f.other(ctx, c)
				if err != nil {
					cancel(err)
				}
				quiet.Reset(otherNext)
			}
		})
	}
	for _, c := range missing {
		if ctx.Err() != nil {
			break
		}
		select {
		case work <- c:
		case <-ctx.Done():
		}
	}
	close(work)
	group.Wait()
	return context.Cause(ctx)
}

// ahead is how many chunks are asked of the fallback at a time.
func (f *fetch) ahead() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.soonest <= nearTime {
		return nearOthers
	}
	return others
}

func (f *fetch) other(ctx context.Context, c cid.Cid) error {
	begun := time.Now()
	found, err := f.session(ctx, c)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %w", c, ErrNotFound, err)
	}
	f.mu.Lock()
	f.soonest = min(f.soonest, time.Since(begun))
	f.mu.Unlock()
	if err := f.put(ctx, c, found.Data); err != nil {
		return err
	}
	f.count(Source{found.From, true}, len(found.Data))
	return nil
}

func (f *fetch) put(ctx context.Context, c cid.Cid, data []byte) error {
	b, err := blocks.NewBlockWithCid(data, c)
	if err != nil {
		return err
	}
	if err := f.take(len(data)); err != nil {
		return err
	}
	return f.x.cfg.Store.Put(ctx, b)
}

func (f *fetch) count(from Source, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done += int64(n)
	if n > 0 {
		f.came[from] += int64(n)
	}
	if f.progress != nil {
		f.progress(f.done, 0)
	}
}

// from fetches chunks from the sources and returns those that none of them gave.
// The error is the cause of ctx or what the store says.
func (f *fetch) from(list []cid.Cid) (left []cid.Cid, err error) {
	ctx, cancel := context.WithCancelCause(f.ctx)
	defer cancel(nil)
	streams, sources := ofOne, f.usable(f.sources)
	switch {
	case len(sources) > 1:
		streams = perSource
		list = shuffled(list, f.x.cfg.Self)
	case len(sources) == 1 && f.x.pace(sources[0]).far():
		streams = ofFar
	}
	streams = min(streams, len(list))
	q := newQueue(list, streams, min(len(sources), maxSources), cancel)
	slots := make(chan struct{}, maxSources)
	var group sync.WaitGroup
	for _, n := range sources {
		group.Go(func() {
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
			case <-ctx.Done():
				return
			}
			var group sync.WaitGroup
			for range streams {
				group.Go(func() { f.source(ctx, n, q) })
			}
			group.Wait()
		})
	}
	group.Wait()
	if f.ctx.Err() != nil {
		return nil, context.Cause(f.ctx)
	}
	return q.rest()
}

// shuffled is the order in which a node asks for chunks: many who ask at once ask
// for different ones, and give them to each other.
func shuffled(list []cid.Cid, self workunits.NodeID) []cid.Cid {
	list = slices.Clone(list)
	//nolint:gosec // it is to differ between nodes, not to be a secret
	rng := rand.New(rand.NewPCG(binary.BigEndian.Uint64(self[:8]), binary.BigEndian.Uint64(self[8:16])))
	rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}
