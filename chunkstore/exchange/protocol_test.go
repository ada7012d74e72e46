package exchange

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"

	"github.com/talka-grid/talka/chunkstore"
	"github.com/talka-grid/talka/workunits"
)

// TestVectors fixes what goes over the wire: a request for a chunk that is here
// and one that is not, and the answer.
func TestVectors(t *testing.T) {
	t.Parallel()
	const request = "02" +
		"24" + "01551e20" + "@here" +
		"24" + "01551e20" + "@absent"
	const answer = "05" + "68657265" + "00" // "here"
	s := store(t, 0)
	here := add(t, s, write(t, "here")).Cid
	digest := func(c cid.Cid) string { return hex.EncodeToString(c.Hash()[2:]) }
	want := strings.NewReplacer("@here", digest(here), "@absent", digest(absent(t))).Replace(request)
	var out bytes.Buffer
	if err := writeRequest(bufio.NewWriter(&out), []cid.Cid{here, absent(t)}); err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(out.Bytes()); got != want {
		t.Errorf("request %s, want %s", got, want)
	}
	near, far := net.Pipe()
	go New(Config{Store: s}).Serve(id(1), pipe{far, nil})
	if _, err := near.Write(out.Bytes()); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(answer)/2)
	if _, err := io.ReadFull(near, got); err != nil || hex.EncodeToString(got) != answer {
		t.Errorf("answer %x, %v, want %s", got, err, answer)
	}
	if err := near.Close(); err != nil {
		t.Error(err)
	}
}

func write(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// garbage are requests that end the stream.
func garbage(t testing.TB) map[string][]byte {
	good := append([]byte{36}, absent(t).Bytes()...)
	return map[string][]byte{
		"none":          {0},
		"too many":      append([]byte{MaxBatch + 1}, bytes.Repeat(good, MaxBatch+1)...),
		"far too many":  binary.AppendUvarint(nil, 1<<63),
		"endless":       bytes.Repeat([]byte{0xff}, 20),
		"long CID":      append([]byte{1, maxCid + 1}, make([]byte, maxCid+1)...),
		"huge CID":      append([]byte{1}, binary.AppendUvarint(nil, 1<<40)...),
		"empty CID":     {1, 0},
		"no CID":        {1, 4, 'x', 'y', 'z', 0},
		"more than CID": append(append([]byte{1, 37}, good[1:]...), 0),
		"text":          []byte("GET / HTTP/1.1\r\n\r\n"),
	}
}

func TestServeGarbage(t *testing.T) {
	t.Parallel()
	x := New(Config{Store: store(t, 0)})
	for name, request := range garbage(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			near, far := net.Pipe()
			reset, done := false, make(chan struct{})
			go func() {
				x.Serve(id(1), pipe{far, func() { reset = true }})
				close(done)
			}()
			go near.Write(request) //nolint:errcheck // the far end may close before it has all
			if got, err := io.ReadAll(near); len(got) > 0 || err != nil {
				t.Errorf("answer %x, %v", got, err)
			}
			<-done
			if !reset {
				t.Error("the stream was not reset")
			}
		})
	}
}

// TestServeCutOff ends in the middle of a request, and cleanly between two.
func TestServeCutOff(t *testing.T) {
	t.Parallel()
	x := New(Config{Store: store(t, 0)})
	whole := append([]byte{1, 36}, absent(t).Bytes()...)
	for cutAt := range len(whole) {
		r := bufio.NewReader(bytes.NewReader(whole[:cutAt]))
		if _, err := readRequest(r); errors.Is(err, io.EOF) != (cutAt == 0) || err == nil {
			t.Errorf("cut after %d bytes: %v", cutAt, err)
		}
	}
	near, far, err := loopback(t)(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		x.Serve(id(1), pipe{far, func() { t.Error("reset after a clean end") }})
		close(done)
	}()
	if err := near.Close(); err != nil {
		t.Fatal(err)
	}
	<-done
}

