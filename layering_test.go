// Package talka_test keeps the import rules of the project. Every folder with
// Go files has a row in the table below; a package imports what its row names
// and nothing else of the project, libp2p stays behind p2p, and pure packages
// touch neither clock, chance, goroutine, lock, file nor socket.
//
// The rules read the source of every non-test file under every build tag and
// operating system, so that a rule cannot be dodged by a file that this
// machine does not compile. Test files are free.
package talka_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

const module = "github.com/talka-grid/talka"

// kind says what a package may do beside importing.
type kind string

const (
	pure   kind = "pure"   // decides: see bannedImports, bannedCalls, pureModules
	inOut  kind = "I/O"    // performs: files, sockets, processes
	driver kind = "driver" // runs the machines and performs their effects
	guest  kind = "guest"  // program compiled to WebAssembly; nobody imports it
	embed  kind = "embed"  // files only
	wiring kind = "wiring" // constructs everything
	test   kind = "test"   // imported by tests and other test packages only
)

// row is what one package is and may import. In may, "all" is every package
// of the project but guests and tests, and "pure" is every pure package;
// "X/..." is every pure package at or below X.
type row struct {
	dir     string
	kind    kind
	may     []string
	modules []string // other modules that this pure package may import beside pureModules
}

var table = []row{
	{dir: "workunits", kind: pure},
	{dir: "workunits/ledger", kind: pure, may: []string{"workunits"}},
	// A verdict is a function over the ledger, so it reads one.
	{dir: "workunits/verdict", kind: pure, may: []string{"workunits", "workunits/ledger"}},
	{dir: "workunits/verdict/oracle", kind: test, may: []string{"pure"}},
	{dir: "workunits/compare", kind: pure, may: []string{"workunits"}},
	{dir: "workunits/jobfile", kind: pure, may: []string{"workunits"}, modules: []string{"github.com/pelletier/go-toml/v2"}},
	{dir: "workunits/sandbox", kind: inOut, may: []string{"workunits", "workunits/sandbox/wasi"}},
	{dir: "workunits/sandbox/wasi", kind: inOut}, // the part of it that both engines share
	{dir: "workunits/apps", kind: embed},
	{dir: "workunits/apps/*", kind: guest},
	{dir: "chunkstore", kind: inOut, may: []string{"workunits"}},
	{dir: "chunkstore/whole", kind: inOut}, // for everyone who keeps a small file
	{dir: "chunkstore/replica", kind: pure, may: []string{"workunits"}},
	{dir: "chunkstore/erasure", kind: inOut, may: []string{"workunits"}},
	// The vocabulary is for everyone: sources and hints are node ids.
	{dir: "chunkstore/exchange", kind: inOut, may: []string{"chunkstore", "workunits"}},
	{dir: "grid/wire", kind: pure, may: []string{"workunits"}},
	{dir: "grid/steward", kind: pure, may: []string{"workunits/...", "grid/wire", "grid/phrase"}},
	{dir: "grid/volunteer", kind: pure, may: []string{"workunits/...", "grid/wire"}},
	{dir: "grid/phrase", kind: pure},
	// The owner's rules speak of a machine and its user, not of jobs and stewards.
	{dir: "grid/volunteer/policy", kind: pure, may: []string{"grid/phrase"}},
	{dir: "grid/gridtest", kind: test, may: []string{"pure"}},
	{dir: "grid/gridtest/lawsim", kind: test, may: []string{"pure", "workunits/verdict/oracle"}},
	{dir: "grid/gridtest/sim", kind: test, may: []string{"grid/gridtest", "grid/gridtest/lawsim", "workunits/verdict/oracle"}},
	// Replicas have another pace than jobs, and a state of their own.
	{dir: "grid/keep", kind: driver, may: []string{"workunits", "grid/wire", "chunkstore", "chunkstore/erasure", "chunkstore/exchange", "chunkstore/replica", "chunkstore/whole"}},
	{dir: "grid", kind: driver, may: []string{
		"workunits/...", "workunits/sandbox", "chunkstore", "chunkstore/erasure", "chunkstore/exchange", "chunkstore/replica", "chunkstore/whole", "grid/keep",
		"grid/wire", "grid/steward", "grid/volunteer", "grid/volunteer/policy", "grid/phrase",
	}},
	{dir: "grid/sensors", kind: inOut, may: []string{"grid/sensors/login", "grid/volunteer/policy"}},
	{dir: "grid/sensors/login", kind: inOut, may: []string{"grid/volunteer/policy"}},
	// What runs in a user's session speaks to the node by its local interface only.
	{dir: "grid/desktop", kind: inOut},
	{dir: "grid/desktop/bustest", kind: test},
	{dir: "grid/tray", kind: inOut},
	// What other machines of the owner ask for is the local interface's to answer.
	{dir: "grid/machines", kind: inOut, may: []string{"workunits", "chunkstore/whole"}},
	{dir: "grid/api", kind: inOut, may: []string{"grid", "grid/machines", "grid/phrase", "grid/volunteer/policy", "configs", "workunits", "chunkstore/whole"}},
	{dir: "p2p", kind: inOut, may: []string{"workunits", "grid/wire", "chunkstore", "chunkstore/exchange", "chunkstore/whole", "p2p/membership"}},
	{dir: "p2p/membership", kind: pure, may: []string{"workunits"}},
	{dir: "p2p/bitswap", kind: inOut, may: []string{"workunits", "grid/wire", "chunkstore", "chunkstore/exchange"}},
	{dir: "p2p/p2ptest", kind: test, may: []string{"p2p", "p2p/membership", "workunits"}},
	// Hours have one form, that of the rules.
	{dir: "configs", kind: pure, may: []string{"grid/volunteer/policy"}, modules: []string{
		"github.com/pelletier/go-toml/v2", "github.com/multiformats/go-multiaddr",
	}},
	{dir: "cmd/talka", kind: wiring, may: []string{"all"}},
}

