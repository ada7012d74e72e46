package configs

import (
	"errors"
	"strings"

	"github.com/multiformats/go-multiaddr"
)

// validPage takes an IP address, or localhost, with a port.
func validPage(s string) error {
	if validLoopback(s) == nil {
		return nil
	}
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		host, bracketed := strings.CutPrefix(s[:i], "[")
		host, closed := strings.CutSuffix(host, "]")
		port, err := whole(s[i+1:])
		if err == nil && port <= 65535 && bracketed == closed && bracketed == strings.Contains(host, ":") && isIP(host) {
			return nil
		}
	}
	return errors.New("want an address such as 127.0.0.1:8256 or 192.0.2.7:8256, or nothing")
}

func isIP(s string) bool {
	_, err4 := multiaddr.NewMultiaddr("/ip4/" + s)
	_, err6 := multiaddr.NewMultiaddr("/ip6/" + s)
	return !strings.Contains(s, "/") && (err4 == nil || err6 == nil)
}

func validFile(s string) error {
	if strings.ContainsRune(s, 0) {
		return errors.New("want the name of a file")
	}
	return nil
}

// validHost takes what stands in a browser's address, without the port.
func validHost(s string) error {
	if isIP(s) {
		return nil
	}
	for label := range strings.SplitSeq(s, ".") {
		bad := label == "" || len(s) > 253 || strings.HasPrefix(label, "-")
		for _, r := range label {
			bad = bad || (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
		}
		if bad {
			return errors.New("want a name in small letters such as talka.example.org, without a port")
		}
	}
	return nil
}

// check refuses an interface that other machines would reach without TLS, or by no
// name.
func (a API) check() error {
	switch {
	case (a.Certificate == "") != (a.Key == ""):
		return errors.New("want api.certificate and api.key, or neither")
	case validLoopback(a.Listen) != nil && a.Certificate == "":
		return errors.New("want a loopback address such as 127.0.0.1:8256, or nothing; other machines come by TLS only: set api.certificate, api.key and api.hosts first")
	case validLoopback(a.Listen) != nil && len(a.Hosts) == 0:
		return errors.New("want api.hosts, the names by which other machines reach it")
	}
	return nil
}

// validLoopback refuses addresses that other machines reach.
func validLoopback(s string) error {
	if s == "" {
		return nil
	}
	err := errors.New("want a loopback address such as 127.0.0.1:8256, or nothing")
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return err
	}
	host, port := s[:i], s[i+1:]
	switch n, e := whole(port); {
	case e != nil || n > 65535:
		return err
	case host == "localhost", host == "[::1]":
		return nil
	case !strings.HasPrefix(host, "127."):
		return err
	}
	if _, e := multiaddr.NewMultiaddr("/ip4/" + host + "/tcp/" + port); e != nil {
		return err
	}
	return nil
}
