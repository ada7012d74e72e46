// Package phrase is what a node says so that others can word it in their language: a
// code, what stands in its places, and English.
//
// English has places such as {name}. One such as {units|unit|units} is a number of
// things, and {list} is other phrases in a row. The words of the page have the same
// places. Every code and its English are literals of one call of New or Of, where a
// test finds them and holds the page to them.
package phrase

import (
	"fmt"
	"regexp"
	"strings"
)

// Phrase is a sentence, or a part of one. Codes stay from version to version.
type Phrase struct {
	Code string            `json:"code"`
	With map[string]string `json:"with,omitempty"` // what stands in its places
	List []Phrase          `json:"list,omitempty"` // what stands in its place {list}
	Text string            `json:"text"`           // in English
}

var place = regexp.MustCompile(`\{(\w+)(?:\|([^|}]*)\|([^}]*))?\}`)

// New makes a phrase. Names of places and what stands there alternate in with.
func New(code, english string, with ...any) Phrase {
	if len(with) == 0 {
		return Phrase{Code: code, Text: english}
	}
	p := Phrase{Code: code, With: map[string]string{}}
	for i := 0; i+1 < len(with); i += 2 {
		p.With[fmt.Sprint(with[i])] = fmt.Sprint(with[i+1])
	}
	p.Text = place.ReplaceAllStringFunc(english, func(s string) string {
		m := place.FindStringSubmatch(s)
		value := p.With[m[1]]
		switch {
		case m[2] == "":
			return value
		case value == "1":
			return value + " " + m[2]
		}
		return value + " " + m[3]
	})
	return p
}

// Of makes a phrase whose place {list} holds others.
func Of(code, english string, list []Phrase) Phrase {
	text := ""
	for i, p := range list {
		switch {
		case i == 0:
		case i == len(list)-1:
			text += " and "
		default:
			text += ", "
		}
		text += p.Text
	}
	return Phrase{Code: code, List: list, Text: strings.Replace(english, "{list}", text, 1)}
}

// Texts are phrases in English, each for itself.
func Texts(list []Phrase) []string {
	texts := make([]string, len(list))
	for i, p := range list {
		texts[i] = p.Text
	}
	return texts
}

// Text is sentences in English.
func Text(list []Phrase) string { return strings.Join(Texts(list), " ") }
