package exchange

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/workunits"
)

// line is one stream to a source and what it was asked for. Chunks are asked for as
// those before them come, so that the source always has something to send. While one
// is read the one before it is stored: a stream that is not read all the time does
// not get a large window.
type line struct {
	f *fetch
	n workunits.NodeID
	q *queue
	p *pace
	*talk

	asked []cid.Cid   // has not come, in order
	open  []int       // how many of these each request is for
	gave  int         // chunks
	at    time.Time   // of a request for the first of which nothing else was waiting
	stop  func() bool // keeps the stream when the queue ends

	filled chan filled
	spare  chan []byte
}

// filled is a chunk that was read, in a buffer that is needed again.
type filled struct {
	c         cid.Cid
	data, buf []byte
}

// source fetches chunks from one peer over one stream until it has nothing more.
func (f *fetch) source(ctx context.Context, n workunits.NodeID, q *queue) {
	p := f.x.pace(n)
	batch := q.take(ctx, n, min(p.room(q.streams), MaxBatch))
	if len(batch) == 0 {
		return
	}
	asked := time.Now()
	for again := true; again; {
		t, kept, err := f.x.talk(ctx, n)
		if err != nil {
			q.giveBack(n, batch)
			f.lose(ctx, n, asked)
			return
		}
		l := &line{f: f, n: n, q: q, p: p, talk: t, filled: make(chan filled), spare: make(chan []byte, 2)}
		err = l.run(ctx, batch)
		if err == nil {
			if !f.x.talks.Put(n, t) {
				_ = t.Close() // it gave all that it was to
			}
			return
		}
		_ = t.Reset() // it failed
		// One that was kept may have ended since.
		again = kept && l.gave == 0 && ctx.Err() == nil && !f.x.isBanned(n)
		if again {
			batch = l.asked
			continue
		}
		q.giveBack(n, l.asked)
		if l.gave == 0 {
			f.lose(ctx, n, asked)
		}
	}
}

// lose gives a source up for this fetch if it failed by itself. One that gave nothing
// until others had done its work is asked again when those give nothing more: it may
// have been busy with many who fetch the same. What comes over another of its streams
// takes that back.
func (f *fetch) lose(ctx context.Context, n workunits.NodeID, asked time.Time) {
	if ctx.Err() != nil && time.Since(asked) < stealAfter {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if ctx.Err() != nil {
		f.late[n] = true
	} else {
		f.gone[n] = true
	}
}

// forgive has those asked again who were late, and reports whether there are any.
func (f *fetch) forgive() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	some := len(f.late) > 0
	clear(f.late)
	return some
}

func (f *fetch) found(n workunits.NodeID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.gone, n)
	delete(f.late, n)
}

// run asks for chunks and reads them. After an error those that did not come are
// in l.asked.
func (l *line) run(ctx context.Context, batch []cid.Cid) error {
	var group sync.WaitGroup
	defer group.Wait()
	defer close(l.filled)
	group.Go(func() { l.store(ctx) })
	for range cap(l.spare) {
		l.spare <- nil
	}
	if err := l.ask(ctx, batch); err != nil {
		return err
	}
	for len(l.asked) > 0 {
		if err := l.read(ctx); err != nil {
			return err
		}
		if len(l.asked) > 0 {
			continue
		}
		if !l.stop() {
			return context.Cause(ctx) // the stream is reset
		}
		if l.f.x.isBanned(l.n) {
			return errProtocol
		}
		batch := l.q.take(ctx, l.n, min(l.p.room(l.q.streams), MaxBatch))
		if len(batch) == 0 {
			return nil
		}
		if err := l.ask(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

// more asks for what there is room for, a good part of the window at a time.
func (l *line) more(ctx context.Context) error {
	most := l.p.room(l.q.streams)
	for len(l.open) < maxOpen && !l.f.x.isBanned(l.n) {
		room := most - len(l.asked)
		if room <= 0 || room < most/(maxOpen/2) {
			return nil
		}
		batch, over := l.q.more(l.n, min(room, MaxBatch))
		if over {
			l.p.starve()
		}
		if len(batch) == 0 {
			return nil
		}
		if err := l.ask(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

// ask requests chunks.
func (l *line) ask(ctx context.Context, list []cid.Cid) error {
	now := time.Now()
	if len(l.asked) == 0 {
		l.stop = context.AfterFunc(ctx, func() { _ = l.Reset() })
		l.at = now
		l.p.began(now)
	}
	l.asked, l.open = append(l.asked, list...), append(l.open, len(list))
	if err := l.SetDeadline(now.Add(blockTime)); err != nil {
		return err
	}
	return writeRequest(l.w, list)
}

// read reads the next chunk and has it stored.
func (l *line) read(ctx context.Context) error {
	meter := l.f.x.meter(l.n)
	pass := func(n, of int) error {
		if err := meter.Receive(ctx, l.f, n); err != nil {
			l.q.fail(err)
			return err
		}
		l.p.came(n, of, time.Now())
		l.q.paced(l.n, l.p.chunks())
		if err := l.more(ctx); err != nil {
			return err
		}
		return l.patient(n)
	}
	buf := <-l.spare // whoever stores gives it back
	if err := l.patient(1); err != nil {
		return err
	}
	if _, err := l.r.Peek(1); err == nil && !l.at.IsZero() {
		l.p.answered(time.Since(l.at))
		l.at = time.Time{}
	}
	data, err := readAnswer(l.r, &buf, pass)
	if errors.Is(err, errProtocol) {
		l.f.x.ban(l.n)
	}
	if err != nil {
		return err
	}
	c := l.asked[0]
	l.asked = l.asked[1:]
	if l.open[0]--; l.open[0] == 0 {
		l.open = l.open[1:]
	}
	if data == nil {
		l.spare <- buf
		l.q.giveBack(l.n, []cid.Cid{c})
		return nil
	}
	l.gave++
	l.filled <- filled{c, data, buf}
	return nil
}

// store stores what is read, and resets the stream after what cannot be stored.
func (l *line) store(ctx context.Context) {
	for got := range l.filled {
		if err := l.f.arrived(ctx, l.n, l.q, got.c, got.data); err != nil {
			_ = l.Reset() // the source lies, or the fetch ends
			l.q.giveBack(l.n, []cid.Cid{got.c})
		}
		l.spare <- got.buf
	}
}

// patient waits for n bytes as long as for a piece. What has come already is read
// even if the source has closed the stream since.
func (l *line) patient(n int) error {
	if l.r.Buffered() >= n {
		return nil
	}
	return l.SetDeadline(time.Now().Add(blockTime))
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
	f.found(n)
	f.x.fetched.Add(int64(len(data)))
	if q.got(n, c) {
		f.count(Source{n.String(), false}, len(data))
	} else {
		f.x.twice.Add(int64(len(data)))
	}
	return nil
}
