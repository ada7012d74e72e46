package jobfile

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// document is a TOML file that knows where its keys stand.
type document struct {
	name     string
	data     []byte
	root     map[string]any
	offsets  map[string]int // of keys, table headers and list elements, by field
	problems []problem
}

// problem is an Error before its line is counted.
type problem struct {
	offset int
	field  string
	text   string
}

// read parses TOML. Its error is the first problem of syntax.
func read(name string, data []byte) (*document, error) {
	d := &document{name: name, data: data, offsets: map[string]int{}}
	if len(data) > MaxFile {
		return nil, d.errorAt(problem{text: fmt.Sprintf("found %d bytes; a job file has at most %d", len(data), MaxFile)})
	}
	if err := toml.Unmarshal(data, &d.root); err != nil {
		e := &Error{name, 1, 1, "", "not TOML: " + strings.TrimPrefix(err.Error(), "toml: ")}
		var at *toml.DecodeError
		if errors.As(err, &at) {
			e.Line, e.Column = at.Position()
		}
		return nil, e
	}
	d.locate()
	return d, nil
}

// locate fills in offsets. The parser has accepted the document already.
func (d *document) locate() {
	var p unstable.Parser
	p.Reset(d.data)
	table := ""
	for p.NextExpression() {
		switch e := p.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = d.locateKey("", e.Key())
		case unstable.KeyValue:
			d.locateValue(d.locateKey(table, e.Key()), e.Value())
		default:
		}
	}
}

// locateKey notes each part of a dotted key and returns the whole field.
func (d *document) locateKey(table string, key unstable.Iterator) string {
	for key.Next() {
		table = join(table, string(key.Node().Data))
		d.note(table, key.Node())
	}
	return table
}

func (d *document) locateValue(field string, v *unstable.Node) {
	children := v.Children()
	for i := 0; children.Next(); i++ {
		child := children.Node()
		switch v.Kind {
		case unstable.InlineTable:
			d.locateValue(d.locateKey(field, child.Key()), child.Value())
		case unstable.Array:
			if child.Raw.Length > 0 {
				d.note(element(field, i), child)
			}
		default:
		}
	}
}

// note keeps the first place of a field.
func (d *document) note(field string, n *unstable.Node) {
	if _, ok := d.offsets[field]; !ok {
		d.offsets[field] = int(n.Raw.Offset)
	}
}

// join is the field of a key in a table; a key that TOML needs quotes for gets them.
func join(table, key string) string {
	bare := key != ""
	for _, r := range key {
		bare = bare && (r == '_' || r == '-' || '0' <= r && r <= '9' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z')
	}
	if !bare {
		key = strconv.Quote(key)
	}
	if table == "" {
		return key
	}
	return table + "." + key
}

// element is the field of a list's element.
func element(field string, i int) string { return fmt.Sprintf("%s[%d]", field, i) }

// fail notes a problem at the field, or at the nearest of others that is there.
func (d *document) fail(field, text string, others ...string) {
	p := problem{field: field, text: text}
	for _, f := range append([]string{field}, others...) {
		if at, ok := d.offsets[f]; ok {
			p.offset = at
			break
		}
	}
	d.problems = append(d.problems, p)
}

func (d *document) errorAt(p problem) *Error {
	before := d.data[:p.offset]
	return &Error{
		File:    d.name,
		Line:    1 + bytes.Count(before, []byte("\n")),
		Column:  p.offset - bytes.LastIndexByte(before, '\n'),
		Field:   shorten(p.field),
		Problem: p.text,
	}
}

// shorten keeps an endless name from filling the screen.
func shorten(s string) string {
	const most = 120
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
