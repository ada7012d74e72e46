package wasi

import "encoding/binary"

// Errno is the result of a call.
type Errno uint32

// The codes of preview 1 that Talka uses.
const (
	ok           Errno = 0
	e2Big        Errno = 1
	eBadf        Errno = 8
	eExist       Errno = 20
	eFault       Errno = 21
	eFbig        Errno = 22
	eIlseq       Errno = 25
	eInval       Errno = 28
	eIO          Errno = 29
	eIsdir       Errno = 31
	eLoop        Errno = 32
	eMfile       Errno = 33
	eNameTooLong Errno = 37
	eNoent       Errno = 44
	eNospc       Errno = 51
	eNotdir      Errno = 54
	eNotempty    Errno = 55
	eNotsock     Errno = 57
	eNotsup      Errno = 58
	ePerm        Errno = 63
	eRofs        Errno = 69
	eSpipe       Errno = 70
	eXdev        Errno = 75
	eNotcapable  Errno = 76
)

// filetype of preview 1.
type filetype uint8

const (
	typeDir     filetype = 3
	typeFile    filetype = 4
	typeSymlink filetype = 7
)

// Rights of preview 1. A descriptor has those that its file can serve.
const (
	rightDatasync     uint64 = 1 << 0
	rightRead         uint64 = 1 << 1
	rightSeek         uint64 = 1 << 2
	rightSetFlags     uint64 = 1 << 3
	rightSync         uint64 = 1 << 4
	rightTell         uint64 = 1 << 5
	rightWrite        uint64 = 1 << 6
	rightAdvise       uint64 = 1 << 7
	rightAllocate     uint64 = 1 << 8
	rightPathSetSize  uint64 = 1 << 19 // O_TRUNC
	rightStat         uint64 = 1 << 21
	rightSetSize      uint64 = 1 << 22
	rightSetTimes     uint64 = 1 << 23
	rightPoll         uint64 = 1 << 27
	rightsAll         uint64 = 1<<28 - 1 // everything but sockets
	rightsReadFile           = rightRead | rightSeek | rightSetFlags | rightTell | rightAdvise | rightStat | rightPoll | rightSync | rightDatasync
	rightsWriteFile          = rightWrite | rightAllocate | rightSetSize | rightSetTimes
	rightsDir                = rightsAll &^ (rightRead | rightWrite | rightSeek | rightTell | rightAllocate | rightSetSize)
	rightsPathRead    uint64 = 1<<13 | 1<<14 | 1<<15 | 1<<18 // open, readdir, readlink, filestat
	rightsReadOnlyDir        = rightsPathRead | rightSetFlags | rightSync | rightDatasync | rightAdvise | rightStat | rightPoll
)

// Flags of path_open, of descriptors and of path look-up.
const (
	oCreat, oDirectory, oExcl, oTrunc = 1, 2, 4, 8

	flagAppend uint16 = 1
	flagsAll   uint16 = 31

	lookupFollow = 1

	setAtim, setAtimNow, setMtim, setMtimNow = 1, 2, 4, 8
)

// Memory is the linear memory of the calling instance.
type Memory interface {
	// Read returns the count bytes at offset, to be read or written in place
	// before the next call, or false if they lie outside.
	Read(offset, count uint32) ([]byte, bool)
}

// noMemory stands in for the memory that a program does not export.
type noMemory struct{}

func (noMemory) Read(uint32, uint32) ([]byte, bool) { return nil, false }

func (p *Process) bytes(ptr, n uint64) ([]byte, Errno) {
	b, in := p.mem.Read(uint32(ptr), uint32(n))
	if !in {
		return nil, eFault
	}
	return b, ok
}

func (p *Process) put32(ptr uint64, v uint32) Errno {
	b, e := p.bytes(ptr, 4)
	if e == ok {
		binary.LittleEndian.PutUint32(b, v)
	}
	return e
}

func (p *Process) put64(ptr, v uint64) Errno {
	b, e := p.bytes(ptr, 8)
	if e == ok {
		binary.LittleEndian.PutUint64(b, v)
	}
	return e
}

// iovec is one buffer of a scattered read or write.
type iovec struct{ ptr, n uint32 }

// maxIovecs is IOV_MAX of wasi-libc.
const maxIovecs = 1024

// iovecs reads a list of buffers and the sum of their lengths. Every buffer is
// inside the memory.
func (p *Process) iovecs(ptr, count uint64) ([]iovec, uint64, Errno) {
	n := uint32(count)
	if n > maxIovecs {
		return nil, 0, eInval
	}
	b, e := p.bytes(ptr, uint64(n)*8)
	if e != ok {
		return nil, 0, e
	}
	list, sum := p.iovs[:0], uint64(0)
	for i := range n {
		v := iovec{binary.LittleEndian.Uint32(b[8*i:]), binary.LittleEndian.Uint32(b[8*i+4:])}
		if _, e := p.bytes(uint64(v.ptr), uint64(v.n)); e != ok {
			return nil, 0, e
		}
		sum += uint64(v.n)
		list = append(list, v)
	}
	p.iovs = list
	if sum > 1<<32-1 {
		return nil, 0, eInval
	}
	return list, sum, ok
}
