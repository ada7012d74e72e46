package gridtest

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/talka-grid/talka/workunits"
)

var update = flag.Bool("update", false, "rewrite the transcripts in testdata")

// TestScripts runs testdata/*.txt. A block of such a file is commands, a line
// of dashes and the transcript that they give, ended by an empty line.
func TestScripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got, _ := perform(t, string(want))
			if *update && !t.Failed() {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("transcript changed (-want +got; -update rewrites it):\n%s", diff)
			}
		})
	}
}

const line = "----"

// perform runs a script's commands and returns the script with the transcripts
// that they gave.
func perform(t *testing.T, script string) (string, *World) {
	var out, log bytes.Buffer
	s := &Script{World: New(1, &log)}
	skip := false
	for text := range strings.Lines(script) {
		text = strings.TrimSuffix(text, "\n")
		switch {
		case skip && text == "", !skip && text == "":
			skip = false
			out.WriteByte('\n')
		case skip:
		case text == line:
			skip = true
			out.WriteString(line + "\n")
			out.Write(log.Bytes())
			log.Reset()
		default:
			out.WriteString(text + "\n")
			if strings.HasPrefix(text, "#") {
				continue
			}
			if err := s.Do(text); err != nil {
				s.World.Explain(&log)
				t.Errorf("%v\n%s%s", err, out.Bytes(), log.Bytes())
				return out.String(), s.World
			}
		}
	}
	return out.String(), s.World
}

// TestEveryKindIsStated keeps the promise that no statement kind waits for a
// later version to be said for the first time.
func TestEveryKindIsStated(t *testing.T) {
	t.Parallel()
	said := map[workunits.Kind]int{}
	for _, name := range []string{"liar", "expired", "cancel", "collected", "retry"} {
		script, err := os.ReadFile("testdata/" + name + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		_, w := perform(t, string(script))
		for k, n := range w.Kinds() {
			said[k] += n
		}
	}
	for k := workunits.Kind(1); k.Known(); k++ {
		if said[k] == 0 {
			t.Errorf("nobody stated: %s", k)
		}
	}
}