// TestServeSilent gives a peer up that asks for nothing, or takes nothing.
func TestServeSilent(t *testing.T) {
	t.Parallel()
	s := store(t, 0)
	a := add(t, s, file(t, 1, mib))
	for name, test := range map[string]struct {
		request []byte
		within  time.Duration
	}{
		"asks nothing":  {nil, idleTime},
		"half a one":    {[]byte{1, 36, 1}, idleTime},
		"takes nothing": {append([]byte{1, 36}, a.Cid.Bytes()...), blockTime},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				defer near.Close()
				go near.Write(test.request) //nolint:errcheck // it is read or the test fails
				started := time.Now()
				New(Config{Store: s}).Serve(id(1), pipe{far, nil})
				if took := time.Since(started); took != test.within {
					t.Errorf("gave up after %v", took)
				}
			})
		})
	}
}

// TestAnswers reads what sources may answer; those that break the protocol are
// banned.
func TestAnswers(t *testing.T) {
	t.Parallel()
	c := absent(t)
	big := binary.AppendUvarint(nil, chunkstore.MaxBlock+2)
	for name, test := range map[string]struct {
		answer []byte
		ban    bool
		want   error
	}{
		"right":     {append([]byte{7}, "absent"...), false, nil},
		"not here":  {[]byte{0}, false, ErrNotFound},
		"nothing":   {nil, false, ErrNotFound},
		"cut off":   {append([]byte{7}, "abs"...), false, ErrNotFound},
		"wrong":     {append([]byte{7}, "absenT"...), true, ErrNotFound},
		"empty":     {[]byte{1}, true, ErrNotFound},
		"too large": {big, true, ErrNotFound},
		"endless":   {bytes.Repeat([]byte{0xff}, 20), true, ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.serve[id(1)] = func(s Stream) {
				r := bufio.NewReader(s)
				_, _ = readRequest(r)       // whatever it is
				_, _ = s.Write(test.answer) // the peer may have enough of it
				_ = s.Close()
			}
			x, _ := w.node(t, 2)
			if err := x.Fetch(t.Context(), c, []workunits.NodeID{id(1)}, nil); !errors.Is(err, test.want) {
				t.Errorf("%v", err)
			}
			if x.isBanned(id(1)) != test.ban {
				t.Errorf("banned: %t", !test.ban)
			}
		})
	}
}

func FuzzReadRequest(f *testing.F) {
	for _, b := range garbage(f) {
		f.Add(b)
	}
	f.Add(append([]byte{1, 36}, absent(f).Bytes()...))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := readRequest(bufio.NewReader(bytes.NewReader(data)))
		if err != nil {
			return
		}
		if len(list) == 0 || len(list) > MaxBatch {
			t.Fatalf("%d chunks", len(list))
		}
		var out bytes.Buffer
		if err := writeRequest(bufio.NewWriter(&out), list); err != nil {
			t.Fatal(err)
		}
		again, err := readRequest(bufio.NewReader(&out))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(list, again, cmp.Comparer(cid.Cid.Equals)); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzReadAnswer(f *testing.F) {
	f.Add([]byte{0})
	f.Add([]byte{1})
	f.Add(append([]byte{7}, "absent"...))
	f.Add(binary.AppendUvarint(nil, chunkstore.MaxBlock+2))
	f.Add(binary.AppendUvarint(nil, 1<<63))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := readAnswer(bufio.NewReader(bytes.NewReader(data)), new([]byte), func(int, int) error { return nil })
		if err != nil || got == nil {
			return
		}
		if len(got) > chunkstore.MaxBlock || len(got) > len(data) {
			t.Fatalf("%d bytes out of %d", len(got), len(data))
		}
		n, size := binary.Uvarint(data)
		if uint64(len(got)) != n-1 || !bytes.Equal(got, data[size:size+len(got)]) {
			t.Fatal("other bytes")
		}
	})
}

