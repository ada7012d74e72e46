package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/talka-grid/talka/workunits"
)

// compiledStore is the place of one compiled module on disk. The file holds a
// magic number, the module's initial memory, the digest of what follows, and
// the engine's own form of the module. A file that is not whole is no file.
type compiledStore struct{ dir, name string }

var errNotCompiled = errors.New("not compiled yet")

const (
	compiledMagic = "talkaCM1"
	compiledHead  = len(compiledMagic) + 4 + len(workunits.Digest{})
)

// compiledName names a compiled module by all that it depends on.
func compiledName(o loadOrder, version string) string {
	name := o.ID.String() + "-" + version + "-" + runtime.GOARCH
	if o.Canonical {
		name += "-canonical"
	}
	return name
}

func (s compiledStore) path() string { return filepath.Join(s.dir, s.name) }

// get reads the module; errNotCompiled if it is not there.
func (s compiledStore) get() (info moduleInfo, compiled []byte, err error) {
	b, err := os.ReadFile(s.path())
	if errors.Is(err, fs.ErrNotExist) {
		return info, nil, errNotCompiled
	}
	if err != nil {
		return info, nil, err
	}
	if len(b) < compiledHead || string(b[:len(compiledMagic)]) != compiledMagic {
		return info, nil, fmt.Errorf("compiled module %s is not one", s.name)
	}
	info.minPages = binary.BigEndian.Uint32(b[len(compiledMagic):])
	compiled = b[compiledHead:]
	if workunits.Sum(compiled) != workunits.Digest(b[len(compiledMagic)+4:compiledHead]) {
		return info, nil, fmt.Errorf("compiled module %s is damaged", s.name)
	}
	return info, compiled, nil
}

// put writes the module; a reader sees all of it or nothing.
func (s compiledStore) put(info moduleInfo, compiled []byte) error {
	head := binary.BigEndian.AppendUint32([]byte(compiledMagic), info.minPages)
	digest := workunits.Sum(compiled)
	f, err := os.CreateTemp(s.dir, "new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(append(head, digest[:]...))
	if err == nil {
		_, err = f.Write(compiled)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), s.path())
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
