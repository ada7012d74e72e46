package sandbox

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/cpu"

	"github.com/talka-grid/talka/workunits"
)

// moduleCache keeps compiled modules on disk, each in a folder named by all that
// it depends on: the program, the engine and the processor. Its file "seal" holds
// what the parent remembers of the module and a MAC over the name and all files,
// made when the child that compiled it had ended. A folder whose seal does not
// fit is no module: it is removed. Children read the cache, and write nothing there
// but what they compile into a folder of their own, before it has a seal.
type moduleCache struct {
	dir  string
	key  [32]byte
	size uint64 // bytes; the modules that were used last stay

	mu   sync.Mutex // held while modules come and go
	busy map[string]*compilation
}

// compilation is a module that is looked for or made.
type compilation struct {
	Compiling
	since time.Time     // zero: not compiling yet
	done  chan struct{} // closed when it is over
}

// Compiling is a program that is being compiled for this machine. That happens
// once for each program, engine and processor, unless the module was evicted.
type Compiling struct {
	Program workunits.Digest
	Bytes   uint64 // of the program
	Wall    time.Duration
}

// DefaultCacheSize is the bound of the compiled modules where Config names none.
const DefaultCacheSize = 1 << 30

const (
	sealName   = "seal"
	keyName    = "key"
	modulesDir = "modules"
	stageName  = "new-" // folders that a child compiles into begin so
	stageTries = 16     // to make one while other pools are opened
	sealSize   = 4 + sha256.Size
	staleStage = 2 * loadWall // nobody compiles into a folder as old, where the system does not tell
)

var errNoModule = errors.New("not compiled yet")

// openModules readies a cache and removes what a parent that died left there.
func openModules(dir string, size uint64) (*moduleCache, error) {
	if size == 0 {
		size = DefaultCacheSize
	}
	c := &moduleCache{dir: dir, size: size, busy: map[string]*compilation{}}
	if err := os.MkdirAll(c.modules(), 0o700); err != nil {
		return nil, err
	}
	if err := c.readKey(); err != nil {
		return nil, fmt.Errorf("cache of compiled modules: %w", err)
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		path, held := c.stale(e)
		if path != "" {
			err = os.RemoveAll(path)
		}
		if held != nil { // until it is gone, so that no parent takes it meanwhile
			_ = held.Close()
		}
		if err != nil {
			return nil, err
		}
	}
	return c, nil
}

// stale is the path of what a parent that died left in the cache, empty for what it
// did not. The caller closes held, which may be nil.
func (c *moduleCache) stale(e fs.DirEntry) (path string, held *os.File) {
	path = filepath.Join(c.dir, e.Name())
	if !strings.HasPrefix(e.Name(), stageName) && !strings.HasPrefix(e.Name(), keyName+"-") {
		return "", nil
	}
	info, err := e.Info()
	if err != nil {
		return "", nil // it has just gone
	}
	if info.IsDir() {
		held, err := holdFolder(path)
		if err == nil {
			return path, held
		}
		if !errors.Is(err, errors.ErrUnsupported) {
			return "", nil // its parent lives
		}
	}
	if time.Since(info.ModTime()) > staleStage {
		return path, nil
	}
	return "", nil
}

// stage makes an empty folder to compile into. It is held for as long as held is open
// and this process lives, where the system knows that.
func (c *moduleCache) stage() (path string, held *os.File, err error) {
	for range stageTries { // a pool that is opened just now may take a new folder for a dead one's
		if path, err = os.MkdirTemp(c.dir, stageName); err != nil {
			return "", nil, err
		}
		held, err = holdFolder(path)
		if errors.Is(err, errors.ErrUnsupported) {
			return path, nil, nil
		}
		if err == nil {
			if _, err = os.Stat(path); err == nil {
				return path, held, nil
			}
			_ = held.Close()
		}
		if rerr := os.RemoveAll(path); rerr != nil {
			return "", nil, errors.Join(err, rerr)
		}
	}
	return "", nil, err
}

// modules is the folder that children read.
func (c *moduleCache) modules() string { return filepath.Join(c.dir, modulesDir) }

func (c *moduleCache) path(name string) string { return filepath.Join(c.modules(), name) }

