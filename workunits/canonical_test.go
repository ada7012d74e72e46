package workunits

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
)

// item is one CBOR data item, taken apart so that a test can write it in ways
// that Encode would not.
type item struct {
	major byte
	value uint64 // argument of the head: a number, a length, a tag, a float's bits
	width int    // bytes of the argument behind the first byte: 0, 1, 2, 4 or 8
	text  []byte // of strings
	kids  []item // of arrays, maps (key, value, key, value...) and tags
	open  bool   // written with an indefinite length
	raw   []byte // written in place of all else
}

const (
	majorUint, majorNegative, majorBytes, majorText = 0, 1, 2, 3
	majorArray, majorMap, majorTag, majorSimple     = 4, 5, 6, 7
	codeFalse, codeNull, codeUndef, codeStop        = 0xf4, 0xf6, 0xf7, 0xff
)

func parseItem(b []byte) (it item, rest []byte) {
	it.major = b[0] >> 5
	info := b[0] & 31
	b = b[1:]
	switch {
	case info < 24:
		it.value = uint64(info)
	case info <= 27:
		it.width = 1 << (info - 24)
		it.value = binary.BigEndian.Uint64(append(make([]byte, 8-it.width), b[:it.width]...))
		b = b[it.width:]
	default:
		panic("not a canonical item")
	}
	kids := 0
	switch it.major {
	case majorBytes, majorText:
		it.text, b = b[:it.value], b[it.value:]
	case majorArray:
		kids = int(it.value)
	case majorMap:
		kids = 2 * int(it.value)
	case majorTag:
		kids = 1
	}
	for range kids {
		var kid item
		kid, b = parseItem(b)
		it.kids = append(it.kids, kid)
	}
	return it, b
}

func (it item) write(b []byte) []byte {
	if it.raw != nil {
		return append(b, it.raw...)
	}
	if it.open {
		b = append(b, it.major<<5|31)
		if it.major == majorBytes || it.major == majorText {
			b = append(writeHead(b, it.major, it.value, it.width), it.text...)
		}
	} else {
		b = append(writeHead(b, it.major, it.value, it.width), it.text...)
	}
	for _, k := range it.kids {
		b = k.write(b)
	}
	if it.open {
		b = append(b, codeStop)
	}
	return b
}

func writeHead(b []byte, major byte, value uint64, width int) []byte {
	if width == 0 {
		return append(b, major<<5|byte(value))
	}
	info := map[int]byte{1: 24, 2: 25, 4: 26, 8: 27}[width]
	return append(append(b, major<<5|info), binary.BigEndian.AppendUint64(nil, value)[8-width:]...)
}

// variants calls f with every single-item change of the record that leaves it
// well-formed or nearly so, and that Encode would not have written.
func variants(record []byte, f func(what string, b []byte)) {
	root, rest := parseItem(record)
	if len(rest) != 0 {
		panic("trailing bytes")
	}
	var visit func(it *item, path string)
	visit = func(it *item, path string) {
		was := *it
		for what, change := range it.changes() {
			*it = change
			f(path+" "+what, root.write(nil))
			*it = was
		}
		for i := range it.kids {
			visit(&it.kids[i], fmt.Sprintf("%s/%d", path, i))
		}
	}
	visit(&root, "")
	f("trailing byte", append(bytes.Clone(record), 0))
	f("trailing null", append(bytes.Clone(record), codeNull))
	f("self-described", append([]byte{0xd9, 0xd9, 0xf7}, record...))
	f("cut", record[:len(record)-1])
	f("empty", nil)
}

