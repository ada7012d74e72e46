package workunits

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
)

func TestOutcomeRules(t *testing.T) {
	t.Parallel()
	file := func(f OutFile) func(*Outcome) { return func(o *Outcome) { o.Files = []OutFile{f} } }
	files := func(paths ...string) func(*Outcome) {
		return func(o *Outcome) {
			o.Files = nil
			for _, p := range paths {
				o.Files = append(o.Files, OutFile{Path: p})
			}
		}
	}
	trap := func(words string) func(*Outcome) {
		return func(o *Outcome) { o.How, o.Code, o.Trap = Trapped, 0, words }
	}
	numbered := func(n int) func(*Outcome) {
		return func(o *Outcome) {
			o.Files = nil
			for i := range n {
				o.Files = append(o.Files, OutFile{Path: fmt.Sprintf("%04d", i)})
			}
		}
	}
	inline, link := make([]byte, InlineFile), rawLink("file")
	for name, c := range map[string]struct {
		change func(*Outcome)
		ok     bool
	}{
		"exit":                 {func(o *Outcome) { o.How = Exited }, true},
		"exit with a trap":     {func(o *Outcome) { o.Trap = "unreachable" }, false},
		"trap":                 {trap("unreachable"), true},
		"trap with a code":     {func(o *Outcome) { o.How, o.Trap = Trapped, "unreachable" }, false},
		"output limit":         {func(o *Outcome) { *o = Outcome{How: OutputLimit} }, true},
		"limit with a code":    {func(o *Outcome) { *o = Outcome{How: OutputLimit, Code: 1} }, false},
		"limit with a trap":    {func(o *Outcome) { *o = Outcome{How: OutputLimit, Trap: "x"} }, false},
		"limit with files":     {func(o *Outcome) { o.How, o.Code = OutputLimit, 0 }, false},
		"another end":          {func(o *Outcome) { o.How = "exploded" }, false},
		"no end":               {func(o *Outcome) { o.How = "" }, false},
		"longest trap":         {trap(strings.Repeat("x", maxTrapLen)), true},
		"trap too long":        {trap(strings.Repeat("x", maxTrapLen+1)), false},
		"no files":             {func(o *Outcome) { o.Files = nil }, true},
		"output with a path":   {func(o *Outcome) { o.Out.Path = "stdout" }, false},
		"most files":           {numbered(MaxOutFiles), true},
		"too many files":       {numbered(MaxOutFiles + 1), false},
		"ascending":            {files("a", "a.b", "a.b.c", "b/c"), true},
		"file in a file":       {files("a", "a.b", "a/b", "b"), false},
		"line break in path":   {files("a\nb"), false},
		"long name":            {files("a/" + strings.Repeat("x", MaxPathName+1)), false},
		"byte order":           {files("B", "a", "ä"), true},
		"descending":           {files("b", "a"), false},
		"twice":                {files("a", "a"), false},
		"no path":              {files(""), false},
		"absolute":             {files("/a"), false},
		"above":                {files("../a"), false},
		"unclean":              {files("a//b"), false},
		"zero in path":         {files("a\x00"), false},
		"largest inline":       {file(OutFile{Path: "a", Size: InlineFile, Data: inline}), true},
		"inline too large":     {file(OutFile{Path: "a", Size: InlineFile + 1, Data: make([]byte, InlineFile+1)}), false},
		"smallest by CID":      {file(OutFile{Path: "a", Size: InlineFile + 1, Cid: &link}), true},
		"too small for a CID":  {file(OutFile{Path: "a", Size: InlineFile, Cid: &link}), false},
		"empty by CID":         {file(OutFile{Path: "a", Cid: &link}), false},
		"both":                 {file(OutFile{Path: "a", Size: InlineFile + 1, Data: []byte{1}, Cid: &link}), false},
		"both, small":          {file(OutFile{Path: "a", Size: 1, Data: []byte{1}, Cid: &link}), false},
		"neither":              {file(OutFile{Path: "a", Size: InlineFile + 1}), false},
		"less than its size":   {file(OutFile{Path: "a", Size: 2, Data: []byte{1}}), false},
		"more than its size":   {file(OutFile{Path: "a", Size: 0, Data: []byte{1}}), false},
		"largest by CID":       {file(OutFile{Path: "a", Size: 1<<64 - 1, Cid: &link}), true},
		"output by CID":        {func(o *Outcome) { o.Out = OutFile{Size: 1 << 20, Cid: &link} }, true},
		"output in both":       {func(o *Outcome) { o.Out.Cid = &link }, false},
		"output not its size":  {func(o *Outcome) { o.Out.Size++ }, false},
		"second file is wrong": {func(o *Outcome) { o.Files[1].Size = 1 }, false},
	} {
		o := sampleOutcome()
		c.change(&o)
		b, digest := o.Encode()
		if digest != Sum(b) {
			t.Errorf("%s: digest is of something else", name)
		}
		if _, err := ParseOutcome(b); (err == nil) != c.ok || errors.Is(err, ErrEncoding) {
			t.Errorf("%s: got error %v, want ok %t", name, err, c.ok)
		}
	}
}