// FuzzServe writes anything to a stream that a node serves, and then leaves or falls
// silent. The node gives it up in time, answers whatever it asks for before it makes no
// sense, and what no lease lets peers have does not leave the node.
func FuzzServe(f *testing.F) {
	s := store(f, 0)
	secret, err := s.Add(f.Context(), file(f, 7, 10_000), nil)
	if err != nil {
		f.Fatal(err)
	}
	held, err := s.Get(f.Context(), secret.Cid)
	if err != nil {
		f.Fatal(err)
	}
	seeds := garbage(f)
	for _, list := range [][]cid.Cid{{secret.Cid, absent(f)}, {add(f, s, write(f, "here")).Cid, secret.Cid}} {
		var ask bytes.Buffer
		if err := writeRequest(bufio.NewWriter(&ask), list); err != nil {
			f.Fatal(err)
		}
		seeds[list[0].String()] = ask.Bytes()
		seeds[list[0].String()+" and more"] = slices.Concat(ask.Bytes(), ask.Bytes(), seeds["text"])
	}
	for _, name := range slices.Sorted(maps.Keys(seeds)) {
		f.Add(seeds[name], false)
		f.Add(seeds[name], true)
	}
	f.Fuzz(func(t *testing.T, data []byte, leaves bool) {
		synctest.Test(t, func(t *testing.T) {
			got := answers(t, s, data, leaves)
			if bytes.Contains(got, held.RawData()) {
				t.Error("a chunk that is not served was sent")
			}
			var want []byte
			for r := bufio.NewReader(bytes.NewReader(data)); ; {
				list, err := readRequest(r)
				if err != nil {
					break
				}
				for _, c := range list {
					chunk, err := s.Serve(c, nil)
					if err != nil {
						want = append(want, 0)
						continue
					}
					want = append(binary.AppendUvarint(want, uint64(len(chunk))+1), chunk...)
				}
			}
			if !bytes.HasPrefix(want, got) || !leaves && len(got) < len(want) {
				t.Errorf("answer %x, want %x", got, want)
			}
		})
	})
}

// answers is what a node answers to data, after which the peer leaves or falls silent.
func answers(t *testing.T, s *chunkstore.Store, data []byte, leaves bool) []byte {
	t.Helper()
	near, far := net.Pipe()
	var group sync.WaitGroup
	group.Go(func() {
		began := time.Now()
		New(Config{Store: s}).Serve(id(9), pipe{far, nil})
		if took := time.Since(began); took > idleTime {
			t.Errorf("served for %v", took)
		}
	})
	group.Go(func() {
		_, _ = near.Write(data) // the node may be done with it already
		if leaves {
			_ = near.Close()
		}
	})
	got, _ := io.ReadAll(near) // until the node has enough
	_ = near.Close()
	group.Wait()
	return got
}

// started counts streams that somebody has written to.
type started struct {
	Stream
	once  sync.Once
	count *atomic.Int64
}

func (s *started) Write(p []byte) (int, error) {
	s.once.Do(func() { s.count.Add(1) })
	return s.Stream.Write(p)
}

// TestDesk has a peer ask over many streams and read from none: no more than a few
// chunks are in memory for it, and others are served.
func TestDesk(t *testing.T) {
	t.Parallel()
	path := file(t, 3, 16*mib)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		x, s := w.node(t, 1)
		root := add(t, s, path)
		b, err := s.Get(t.Context(), root.Cid)
		if err != nil {
			t.Fatal(err)
		}
		leaves, err := chunkstore.Links(b)
		if err != nil {
			t.Fatal(err)
		}
		var count atomic.Int64
		var group sync.WaitGroup
		var ends []net.Conn
		for _, c := range leaves {
			near, far := net.Pipe()
			group.Go(func() { x.Serve(id(66), &started{Stream: pipe{far, nil}, count: &count}) })
			if err := writeRequest(bufio.NewWriter(near), []cid.Cid{c}); err != nil {
				t.Fatal(err)
			}
			ends = append(ends, near)
		}
		synctest.Wait()
		if n := count.Load(); n != ofFar {
			t.Errorf("%d chunks are held for a peer that does not read", n)
		}
		other, mine := w.node(t, 2)
		if err := other.Fetch(t.Context(), root.Cid, []workunits.NodeID{id(1)}, nil); err != nil {
			t.Error(err)
		}
		whole(t, mine, root.Cid, path)
		for _, c := range ends {
			_ = c.Close()
		}
		group.Wait()
		x.mu.Lock()
		defer x.mu.Unlock()
		if len(x.desks) > 1 { // that of the other's streams may be about to go
			t.Errorf("%d peers are remembered", len(x.desks))
		}
	})
}
