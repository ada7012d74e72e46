package exchange

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
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
	defer x.cfg.Store.Hold(root)()
	f := &fetch{x: x, ctx: ctx, root: root, progress: progress, gone: map[workunits.NodeID]bool{}}
	f.sources = f.usable(hints)
	if err := f.all(root); err != nil {
		return fmt.Errorf("fetch %s: %w", root, err)
	}
	return nil
}

// FetchEntry brings an entry of a folder and all below it into the store, and no
// more of the folder than leads there. Otherwise it is Fetch.
func (x *Exchange) FetchEntry(ctx context.Context, root cid.Cid, name string, hints []workunits.NodeID) (cid.Cid, error) {
	defer x.cfg.Store.Hold(root)()
	f := &fetch{x: x, ctx: ctx, root: root, gone: map[workunits.NodeID]bool{}}
	f.sources = f.usable(hints)
	entry, err := f.entry(name)
	if err == nil {
		err = f.all(entry)
	}
	if err != nil {
		return cid.Undef, fmt.Errorf("fetch %.40q of %s: %w", name, root, err)
	}
	return entry, nil
}

// entry finds an entry of the root, bringing what is missing on the way.
func (f *fetch) entry(name string) (cid.Cid, error) {
	for range maxLevels {
		entry, err := f.x.cfg.Store.Entry(f.ctx, f.root, name)
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
	searched bool
	pauses   int // taken
	progress Progress

	mu   sync.Mutex
	done int64
	gone map[workunits.NodeID]bool // did not answer
}

// all walks the levels of the DAG below a node.
func (f *fetch) all(top cid.Cid) error {
	nodes := map[cid.Cid]bool{} // with children, met on any level
	level := []cid.Cid{top}
	for seen, depth := 0, 0; len(level) > 0; depth++ {
		if seen += len(level); seen > maxFetched || depth > maxLevels {
			return fmt.Errorf("more than %d chunks or %d levels: %w", maxFetched, maxLevels, chunkstore.ErrForeign)
		}
		for part := range slices.Chunk(level, window) {
			if err := f.bring(part); err != nil {
				return err
			}
		}
		next, err := f.below(level, nodes)
		if err != nil {
			return err
		}
		level = next
	}
	return nil
}

// below lists the children of chunks that are here, each once.
func (f *fetch) below(level []cid.Cid, nodes map[cid.Cid]bool) (next []cid.Cid, err error) {
	leaves := map[cid.Cid]bool{}
	for _, c := range level {
		if c.Prefix().Codec != cid.DagProtobuf {
			continue
		}
		if f.ctx.Err() != nil {
			return nil, context.Cause(f.ctx)
		}
		b, err := f.x.cfg.Store.Get(f.ctx, c)
		if err != nil {
			return nil, err
		}
		links, err := chunkstore.Links(b)
		if err != nil {
			return nil, err
		}
		for _, l := range links {
			seen := leaves
			if l.Prefix().Codec == cid.DagProtobuf {
				seen = nodes
			}
			if !seen[l] {
				seen[l] = true
				next = append(next, l)
			}
		}
	}
	return next, nil
}

// usable lists the nodes that may be asked, each once.
func (f *fetch) usable(nodes []workunits.NodeID) (list []workunits.NodeID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range nodes {
		if len(list) < maxHints && n != f.x.cfg.Self && !f.gone[n] && !f.x.isBanned(n) && !slices.Contains(list, n) {
			list = append(list, n)
		}
	}
	return list
}

// bring brings the chunks here that are missing.
func (f *fetch) bring(list []cid.Cid) error {
	for {
		missing, err := f.missing(list)
		if err != nil || len(missing) == 0 {
			return err
		}
		f.sources = f.usable(f.sources)
		left, err := f.from(missing)
		if err != nil || len(left) == 0 {
			return err
		}
		if len(left) < len(missing) {
			continue // a stream that broke is not the end of its source
		}
		if again, err := f.pause(); err != nil {
			return err
		} else if again {
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
		before := len(f.sources)
		f.sources = f.usable(append(slices.Clone(f.sources), found...))
		if err != nil || len(f.sources) <= before {
			return f.others(missing)
		}
	}
}

// pause waits before the hinted sources that answer are asked again, a few times
// for a fetch: they may be about to have, or about to be allowed to serve, what
// they were named for.
func (f *fetch) pause() (again bool, err error) {
	if f.searched || f.pauses == len(pauses) || len(f.usable(f.sources)) == 0 {
		return false, nil
	}
	timer := time.NewTimer(pauses[f.pauses])
	defer timer.Stop()
	f.pauses++
	select {
	case <-timer.C:
		return true, nil
	case <-f.ctx.Done():
		return false, context.Cause(f.ctx)
	}
}

func (f *fetch) missing(level []cid.Cid) (list []cid.Cid, err error) {
	for _, c := range level {
		ok, err := f.x.cfg.Store.Has(f.ctx, c)
		if err != nil {
			return nil, err
		}
		if !ok {
			list = append(list, c)
		}
	}
	return list, nil
}

// others brings chunks by the fallback, and ends with the first that it lacks.
func (f *fetch) others(missing []cid.Cid) error {
	if f.x.cfg.Fallback == nil {
		return fmt.Errorf("%s: %w", missing[0], ErrNotFound)
	}
	ctx, cancel := context.WithCancelCause(f.ctx)
	defer cancel(nil)
	work := make(chan cid.Cid)
	var group sync.WaitGroup
	for range min(others, len(missing)) {
		group.Go(func() {
			for c := range work {
				if err := f.other(ctx, c); err != nil {
					cancel(err)
				}
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

func (f *fetch) other(ctx context.Context, c cid.Cid) error {
	limited, cancel := context.WithTimeout(ctx, otherTime)
	defer cancel()
	b, err := f.x.cfg.Fallback.Block(limited, c)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %w", c, ErrNotFound, err)
	}
	if err := f.put(ctx, c, b.RawData()); err != nil {
		return err
	}
	f.count(len(b.RawData()))
	return nil
}

func (f *fetch) put(ctx context.Context, c cid.Cid, data []byte) error {
	b, err := blocks.NewBlockWithCid(data, c)
	if err != nil {
		return err
	}
	return f.x.cfg.Store.Put(ctx, b)
}

func (f *fetch) count(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done += int64(n)
	if f.progress != nil {
		f.progress(f.done, 0)
	}
}

// from fetches chunks from the sources and returns those that none of them gave.
// The error is the cause of ctx or what the store says.
func (f *fetch) from(list []cid.Cid) (left []cid.Cid, err error) {
	ctx, cancel := context.WithCancelCause(f.ctx)
	defer cancel(nil)
	streams := min(perSource, (len(list)+MaxBatch-1)/MaxBatch)
	if len(f.sources) > 1 {
		list = shuffled(list, f.x.cfg.Self)
	}
	q := newQueue(list, streams*min(len(f.sources), maxSources), cancel)
	slots := make(chan struct{}, maxSources)
	var group sync.WaitGroup
	for _, n := range f.sources {
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

// source fetches batches from one peer over one stream until it has nothing more.
// The next batch is asked for before the one before it is read, so that the peer
// always has something to send.
func (f *fetch) source(ctx context.Context, n workunits.NodeID, q *queue) {
	p := f.x.pace(n)
	most, _ := p.batch()
	batch := q.take(ctx, n, most)
	if len(batch) == 0 {
		return
	}
	asked := time.Now()
	opening, cancel := context.WithTimeout(ctx, openTime)
	s, err := f.x.cfg.Streams.Open(opening, n, Protocol)
	cancel()
	if err != nil {
		q.giveBack(n, batch)
		f.lose(ctx, n, asked)
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	l := &line{f: f, n: n, q: q, p: p, s: s, r: bufio.NewReaderSize(s, 64<<10), w: bufio.NewWriter(s)}
	err = l.ask(batch)
	for err == nil && len(batch) > 0 {
		asked = time.Now()
		var next []cid.Cid
		if most, ahead := p.batch(); ahead {
			next = q.more(n, most)
		}
		if len(next) > 0 {
			err = l.ask(next)
		}
		var left []cid.Cid
		if err == nil {
			left, err = l.read(ctx, batch)
		} else {
			left = batch
		}
		q.giveBack(n, left)
		if err != nil {
			if l.gave == 0 {
				f.lose(ctx, n, asked)
			}
			q.giveBack(n, next)
			break
		}
		if batch = next; len(batch) == 0 && !f.x.isBanned(n) {
			most, _ := p.batch()
			if batch = q.take(ctx, n, most); len(batch) > 0 {
				err = l.ask(batch)
			}
		}
	}
	if err != nil {
		_ = s.Reset()
		return
	}
	_ = s.Close()
}

// lose gives a source up for this fetch if it failed by itself, or if it gave
// nothing until others had done its work.
func (f *fetch) lose(ctx context.Context, n workunits.NodeID, asked time.Time) {
	if ctx.Err() != nil && time.Since(asked) < stealAfter {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gone[n] = true
}

// line is one stream to a source.
type line struct {
	f    *fetch
	n    workunits.NodeID
	q    *queue
	p    *pace
	s    Stream
	r    *bufio.Reader
	w    *bufio.Writer
	buf  []byte    // of the chunk that is read now
	gave int       // chunks
	open int       // requests that are not answered
	at   time.Time // when the first of them was made
}

// ask requests chunks.
func (l *line) ask(list []cid.Cid) error {
	now := time.Now()
	if l.open == 0 {
		l.at = now
		l.p.began(now)
	}
	l.open++
	if err := l.s.SetDeadline(now.Add(blockTime)); err != nil {
		return err
	}
	return writeRequest(l.w, list)
}

// read stores the answer to a request. It returns the chunks that did not come.
func (l *line) read(ctx context.Context, list []cid.Cid) (left []cid.Cid, err error) {
	defer func() { l.open-- }()
	meter := l.f.x.meter(l.n)
	pass := func(n int) error {
		if err := meter.receiving(ctx, n); err != nil {
			l.q.fail(err)
			return err
		}
		return l.patient(n)
	}
	for i, c := range list {
		if err := l.patient(1); err != nil {
			return append(left, list[i:]...), err
		}
		if _, err := l.r.Peek(1); err == nil && !l.at.IsZero() {
			l.p.answered(time.Since(l.at))
			l.at = time.Time{}
		}
		data, err := readAnswer(l.r, &l.buf, pass)
		if errors.Is(err, errProtocol) {
			l.f.x.ban(l.n)
		}
		if err != nil {
			return append(left, list[i:]...), err
		}
		if data == nil {
			left = append(left, c)
			continue
		}
		l.p.came(len(data), time.Now())
		l.gave++
		if err := l.f.arrived(ctx, l.n, l.q, c, data); err != nil {
			return append(left, list[i:]...), err
		}
	}
	return left, nil
}

// patient waits for n bytes as long as for a piece. What has come already is read
// even if the source has closed the stream since.
func (l *line) patient(n int) error {
	if l.r.Buffered() >= n {
		return nil
	}
	return l.s.SetDeadline(time.Now().Add(blockTime))
}

// arrived stores what a source sent. What is wrong bans the source; what the
// store cannot take ends the fetch.
func (f *fetch) arrived(ctx context.Context, n workunits.NodeID, q *queue, c cid.Cid, data []byte) error {
	switch err := f.put(ctx, c, data); {
	case errors.Is(err, chunkstore.ErrDamaged):
		f.x.ban(n)
		return err
	case err != nil:
		q.fail(err)
		return err
	}
	f.x.fetched.Add(int64(len(data)))
	if q.got(n, c, f.x.pace(n).chunks()) {
		f.count(len(data))
	} else {
		f.x.twice.Add(int64(len(data)))
	}
	return nil
}
