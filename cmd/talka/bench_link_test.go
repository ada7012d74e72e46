package main

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// link carries connections to an address with a delay each way and a rate back, as a
// line to a distant peer does. Nothing is lost on it.
type link struct {
	listener net.Listener
	delay    time.Duration
	rate     float64 // bytes a second towards who dialled; 0: without limit
	wait     sync.WaitGroup

	mu    sync.Mutex
	free  time.Time // when the line back is free
	conns []net.Conn
}

// openLink opens a link to an address. Who dials its listener's finds what is there.
func openLink(ctx context.Context, to string, delay time.Duration, rate float64) (*link, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	k := &link{listener: l, delay: delay, rate: rate}
	k.wait.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := new(net.Dialer).DialContext(ctx, "tcp", to)
			if err != nil {
				_ = near.Close()
				continue
			}
			k.mu.Lock()
			k.conns = append(k.conns, near, far)
			k.mu.Unlock()
			k.wait.Go(func() { k.carry(far, near, false) })
			k.wait.Go(func() { k.carry(near, far, true) })
		}
	})
	return k, nil
}

func (k *link) close() {
	_ = k.listener.Close()
	k.mu.Lock()
	for _, c := range k.conns {
		_ = c.Close()
	}
	k.mu.Unlock()
	k.wait.Wait()
}

// parcel is what came together, and when it is due at the other end.
type parcel struct {
	data []byte
	due  time.Time
}

// carry carries one way. What is on the way is bounded by what a second holds.
func (k *link) carry(to, from net.Conn, back bool) {
	line := make(chan parcel, 1<<12)
	k.wait.Go(func() {
		defer to.Close()
		for p := range line {
			if wait := time.Until(p.due); wait > 0 {
				time.Sleep(wait)
			}
			if _, err := to.Write(p.data); err != nil {
				_ = from.Close()
			}
		}
	})
	defer close(line)
	for {
		buf := make([]byte, 64<<10)
		n, err := from.Read(buf)
		if n > 0 {
			line <- parcel{buf[:n], k.due(n, back)}
		}
		if err != nil {
			return
		}
	}
}

// lag is how late a sleeper may wake up without the line having been free meanwhile.
const lag = 10 * time.Millisecond

// due is when bytes that are sent now come, and waits while the line is full.
func (k *link) due(n int, back bool) time.Time {
	if !back || k.rate == 0 {
		return time.Now().Add(k.delay)
	}
	k.mu.Lock()
	if now := time.Now(); k.free.Before(now.Add(-lag)) {
		k.free = now
	}
	k.free = k.free.Add(time.Duration(float64(n) / k.rate * float64(time.Second)))
	sent := k.free
	k.mu.Unlock()
	time.Sleep(time.Until(sent))
	return sent.Add(k.delay)
}

var errShort = errors.New("less came than was sent")

// drain reads so many bytes and forgets them.
func drain(r io.Reader, n int64) error {
	got, err := io.Copy(io.Discard, io.LimitReader(r, n))
	if err == nil && got < n {
		err = errShort
	}
	return err
}