// changes lists the variants of one item.
func (it item) changes() map[string]item {
	all := map[string]item{
		"tagged 42": {major: majorTag, value: 42, width: 1, kids: []item{it}},
		"tagged 24": {major: majorTag, value: 24, width: 1, kids: []item{it}},
		"tagged 2":  {major: majorTag, value: 2, kids: []item{it}},
		"undefined": {raw: []byte{codeUndef}},
		"break":     {raw: []byte{codeStop}},
	}
	if it.major != majorSimple {
		for width := max(1, 2*it.width); width <= 8; width *= 2 {
			longer := it
			longer.width = width
			all[fmt.Sprintf("argument in %d bytes", width)] = longer
		}
	}
	if it.major < majorTag { // an optional link may be null; TestLinks has the others
		all["null"] = item{raw: []byte{codeNull}}
	}
	switch it.major {
	case majorUint:
		negative := it
		negative.major = majorNegative
		all["negative"] = negative
		all["as a float"] = item{raw: writeHead(nil, majorSimple, math.Float64bits(float64(it.value)), 8)}
		all["as a bignum"] = item{raw: append([]byte{0xc2, 0x48}, binary.BigEndian.AppendUint64(nil, it.value)...)}
		all["beyond 64 bits"] = item{raw: append([]byte{0xc2, 0x49, 1}, make([]byte, 8)...)}
	case majorBytes, majorText:
		other := it
		other.major = majorBytes + majorText - it.major
		all["as the other string"] = other
		open := it
		open.open = true
		all["in chunks"] = open
		all["endless"] = item{raw: []byte{it.major<<5 | 27, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}
	case majorArray:
		open := it
		open.open = true
		all["indefinite"] = open
		all["endless"] = item{raw: []byte{0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}
	case majorMap:
		it.mapChanges(all)
	case majorTag:
		all["untagged"] = it.kids[0]
		other := it
		other.value = 43
		all["of another tag"] = other
	case majorSimple:
		it.simpleChanges(all)
	}
	return all
}

func (it item) mapChanges(all map[string]item) {
	open := it
	open.open = true
	all["indefinite"] = open
	with := func(pairs uint64, kids ...item) item {
		c := it
		c.value, c.kids = pairs, kids
		if c.value >= 24 {
			c.width = 1
		}
		return c
	}
	unknown := item{major: majorText, value: 1, text: []byte("a")}
	zero := item{}
	all["unknown field first"] = with(it.value+1, append([]item{unknown, zero}, it.kids...)...)
	unknown.value, unknown.text = 16, bytes.Repeat([]byte("z"), 16)
	all["unknown field last"] = with(it.value+1, append(append([]item{}, it.kids...), unknown, zero)...)
	for i := 0; i < len(it.kids); i += 2 {
		key, value := it.kids[i], it.kids[i+1]
		before, after := it.kids[:i:i], it.kids[i+2:]
		all[fmt.Sprintf("without %s", key.text)] = with(it.value-1, append(before, after...)...)
		all[fmt.Sprintf("%s twice", key.text)] = with(it.value+1, append(append(before, key, value, key, value), after...)...)
		title := key
		title.text = append([]byte{key.text[0] - 'a' + 'A'}, key.text[1:]...)
		all[fmt.Sprintf("%s capitalised", key.text)] = with(it.value, append(append(before, title, value), after...)...)
		if len(after) > 0 {
			all[fmt.Sprintf("%s late", key.text)] = with(it.value, append(append(before, after[0], after[1], key, value), after[2:]...)...)
		}
	}
}

func (it item) simpleChanges(all map[string]item) {
	if it.width == 0 { // false, true, null
		all["in two bytes"] = item{raw: []byte{0xf8, byte(it.value)}}
		if it.value != codeNull&31 {
			all["as a number"] = item{value: it.value & 1}
			all["null"] = item{raw: []byte{codeNull}}
		} else {
			all["false"] = item{raw: []byte{codeFalse}}
		}
		return
	}
	v := math.Float64frombits(it.value)
	all["float32"] = item{raw: writeHead(nil, majorSimple, uint64(math.Float32bits(float32(v))), 4)}
	all["float16 zero"] = item{raw: []byte{0xf9, 0, 0}}
	all["float16 one half"] = item{raw: []byte{0xf9, 0x38, 0}}
	all["NaN"] = item{raw: writeHead(nil, majorSimple, math.Float64bits(math.NaN()), 8)}
	all["float16 NaN"] = item{raw: []byte{0xf9, 0x7e, 0}}
	all["infinity"] = item{raw: writeHead(nil, majorSimple, math.Float64bits(math.Inf(1)), 8)}
	all["integer"] = item{value: 1}
	all["null"] = item{raw: []byte{codeNull}}
}

// TestOneEncoding writes every record of the vectors in every other way that
// CBOR has for the same or nearly the same value, and wants it refused.
func TestOneEncoding(t *testing.T) {
	t.Parallel()
	for _, v := range recordVectors() {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			n := 0
			variants(v.bytes, func(what string, b []byte) {
				n++
				if _, err := v.decode(b); !errors.Is(err, ErrEncoding) {
					t.Errorf("%s: got error %v, want %v\n%x", what, err, ErrEncoding, b)
				}
			})
			if n < 30 {
				t.Errorf("only %d variants", n)
			}
			for i := range v.bytes {
				if _, err := v.decode(v.bytes[:i]); !errors.Is(err, ErrEncoding) {
					t.Errorf("cut to %d bytes: got error %v, want %v", i, err, ErrEncoding)
				}
			}
		})
	}
}

// TestInnerEncoding does the same to records inside byte strings, where the
// signature around them is right.
func TestInnerEncoding(t *testing.T) {
	t.Parallel()
	t.Run("manifest", func(t *testing.T) {
		t.Parallel()
		key := testKey(1)
		variants(Encode(sampleManifest()), func(what string, b []byte) {
			block := Encode(SignedManifest{b, sign(key, domainManifest, b)})
			if _, _, err := ParseManifest(block); !errors.Is(err, ErrEncoding) {
				t.Errorf("%s: got error %v, want %v", what, err, ErrEncoding)
			}
		})
	})
	for _, body := range sampleBodies() {
		t.Run(body.Kind().String(), func(t *testing.T) {
			t.Parallel()
			s, key := sampleSegment(), testKey(2)
			variants(Encode(body), func(what string, b []byte) {
				s.Statements[1] = Statement{Kind: body.Kind(), Body: b}
				s.Sign(key)
				if _, err := ParseSegment(s.Encode()); !errors.Is(err, ErrEncoding) {
					t.Errorf("%s: got error %v, want %v", what, err, ErrEncoding)
				}
			})
		})
	}
}

