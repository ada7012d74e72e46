package talka_test

// planted are violations of the layering rules, each with the reports it must
// give. The first is none: a rule that cannot be kept proves nothing.
var planted = []struct {
	name string
	file string
	src  string
	want []string
}{
	{
		name: "clean", file: "configs/c.go",
		src: "package configs\n\nimport \"strings\"\n\nvar _ = strings.Cut\n",
	},
	{
		name: "import against the table", file: "grid/wire/w.go",
		src:  "package wire\n\nimport _ \"" + module + "/grid/steward\"\n",
		want: []string{"grid/wire/w.go:3: grid/wire imports grid/steward: the table allows it [workunits]"},
	},
	{
		name: "wildcard reaches pure packages only", file: "grid/volunteer/v.go",
		src: "package volunteer\n\nimport (\n\t_ \"" + module + "/workunits/verdict\"\n\t_ \"" + module + "/workunits/sandbox\"\n)\n",
		want: []string{
			"grid/volunteer/v.go:5: grid/volunteer imports workunits/sandbox: the table allows it [workunits/... grid/wire]",
		},
	},
	{
		name: "driver imports the network", file: "grid/g.go",
		src:  "package grid\n\nimport _ \"" + module + "/p2p\"\n",
		want: []string{"grid/g.go:3: grid imports p2p: the table allows it [workunits/... workunits/sandbox chunkstore chunkstore/erasure chunkstore/exchange chunkstore/replica chunkstore/whole grid/keep grid/wire grid/steward grid/volunteer grid/volunteer/policy grid/phrase]"},
	},
	{
		name: "network imports its neighbour", file: "p2p/bitswap/b.go",
		src:  "package bitswap\n\nimport _ \"" + module + "/grid\"\n",
		want: []string{"p2p/bitswap/b.go:3: p2p/bitswap imports grid: the table allows it [workunits grid/wire chunkstore chunkstore/exchange]"},
	},
	{
		name: "import of a package without a row", file: "grid/g.go",
		src:  "package grid\n\nimport _ \"" + module + "/grid/utils\"\n",
		want: []string{`grid/g.go:3: grid imports "grid/utils", which has no row in the table`},
	},
	{
		name: "package without a row", file: "grid/utils/u.go",
		src:  "package utils\n",
		want: []string{"grid/utils: unknown package: add a row to the table in layering_test.go"},
	},
	{
		name: "code at the root", file: "talka.go",
		src:  "package talka\n",
		want: []string{".: unknown package: add a row to the table in layering_test.go"},
	},
	{
		name: "top-level folder", file: "pkg/readme.txt",
		want: []string{"pkg: unknown top-level folder: the folders are cmd, p2p, grid, workunits, chunkstore, configs"},
	},
	{
		name: "test package in production", file: "cmd/talka/sim.go",
		src:  "package main\n\nimport _ \"" + module + "/grid/gridtest\"\n",
		want: []string{"cmd/talka/sim.go:3: cmd/talka imports the test package grid/gridtest"},
	},
	{
		name: "guest imported", file: "cmd/talka/search.go",
		src:  "package main\n\nimport _ \"" + module + "/workunits/apps/search\"\n",
		want: []string{"cmd/talka/search.go:3: cmd/talka imports the guest program workunits/apps/search"},
	},
	{
		name: "guest imports the project", file: "workunits/apps/search/main.go",
		src:  "package main\n\nimport _ \"" + module + "/workunits\"\n",
		want: []string{"workunits/apps/search/main.go:3: workunits/apps/search imports workunits: the table allows it []"},
	},
	{
		name: "libp2p outside p2p", file: "grid/g.go",
		src:  "package grid\n\nimport _ \"github.com/libp2p/go-libp2p/core/peer\"\n",
		want: []string{"grid/g.go:3: grid imports github.com/libp2p/go-libp2p/core/peer: only p2p, p2p/bitswap, p2p/p2ptest may"},
	},
	{
		name: "bitswap in the store", file: "chunkstore/s.go",
		src:  "package chunkstore\n\nimport (\n\t_ \"github.com/ipfs/boxo/blockstore\"\n\t_ \"github.com/ipfs/boxo/bitswap/client\"\n)\n",
		want: []string{"chunkstore/s.go:5: chunkstore imports github.com/ipfs/boxo/bitswap/client: only p2p, p2p/bitswap, p2p/p2ptest may"},
	},
	{
		name: "boxo in the wiring", file: "cmd/talka/data.go",
		src:  "package main\n\nimport _ \"github.com/ipfs/boxo/files\"\n",
		want: []string{"cmd/talka/data.go:3: cmd/talka imports github.com/ipfs/boxo/files: only chunkstore, chunkstore/exchange, p2p, p2p/bitswap, p2p/p2ptest may"},
	},
	{
		name: "tag and operating system do not hide", file: "grid/wire/w_windows.go",
		src:  "//go:build never\n\npackage wire\n\nimport _ \"os\"\n",
		want: []string{"grid/wire/w_windows.go:5: pure package grid/wire imports os"},
	},
	{
		name: "impure imports", file: "workunits/ledger/l.go",
		src: "package ledger\n\nimport (\n\t_ \"context\"\n\t_ \"sync/atomic\"\n\t_ \"net/netip\"\n\t_ \"os/exec\"\n\t_ \"log/slog\"\n\t_ \"crypto/rand\"\n\t_ \"syscall\"\n\t_ \"unsafe\"\n\t_ \"C\"\n)\n",
		want: []string{
			"workunits/ledger/l.go:4: pure package workunits/ledger imports context",
			"workunits/ledger/l.go:5: pure package workunits/ledger imports sync/atomic",
			"workunits/ledger/l.go:6: pure package workunits/ledger imports net/netip",
			"workunits/ledger/l.go:7: pure package workunits/ledger imports os/exec",
			"workunits/ledger/l.go:8: pure package workunits/ledger imports log/slog",
			"workunits/ledger/l.go:9: pure package workunits/ledger imports crypto/rand",
			"workunits/ledger/l.go:10: pure package workunits/ledger imports syscall",
			"workunits/ledger/l.go:11: pure package workunits/ledger imports unsafe",
			"workunits/ledger/l.go:12: pure package workunits/ledger imports C",
		},
	},
	{
		name: "module not known to be pure", file: "grid/wire/w.go",
		src:  "package wire\n\nimport _ \"github.com/pelletier/go-toml/v2\"\n",
		want: []string{"grid/wire/w.go:3: pure package grid/wire imports github.com/pelletier/go-toml/v2, which is not among the modules known to be pure"},
	},
	{
		name: "wall clock", file: "grid/wire/w.go",
		src: "package wire\n\nimport clock \"time\"\n\nvar a = clock.Now()\nvar f = clock.AfterFunc\nvar d = clock.Second\n\nfunc g() { clock.Sleep(d); <-clock.After(d) }\n",
		want: []string{
			"grid/wire/w.go:5: pure package uses time.Now",
			"grid/wire/w.go:6: pure package uses time.AfterFunc",
			"grid/wire/w.go:9: pure package uses time.Sleep",
			"grid/wire/w.go:9: pure package uses time.After",
		},
	},
	{
		name: "clock under the name of dot", file: "grid/wire/w.go",
		src:  "package wire\n\nimport . \"time\"\n\nvar a = Now()\n",
		want: []string{"grid/wire/w.go:3: pure package imports time under the name of dot, which hides what it calls"},
	},
	{
		name: "chance without a seed", file: "grid/wire/w.go",
		src: "package wire\n\nimport (\n\told \"math/rand\"\n\t\"math/rand/v2\"\n)\n\nvar a = rand.IntN(3)\nvar b = old.Int()\nvar c = rand.New(rand.NewChaCha8([32]byte{}))\n",
		want: []string{
			"grid/wire/w.go:8: pure package uses math/rand/v2.IntN, which has no seed of ours",
			"grid/wire/w.go:9: pure package uses math/rand.Int, which has no seed of ours",
		},
	},
	{
		name: "goroutine and init", file: "grid/wire/w.go",
		src: "package wire\n\nfunc init() {\n\tgo func() {}()\n}\n",
		want: []string{
			"grid/wire/w.go:3: pure package has an init function",
			"grid/wire/w.go:4: pure package starts a goroutine",
		},
	},
}
