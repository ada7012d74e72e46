package chunkstore

import (
	"fmt"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
)

// File is a node of a file: its own bytes, then those of its parts, in order.
type File struct {
	Size  int64 // of all; what a node says of its parts is to be compared with them
	Bytes []byte
	Parts []Part
}

// Part is a piece of a file.
type Part struct {
	Cid  cid.Cid
	Size int64
}

// ParseFile reads a chunk as a node of a file, whose parts may be leaves or nodes
// again. The error wraps ErrForeign, for folders too.
func ParseFile(b blocks.Block) (f File, err error) {
	switch b.Cid().Prefix().Codec {
	case cid.Raw:
		return File{Size: int64(len(b.RawData())), Bytes: b.RawData()}, nil
	case cid.DagProtobuf:
	default:
		return f, fmt.Errorf("%s is no file: %w", b.Cid(), ErrForeign)
	}
	node, err := merkledag.DecodeProtobuf(b.RawData())
	if err != nil {
		return f, fmt.Errorf("%s: %w: %w", b.Cid(), ErrForeign, err)
	}
	shape, err := unixfs.FSNodeFromBytes(node.Data())
	if err != nil {
		return f, fmt.Errorf("%s: %w: %w", b.Cid(), ErrForeign, err)
	}
	links := node.Links()
	if t := shape.Type(); t != unixfs.TFile && t != unixfs.TRaw {
		return f, fmt.Errorf("%s is no file: %w", b.Cid(), ErrForeign)
	}
	if shape.NumChildren() != len(links) {
		return f, fmt.Errorf("%s has %d sizes for %d parts: %w", b.Cid(), shape.NumChildren(), len(links), ErrForeign)
	}
	f.Bytes = shape.Data()
	f.Size = int64(len(f.Bytes))
	for i, l := range links {
		size := shape.BlockSize(i)
		if size > 1<<60 || f.Size > 1<<60 {
			return File{}, fmt.Errorf("%s says that it has over 2^60 bytes: %w", b.Cid(), ErrForeign)
		}
		f.Parts = append(f.Parts, Part{l.Cid, int64(size)})
		f.Size += int64(size)
	}
	return f, nil
}