// TestArraysOfFields changes the length of records that are written as arrays.
func TestArraysOfFields(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		record []byte
		decode func([]byte) error
	}{
		"ref":       {Encode(Ref{Author: testNode(1), Seq: 1}), refuse[Ref]},
		"statement": {Encode(Statement{Kind: 1, Body: []byte{1}}), refuse[Statement]},
		"result":    {Encode(Result{Digest: testDigest("")}), refuse[Result]},
		"log head":  {Encode(LogHead{Len: 1}), refuse[LogHead]},
		"open unit": {Encode(OpenUnit{Unit: 1}), refuse[OpenUnit]},
		"out file":  {Encode(OutFile{Size: 1}), refuse[OutFile]},
		"input":     {Encode(Input{Path: "a", Cid: rawLink("")}), refuse[Input]},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			it, _ := parseItem(c.record)
			short, long := it, it
			short.value, short.kids = it.value-1, it.kids[:len(it.kids)-1]
			long.value, long.kids = it.value+1, append(slices.Clone(it.kids), item{})
			if err := c.decode(it.write(nil)); err != nil {
				t.Fatalf("the record itself: %v", err)
			}
			for what, changed := range map[string]item{"short": short, "long": long, "empty": {major: majorArray}} {
				if err := c.decode(changed.write(nil)); !errors.Is(err, ErrEncoding) {
					t.Errorf("%s: got error %v, want %v", what, err, ErrEncoding)
				}
			}
		})
	}
}

func refuse[T any](b []byte) error { _, err := Decode[T](b, MaxBody); return err }

// TestByteWidths gives ids and digests too few and too many bytes.
func TestByteWidths(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 31, 33, 64} {
		b := Encode(make([]byte, n))
		for name, err := range map[string]error{
			"digest": refuse[Digest](b), "node": refuse[NodeID](b), "job": refuse[JobID](b), "seed": refuse[[32]byte](b),
		} {
			if !errors.Is(err, ErrEncoding) {
				t.Errorf("%s of %d bytes: got error %v, want %v", name, n, err, ErrEncoding)
			}
		}
	}
	list := item{major: majorArray, value: 32, width: 1, kids: make([]item, 32)}
	if err := refuse[Digest](list.write(nil)); !errors.Is(err, ErrEncoding) {
		t.Errorf("digest as a list of numbers: got error %v, want %v", err, ErrEncoding)
	}
}

func TestLinks(t *testing.T) {
	t.Parallel()
	good := rawLink("x").Cid.Bytes()
	link := func(tag uint64, content []byte) []byte {
		return item{major: majorTag, value: tag, width: 1, kids: []item{{raw: Encode(content)}}}.write(nil)
	}
	zero := append([]byte{0}, good...)
	if err := refuse[Link](link(42, zero)); err != nil {
		t.Fatalf("a good link: %v", err)
	}
	for name, b := range map[string][]byte{
		"no tag":            Encode(zero),
		"another tag":       link(43, zero),
		"no zero":           link(42, good),
		"wrong prefix":      link(42, append([]byte{1}, good...)),
		"empty":             link(42, nil),
		"only a zero":       link(42, []byte{0}),
		"trailing byte":     link(42, append(bytes.Clone(zero), 0)),
		"cut":               link(42, zero[:len(zero)-1]),
		"long":              link(42, append([]byte{0, 1, 0x55, 0, 0x80, 1}, make([]byte, 128)...)),
		"version 2":         link(42, append([]byte{0, 2}, good[1:]...)),
		"wide version":      link(42, append([]byte{0, 0x81, 0}, good[1:]...)),
		"wide codec":        link(42, append([]byte{0, 1, 0xd5, 0}, good[2:]...)),
		"text in the tag":   item{major: majorTag, value: 42, width: 1, kids: []item{{raw: Encode(string(zero))}}}.write(nil),
		"number in the tag": item{major: majorTag, value: 42, width: 1, kids: []item{{}}}.write(nil),
		"tag in the tag":    item{major: majorTag, value: 42, width: 1, kids: []item{{raw: link(42, zero)}}}.write(nil),
		"null":              {codeNull},
	} {
		if err := refuse[Link](b); !errors.Is(err, ErrEncoding) {
			t.Errorf("%s: got error %v, want %v", name, err, ErrEncoding)
		}
	}
}

func TestNesting(t *testing.T) {
	t.Parallel()
	for _, major := range []byte{0x81, 0xa1, 0xd8} {
		b := bytes.Repeat([]byte{major}, 1<<16)
		if err := refuse[Segment](b); !errors.Is(err, ErrEncoding) {
			t.Errorf("65,536 times %x: got error %v, want %v", major, err, ErrEncoding)
		}
	}
}
