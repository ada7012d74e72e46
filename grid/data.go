package grid

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/workunits"
)

// ErrForeign says that content is not of the kind that was asked for.
var ErrForeign = chunkstore.ErrForeign

// Adding says how content is added; see chunkstore.Adding.
type Adding = chunkstore.Adding

// Selection is a part of what is below a root; see chunkstore.Selection.
type Selection = chunkstore.Selection

// Range is bytes of a file; see chunkstore.Range.
type Range = chunkstore.Range

// Scope is how much is selected of what a path leads to; see chunkstore.Scope.
type Scope = chunkstore.Scope

// The scopes.
const (
	ScopeAll    = chunkstore.ScopeAll
	ScopeEntity = chunkstore.ScopeEntity
	ScopeBlock  = chunkstore.ScopeBlock
)

// The hashes that content may be named by.
const (
	BLAKE3 = chunkstore.BLAKE3
	SHA256 = chunkstore.SHA256
)

// AddData adds a file or folder to the store and keeps it.
func (n *Node) AddData(ctx context.Context, path string, as Adding, p func(done, total int64)) (cid.Cid, int64, int, error) {
	root, bytes, chunks, err := n.cfg.Data.AddAs(ctx, path, as, p)
	if err != nil {
		return root, 0, 0, err
	}
	return root, bytes, chunks, n.own(root)
}

// own keeps what the node's owner brought.
func (n *Node) own(roots ...cid.Cid) error {
	for _, root := range roots {
		if err := n.cfg.Data.Keep(ownLease(root)); err != nil {
			return err
		}
	}
	return n.cfg.Data.Sync()
}

// Pin keeps content for the node's owner, fetching what is not here from peers. It
// returns the bytes that it takes.
func (n *Node) Pin(ctx context.Context, root cid.Cid, p func(done, total int64)) (int64, error) {
	pinned := n.pinned(root)
	err := n.own(root) // first, so that nothing of it goes while the rest arrives
	if err == nil {
		_, err = n.fetchData(ctx, root, nil, p)
	}
	switch {
	case err == nil:
		return n.cfg.Data.Here(root)
	case !pinned:
		err = errors.Join(err, n.cfg.Data.Release(ownLease(root)))
	}
	return 0, err
}

func ownLease(root cid.Cid) chunkstore.Lease { return chunkstore.Lease{Root: root, Reason: ownData} }

func (n *Node) pinned(root cid.Cid) bool { return slices.Contains(n.cfg.Data.Leases(), ownLease(root)) }

// Unpin keeps content for the node's owner no longer. What is kept for nothing else
// goes when its room is wanted.
func (n *Node) Unpin(root cid.Cid) error {
	if !n.pinned(root) {
		return fmt.Errorf("%s is not data of this node's owner (talka data ls): %w", root, ErrNotFound)
	}
	return errors.Join(n.cfg.Data.Release(ownLease(root)), n.cfg.Data.Sync())
}

