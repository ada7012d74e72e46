// Package configs holds the settings of a node: what they are called, what
// they mean, what they may be, and which of several sources decides.
//
// A setting is decided by the first of these that gives it: a flag, a TALKA_*
// environment variable, override.toml (written by the UI and by `talka config
// set`), config.toml (written once by `talka init`, never rewritten), the
// preset, the default. A value is wrong wherever it stands: one that a flag
// overrides is still refused, so that nothing breaks when the flag goes.
//
// The package is pure. Callers read the files and the environment and hand
// over bytes and strings; every function may be called from any goroutine.
// Folders beside the source hold the systemd unit and the container file.
package configs

import "strconv"

// Version is the version of the files that this package writes and the newest
// that it reads. A file without one counts as version 1.
const Version = 1

// DefaultPort is the port that a node without Listen tries first, for both
// QUIC and TCP, so that invites and forwarded ports stay good over a restart.
const DefaultPort = 8255

// Config is the complete settings of a node. Load fills every field; the zero
// Config is not valid.
type Config struct {
	// Version is the version of the settings, always the constant Version.
	Version int
	// Network is the name of the network, which prefixes every protocol id;
	// 1 to 64 letters, digits and, after the first, ". - _". Never empty.
	Network string
	// IdentityWork is how many bits of proof of work this node's jobs ask of
	// volunteers' identities, and finds for its own; -1 for what the network
	// asks, see Work.
	IdentityWork int
	// Dir is the data directory. Empty means the user's own (XDG). It is set
	// by flag or environment only: the files are found in it.
	Dir string
	// Listen are the multiaddrs to listen on: /ip4 or /ip6 with tcp or
	// udp/quic-v1. Empty means DefaultListen(DefaultPort), or with port 0
	// where that port is taken.
	Listen []string
	// Join are invites of peers to begin with, beside the remembered ones.
	Join []string
	// Trust are projects (NAME@NODE) whose units this node executes, beside
	// those trusted by `talka project trust`. Empty adds none.
	Trust []string
	// Allow, if there are any, are the only nodes (12D3KooW…) that may connect.
	Allow []string
	// Block are nodes that may not connect.
	Block []string
	// Seed makes the node a DHT server and relay for newcomers whatever it
	// finds out about its own reachability. For machines with a public address.
	Seed bool
	// Steward offers the node as a steward to jobs of its network. It costs
	// little beside executing (signatures, a ledger, kept results within Disk)
	// and every job needs a few beside its publisher, so it is on everywhere;
	// publishers choose reachable and lasting peers among those that offer.
	Steward bool
	// Preset gives Processors, CPUPercent, Memory, Disk, Upload, Download, InUse
	// and Rules where nothing else does.
	Preset Preset
	// Processors is how many of the machine's processors units may use
	// together: a count or a share of all. Never zero. See Compute.
	Processors Portion
	// CPUPercent is how much of its time each of those processors may work,
	// 1 to 100. Less keeps a machine cool.
	CPUPercent int
	// Memory is how much memory running units may hold together: bytes or a
	// share of what the machine has. Never zero.
	Memory Portion
	// Disk is the quota of the data directory, everything included; at least
	// MinDisk.
	Disk Bytes
	// DiskShare is how many percent of Disk the content of one publisher's jobs may
	// take, 1 to 100. The node's own jobs are not limited.
	DiskShare int
	// Upload and Download limit traffic of content with all peers together,
	// but for those on this machine and its local network. Zero means no limit,
	// NoTraffic none at all; without Download no unit begins.
	Upload, Download Rate
	// UploadMonth and DownloadMonth limit the same traffic in a calendar month
	// (UTC). Zero means no limit.
	UploadMonth, DownloadMonth Bytes
	// IPFS lets IPFS implementations, such as Kubo, that connect to the node have
	// what peers may have, and lets it fetch from those that it is told of.
	IPFS bool
	// Deny are CIDs of content that the node neither keeps nor serves.
	Deny []string
	// InUse are the limits while somebody uses the machine.
	InUse Share
	// Rules say when units pause.
	Rules Rules
	// API is the local HTTP interface.
	API API
	// Metrics are what other programs may watch.
	Metrics Metrics
	// Log is what the node writes to standard error.
	Log Log
}

// API are the settings of the local HTTP interface.
type API struct {
	// Listen is HOST:PORT for browsers and programs, beside the unix socket in
	// the data directory. Empty means a loopback port of its own, open while one
	// may come in. Other machines come by TLS only: an address that they reach
	// needs Certificate, Key and Hosts.
	Listen string
	// Certificate and Key are files in PEM. Both or none.
	Certificate, Key string
	// Hosts are the names by which the page is reached, beside those of this
	// machine's loopback.
	Hosts []string
}

// Metrics are the settings of the page with figures for Prometheus.
type Metrics struct {
	// Listen is a loopback HOST:PORT that serves /metrics to whoever asks on this
	// machine. Empty means nobody counts.
	Listen string
}

// Log are the settings of the log.
type Log struct {
	// Level is the least level that is written: debug, info, warn or error.
	Level string
	// Format is text (for people) or json (one object a line).
	Format string
}