func TestOutcomeLinks(t *testing.T) {
	t.Parallel()
	o := sampleOutcome()
	out := rawLink("output")
	o.Out = OutFile{Size: 1 << 20, Cid: &out}
	got := o.Links()
	if len(got) != 2 || !got[0].Cid.Equals(out.Cid) || !got[1].Cid.Equals(o.Files[1].Cid.Cid) {
		t.Errorf("links of the outcome are %v", got)
	}
}

func TestAnnouncementRules(t *testing.T) {
	t.Parallel()
	const day = 24 * 3600 * 1000
	for name, c := range map[string]struct {
		change func(*Announcement)
		ok     bool
	}{
		"as it is":         {func(*Announcement) {}, true},
		"ended":            {func(a *Announcement) { a.Ended, a.Open = true, 0 }, true},
		"a day":            {func(a *Announcement) { a.Expires = a.Time + day }, true},
		"more than a day":  {func(a *Announcement) { a.Expires = a.Time + day + 1 }, false},
		"no time":          {func(a *Announcement) { a.Expires = a.Time }, false},
		"backwards":        {func(a *Announcement) { a.Expires = 0 }, false},
		"last moment":      {func(a *Announcement) { a.Time, a.Expires = 1<<64-2, 1<<64-1 }, true},
		"around the end":   {func(a *Announcement) { a.Time, a.Expires = 1<<64-1, 0 }, false},
		"most stewards":    {func(a *Announcement) { a.Stewards = make([]NodeID, MaxStewards) }, true},
		"too many":         {func(a *Announcement) { a.Stewards = make([]NodeID, MaxStewards+1) }, false},
		"a proof":          {func(a *Announcement) { a.Proof = make([]byte, MaxProof) }, true},
		"too long a proof": {func(a *Announcement) { a.Proof = make([]byte, MaxProof+1) }, false},
		"no stewards":      {func(a *Announcement) { a.Stewards = nil }, false},
		"no network":       {func(a *Announcement) { a.Network = "" }, false},
		"no project":       {func(a *Announcement) { a.Project = "" }, false},
		"project, no name": {func(a *Announcement) { a.Project = "a b" }, false},
	} {
		a := sampleAnnouncement()
		c.change(&a)
		b := a.Sign(testKey(2))
		got, err := ParseAnnouncement(b)
		if (err == nil) != c.ok || errors.Is(err, ErrSignature) {
			t.Errorf("%s: got error %v, want ok %t", name, err, c.ok)
		}
		if err == nil && got.ProjectID() != (ProjectID{testNode(1), "stars"}) {
			t.Errorf("%s: project is %s", name, got.ProjectID())
		}
	}
	for name, change := range map[string]func(*Announcement){
		"author": func(a *Announcement) { a.Author = testNode(3) },
		"open":   func(a *Announcement) { a.Open++ },
		"job":    func(a *Announcement) { a.Job[0] ^= 1 },
		"none":   func(a *Announcement) { a.Sig = nil },
	} {
		a, err := ParseAnnouncement(sampleAnnouncement().Sign(testKey(2)))
		if err != nil {
			t.Fatal(err)
		}
		change(&a)
		if _, err := ParseAnnouncement(Encode(a)); !errors.Is(err, ErrSignature) {
			t.Errorf("%s changed: got error %v, want %v", name, err, ErrSignature)
		}
	}
}

func TestOutcomeSize(t *testing.T) {
	t.Parallel()
	o := Outcome{Out: OutFile{Size: 3}, Files: []OutFile{{Path: "a", Size: 1 << 40}, {Path: "b"}}}
	if got := o.Size(); got != 1<<40+3 {
		t.Errorf("%d bytes", got)
	}
	o.Files[1].Size = math.MaxUint64
	if got := o.Size(); got != math.MaxUint64 {
		t.Errorf("%d bytes of more than there are", got)
	}
}
