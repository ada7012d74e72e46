package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/chunkstore/exchange"
	"github.com/talka-grid/talka/configs"
	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/p2p"
	"github.com/talka-grid/talka/p2p/bitswap"
	"github.com/talka-grid/talka/workunits"
)

// chunksDir is the folder of the store in a data directory.
const chunksDir = "chunks"

// bytesPerFile bounds the files of a store by its quota, as file systems do with
// theirs. Source trees have some 10 KiB a file.
const bytesPerFile = 4096

// checkpointShare is how many bytes of the quota are for what copies have saved.
func checkpointShare(cfg configs.Config) uint64 { return uint64(cfg.Disk) / 8 }

// openData opens the store of a data directory and its exchange with peers. The
// function that it returns closes both.
func openData(ctx context.Context, dir string, cfg configs.Config, host *p2p.Host, log *slog.Logger) (grid.Data, func() error, error) {
	denied, err := parseCids(cfg.Deny)
	if err != nil {
		return nil, nil, err
	}
	meter, err := exchange.NewMeter(filepath.Join(dir, "traffic"), exchange.Limits{
		Up: int64(cfg.Upload), Down: int64(cfg.Download), UpMonth: int64(cfg.UploadMonth), DownMonth: int64(cfg.DownloadMonth),
	})
	if err != nil {
		return nil, nil, err
	}
	quota := int64(cfg.Disk) - int64(checkpointShare(cfg))
	store, err := chunkstore.Open(filepath.Join(dir, chunksDir), chunkstore.Config{
		Quota: quota, Files: quota / bytesPerFile, Share: quota / 100 * int64(cfg.DiskShare), Deny: denied,
	})
	if err != nil {
		return nil, nil, err
	}
	// Limits are for the way to the internet.
	swap := bitswap.New(context.WithoutCancel(ctx), bitswap.Config{
		Host: host.Libp2p(), Network: cfg.Network, Store: store, Open: cfg.IPFS, Meter: meter, Near: host.NearPeer,
	})
	x := exchange.New(exchange.Config{
		Self: host.ID(), Store: store, Streams: streams{host}, Finder: network{host}, Fallback: swap,
		Meter: meter, Near: host.Near,
	})
	host.Handle(exchange.Protocol, func(from workunits.NodeID, s p2p.Stream) { x.Serve(from, s) })
	mending, stop := context.WithCancel(context.WithoutCancel(ctx))
	var group sync.WaitGroup
	group.Go(func() { mendDaily(mending, x, host, log) })
	group.Go(func() { watchStore(mending, store, log) })
	return data{store, x, meter}, func() error {
		stop()
		group.Wait()
		return errors.Join(swap.Close(), store.Close(), meter.Close())
	}, nil
}

// mendDaily looks once a day for damage in the store, and has it fetched again.
func mendDaily(ctx context.Context, x *exchange.Exchange, host *p2p.Host, log *slog.Logger) {
	connected := func() (list []workunits.NodeID) {
		for _, p := range host.Peers() {
			list = append(list, p.ID)
		}
		return list
	}
	for wait := time.NewTimer(time.Hour); ; wait.Reset(24 * time.Hour) {
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return
		}
		done, err := x.Mend(ctx, connected)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			log.Warn("look for damage in the store", "err", err)
		}
		for _, c := range done.Damaged {
			log.Warn("a chunk was damaged and is set aside; the disk may be failing", "cid", c)
		}
		for _, c := range done.Failed {
			log.Warn("kept content is not whole, and no peer has the rest", "cid", c)
		}
	}
}

// watchStore looks every minute whether leases have expired, and whether files that
// were added without copying have changed. Those are read at the pace of the disk: the
// owner has just written to them.
func watchStore(ctx context.Context, store *chunkstore.Store, log *slog.Logger) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if err := store.Expire(); err != nil {
			log.Warn("end leases of the store that have expired", "err", err)
		}
		list, err := store.CheckLinks(ctx, func(ctx context.Context, _ int) error { return context.Cause(ctx) })
		if err != nil && ctx.Err() == nil {
			log.Warn("look for changes of content that was not copied", "err", err)
		}
		for _, c := range list {
			log.Warn("a file that was added without copying has changed, and what changed is not served any more; add it again, or put it back",
				"path", c.Path, "cid", c.Root, "chunks", c.Leaves)
		}
	}
}

