// Guest is the program that the sandbox's tests run, compiled for wasip1. Its
// first argument says what it does.
package main

import (
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		fatal(errors.New("what to do?"))
	}
	verbs := map[string]func(args []string) error{
		"look": look, "cat": cat, "copy": cp, "sum": sum, "tree": tree, "clock": clock,
		"fill": fill, "files": files, "log": log, "attack": attack, "edit": edit, "loop": loop,
		"resume": resume, "scratch": scratch, "numbers": numbers,
		"exit":    func(args []string) error { n, err := strconv.Atoi(args[0]); os.Exit(n); return err },
		"panic":   func([]string) error { panic("on purpose") },
		"nothing": func([]string) error { return nil },
	}
	verb, known := verbs[os.Args[1]]
	if !known {
		fatal(fmt.Errorf("no verb %q", os.Args[1]))
	}
	if err := verb(os.Args[2:]); err != nil {
		fatal(err)
	}
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(3)
}

// look prints all that the program is given.
func look(args []string) error {
	wd, err := os.Getwd()
	fmt.Printf("args %q\nname %q\nenv %q\nwd %q %v\n", args, os.Args[0], os.Environ(), wd, err)
	in, err := io.ReadAll(os.Stdin)
	fmt.Printf("stdin %q %v\n", in, err)
	fmt.Fprint(os.Stderr, "a word on the log\n")
	return nil
}

func cat(args []string) error {
	for _, name := range args {
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		fmt.Printf("%s", b)
	}
	return nil
}

func cp(args []string) error {
	in, err := os.Open(args[0])
	if err != nil {
		return err
	}
	out, err := os.Create(args[1])
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}

// sum prints the digest of a large file, read piece by piece.
func sum(args []string) error {
	in, err := os.Open(args[0])
	if err != nil {
		return err
	}
	hash := sha256.New()
	n, err := io.CopyBuffer(hash, in, make([]byte, 64<<10))
	fmt.Printf("%d %x\n", n, hash.Sum(nil))
	return err
}

// tree prints everything below the arguments with its metadata.
func tree(args []string) error {
	for _, root := range args {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			fmt.Println(path, info.Mode(), info.Size(), info.ModTime().UTC().Format(time.RFC3339))
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// clock prints times and random bytes.
func clock([]string) error {
	start := time.Now()
	time.Sleep(90 * time.Minute)
	fmt.Println("slept at least 90m:", time.Since(start) >= 90*time.Minute, "but not 91m:", time.Since(start) < 91*time.Minute)
	fmt.Println(start.UTC().Truncate(time.Second))
	b := make([]byte, 40)
	_, err := rand.Read(b)
	fmt.Printf("%x %v\n", b, err)
	return err
}

// fill writes args[1] bytes to args[0] or, for "-", to standard output.
func fill(args []string) error {
	out := os.Stdout
	if args[0] != "-" {
		var err error
		if out, err = os.Create(args[0]); err != nil {
			return err
		}
	}
	n, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return err
	}
	piece := []byte(strings.Repeat("0123456789abcdef", 256))
	for n > 0 {
		m, err := out.Write(piece[:min(n, int64(len(piece)))])
		if err != nil {
			return err
		}
		n -= int64(m)
	}
	return nil
}

// files makes args[1] files in the folder args[0].
func files(args []string) error {
	n, err := strconv.Atoi(args[1])
	for i := range n {
		if err == nil {
			err = os.WriteFile(filepath.Join(args[0], strconv.Itoa(i)), []byte{byte(i)}, 0o644)
		}
	}
	return err
}

func log([]string) error {
	for i := range 1000 {
		if _, err := fmt.Fprintln(os.Stderr, "line", i); err != nil {
			return err
		}
	}
	fmt.Println("done")
	return nil
}

// attack tries to get at what is not in the tree and prints what happened.
func attack(args []string) error {
	for _, name := range args {
		b, err := os.ReadFile(name)
		fmt.Printf("read %s: %d bytes, %v\n", name, len(b), err)
		err = os.WriteFile(name, []byte("gotcha"), 0o644)
		fmt.Printf("write %s: %v\n", name, err)
		fmt.Printf("remove %s: %v\n", name, os.Remove(name))
	}
	fmt.Println("symlink:", os.Symlink("/etc/passwd", "/out/link"))
	fmt.Println("link:", os.Link("/in/file", "/out/hard"))
	fmt.Println("rename:", os.Rename("/in/file", "/out/stolen"))
	fmt.Println("rename up:", os.Rename("/out", "/in"))
	fmt.Println("mkdir:", os.Mkdir("/new", 0o755))
	return nil
}

// edit goes through what programs do to files and prints what it finds.
func edit([]string) error {
	step := func(what string, err error) { fmt.Println(what+":", err) }
	step("mkdir", os.MkdirAll("/out/a/b", 0o755))
	step("write", os.WriteFile("/out/a/b/x", []byte("hello"), 0o644))
	f, err := os.OpenFile("/out/a/b/x", os.O_RDWR|os.O_APPEND, 0)
	step("append open", err)
	_, err = f.WriteString(" world")
	step("append", err)
	_, err = f.Seek(-5, io.SeekEnd)
	step("seek", err)
	rest, err := io.ReadAll(bufio.NewReader(f))
	step("read "+string(rest), err)
	step("truncate", f.Truncate(3))
	step("grow", f.Truncate(6))
	step("unlink while open", os.Remove("/out/a/b/x"))
	b := make([]byte, 10)
	n, err := f.ReadAt(b, 0)
	step(fmt.Sprintf("read %q", b[:n]), err)
	step("close", f.Close())
	step("remove full", os.Remove("/out/a"))
	step("write", os.WriteFile("/out/y", []byte("yy"), 0o644))
	step("write", os.WriteFile("/out/z", []byte("zz"), 0o644))
	step("rename over", os.Rename("/out/y", "/out/z"))
	step("rename folder", os.Rename("/out/a", "/out/c"))
	step("rename into itself", os.Rename("/out/c", "/out/c/b/d"))
	step("exclusive", exclusive("/out/z"))
	step("missing", exclusive("/out/no/where"))
	step("across", os.Rename("/out/z", "/scratch/z"))
	step("read folder", func() error { _, err := os.ReadFile("/out/c"); return err }())
	long := "/out/" + strings.Repeat("n", 256)
	step("long name", os.WriteFile(long, nil, 0o644))
	return tree([]string{"/"})
}

func exclusive(name string) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err == nil {
		err = f.Close()
	}
	return err
}

// loop says that it is running and never ends.
func loop([]string) error {
	fmt.Println("looping")
	for {
	}
}

// resume counts up in /checkpoint.
func resume([]string) error {
	b, err := os.ReadFile("/checkpoint/count")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	n, _ := strconv.Atoi(string(b))
	fmt.Println("resumed at", n)
	if err := os.WriteFile("/checkpoint/new", []byte(strconv.Itoa(n+1)), 0o644); err != nil {
		return err
	}
	return os.Rename("/checkpoint/new", "/checkpoint/count")
}

// scratch fills /scratch until it is full.
func scratch([]string) error {
	f, err := os.Create("/scratch/big")
	if err != nil {
		return err
	}
	total, piece := 0, make([]byte, 4096)
	for {
		n, err := f.Write(piece)
		total += n
		if err != nil {
			fmt.Println(total, err)
			return nil
		}
	}
}

// numbers prints floating-point results.
func numbers([]string) error {
	x := 0.1
	for i := range 1000 {
		x = x*1.7 - float64(int(x*1.7)) + float64(i%7)/13
	}
	fmt.Printf("%.17g %x\n", x, x)
	return nil
}
