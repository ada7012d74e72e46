package configs

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/mr-tron/base58"
	"github.com/multiformats/go-multiaddr"
)

// Limits on what a source may hold.
const (
	maxFile = 1 << 20 // bytes of a file
	maxKeys = 256     // keys of a file, unknown ones too
	maxText = 4096    // bytes of a text value
	maxList = 64      // items of a list
)

// setting is one key: what it is for, and how its value travels between the
// sources and its field. set takes what a TOML file, a flag or a variable
// gives (string, int, int64, bool, []string, []any); its error says what is
// allowed. get gives a form that set takes and TOML writes.
type setting struct {
	key     string
	doc     string
	notFile bool // may not stand in a file
	live    bool // a change counts at once
	set     func(c *Config, v any) error
	get     func(c Config) any
}

// autoWork is the identity_work of who leaves it to the network.
const autoWork = "auto"

// settings are all settings, those of tables last, in the order of Config.
func settings() []setting {
	return slices.Concat(identitySettings(), networkSettings(), machineSettings(), trafficSettings(), inUseSettings(), ruleSettings(), tableSettings())
}

func identitySettings() []setting {
	return []setting{
		{
			key: "version", doc: "Version of this file.",
			set: func(c *Config, v any) error {
				n, err := integer(v, 1, Version)
				c.Version = n
				return err
			},
			get: func(c Config) any { return c.Version },
		},
		{
			key: "network", doc: "Name of the network; nodes of other names are never seen.",
			set: func(c *Config, v any) error {
				return text(&c.Network, v, validName)
			},
			get: func(c Config) any { return c.Network },
		},
		{
			key: "identity_work", doc: "Bits of proof of work for an identity; 28 take a core half a minute, auto is what the network asks.",
			set: func(c *Config, v any) error {
				if v == autoWork {
					c.IdentityWork = -1
					return nil
				}
				n, err := integer(v, 0, 48)
				if err != nil {
					return fmt.Errorf("%w, or %q", err, autoWork)
				}
				c.IdentityWork = n
				return nil
			},
			get: func(c Config) any {
				if c.IdentityWork < 0 {
					return autoWork
				}
				return c.IdentityWork
			},
		},
		{
			key: "dir", doc: "Data directory; empty is the user's own.", notFile: true,
			set: func(c *Config, v any) error {
				return text(&c.Dir, v, func(s string) error {
					if strings.ContainsRune(s, 0) {
						return errors.New("want a path")
					}
					return nil
				})
			},
			get: func(c Config) any { return c.Dir },
		},
	}
}

func networkSettings() []setting {
	return []setting{
		{
			key: "listen", doc: "Multiaddrs to listen on; empty is QUIC and TCP on every address, port " + strconv.Itoa(DefaultPort) + " or any free one.",
			set: func(c *Config, v any) error { return list(&c.Listen, v, validListen) },
			get: func(c Config) any { return c.Listen },
		},
		{
			key: "join", doc: "Invites of peers to begin with.",
			set: func(c *Config, v any) error { return list(&c.Join, v, validInvite) },
			get: func(c Config) any { return c.Join },
		},
		{
			key: "trust", doc: "Projects (NAME@NODE) whose units this node executes.",
			set: func(c *Config, v any) error { return list(&c.Trust, v, validProject) },
			get: func(c Config) any { return c.Trust },
		},
		{
			key: "allow", doc: "The only nodes (12D3KooW…) that may connect; empty is all.",
			set: func(c *Config, v any) error { return list(&c.Allow, v, validNode) },
			get: func(c Config) any { return c.Allow },
		},
		{
			key: "block", doc: "Nodes that may not connect; talka peers block adds to them.",
			set: func(c *Config, v any) error { return list(&c.Block, v, validNode) },
			get: func(c Config) any { return c.Block },
		},
		{
			key: "seed", doc: "Serve newcomers as a first peer; for machines with a public address.",
			set: func(c *Config, v any) error { return boolean(&c.Seed, v) },
			get: func(c Config) any { return c.Seed },
		},
		{
			key: "steward", doc: "Offer to look after jobs of the network.",
			set: func(c *Config, v any) error { return boolean(&c.Steward, v) },
			get: func(c Config) any { return c.Steward },
		},
	}
}

func machineSettings() []setting {
	return []setting{
		{
			key: "preset", live: true, doc: "quiet, balanced or all-out: gives the limits below where they are not set.",
			set: func(c *Config, v any) error {
				return text((*string)(&c.Preset), v, oneOf(Quiet, Balanced, AllOut))
			},
			get: func(c Config) any { return string(c.Preset) },
		},
		{
			key: "processors", live: true, doc: "Processors that units may use together: a count, or a share of all.",
			set: func(c *Config, v any) error { return setProcessors(&c.Processors, v, 1) },
			get: func(c Config) any { return c.Processors.count() },
		},
		{
			key: "cpu_percent", live: true, doc: "How much of its time each of those processors may work, in percent.",
			set: func(c *Config, v any) error { return setPercent(&c.CPUPercent, v) },
			get: func(c Config) any { return c.CPUPercent },
		},
		{
			key: "memory", live: true, doc: "Memory that running units may hold together: bytes, or a share of all.",
			set: func(c *Config, v any) error { return setMemory(&c.Memory, v) },
			get: func(c Config) any { return c.Memory.text(Bytes(c.Memory.Fixed).String()) },
		},
		{
			key: "disk", doc: "Quota of the data directory; an eighth of it is for what units that run have saved.",
			set: func(c *Config, v any) error {
				b, err := ParseBytes(scalar(v))
				if err == nil && b < MinDisk {
					err = fmt.Errorf("want at least %s", MinDisk)
				}
				c.Disk = b
				return err
			},
			get: func(c Config) any { return c.Disk.String() },
		},
	}
}