// Kept lists what the node keeps, once for each reason.
func (n *Node) Kept(yield func(Kept) error) error {
	for _, l := range n.cfg.Data.Leases() {
		bytes, err := n.cfg.Data.Here(l.Root)
		if err == nil {
			err = yield(Kept{Cid: l.Root.String(), Reason: l.Reason, For: l.For, Bytes: bytes, Withheld: l.Withheld})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// GetData writes content to dest, fetching what is not here from peers: the
// connected ones, those at the addresses of from, and others that are found.
func (n *Node) GetData(ctx context.Context, root cid.Cid, dest string, from []string, p func(done, total int64)) (DataOrigin, error) {
	if _, err := os.Lstat(dest); err == nil {
		return DataOrigin{}, fmt.Errorf("%s: %w", dest, fs.ErrExist)
	}
	origin, err := n.fetchData(ctx, root, from, p)
	if err != nil {
		return origin, err
	}
	return origin, mended(ctx, n.cfg.Data, root,
		func() error { return n.cfg.Data.Materialise(ctx, root, dest) },
		func() error { return n.cfg.Data.Fetch(ctx, root, n.connected(), p) })
}

// mendTries is how often content is fetched again: below a damaged node more may be.
const mendTries = 4

// mended uses content. If some of it turns out to be damaged, all that is goes and is
// fetched again.
func mended(ctx context.Context, d Data, root cid.Cid, use, fetch func() error) error {
	err := use()
	for try := 0; errors.Is(err, chunkstore.ErrNotFound) && try < mendTries; try++ {
		if err := errors.Join(d.Inspect(ctx, root), fetch()); err != nil {
			return err
		}
		err = use()
	}
	return err
}

// lendTime is how long others may have what the owner got.
const lendTime = 24 * time.Hour

// fetchData brings content into the store.
func (n *Node) fetchData(ctx context.Context, root cid.Cid, from []string, p func(done, total int64)) (DataOrigin, error) {
	for _, addr := range from {
		if err := n.cfg.Net.Visit(ctx, addr); err != nil {
			return DataOrigin{}, err
		}
	}
	if err := n.lend(root); err != nil {
		return DataOrigin{}, err
	}
	origin, err := n.cfg.Data.Collect(ctx, root, n.connected(), p)
	if err != nil {
		return origin, fmt.Errorf("get %s: %w", root, err)
	}
	return origin, nil
}

// lend serves what the owner gets while it comes and for a day, if there is room, so
// that many who get it at once feed one another. What is withheld stays so.
func (n *Node) lend(root cid.Cid) error {
	l := chunkstore.Lease{Root: root, Reason: gotten, Spare: true, Expires: time.Now().Add(lendTime).Unix()}
	l.Withheld = slices.ContainsFunc(n.cfg.Data.Leases(), func(o chunkstore.Lease) bool { return o.Root == root && o.Withheld })
	return n.cfg.Data.Keep(l)
}

func (n *Node) connected() (list []workunits.NodeID) {
	for _, peer := range n.cfg.Net.Peers() {
		list = append(list, peer.PeerID)
	}
	return list
}

// ExportData is GetData for a content archive (CAR). It appears whole or not at
// all.
func (n *Node) ExportData(ctx context.Context, root cid.Cid, dest string, from []string, p func(done, total int64)) (origin DataOrigin, err error) {
	if _, err := os.Lstat(dest); err == nil {
		return origin, fmt.Errorf("%s: %w", dest, fs.ErrExist)
	}
	if origin, err = n.fetchData(ctx, root, from, p); err != nil {
		return origin, err
	}
	f, err := os.CreateTemp(filepath.Dir(dest), ".talka-*")
	if err != nil {
		return origin, err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	export := func() error {
		_, err := f.Seek(0, io.SeekStart)
		return errors.Join(err, f.Truncate(0), n.cfg.Data.Export(ctx, root, f))
	}
	err = mended(ctx, n.cfg.Data, root, export, func() error { return n.cfg.Data.Fetch(ctx, root, n.connected(), p) })
	if err := errors.Join(err, f.Close()); err != nil {
		return origin, err
	}
	return origin, os.Link(f.Name(), dest) // fails where a file came meanwhile
}

// DataInfo tells what the store holds and why.
func (n *Node) DataInfo(context.Context) (DataInfo, error) {
	st := n.cfg.Data.Stat()
	info := DataInfo{Bytes: st.Bytes, Quota: st.Quota, Files: st.Files, Chunks: st.Chunks, Linked: st.Linked, Damaged: st.Damaged}
	info.Sent, info.Received = n.cfg.Data.Traffic()
	usage, err := n.cfg.Data.Usage()
	for _, u := range usage {
		info.Reasons = append(info.Reasons, DataUsage(u))
	}
	return info, err
}

// OpenData opens a file for reading while it arrives from connected peers and
// others: the root, or what a path leads to in it.
func (n *Node) OpenData(ctx context.Context, root cid.Cid, path []string) (io.ReadSeekCloser, error) {
	return n.cfg.Data.Open(ctx, root, path, n.connected())
}

// ChunkData is one chunk, fetched if need be.
func (n *Node) ChunkData(ctx context.Context, c cid.Cid) ([]byte, error) {
	return n.cfg.Data.Chunk(ctx, c, n.connected())
}

// ArchiveData writes what is selected of a root as a content archive (CAR) to what
// begin returns, which it calls once all that is here.
func (n *Node) ArchiveData(ctx context.Context, root cid.Cid, sel Selection, begin func() io.Writer) error {
	if len(sel.Path) == 0 && sel.Scope == ScopeAll && sel.Bytes == nil {
		if err := n.lend(root); err != nil {
			return err
		}
	}
	return n.cfg.Data.Archive(ctx, root, sel, n.connected(), begin)
}

// ImportData stores what a content archive (CAR) holds and keeps its roots. It
// returns them, the bytes and the number of chunks.
func (n *Node) ImportData(ctx context.Context, path string, p func(done, total int64)) ([]cid.Cid, int64, int, error) {
	in, err := n.importFile(ctx, path, p)
	if err != nil {
		return nil, 0, 0, fmt.Errorf("%s: %w", path, err)
	}
	return in.Roots, in.Bytes, in.Chunks, n.own(in.Roots...)
}

func (n *Node) importFile(ctx context.Context, path string, p func(done, total int64)) (in chunkstore.Imported, err error) {
	f, err := os.Open(path)
	if err != nil {
		return in, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return in, err
	}
	if !info.Mode().IsRegular() {
		return in, errors.New("not a regular file")
	}
	return n.cfg.Data.Import(ctx, f, func(done, _ int64) { p(done, info.Size()) })
}
