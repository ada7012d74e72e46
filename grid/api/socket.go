package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
)

// SocketName is the file of the socket in a node's data directory.
const SocketName = "talka.sock"

// maxSocketPath is what every system's address of a unix socket holds.
const maxSocketPath = 100

// Socket is a listening unix socket.
type Socket struct {
	listener net.Listener
	path     string
	once     sync.Once
	err      error
}

// Listen opens the socket in the data directory, with mode 0600 from the moment
// that its name appears. It takes the place of a socket that a crashed node
// left: the caller holds the directory's lock.
func Listen(dir string) (*Socket, error) {
	s, err := listen(dir)
	if err != nil {
		return nil, fmt.Errorf("open the local interface: %w", err)
	}
	return s, nil
}

func listen(dir string) (s *Socket, err error) {
	// In a folder of the owner alone nobody can connect before the mode is set.
	private, err := os.MkdirTemp(dir, ".sock-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(private)) }()
	address, done, err := socketAddress(private)
	if err != nil {
		return nil, err
	}
	defer done()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: address, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	path := filepath.Join(dir, SocketName)
	if err := errors.Join(
		os.Chmod(filepath.Join(private, SocketName), 0o600),
		os.Rename(filepath.Join(private, SocketName), path),
	); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &Socket{listener: l, path: path}, nil
}

// Close stops listening and removes the file. It may be called more than once.
func (s *Socket) Close() error {
	s.once.Do(func() {
		s.err = s.listener.Close()
		if errors.Is(s.err, net.ErrClosed) {
			s.err = nil // the server closed it
		}
		if err := os.Remove(s.path); !errors.Is(err, fs.ErrNotExist) {
			s.err = errors.Join(s.err, err)
		}
	})
	return s.err
}

// dial connects to the node of a data directory.
func dial(ctx context.Context, dir string) (net.Conn, error) {
	address, done, err := socketAddress(dir)
	if err != nil {
		return nil, err
	}
	defer done()
	var d net.Dialer
	return d.DialContext(ctx, "unix", address)
}

// socketAddress is the address of the socket in dir. Addresses are short, and
// folders need not be: Linux can go by an open folder instead of its name. The
// address holds until done is called.
func socketAddress(dir string) (address string, done func(), err error) {
	path := filepath.Join(dir, SocketName)
	if len(path) <= maxSocketPath {
		return path, func() {}, nil
	}
	if runtime.GOOS != "linux" {
		return "", nil, fmt.Errorf("%s: the path is %d bytes long and a socket's may have %d; use a shorter data directory", path, len(path), maxSocketPath)
	}
	f, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", f.Fd(), SocketName), func() { _ = f.Close() }, nil
}