// MinDisk is the smallest quota with which a node can keep a ledger, a program
// and a result.
const MinDisk = 64 * MiB

// Preset names a set of limits on what the machine gives.
type Preset string

// The presets. Quiet is the default: a machine must not be harmed by noise or
// heat before its owner has said a word.
const (
	Quiet    Preset = "quiet"    // a quarter of the processors while nobody uses the machine
	Balanced Preset = "balanced" // half of them; the machine stays usable
	AllOut   Preset = "all-out"  // everything; for machines that do nothing else
)

// Presets are all presets, the gentlest first.
func Presets() []Preset { return []Preset{Quiet, Balanced, AllOut} }

// values are the settings that the preset gives, by key.
func (p Preset) values() map[string]any {
	switch p {
	case Quiet:
		return map[string]any{
			"processors": "25%", "cpu_percent": 100, "memory": "10%",
			"disk": "10GiB", "upload": "1MiB/s", "download": "4MiB/s",
			"in_use.processors": "0", "in_use.cpu_percent": 100, "in_use.memory": "10%",
			"in_use.upload": "256KiB/s", "in_use.download": "1MiB/s",
			"rules.idle_after": "3m", "rules.battery": false, "rules.metered": false, "rules.max_heat": 80,
		}
	case Balanced:
		return map[string]any{
			"processors": "50%", "cpu_percent": 100, "memory": "25%",
			"disk": "20GiB", "upload": "4MiB/s", "download": "16MiB/s",
			"in_use.processors": "25%", "in_use.cpu_percent": 100, "in_use.memory": "10%",
			"in_use.upload": "1MiB/s", "in_use.download": "4MiB/s",
			"rules.idle_after": "3m", "rules.battery": false, "rules.metered": false, "rules.max_heat": 90,
		}
	case AllOut:
		return map[string]any{
			"processors": "100%", "cpu_percent": 100, "memory": "75%",
			"disk": "100GiB", "upload": "unlimited", "download": "unlimited",
			"in_use.processors": "100%", "in_use.cpu_percent": 100, "in_use.memory": "75%",
			"in_use.upload": "unlimited", "in_use.download": "unlimited",
			"rules.idle_after": "0s", "rules.battery": true, "rules.metered": true, "rules.max_heat": 0,
		}
	}
	return nil
}

// OpenNetwork is the network of all who name none.
const OpenNetwork = "main"

// openWork takes a core about half a minute.
const openWork = 28

// Work is how many bits of proof of work an identity needs: some where strangers
// meet, none in a network whose members let one another in.
func (c Config) Work() int {
	switch {
	case c.IdentityWork >= 0:
		return c.IdentityWork
	case c.Network == OpenNetwork:
		return openWork
	}
	return 0
}

// Default is the configuration that no source has touched.
func Default() Config {
	c := Config{
		Version: Version,
		Network: OpenNetwork, IdentityWork: -1,
		Steward: true, IPFS: true, DiskShare: 50,
		Preset: Quiet,
		Log:    Log{Level: "info", Format: "text"},
	}
	c.apply(Quiet.values())
	return c
}

// apply sets values known to be good.
func (c *Config) apply(values map[string]any) {
	for key, v := range values {
		s, _ := find(key)
		if err := s.set(c, v); err != nil {
			panic("configs: preset: " + key + ": " + err.Error())
		}
	}
}

// Validate checks a configuration that was made or changed by code; Load does
// so by itself. Its error joins one *KeyError for each bad field.
func (c Config) Validate() error {
	var bad problems
	scratch := c
	for _, s := range settings() {
		v := s.get(c)
		if err := s.set(&scratch, v); err != nil {
			bad.add(&KeyError{Key: s.key, Value: show(v), Allowed: err.Error()})
		}
	}
	return bad.err()
}

// Compute is how many processors units may use on a machine with so many, and
// how many percent of its time each may work. A share that is no whole number
// of processors takes one more at a lower percentage: 25 % of two processors
// is one at 50 %.
func (c Config) Compute(processors int) (use, percent int) {
	return compute(c.Processors, c.CPUPercent, processors)
}

// Compute is that of Config, while somebody uses the machine; use may be zero.
func (s Share) Compute(processors int) (use, percent int) {
	return compute(s.Processors, s.CPUPercent, processors)
}

func compute(p Portion, cpuPercent, processors int) (use, percent int) {
	processors = max(processors, 1)
	if p.Percent == 0 {
		return int(min(p.Fixed, int64(processors))), cpuPercent
	}
	hundredths := processors * p.Percent
	use = min(max((hundredths+99)/100, 1), processors)
	return use, max(hundredths*cpuPercent/(use*100), 1)
}

// DefaultListen are the addresses of a node without Listen: QUIC and TCP on
// every IPv4 and IPv6 address with the given port, 0 for any free one.
func DefaultListen(port int) []string {
	p := strconv.Itoa(port)
	return []string{
		"/ip4/0.0.0.0/udp/" + p + "/quic-v1", "/ip4/0.0.0.0/tcp/" + p,
		"/ip6/::/udp/" + p + "/quic-v1", "/ip6/::/tcp/" + p,
	}
}