// topLevel are the folders of the project, and those that a build makes.
var topLevel = []string{"cmd", "p2p", "grid", "workunits", "chunkstore", "configs", "bin", "dist"}

// fences are modules that only some packages may import. The first fence whose
// prefix matches counts.
var fences = []struct {
	prefix string
	within []string
}{
	{"github.com/libp2p", []string{"p2p", "p2p/bitswap", "p2p/p2ptest"}},
	{"github.com/ipfs/boxo/bitswap", []string{"p2p", "p2p/bitswap", "p2p/p2ptest"}},
	{"github.com/ipfs/boxo", []string{"chunkstore", "chunkstore/exchange", "p2p", "p2p/bitswap", "p2p/p2ptest"}},
}

// pureModules are the modules that every pure package may import.
var pureModules = []string{
	"github.com/ipfs/go-cid",
	"github.com/multiformats/go-multihash",
	"github.com/fxamacker/cbor/v2",
	"github.com/mr-tron/base58",
	"golang.org/x/crypto/nacl",
	"lukechampine.com/blake3",
}

// bannedImports are packages that no pure package imports, with all below them.
var bannedImports = []string{
	"C", "context", "crypto/rand", "log", "net", "os", "plugin", "sync", "syscall", "unsafe",
}

// bannedCalls are the names that reach the wall clock.
var bannedCalls = map[string][]string{
	"time": {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"},
}

// seeded are the only names of math/rand and math/rand/v2 that pure packages
// use: types, and constructors that take their seed.
var seeded = []string{"New", "NewSource", "NewPCG", "NewChaCha8", "NewZipf", "Rand", "Source", "Source64", "PCG", "ChaCha8", "Zipf"}

func TestLayering(t *testing.T) {
	t.Parallel()
	found, packages, err := check(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range found {
		t.Error(v)
	}
	if packages == 0 {
		t.Error("no package found: the rules were held against nothing")
	}
}

// check reads the project at fsys. It returns every broken rule as
// "file:line: what is wrong", in file order, and the number of packages read.
func check(fsys fs.FS) (found []string, packages int, err error) {
	seen := map[string]bool{}
	err = fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			base := path.Base(name)
			if name != "." && (base[0] == '.' || base[0] == '_' || base == "testdata" || base == "node_modules") {
				return fs.SkipDir
			}
			if name != "." && !strings.Contains(name, "/") && !slices.Contains(topLevel, name) {
				found = append(found, name+": unknown top-level folder: the folders are "+strings.Join(topLevel[:6], ", "))
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		src, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		dir := path.Dir(name)
		r, ok := rowOf(dir)
		if !ok {
			if !seen[dir] {
				found = append(found, dir+": unknown package: add a row to the table in layering_test.go")
			}
			seen[dir] = true
			return nil
		}
		seen[dir] = true
		broken, err := checkFile(r, dir, name, src)
		found = append(found, broken...)
		return err
	})
	return found, len(seen), err
}

// checkFile holds one file of the package in dir against its row.
func checkFile(r row, dir, name string, src []byte) (found []string, err error) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, name, src, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	report := func(at token.Pos, format string, args ...any) {
		p := fset.Position(at)
		found = append(found, fmt.Sprintf("%s:%d: %s", p.Filename, p.Line, fmt.Sprintf(format, args...)))
	}
	names := map[string]string{} // package path by its name in this file
	for _, spec := range f.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		local := path.Base(strings.TrimSuffix(imported, "/v2"))
		if spec.Name != nil {
			local = spec.Name.Name
		}
		names[local] = imported
		if broken := checkImport(r, dir, imported); broken != "" {
			report(spec.Pos(), "%s", broken)
		}
		watched := bannedCalls[imported] != nil || strings.HasPrefix(imported, "math/rand")
		if r.kind == pure && local == "." && watched {
			report(spec.Pos(), "pure package imports %s under the name of dot, which hides what it calls", imported)
		}
	}
	if r.kind == pure {
		checkPurity(f, names, report)
	}
	return found, nil
}

