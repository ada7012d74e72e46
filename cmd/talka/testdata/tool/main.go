// Tool is the program of the scripts about trying jobs. Its first argument says
// what it does.
package main

import (
	"fmt"
	"os"
	"path/filepath"
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
