package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/talka-grid/talka/workunits/jobfile"
)

// maxPieces bounds the folder of pieces. More units than that want a table.
const maxPieces = 100_000

// split cuts a file into at most so many pieces, named 0, 1, 2, ... in a new
// folder, in constant memory, and returns their number. Records of a CSV file
// take its header with them into every piece.
func split(path, folder string, by jobfile.Cut, size uint64, most uint32) (uint32, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if err := os.Mkdir(folder, 0o700); err != nil {
		return 0, err
	}
	in := bufio.NewReaderSize(f, 64<<10)
	if _, err := in.Peek(1); errors.Is(err, io.EOF) {
		return 0, usage("%s is empty", path)
	}
	s := splitter{in: in}
	if by == jobfile.ByRecords {
		if err := s.recognise(path); err != nil {
			return 0, err
		}
	}
	for n := uint32(0); ; n++ {
		if _, err := in.Peek(1); errors.Is(err, io.EOF) {
			return n, nil
		}
		if n == most {
			return 0, usage("%s has more than %d pieces: make size larger", path, most)
		}
		if err := s.piece(filepath.Join(folder, strconv.FormatUint(uint64(n), 10)), by, size); err != nil {
			return 0, err
		}
	}
}

// splitter reads a file piece by piece.
type splitter struct {
	in     *bufio.Reader
	record func(w io.Writer) error // copies one record
	header []byte                  // that every piece begins with
}

func (s *splitter) piece(path string, by jobfile.Cut, size uint64) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	defer func() { err = errors.Join(err, w.Flush(), f.Close()) }()
	if by == jobfile.ByBytes {
		_, err := io.Copy(w, io.LimitReader(s.in, int64(min(size, 1<<62))))
		return err
	}
	next := s.record
	if by == jobfile.ByLines {
		next = func(w io.Writer) error { _, err := s.line(w); return err }
	}
	if _, err := w.Write(s.header); err != nil {
		return err
	}
	for range size {
		if err := next(w); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// line copies one line with its end, however long it is, and counts its quotes.
// At the end of the file it returns io.EOF.
func (s *splitter) line(w io.Writer) (quotes int, err error) {
	for some := false; ; some = true {
		part, err := s.in.ReadSlice('\n')
		quotes += bytes.Count(part, []byte{'"'})
		if _, err := w.Write(part); err != nil {
			return quotes, err
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && (some || len(part) > 0):
			return quotes, nil
		default:
			return quotes, err
		}
	}
}

// recognise finds out what a record is: by the file's first byte, or its name.
func (s *splitter) recognise(path string) error {
	first, err := s.in.Peek(1)
	if err != nil {
		return err
	}
	switch {
	case first[0] == '>':
		s.record = s.fasta
	case first[0] == '@':
		s.record = s.fastq
	case strings.EqualFold(filepath.Ext(path), ".csv"):
		s.record = s.csv
		var header bytes.Buffer
		if err := s.csv(&header); err != nil {
			return err
		}
		s.header = header.Bytes()
		if _, err := s.in.Peek(1); errors.Is(err, io.EOF) {
			return usage("%s has no record below its header", path)
		}
	default:
		return usage(`%s: cannot tell its records: want FASTA (beginning with ">"), FASTQ ("@") or a name ending in .csv; or cut by "lines"`, path)
	}
	return nil
}

// fasta copies a line and those that follow it up to the next ">".
func (s *splitter) fasta(w io.Writer) error {
	for {
		if _, err := s.line(w); err != nil {
			return err
		}
		next, err := s.in.Peek(1)
		if errors.Is(err, io.EOF) || err == nil && next[0] == '>' {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// fastq copies the four lines of a record.
func (s *splitter) fastq(w io.Writer) error {
	for i := range 4 {
		_, err := s.line(w)
		if errors.Is(err, io.EOF) && i > 0 {
			return usage("the last FASTQ record has %d lines, want 4", i)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// csv copies lines until every quote is closed (RFC 4180).
func (s *splitter) csv(w io.Writer) error {
	for open, some := 0, false; ; some = true {
		n, err := s.line(w)
		if errors.Is(err, io.EOF) && some {
			return usage("the last CSV record has an open quote")
		}
		if err != nil {
			return err
		}
		if open = (open + n) % 2; open == 0 {
			return nil
		}
	}
}