// checkImport says what is wrong with an import by the package in dir, or "".
func checkImport(r row, dir, imported string) string {
	for _, fence := range fences {
		if !below(imported, fence.prefix) {
			continue
		}
		if !slices.Contains(fence.within, dir) {
			return fmt.Sprintf("%s imports %s: only %s may", dir, imported, strings.Join(fence.within, ", "))
		}
		break
	}
	if below(imported, module) {
		return checkProjectImport(r, dir, strings.TrimPrefix(strings.TrimPrefix(imported, module), "/"))
	}
	if r.kind != pure {
		return ""
	}
	for _, banned := range bannedImports {
		if below(imported, banned) {
			return fmt.Sprintf("pure package %s imports %s", dir, imported)
		}
	}
	first, _, _ := strings.Cut(imported, "/")
	if !strings.Contains(first, ".") {
		return "" // standard library
	}
	for _, m := range slices.Concat(pureModules, r.modules) {
		if below(imported, m) {
			return ""
		}
	}
	return fmt.Sprintf("pure package %s imports %s, which is not among the modules known to be pure", dir, imported)
}

// checkProjectImport says what is wrong with an import of the project's folder
// to, or "".
func checkProjectImport(r row, dir, to string) string {
	target, ok := rowOf(to)
	switch {
	case !ok:
		return fmt.Sprintf("%s imports %q, which has no row in the table", dir, to)
	case target.kind == guest:
		return fmt.Sprintf("%s imports the guest program %s", dir, to)
	case target.kind == test && r.kind != test:
		return fmt.Sprintf("%s imports the test package %s", dir, to)
	}
	for _, m := range r.may {
		root, wild := strings.CutSuffix(m, "/...")
		switch {
		case m == "all", m == to, m == "pure" && target.kind == pure:
			return ""
		case wild && target.kind == pure && below(to, root):
			return ""
		}
	}
	return fmt.Sprintf("%s imports %s: the table allows it [%s]", dir, to, strings.Join(r.may, " "))
}

