package machines

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/talka-grid/talka/workunits"
)

// end is one of the two of a stream in memory. It keeps its deadlines by the clock of
// the test's bubble, so that silence takes no time.
type end struct{ net.Conn }

func (e end) Reset() error { return e.Close() }

// nowhere is a network of which nothing is asked.
type nowhere struct{}

func (nowhere) Addrs() []string { return []string{"/ip4/127.0.0.1/tcp/1"} }

func (nowhere) Open(context.Context, workunits.NodeID, []string, string) (Stream, error) {
	return nil, errors.New("it is away")
}

// fresh is a set that knows nobody. It is the only one with that directory.
func fresh(t *testing.T, dir string) *Set {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, fileName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	s, err := New(Config{Dir: dir, Self: newTestID(1), Network: "lab", Name: "desk", Net: nowhere{}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// said serves a peer that says data, reads what it is told, and then leaves or falls
// silent. It returns that, and how much of the data was taken.
func said(t *testing.T, serve func(Stream), data []byte, leaves bool) (told []byte, taken int) {
	t.Helper()
	near, far := net.Pipe()
	var group sync.WaitGroup
	group.Go(func() {
		began := time.Now()
		serve(end{far})
		if took := time.Since(began); took > serveTime {
			t.Errorf("a stream was served for %v", took)
		}
	})
	group.Go(func() {
		taken, _ = near.Write(data) // who refuses does not read
		if leaves {
			_ = near.Close()
		}
	})
	told, _ = io.ReadAll(near) // until the other end has enough
	_ = near.Close()
	group.Wait()
	return told, taken
}

func framed(t testing.TB, v any) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := writeFrame(&b, v); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// garbage are frames that are none.
func garbage() [][]byte {
	return [][]byte{{}, {0, 0}, {0, 0, 0, 1, 0xa0}, {0, 0, 1, 0, 7}, binary.BigEndian.AppendUint32(nil, 1<<31), []byte("GET / HTTP/1.1\r\n\r\n")}
}

func text(t *testing.T, k kept) string {
	t.Helper()
	b, err := json.Marshal(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// onDisk fails unless the next start finds the list as it is now.
func onDisk(t *testing.T, s *Set) {
	t.Helper()
	k, err := readKept(s.cfg.Dir)
	if want, got := text(t, s.kept), text(t, k); err != nil || want != got {
		t.Errorf("the list is %.500s, and in its file %.500s, %v", want, got, err)
	}
}

// FuzzPair says anything to a machine that shows a code. Whoever has not got it is not
// let in and leaves it good for who has. Whoever has is let in with a hello that makes
// sense, as what it says and no more, and once.
func FuzzPair(f *testing.F) {
	h := hello{Version: pairVersion, Name: "laptop", Role: RoleRead, Nonce: make([]byte, nonceBytes), Addrs: []string{"/ip4/127.0.0.1/tcp/2"}}
	odd := hello{Version: pairVersion + 1, Name: "a\nb", Role: "owner", Nonce: []byte{1}, Addrs: make([]string, maxAddrs+1)}
	guess := append(framed(f, h), framed(f, proof{MAC: make([]byte, 32)})...)
	for _, b := range append(garbage(), framed(f, h), framed(f, odd), guess) {
		for _, knows := range []bool{false, true} {
			f.Add(b, knows, false)
			f.Add(b, knows, true)
		}
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte, knows, leaves bool) {
		synctest.Test(t, func(t *testing.T) { paired(t, fresh(t, dir), data, knows, leaves) })
	})
}

func paired(t *testing.T, s *Set, data []byte, knows, leaves bool) {
	ctx, cancel := context.WithCancel(t.Context())
	shown, offered := make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := s.Offer(ctx, "", RoleRead, func(Offer) { close(shown) })
		offered <- err
	}()
	<-shown
	code := s.offer.code
	join := func(from byte, h hello) error {
		near, far := net.Pipe()
		var group sync.WaitGroup
		group.Go(func() { s.ServePair(newTestID(from), end{far}) })
		joiner := &Set{cfg: Config{Self: newTestID(from), Network: "lab", Log: s.cfg.Log}}
		_, err := joiner.join(end{near}, code, h)
		_ = near.Close()
		group.Wait()
		return err
	}
	list := []Machine{}
	h, err := readFrame[hello](bytes.NewReader(data), maxPairMsg)
	if knows && err == nil {
		if err := join(2, h); (err == nil) != (h.check() == nil) {
			t.Errorf("joining says %v, the hello %v", err, h.check())
		}
		if h.check() == nil {
			list = append(list, Machine{ID: newTestID(2), Name: h.Name, Role: RoleRead, Gives: h.Role, Addrs: h.Addrs})
		}
	} else if _, taken := said(t, func(st Stream) { s.ServePair(newTestID(2), st) }, data, leaves); taken > 2*(4+maxPairMsg) {
		t.Errorf("%d bytes were taken", taken)
	}
	honest := hello{Version: pairVersion, Name: "server", Role: RoleControl, Nonce: make([]byte, nonceBytes), Addrs: []string{}}
	if err := join(3, honest); (err == nil) != (len(list) == 0) {
		t.Errorf("the code for %d machines: %v", len(list)+1, err)
	}
	if len(list) == 0 {
		list = append(list, Machine{ID: newTestID(3), Name: honest.Name, Role: RoleRead, Gives: honest.Role})
	}
	cancel()
	if err := <-offered; err != nil {
		t.Errorf("its owner is told: %v", err)
	}
	if diff := gocmp.Diff(list, s.List(), cmpopts.EquateEmpty(), cmpopts.IgnoreFields(Machine{}, "Since")); diff != "" {
		t.Errorf("the list (-want +got):\n%s", diff)
	}
	if len(s.pairs) > 0 {
		t.Errorf("%v are being paired still", s.pairs)
	}
	onDisk(t, s)
}

// The machines of FuzzOwner.
var (
	peerID  = newTestID(2) // who speaks
	kinID   = newTestID(3) // came by it
	otherID = newTestID(4)
	goneID  = newTestID(5) // was removed
)

// words that FuzzOwner begins with, good and bad.
func someWords() []words {
	intro := func(i introduced) words { return words{Introduced: []introduced{i}} }
	return []words{
		{}, {Removed: []removed{{otherID, strings.Repeat("01", wordBytes)}}}, {Removed: []removed{{kinID, strings.Repeat("01", wordBytes)}}},
		{Removed: []removed{{newTestID(1), strings.Repeat("02", wordBytes)}}}, {Removed: []removed{{peerID, strings.Repeat("02", wordBytes)}}},
		{Removed: []removed{{otherID, "../../etc"}}}, {Removed: []removed{{workunits.NodeID{}, strings.Repeat("03", wordBytes)}}},
		intro(introduced{ID: newTestID(6), Name: "other", Role: RoleControl, Gives: RoleRead, Addrs: []string{"/ip4/127.0.0.1/tcp/6"}}),
		intro(introduced{ID: goneID, Name: "back", Role: RoleControl, Gives: RoleRead}), intro(introduced{ID: peerID, Name: "peer", Role: RoleControl, Gives: RoleRead}),
		intro(introduced{ID: newTestID(7), Name: "a\x1b[2J", Role: RoleRead, Gives: RoleRead}), {Removed: make([]removed, maxWords+1)},
	}
}

// FuzzOwner says anything on a stream for an owner's machines, as a stranger, and as
// each of those. A stranger's words are not even read. Others get one answer to one
// request, which is made with their role, and change of the list what that lets them.
func FuzzOwner(f *testing.F) {
	ask := Request{Method: http.MethodPost, Path: "/v1/pause", Body: []byte("{}")}
	seeds := append(garbage(), framed(f, asked{Version: askVersion, Request: ask}), framed(f, asked{Version: askVersion + 1, Request: ask}))
	for _, w := range someWords() {
		seeds = append(seeds, framed(f, asked{Version: askVersion, Request: Request{Body: []byte{}}, Words: w}))
	}
	for i, b := range seeds {
		for who := range byte(3) {
			f.Add(b, who, i%2 == 0)
		}
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte, who byte, leaves bool) {
		role := []Role{"", RoleRead, RoleControl}[who%3]
		synctest.Test(t, func(t *testing.T) { owned(t, fresh(t, dir), role, data, leaves) })
	})
}

// owned serves one stream of a machine with that role, or of a stranger.
func owned(t *testing.T, s *Set, role Role, data []byte, leaves bool) {
	if role != "" {
		s.kept.Machines = []Machine{{ID: peerID, Name: "peer", Role: role}, {ID: kinID, Name: "kin", Role: RoleRead, By: peerID}}
	}
	s.kept.Machines = append(s.kept.Machines, Machine{ID: otherID, Name: "other", Role: RoleControl})
	s.kept.Removals = []removal{{ID: goneID, Word: strings.Repeat("00", wordBytes)}}
	before := s.kept.clone()
	s.kept = before.clone()
	var got []asking
	s.Serve(func(_ context.Context, role Role, r Request) Answer {
		got = append(got, asking{role, r})
		return Answer{Status: http.StatusOK, Body: r.Body}
	})
	told, taken := said(t, func(st Stream) { s.ServeOwner(peerID, st) }, data, leaves)
	q, bad := readFrame[asked](bytes.NewReader(data), maxAsk)
	a, err := readFrame[answered](bytes.NewReader(told), maxAnswer+1<<10)
	answers := bad == nil && !leaves
	want := []asking{}
	if bad == nil && q.Version == askVersion && q.Words.empty() {
		want = append(want, asking{role, q.Request})
	}
	switch {
	case role == "":
		want, q, answers = nil, asked{}, false
		if taken > 0 || !leaves && a.Refused != notPaired {
			t.Errorf("a stranger is told %q, and %d bytes were taken", told, taken)
		}
	case taken > 4+maxAsk || bad != nil && len(told) > 0:
		t.Errorf("%d bytes were taken, %q was answered to %v", taken, told, bad)
	case bad != nil:
		q = asked{}
	}
	if answers && (err != nil || a.Version != askVersion || (q.Version != askVersion) != (a.Later && a.Refused != "")) {
		t.Errorf("the answer is %+v, %v", a, err)
	}
	if answers && len(want) > 0 && (a.Refused != "" || a.Answer.Status != http.StatusOK || !bytes.Equal(a.Answer.Body, q.Request.Body)) {
		t.Errorf("the answer is %+v", a)
	}
	if diff := gocmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("it was asked (-want +got):\n%s", diff)
	}
	if len(s.busy) > 0 {
		t.Errorf("%v are being served still", s.busy)
	}
	if q.Version != askVersion {
		q.Words = words{}
	}
	lawful(t, s, role, q.Words, before)
}

// lawful fails if words changed more of the list than who said them may.
func lawful(t *testing.T, s *Set, role Role, w words, before kept) {
	t.Helper()
	if gocmp.Equal(before, s.kept, cmpopts.EquateEmpty()) {
		return
	}
	onDisk(t, s)
	may := map[workunits.NodeID]bool{} // go
	for _, r := range w.Removed {
		if r.ID == s.cfg.Self {
			r.ID = peerID
		}
		may[r.ID] = may[r.ID] || role == RoleControl || r.ID == peerID
	}
	may[kinID] = may[kinID] || may[peerID]
	for _, m := range before.Machines {
		if now := s.kept.find(m.ID); now == nil && !may[m.ID] || now != nil && !gocmp.Equal(m, *now, cmpopts.EquateEmpty()) {
			t.Errorf("%s: %+v became %+v by %+v", role, m, now, w)
		}
	}
	for _, m := range s.kept.Machines {
		named := slices.ContainsFunc(w.Introduced, func(i introduced) bool { return i.ID == m.ID && i.Role == m.Role })
		if before.find(m.ID) == nil && (!named || role != RoleControl || m.By != peerID || m.ID == s.cfg.Self || before.removed(m.ID)) {
			t.Errorf("%s: %+v came by %+v", role, m, w)
		}
	}
}
