package main

import "testing"

func TestHide(t *testing.T) {
	t.Parallel()
	h := hider{dir: "/srv/talka"}
	for in, want := range map[string]string{
		"/ip4/127.0.0.1/tcp/4001 and 0.0.0.0, ::1": "/ip4/127.0.0.1/tcp/4001 and 0.0.0.0, ::1",
		"open /srv/talka/chunks: no":               "open DIR/chunks: no",
		"join talka1unrg4zlunr2gc3dlmfrhs now":     "join INVITE now",
		"at 10:23:45, version 1.26.8":              "at 10:23:45, version 1.26.8",
		"12D3KooWQgFMqBwW1auNSsHNkpqTktnF4":        "12D3KooWQgFMqBwW1auNSsHNkpqTktnF4",
	} {
		if got := h.hide(in); got != want {
			t.Errorf("hide(%q) = %q, want %q", in, got, want)
		}
	}
	// One number for each address, whatever its kind.
	for _, step := range []struct{ in, want string }{
		{`"/ip4/203.0.113.7/udp/9/quic-v1"`, `"/ip4/ip-1/udp/9/quic-v1"`},
		{"/ip6/2001:db8::5/tcp/1", "/ip6/ip-2/tcp/1"},
		{"192.168.1.20 knows 203.0.113.7", "lan-ip-3 knows ip-1"},
		{"[fe80::1]:80", "[lan-ip-4]:80"},
	} {
		if got := h.hide(step.in); got != step.want {
			t.Errorf("hide(%q) = %q, want %q", step.in, got, step.want)
		}
	}
}