// readKey reads the key of the seals, and makes it first if it is missing. A new key makes
// all modules worthless, which costs time alone.
func (c *moduleCache) readKey() error {
	name := filepath.Join(c.dir, keyName)
	b, err := os.ReadFile(name)
	if err == nil && len(b) == len(c.key) {
		c.key = [32]byte(b)
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	rand.Read(c.key[:])
	f, err2 := os.CreateTemp(c.dir, keyName+"-*")
	if err2 != nil {
		return err2
	}
	_, err2 = f.Write(c.key[:])
	if err2 = errors.Join(err2, f.Close()); err2 == nil && err == nil {
		err2 = os.Remove(name) // too short or too long
	}
	if err2 == nil {
		err2 = os.Link(f.Name(), name)
	}
	if errors.Is(err2, fs.ErrExist) {
		// Another pool made one at the same time.
		b, err2 = os.ReadFile(name)
		copy(c.key[:], b)
	}
	return errors.Join(err2, os.Remove(f.Name()))
}

// moduleName names a compiled module by all that it depends on.
func moduleName(engine string, k key) string {
	name := k.id.String() + "-" + engines[engine].version + "-" + runtime.GOARCH + "-" + processor()
	if k.canonical {
		name += "-canonical"
	}
	return name
}

// processor is short for what this processor can do, as far as compilers care.
var processor = sync.OnceValue(func() string {
	sum := sha256.Sum256(fmt.Append(nil, cpu.X86, cpu.ARM64))
	return hex.EncodeToString(sum[:4])
})

// module is a compiled module on disk, or none if dir is empty.
type module struct {
	dir      string
	minPages uint32
}

// get finds the module of a name; errNoModule if it is not there. One that is
// damaged is removed, and the error says so.
func (c *moduleCache) get(name string) (module, error) {
	m := module{dir: c.path(name)}
	seal, err := os.ReadFile(filepath.Join(m.dir, sealName))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(m.dir); errors.Is(err, fs.ErrNotExist) {
			return module{}, errNoModule
		}
	}
	var want []byte
	if err == nil && len(seal) == sealSize {
		m.minPages = binary.BigEndian.Uint32(seal)
		want, err = c.seal(m.dir, name, m.minPages)
	}
	if err == nil && want != nil && hmac.Equal(seal, want) {
		now := time.Now()
		// The age of a module that cannot be told when it was used is that of its making.
		_ = os.Chtimes(filepath.Join(m.dir, sealName), now, now)
		return m, nil
	}
	if err == nil {
		err = errors.New("the files are not those that were compiled here")
	}
	return module{}, fmt.Errorf("compiled module %s is damaged: %w", name, errors.Join(err, os.RemoveAll(m.dir)))
}

// put makes what was compiled into a folder of the cache the module of a name,
// and makes room for it. Whoever wrote there must have ended.
func (c *moduleCache) put(stage, name string, minPages uint32) error {
	seal, err := c.seal(stage, name, minPages)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(stage, sealName), seal, 0o600); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	dir := c.path(name)
	if err := os.Rename(stage, dir); err != nil {
		// Another process has made it meanwhile, and its children may use it.
		if _, gerr := c.get(name); gerr == nil {
			return os.RemoveAll(stage)
		}
		if err := os.Rename(stage, dir); err != nil { // get has removed a damaged one
			return err
		}
	}
	return c.evict(name)
}

// remove takes the module of a name away.
func (c *moduleCache) remove(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return os.RemoveAll(c.path(name))
}

// evict removes the modules that were not used for longest until the others
// have room; the named one stays in any case. The caller holds the lock.
func (c *moduleCache) evict(name string) error {
	list, err := os.ReadDir(c.modules())
	if err != nil {
		return err
	}
	type entry struct {
		path string
		used time.Time
		size uint64
	}
	var (
		others []entry
		sum    uint64
	)
	for _, e := range list {
		path := c.path(e.Name())
		size := DiskUse(path)
		sum += size
		if e.Name() == name {
			continue
		}
		others = append(others, entry{path: path, size: size})
		if info, err := os.Stat(filepath.Join(path, sealName)); err == nil { // else it is of no use
			others[len(others)-1].used = info.ModTime()
		}
	}
	slices.SortFunc(others, func(a, b entry) int { return a.used.Compare(b.used) })
	for _, e := range others {
		// Some systems keep a module that is in use; another one goes, then.
		if sum > c.size && os.RemoveAll(e.path) == nil {
			sum -= e.size
		}
	}
	return nil
}

