package grid

import (
	"os"
	"path/filepath"
	"time"
)

// maxSaved is how many files of a checkpoint are looked at for when it was made.
const maxSaved = 64

// watched are the folders in which running copies save their state.
func (n *Node) watched() map[*execution]string {
	w := map[*execution]string{}
	for _, e := range n.runs {
		if e.checkpoint != "" {
			w[e] = e.checkpoint
		}
	}
	return w
}

// newSaves looks when copies last saved something.
func newSaves(watched map[*execution]string) map[*execution]time.Time {
	saves := map[*execution]time.Time{}
	for e, dir := range watched {
		if at := lastSave(dir); !at.IsZero() {
			saves[e] = at
		}
	}
	return saves
}

// lastSave is when the newest file of a folder was written; zero if it has none.
func lastSave(dir string) (newest time.Time) {
	d, err := os.Open(dir)
	if err != nil {
		return newest
	}
	defer d.Close()
	names, _ := d.Readdirnames(maxSaved) // those that are read are looked at
	for _, name := range names {
		if info, err := os.Lstat(filepath.Join(dir, name)); err == nil && info.ModTime().After(newest) {
			newest = info.ModTime()
		}
	}
	return newest
}

// noteSaves notes what copies have saved, and that what they used until then is
// lost no more.
func (n *Node) noteSaves(saves map[*execution]time.Time) {
	for e, at := range saves {
		if at.After(e.saved) && at.After(e.began) {
			e.saved, e.safe = at, n.meter.used[e.pid]
		}
	}
}
