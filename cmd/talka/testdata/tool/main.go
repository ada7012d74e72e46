// Tool is the program of the scripts about trying jobs. Its first argument says
// what it does.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

func main() {
	args := os.Args[2:]
	var err error
	switch os.Args[1] {
	case "say":
		fmt.Println(strings.Join(args, " "))
	case "cat":
		err = cat(args[0])
	case "write":
		err = os.WriteFile(args[0], []byte("x"), 0o600)
	case "fill":
		fmt.Print(strings.Repeat("x", 1001))
	case "count":
		err = count(args[0])
	case "hold":
		err = hold()
	case "gather":
		err = gather()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
}

func cat(name string) error {
	b, err := os.ReadFile(name)
	fmt.Print(string(b))
	return err
}

// hold leaves a file where a unit can, and never ends.
func hold() error {
	for _, name := range []string{"/scratch/x", "/out/x"} {
		if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
			return err
		}
	}
	for { //nolint:revive // it waits to be killed
	}
}

// count works in so many steps, each of which it saves with the number of times
// that it was started, and goes on behind the last one that was. What it prints
// does not tell how often that was.
func count(steps string) error {
	var starts, done int
	var state uint64
	saved, err := os.ReadFile("/checkpoint/state")
	if err == nil {
		_, err = fmt.Sscan(string(saved), &starts, &done, &state)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	last, err := strconv.Atoi(steps)
	if err != nil {
		return err
	}
	for starts++; done < last; done++ {
		for range 20_000_000 {
			state = state*6364136223846793005 + uint64(done) + 1
		}
		now := fmt.Sprintln(starts, done+1, state)
		if err := errors.Join(os.WriteFile("/checkpoint/new", []byte(now), 0o600), os.Rename("/checkpoint/new", "/checkpoint/state")); err != nil {
			return err
		}
	}
	fmt.Println(state)
	return nil
}

// gather prints how every unit ended and what it said.
func gather() error {
	units, err := filepath.Glob("/units/*")
	if err != nil {
		return err
	}
	for _, unit := range units {
		status, err := os.ReadFile(filepath.Join(unit, "status"))
		if err != nil {
			return err
		}
		fmt.Print(strings.TrimSpace(string(status)), " ")
		if err := cat(filepath.Join(unit, "stdout")); err != nil {
			return err
		}
	}
	return nil
}