// seal is what the file of that name in a module's folder holds.
func (c *moduleCache) seal(dir, name string, minPages uint32) ([]byte, error) {
	seal := binary.BigEndian.AppendUint32(nil, minPages)
	mac := hmac.New(sha256.New, c.key[:])
	writeSized(mac, "talka compiled module 1")
	writeSized(mac, name)
	mac.Write(seal)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil || rel == sealName {
			return err
		}
		if !d.Type().IsRegular() {
			return fmt.Errorf("%s is not a file", rel)
		}
		writeSized(mac, filepath.ToSlash(rel))
		return hashFile(mac, path)
	})
	return mac.Sum(seal), err
}

func writeSized(h hash.Hash, s string) {
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(s))))
	h.Write([]byte(s))
}

// hashFile adds a file's content to h, and its length behind it.
func hashFile(h hash.Hash, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	n, err := io.Copy(h, f)
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(n)))
	return errors.Join(err, f.Close())
}

// Compiling tells which programs are being compiled, the oldest first.
func (p *Pool) Compiling() []Compiling {
	c := p.modules
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]Compiling, 0, len(c.busy))
	for _, b := range c.busy {
		if b.since.IsZero() {
			continue
		}
		told := b.Compiling
		told.Wall = time.Since(b.since)
		list = append(list, told)
	}
	slices.SortFunc(list, func(a, b Compiling) int { return int(b.Wall - a.Wall) })
	return list
}

// compiled finds the module of a program, or has it compiled. Without one,
// dir is empty, the child has to compile for itself.
func (p *Pool) compiled(ctx context.Context, k key, program string) (module, error) {
	name := moduleName(p.cfg.Engine, k)
	for {
		p.modules.mu.Lock()
		other, busy := p.modules.busy[name]
		if busy {
			p.modules.mu.Unlock()
			select {
			case <-other.done:
				continue
			case <-ctx.Done():
				return module{}, &Void{Reason: workunits.VoidCancelled, Cause: context.Cause(ctx)}
			}
		}
		mine := &compilation{Compiling: Compiling{Program: k.id}, done: make(chan struct{})}
		p.modules.busy[name] = mine
		p.modules.mu.Unlock()
		m, err := p.modules.get(name)
		if err != nil {
			if !errors.Is(err, errNoModule) {
				p.log.Warn("a program is compiled again", "program", k.id, "error", err)
			}
			p.modules.mu.Lock()
			mine.since = time.Now()
			if info, err := os.Stat(program); err == nil {
				mine.Bytes = uint64(info.Size())
			}
			p.modules.mu.Unlock()
			m, err = p.compile(ctx, k, program, name)
		}
		p.modules.mu.Lock()
		delete(p.modules.busy, name)
		p.modules.mu.Unlock()
		close(mine.done)
		return m, err
	}
}

// compile has a child of its own compile a program into the cache. It is the
// only one that can write there, and it ends before anybody reads what it wrote.
func (p *Pool) compile(ctx context.Context, k key, program, name string) (m module, err error) {
	stage, held, err := p.modules.stage()
	if err != nil {
		p.log.Warn("compiled modules are not kept", "error", err)
		return module{}, nil
	}
	defer func() {
		_ = held.Close() // nil where folders cannot be held
		// put has moved it away.
		if rerr := os.RemoveAll(stage); rerr != nil {
			p.log.Warn("a compiled module stays behind", "error", rerr)
		}
	}()
	began := time.Now()
	w, answer, err := p.bear(ctx, reach{[]string{program}, []string{stage}}, loadOrder{
		Version: protocolVersion, Engine: p.cfg.Engine, Program: program, Canonical: k.canonical, Memory: maxMemory, Stage: stage,
	}, k)
	if err != nil {
		return module{}, err
	}
	p.drop(w)
	if answer.Note == "" {
		err = p.modules.put(stage, name, answer.MinPages)
	} else {
		err = errors.New(answer.Note)
	}
	if err != nil {
		p.log.Warn("a compiled module is not kept", "program", k.id, "error", err)
		return module{}, nil
	}
	p.log.Info("compiled a program for this machine", "program", k.id, "engine", p.cfg.Engine, "took", time.Since(began).Round(time.Millisecond))
	return module{dir: p.modules.path(name), minPages: answer.MinPages}, nil
}
