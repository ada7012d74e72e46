package chunkstore

import (
	"context"
	"fmt"
	"slices"
	"strings"

	uio "github.com/ipfs/boxo/ipld/unixfs/io"
	"github.com/ipfs/go-cid"
)

// Entry is a file or folder in the store, under a name.
type Entry struct {
	Name string
	Root cid.Cid
}

// Compose stores a folder of entries that are in the store already; the same ones
// give the same root. Nothing is copied. Hold or Keep its root at once.
func (s *Store) Compose(ctx context.Context, entries []Entry) (cid.Cid, error) {
	dag := s.dag()
	dir, err := uio.NewDirectory(dag, uio.WithCidBuilder(builder(BLAKE3)), uio.WithSizeEstimationMode(uio.SizeEstimationBlock))
	if err != nil {
		return cid.Undef, err
	}
	entries = slices.SortedFunc(slices.Values(entries), func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	for _, e := range entries {
		node, err := dag.Get(ctx, e.Root)
		if err == nil {
			err = dir.AddChild(ctx, e.Name, node)
		}
		if err != nil {
			return cid.Undef, fmt.Errorf("folder of %q: %w", e.Name, err)
		}
	}
	node, err := dir.GetNode()
	if err == nil {
		err = dag.Add(ctx, node)
	}
	if err != nil {
		return cid.Undef, fmt.Errorf("folder: %w", err)
	}
	return node.Cid(), nil
}

// Leaves lists the chunks below a root that refer to no others, each once and in
// order, and their bytes in all. The error wraps ErrNotFound if one is not here, or
// ErrForeign if there are more than a node looks at.
func (s *Store) Leaves(ctx context.Context, root cid.Cid) (list []cid.Cid, bytes int64, err error) {
	seen := map[cid.Cid]bool{}
	todo := []cid.Cid{root}
	for len(todo) > 0 {
		c := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[c] {
			continue
		}
		if seen[c] = true; len(seen) > maxVisits {
			return nil, 0, fmt.Errorf("%s: %w", root, errVisits)
		}
		if c.Prefix().Codec != cid.DagProtobuf {
			size, err := s.GetSize(ctx, c)
			if err != nil {
				return nil, 0, fmt.Errorf("%s: %w", root, err)
			}
			list, bytes = append(list, c), bytes+int64(size)
			continue
		}
		b, err := s.Get(ctx, c)
		if err != nil {
			return nil, 0, fmt.Errorf("%s: %w", root, err)
		}
		links, err := Links(b)
		if err != nil {
			return nil, 0, err
		}
		if bytes += int64(len(b.RawData())); len(links) == 0 {
			list = append(list, c)
		}
		slices.Reverse(links)
		todo = append(todo, links...)
	}
	return list, bytes, nil
}