func trafficSettings() []setting {
	return []setting{
		{
			key: "disk_share", doc: "Percent of the disk quota that one publisher's content may take.",
			set: func(c *Config, v any) error {
				n, err := integer(v, 1, 100)
				if err == nil {
					c.DiskShare = n
				}
				return err
			},
			get: func(c Config) any { return c.DiskShare },
		},
		{
			key: "upload", live: true, doc: "Bytes a second to all peers together; none: nothing at all.",
			set: func(c *Config, v any) (err error) { c.Upload, err = ParseRate(scalar(v)); return err },
			get: func(c Config) any { return c.Upload.String() },
		},
		{
			key: "download", live: true, doc: "Bytes a second from all peers together; none: nothing at all, and no unit begins.",
			set: func(c *Config, v any) (err error) { c.Download, err = ParseRate(scalar(v)); return err },
			get: func(c Config) any { return c.Download.String() },
		},
		{
			key: "upload_month", live: true, doc: "Bytes of content to all peers together in a calendar month; 0 for no limit.",
			set: func(c *Config, v any) (err error) { c.UploadMonth, err = ParseBytes(scalar(v)); return err },
			get: func(c Config) any { return c.UploadMonth.String() },
		},
		{
			key: "download_month", live: true, doc: "Bytes of content from all peers together in a calendar month; 0 for no limit.",
			set: func(c *Config, v any) (err error) { c.DownloadMonth, err = ParseBytes(scalar(v)); return err },
			get: func(c Config) any { return c.DownloadMonth.String() },
		},
		{
			key: "ipfs", doc: "Exchange content with IPFS nodes (Kubo and others) that connect, too.",
			set: func(c *Config, v any) error { return boolean(&c.IPFS, v) },
			get: func(c Config) any { return c.IPFS },
		},
		{
			key: "deny", doc: "CIDs of content that this node neither keeps nor serves.",
			set: func(c *Config, v any) error { return list(&c.Deny, v, validCid) },
			get: func(c Config) any { return c.Deny },
		},
	}
}

func tableSettings() []setting {
	return []setting{
		{
			key: "api.listen", doc: "IP:PORT of the page; empty is a loopback port that talka open chooses. Other machines need the next three.",
			set: func(c *Config, v any) error { return text(&c.API.Listen, v, validPage) },
			get: func(c Config) any { return c.API.Listen },
		},
		{
			key: "api.certificate", doc: "File with the page's TLS certificate (PEM); empty is none.",
			set: func(c *Config, v any) error { return text(&c.API.Certificate, v, validFile) },
			get: func(c Config) any { return c.API.Certificate },
		},
		{
			key: "api.key", doc: "File with the certificate's key (PEM).",
			set: func(c *Config, v any) error { return text(&c.API.Key, v, validFile) },
			get: func(c Config) any { return c.API.Key },
		},
		{
			key: "api.hosts", doc: "Names by which browsers reach the page, such as talka.example.org.",
			set: func(c *Config, v any) error { return list(&c.API.Hosts, v, validHost) },
			get: func(c Config) any { return c.API.Hosts },
		},
		{
			key: "metrics.listen", doc: "Loopback HOST:PORT with figures for Prometheus at /metrics; empty counts nothing.",
			set: func(c *Config, v any) error { return text(&c.Metrics.Listen, v, validLoopback) },
			get: func(c Config) any { return c.Metrics.Listen },
		},
		{
			key: "log.level", doc: "Least level that is written: debug, info, warn or error.",
			set: func(c *Config, v any) error {
				return text(&c.Log.Level, v, oneOf("debug", "info", "warn", "error"))
			},
			get: func(c Config) any { return c.Log.Level },
		},
		{
			key: "log.format", doc: "text for people, json for programs.",
			set: func(c *Config, v any) error { return text(&c.Log.Format, v, oneOf("text", "json")) },
			get: func(c Config) any { return c.Log.Format },
		},
	}
}

// find is the setting of a key.
func find(key string) (setting, bool) {
	for _, s := range settings() {
		if s.key == key {
			return s, true
		}
	}
	return setting{}, false
}

// maxProcessors is more than any machine has; it catches a slip of units.
const maxProcessors = 4096