// checkPurity reports what a file of a pure package does and must not.
func checkPurity(f *ast.File, names map[string]string, report func(token.Pos, string, ...any)) {
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			report(n.Pos(), "pure package starts a goroutine")
		case *ast.FuncDecl:
			if n.Name.Name == "init" && n.Recv == nil {
				report(n.Pos(), "pure package has an init function")
			}
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if !ok {
				return true
			}
			from, name := names[x.Name], n.Sel.Name
			if slices.Contains(bannedCalls[from], name) {
				report(n.Pos(), "pure package uses %s.%s", from, name)
			}
			if (from == "math/rand" || from == "math/rand/v2") && !slices.Contains(seeded, name) {
				report(n.Pos(), "pure package uses %s.%s, which has no seed of ours", from, name)
			}
		}
		return true
	})
}

// rowOf finds the row of a folder: its own, or else one whose last part is "*".
func rowOf(dir string) (row, bool) {
	for _, r := range table {
		if r.dir == dir {
			return r, true
		}
	}
	if dir == "." || path.Base(dir) == "*" {
		return row{}, false
	}
	return rowOf(path.Dir(dir) + "/*")
}

// below reports whether an import path is root or lies under it.
func below(p, root string) bool {
	return p == root || strings.HasPrefix(p, root+"/")
}

// TestTable holds the table against itself: what a row names has a row, no row
// stands twice, and a pure package imports pure packages only.
func TestTable(t *testing.T) {
	t.Parallel()
	for i, r := range table {
		if j := slices.IndexFunc(table, func(o row) bool { return o.dir == r.dir }); j != i {
			t.Errorf("%s has two rows", r.dir)
		}
		if top, _, _ := strings.Cut(r.dir, "/"); !slices.Contains(topLevel, top) {
			t.Errorf("%s lies outside the top-level folders", r.dir)
		}
		for _, m := range r.may {
			if m == "all" || m == "pure" {
				continue
			}
			target, ok := rowOf(strings.TrimSuffix(m, "/..."))
			if !ok {
				t.Errorf("%s may import %s, which has no row", r.dir, m)
			}
			if r.kind == pure && target.kind != pure {
				t.Errorf("%s is pure and may import %s, which is not", r.dir, m)
			}
		}
	}
}

// TestPlanted plants one violation at a time in an otherwise clean tree and
// wants exactly that one reported.
func TestPlanted(t *testing.T) {
	t.Parallel()
	for _, tc := range planted {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tree := fstest.MapFS{
				"main_test.go":           {Data: []byte("package talka_test\n")},
				"workunits/ids.go":       {Data: []byte("package workunits\n\nimport (\n\t\"time\"\n\t\"math/rand/v2\"\n\t\"github.com/ipfs/go-cid\"\n)\n\nvar R *rand.Rand = rand.New(rand.NewPCG(1, 2))\nvar T time.Time\nvar C cid.Cid\n")},
				"grid/steward/a.go":      {Data: []byte("package steward\n\nimport (\n\t_ \"" + module + "/workunits/ledger\"\n\t_ \"" + module + "/grid/wire\"\n)\n\nfunc (s S) init() {}\n")},
				"grid/steward/a_test.go": {Data: []byte("package steward\n\nimport _ \"os\"\n\nfunc init() { go f() }\n")},
				"p2p/host.go":            {Data: []byte("package p2p\n\nimport _ \"github.com/libp2p/go-libp2p\"\n")},
				"cmd/talka/main.go":      {Data: []byte("package main\n\nimport _ \"" + module + "/p2p\"\n")},
				tc.file:                  {Data: []byte(tc.src)},
			}
			found, _, err := check(tree)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, found); diff != "" {
				t.Errorf("reports (-want +got):\n%s", diff)
			}
		})
	}
}
