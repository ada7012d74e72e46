// Tally counts the words of its standard input ("tally count") or adds up what
// all units counted ("tally add"). It is a program of the end-to-end tests.
package main

import (
	"bufio"
	"fmt"
	"log"
	"os"
	"path/filepath"
)

func main() {
	log.SetFlags(0)
	switch os.Args[1] {
	case "count":
		words := bufio.NewScanner(os.Stdin)
		words.Split(bufio.ScanWords)
		n := 0
		for words.Scan() {
			n++
		}
		fmt.Println(n)
		// Large enough to be kept by its CID.
		if err := os.WriteFile("/out/trace", make([]byte, 4000+n), 0o600); err != nil {
			log.Fatal(err)
		}
	case "add":
		units, err := filepath.Glob("/units/*")
		if err != nil {
			log.Fatal(err)
		}
		sum, traces := 0, int64(0)
		for _, u := range units {
			b, err := os.ReadFile(filepath.Join(u, "stdout"))
			if err != nil {
				log.Fatal(err)
			}
			n := 0
			if _, err := fmt.Sscan(string(b), &n); err != nil {
				log.Fatal(err)
			}
			info, err := os.Stat(filepath.Join(u, "out", "trace"))
			if err != nil {
				log.Fatal(err)
			}
			sum, traces = sum+n, traces+info.Size()
		}
		fmt.Printf("%d units, %d words, traces of %d bytes\n", len(units), sum, traces)
		if err := os.WriteFile("/out/units", []byte(fmt.Sprintln(units)), 0o600); err != nil {
			log.Fatal(err)
		}
	}
}