func setMemory(to *Portion, v any) error {
	s := scalar(v)
	p, isShare, err := percentage(s)
	if !isShare {
		var b Bytes
		b, err = ParseBytes(s)
		p.Fixed = int64(b)
	}
	if err != nil || !isShare && p.Fixed < int64(MinDisk) {
		return fmt.Errorf(`want at least %s, such as "4GiB", or a share such as "25%%"`, MinDisk)
	}
	*to = p
	return nil
}

// count is a portion of the processors, which may be none.
func (p Portion) count() string {
	if p.Percent != 0 {
		return strconv.Itoa(p.Percent) + "%"
	}
	return strconv.FormatInt(p.Fixed, 10)
}

func (p Portion) text(fixed string) string {
	if p.Fixed != 0 {
		return fixed
	}
	return strconv.Itoa(p.Percent) + "%"
}

// scalar is the text of a single value, "" for anything else.
func scalar(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case int:
		return strconv.Itoa(v)
	case int64:
		return strconv.FormatInt(v, 10)
	}
	return ""
}

func integer(v any, low, high int) (int, error) {
	n, err := whole(scalar(v))
	if err != nil || n < int64(low) || n > int64(high) {
		if low == high {
			return 0, fmt.Errorf("want %d", low)
		}
		return 0, fmt.Errorf("want a whole number from %d to %d", low, high)
	}
	return int(n), nil
}

func boolean(to *bool, v any) error {
	switch v {
	case true, "true", "1":
		*to = true
	case false, "false", "0":
		*to = false
	default:
		return errors.New("want true or false")
	}
	return nil
}

func text(to *string, v any, valid func(string) error) error {
	s, ok := v.(string)
	if !ok || len(s) > maxText {
		return fmt.Errorf("want a text of at most %d bytes", maxText)
	}
	if err := valid(s); err != nil {
		return err
	}
	*to = s
	return nil
}

// list takes a list of texts, or one text with commas between the items, which
// is how variables give it.
func list(to *[]string, v any, valid func(string) error) error {
	var items []string
	switch v := v.(type) {
	case string:
		for item := range strings.SplitSeq(v, ",") {
			if item = strings.TrimSpace(item); item != "" {
				items = append(items, item)
			}
		}
	case []string:
		items = slices.Clone(v)
	case []any:
		for _, item := range v {
			s, ok := item.(string)
			if !ok {
				return errors.New("want a list of texts")
			}
			items = append(items, s)
		}
	default:
		return errors.New("want a list of texts")
	}
	if len(items) > maxList {
		return fmt.Errorf("want at most %d items", maxList)
	}
	for _, item := range items {
		if len(item) > maxText {
			return fmt.Errorf("want items of at most %d bytes", maxText)
		}
		if err := valid(item); err != nil {
			return fmt.Errorf("%q: %w", clip(item), err)
		}
	}
	*to = items
	return nil
}

func oneOf[T ~string](names ...T) func(string) error {
	return func(s string) error {
		if slices.Contains(names, T(s)) {
			return nil
		}
		quoted := make([]string, len(names))
		for i, n := range names {
			quoted[i] = strconv.Quote(string(n))
		}
		return errors.New("want one of " + strings.Join(quoted, ", "))
	}
}

// validName is the rule for names of networks and projects.
func validName(s string) error {
	bad := s == "" || len(s) > 64
	for i, r := range s {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		bad = bad || !letter && (i == 0 || r != '-' && r != '_' && r != '.')
	}
	if bad {
		return errors.New("want 1 to 64 letters, digits and, after the first, . - _")
	}
	return nil
}

func validListen(s string) error {
	m, err := multiaddr.NewMultiaddr(s)
	if err == nil {
		var names []string
		for _, p := range m.Protocols() {
			names = append(names, p.Name)
		}
		switch strings.Join(names, "/") {
		case "ip4/tcp", "ip6/tcp", "ip4/udp/quic-v1", "ip6/udp/quic-v1":
			return nil
		}
	}
	return errors.New("want a multiaddr such as /ip4/0.0.0.0/tcp/8255 or /ip4/0.0.0.0/udp/8255/quic-v1")
}

func validCid(s string) error {
	if _, err := cid.Decode(s); err != nil {
		return errors.New("want a CID, as `talka data add` prints")
	}
	return nil
}

func validInvite(s string) error {
	for _, r := range s {
		if r <= ' ' || r > '~' {
			return errors.New("want what `talka invite` prints")
		}
	}
	if s == "" {
		return errors.New("want what `talka invite` prints")
	}
	return nil
}

// validNode is the rule for node ids: an Ed25519 key in the form of a libp2p peer
// id (38 bytes beginning 00 24 08 01 12 20).
func validNode(s string) error {
	key, err := base58.Decode(s)
	if err != nil || len(s) > 64 || len(key) != 38 || string(key[:6]) != "\x00\x24\x08\x01\x12\x20" {
		return errors.New("want the id of a node, 12D3KooW…, as talka peers prints it")
	}
	return nil
}

// validProject is the rule for project ids: a name and a node's id.
func validProject(s string) error {
	name, node, _ := strings.Cut(s, "@")
	if validNode(node) != nil || validName(name) != nil {
		return errors.New("want the id that `talka project new` prints, NAME@12D3KooW…")
	}
	return nil
}
