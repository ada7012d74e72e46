package grid

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/workunits"
)

// ErrForeign says that content is not of the kind that was asked for.
var ErrForeign = chunkstore.ErrForeign

// AddData adds a file or folder to the store and keeps it.
func (n *Node) AddData(ctx context.Context, path string, p func(done, total int64)) (cid.Cid, int64, int, error) {
	root, bytes, chunks, err := n.cfg.Data.Add(ctx, path, p)
	if err != nil {
		return root, 0, 0, err
	}
	return root, bytes, chunks, n.own(root)
}

// own keeps what the node's owner brought.
func (n *Node) own(roots ...cid.Cid) error {
	for _, root := range roots {
		if err := n.cfg.Data.Keep(chunkstore.Lease{Root: root, Reason: ownData}); err != nil {
			return err
		}
	}
	return n.cfg.Data.Sync()
}

// GetData writes content to dest, fetching what is not here from peers.
func (n *Node) GetData(ctx context.Context, root cid.Cid, dest string, timeout time.Duration, p func(done, total int64)) error {
	if err := n.fetchData(ctx, root, timeout, p); err != nil {
		return err
	}
	return n.cfg.Data.Materialise(ctx, root, dest)
}

// fetchData brings content into the store from connected peers and others.
func (n *Node) fetchData(ctx context.Context, root cid.Cid, timeout time.Duration, p func(done, total int64)) error {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, timeout, ErrTimeout)
		defer cancel()
	}
	if err := n.cfg.Data.Fetch(ctx, root, n.connected(), p); err != nil {
		return fmt.Errorf("get %s: %w", root, err)
	}
	return nil
}

func (n *Node) connected() (list []workunits.NodeID) {
	for _, peer := range n.cfg.Net.Peers() {
		list = append(list, peer.PeerID)
	}
	return list
}

// ExportData writes content as a content archive (CAR) to dest, which must not
// exist, fetching what is not here from peers. It appears whole or not at all.
func (n *Node) ExportData(ctx context.Context, root cid.Cid, dest string, timeout time.Duration, p func(done, total int64)) (err error) {
	if _, err := os.Lstat(dest); err == nil {
		return fmt.Errorf("%s: %w", dest, fs.ErrExist)
	}
	if err := n.fetchData(ctx, root, timeout, p); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(dest), ".talka-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	if err := errors.Join(n.cfg.Data.Export(ctx, root, false, f), f.Close()); err != nil {
		return err
	}
	return os.Link(f.Name(), dest) // fails where a file came meanwhile
}

// DataInfo tells what the store holds and why.
func (n *Node) DataInfo(context.Context) (DataInfo, error) {
	st := n.cfg.Data.Stat()
	info := DataInfo{Bytes: st.Bytes, Quota: st.Quota, Files: st.Files, Chunks: st.Chunks, Damaged: st.Damaged}
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

// ArchiveData writes content, or its first chunk alone, as a content archive (CAR)
// to what begin returns, which it calls once all is here.
func (n *Node) ArchiveData(ctx context.Context, root cid.Cid, first bool, begin func() io.Writer) error {
	var err error
	if first {
		_, err = n.ChunkData(ctx, root)
	} else {
		err = n.fetchData(ctx, root, 0, nil)
	}
	if err != nil {
		return err
	}
	return n.cfg.Data.Export(ctx, root, first, begin())
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
