package keep

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/chunkstore/erasure"
	"github.com/talka-grid/talka/chunkstore/replica"
	"github.com/talka-grid/talka/workunits"
)

// makePieces cuts an object that is here: its pieces and their manifest are in the store
// then, the pieces kept for the job until others hold them.
func (d *Driver) makePieces(ctx context.Context, id workunits.JobID, root cid.Cid) (_ cid.Cid, m erasure.Manifest, err error) {
	dir, err := os.MkdirTemp(d.cfg.Dir, "pieces-")
	if err != nil {
		return cid.Undef, m, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	code := erasure.Code{Need: replica.DefaultCode().Need, Total: replica.DefaultCode().Total}
	paths, size, err := d.cutInto(ctx, dir, root, code)
	if err != nil {
		return cid.Undef, m, err
	}
	m = erasure.NewManifest(workunits.Link{Cid: root}, size, code.Need)
	for _, path := range paths {
		piece, err := d.addKept(ctx, path, pieceReason, id)
		if err != nil {
			return cid.Undef, m, err
		}
		leaves, _, err := d.cfg.Data.Leaves(ctx, piece)
		if err := errors.Join(err, os.Remove(path)); err != nil {
			return cid.Undef, m, err
		}
		p := erasure.Piece{Root: workunits.Link{Cid: piece}}
		for _, l := range leaves {
			p.Leaves = append(p.Leaves, workunits.Link{Cid: l})
		}
		m.Pieces = append(m.Pieces, p)
	}
	path := filepath.Join(dir, "manifest")
	if err := os.WriteFile(path, workunits.Encode(m), 0o600); err != nil {
		return cid.Undef, m, err
	}
	manifest, err := d.addKept(ctx, path, Reason, id)
	return manifest, m, errors.Join(err, d.cfg.Data.Sync())
}

func (d *Driver) addKept(ctx context.Context, path, reason string, id workunits.JobID) (cid.Cid, error) {
	root, err := d.cfg.Data.Add(ctx, path)
	if err == nil {
		err = d.cfg.Data.Keep(chunkstore.Lease{Root: root, Reason: reason, For: id.String()})
	}
	return root, err
}

// cutInto writes the pieces of an object's content archive to files.
func (d *Driver) cutInto(ctx context.Context, dir string, root cid.Cid, code erasure.Code) (paths []string, size int64, err error) {
	var files []*os.File
	var buffers []*bufio.Writer
	var pieces []io.Writer
	defer func() {
		for i, f := range files {
			err = errors.Join(err, buffers[i].Flush(), f.Close())
		}
	}()
	for i := range code.Total {
		f, err := os.Create(filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			return nil, 0, err
		}
		files, buffers, paths = append(files, f), append(buffers, bufio.NewWriter(f)), append(paths, f.Name())
		pieces = append(pieces, buffers[i])
	}
	r, w := io.Pipe()
	exported := make(chan error, 1)
	go func() {
		err := d.cfg.Data.Export(ctx, root, w)
		exported <- err
		_ = w.CloseWithError(err) // it never fails
	}()
	size, err = code.Cut(ctx, r, pieces)
	_ = r.Close() // it never fails
	return paths, size, errors.Join(err, <-exported)
}

// rebuild brings an object here from pieces that these nodes hold.
func (d *Driver) rebuild(ctx context.Context, id workunits.JobID, m erasure.Manifest, holders []workunits.NodeID) (err error) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Times.Fetch)
	defer cancel()
	code := erasure.Code{Need: m.Need, Total: len(m.Pieces)}
	pieces := make([]io.Reader, code.Total)
	var files []io.Closer
	defer func() {
		for _, f := range files {
			err = errors.Join(err, f.Close())
		}
	}()
	for i, p := range m.Pieces {
		if len(files) == m.Need {
			break
		}
		l := chunkstore.Lease{Root: p.Root.Cid, Reason: pieceReason, For: id.String()}
		if err := d.cfg.Data.Keep(l); err != nil {
			return err
		}
		if err := d.cfg.Data.Fetch(ctx, p.Root.Cid, holders, nil); err != nil {
			if err := errors.Join(d.cfg.Data.Release(l), context.Cause(ctx)); err != nil {
				return err
			}
			continue // nobody who has it is there
		}
		f, err := d.cfg.Data.Open(ctx, p.Root.Cid)
		if err != nil {
			return err
		}
		pieces[i], files = bufio.NewReader(f), append(files, f)
	}
	r, w := io.Pipe()
	go func() {
		_ = w.CloseWithError(code.Join(ctx, pieces, int64(m.Bytes), w)) // it never fails
	}()
	roots, err := d.cfg.Data.Import(ctx, r)
	_ = r.Close() // it never fails
	if err == nil && !slices.Contains(roots, m.Root.Cid) {
		err = fmt.Errorf("the pieces of %s are those of something else", m.Root.Cid)
	}
	if err != nil {
		return err
	}
	err = d.cfg.Data.Keep(lease(heldKey{id, m.Root.Cid}))
	return errors.Join(err, d.cfg.Data.Sync())
}

// readManifest brings a manifest here from nodes that hold it, and reads it.
func (d *Driver) readManifest(ctx context.Context, id workunits.JobID, root cid.Cid, holders []workunits.NodeID) (m erasure.Manifest, err error) {
	if err := d.cfg.Data.Keep(lease(heldKey{id, root})); err != nil {
		return m, err
	}
	if err := d.cfg.Data.Fetch(ctx, root, holders, nil); err != nil {
		return m, err
	}
	f, err := d.cfg.Data.Open(ctx, root)
	if err != nil {
		return m, err
	}
	text, err := io.ReadAll(io.LimitReader(f, erasure.MaxManifest+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return m, err
	}
	return erasure.ParseManifest(text)
}