func parseCids(list []string) (all []cid.Cid, err error) {
	for _, text := range list {
		c, err := cid.Decode(text)
		if err != nil {
			return nil, fmt.Errorf("CID %q: %w", text, err)
		}
		all = append(all, c)
	}
	return all, nil
}

// streams is what the exchange needs of p2p.
type streams struct{ host *p2p.Host }

func (s streams) Open(ctx context.Context, to workunits.NodeID, name string) (exchange.Stream, error) {
	return s.host.Open(ctx, to, name)
}

// data is what the driver needs of the store and the exchange.
type data struct {
	*chunkstore.Store
	exchange *exchange.Exchange
	meter    *exchange.Meter
}

var _ grid.Data = data{}

func (d data) Add(ctx context.Context, path string, p grid.Progress) (root cid.Cid, bytes int64, chunks int, err error) {
	a, err := d.Store.Add(ctx, path, p)
	return a.Cid, a.Bytes, a.Chunks, kind(err)
}

func (d data) AddAs(ctx context.Context, path string, as grid.Adding, p grid.Progress) (root cid.Cid, bytes int64, chunks int, err error) {
	a, err := d.Store.AddAs(ctx, path, as, p)
	return a.Cid, a.Bytes, a.Chunks, kind(err)
}

// kind gives the store's errors the kinds of the driver.
func kind(err error) error {
	switch {
	case errors.Is(err, exchange.ErrNotFound), errors.Is(err, chunkstore.ErrNotFound):
		return fmt.Errorf("%w: %w", grid.ErrNotFound, err)
	case errors.Is(err, chunkstore.ErrFull), errors.Is(err, chunkstore.ErrShare):
		return fmt.Errorf("%w: %w", grid.ErrFull, err)
	}
	return err
}

func (d data) Fetch(ctx context.Context, root cid.Cid, hints []workunits.NodeID, p grid.Progress) error {
	return kind(d.exchange.Fetch(ctx, root, hints, exchange.Progress(p)))
}

func (d data) Collect(ctx context.Context, root cid.Cid, hints []workunits.NodeID, p grid.Progress) (origin grid.DataOrigin, err error) {
	o, err := d.exchange.Collect(ctx, root, hints, exchange.Progress(p))
	origin.Here = o.Here
	for _, s := range o.Sources {
		protocol := "chunks"
		if s.Fallback {
			protocol = "bitswap"
		}
		origin.Sources = append(origin.Sources, grid.DataSource{Peer: s.Peer, Protocol: protocol, Bytes: s.Bytes})
	}
	return origin, kind(err)
}

func (d data) FetchNear(ctx context.Context, root cid.Cid, near, others []workunits.NodeID) error {
	return kind(d.exchange.FetchNear(ctx, root, near, others, nil))
}

func (d data) Probe(ctx context.Context, from workunits.NodeID, c cid.Cid) (there bool, err error) {
	return d.exchange.Probe(ctx, from, c)
}

func (d data) FetchEntry(ctx context.Context, root cid.Cid, name string, hints []workunits.NodeID) (cid.Cid, error) {
	entry, err := d.exchange.FetchEntry(ctx, root, name, hints)
	return entry, kind(err)
}

func (d data) Export(ctx context.Context, root cid.Cid, w io.Writer) error {
	return kind(d.Store.Export(ctx, root, grid.Selection{}, w))
}

func (d data) Archive(ctx context.Context, root cid.Cid, sel grid.Selection, hints []workunits.NodeID, begin func() io.Writer) error {
	return kind(d.exchange.Archive(ctx, root, sel, hints, begin))
}

func (d data) Open(ctx context.Context, root cid.Cid, path []string, hints []workunits.NodeID) (io.ReadSeekCloser, error) {
	r, err := d.exchange.Open(ctx, root, path, hints)
	if err != nil {
		return nil, kind(err)
	}
	return r, nil
}

func (d data) Chunk(ctx context.Context, c cid.Cid, hints []workunits.NodeID) ([]byte, error) {
	b, err := d.exchange.Block(ctx, c, hints)
	if err != nil {
		return nil, kind(err)
	}
	return b.RawData(), nil
}

func (d data) Import(ctx context.Context, r io.Reader, p func(done, total int64)) (chunkstore.Imported, error) {
	in, err := d.Store.Import(ctx, r, p)
	return in, kind(err)
}

func (d data) Traffic() (up, down int64) { return d.meter.Spent() }

func (d data) Limit(l exchange.Limits) { d.meter.Limit(l) }

func (d data) Bytes() int64 { return d.Stat().Bytes }
