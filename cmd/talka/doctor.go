package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/configs"
	"github.com/talka-grid/talka/grid/api"
	"github.com/talka-grid/talka/grid/phrase"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/apps"
	"github.com/talka-grid/talka/workunits/sandbox"
)

// What a thing that doctor looks at is like.
const (
	healthy = api.Healthy
	warning = api.Warning
	fault   = api.Fault
)

// diagnosis is what doctor says.
type diagnosis struct{ api.Diagnosis }

func (d *diagnosis) add(name string, state api.Health, said phrase.Phrase, remedy ...phrase.Phrase) {
	d.Checks = append(d.Checks, api.NewCheck(name, state, said, remedy...))
	d.OK = d.OK && state != fault
}

func (a *app) doctorCmd() *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "Find out what is wrong with this node or its machine", Args: argCount(0, 0),
		Long: "Look at settings, key, disk, clock, the walls around units, the engines (which execute a unit)\n" +
			"and, if the node runs, at its network. Exit code 1 if there is a fault; warnings are none.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := a.dir()
			if err != nil {
				return err
			}
			d := a.diagnose(cmd.Context(), dir, nil)
			if err := a.show(d, func(w io.Writer) { diagnosisText(w, d) }); err != nil || d.OK {
				return err
			}
			return errors.New("there is a fault: see above")
		},
	}
}

func diagnosisText(w io.Writer, d diagnosis) {
	for _, c := range d.Checks {
		fmt.Fprintf(w, "%-7s  %s: %s\n", c.State, line(c.Name), line(c.Detail))
		if c.Remedy != "" {
			fmt.Fprintf(w, "         Next: %s\n", line(c.Remedy))
		}
	}
}

// diagnose looks at a data directory and its machine. Flags are those of its node, as far
// as they are known.
func (a *app) diagnose(ctx context.Context, dir string, flags map[string]any) diagnosis {
	d := diagnosis{api.Diagnosis{OK: true, Time: time.Now()}}
	cfg, err := a.diagnoseDir(&d, dir, flags)
	if err == nil {
		diagnoseDisk(&d, dir, cfg)
	}
	diagnoseMembership(&d, dir)
	diagnoseClock(&d)
	for _, w := range sandbox.Walls() {
		diagnoseWall(&d, w)
	}
	for _, engine := range sandbox.Engines() {
		diagnoseEngine(ctx, &d, dir, engine)
	}
	if !canonical() {
		d.add("engines", warning, phrase.New("doc_wazero", "wazero alone: jobs with canonical numbers go to others"),
			phrase.New("doc_use_cgo", "use a build with cgo to execute every job"))
	}
	a.diagnoseNode(ctx, &d, dir)
	return d
}

// failure is what went wrong, in the words of who noticed.
func failure(err any) phrase.Phrase { return phrase.New("doc_error", "{error}", "error", err) }

// diagnoseWall tells whether one of the walls around units is there.
func diagnoseWall(d *diagnosis, w sandbox.Wall) {
	said, remedy := phrase.New("doc_all_walls", "nothing but the engine keeps units from files, sockets and other processes"),
		phrase.New("doc_use_linux", "volunteer on Linux to have more walls")
	switch {
	case w.Name == sandbox.WallCalls && w.Active:
		said = phrase.New("doc_calls", "units cannot make system calls beyond those of an engine (sockets, processes, tracing)")
	case w.Name == sandbox.WallCalls:
		said = phrase.New("doc_no_calls", "nothing but the engine keeps units from system calls beyond its own (sockets, processes, tracing)")
		remedy = phrase.New("doc_use_seccomp", "use a kernel with CONFIG_SECCOMP_FILTER, on amd64 or arm64")
	case w.Name == sandbox.WallFiles && w.Active:
		said = phrase.New("doc_files", "units cannot open files beyond those of their run")
	case w.Name == sandbox.WallFiles:
		said = phrase.New("doc_no_files", "nothing but the engine keeps units from files beyond those of their run")
		remedy = phrase.New("doc_use_landlock", "use Linux 5.19 or later, with landlock in the kernel's list of security modules (lsm=landlock,...)")
	}
	if w.Active {
		d.add("wall", healthy, said)
	} else {
		d.add("wall", warning, said, remedy)
	}
}

// canonical reports whether this build can make NaNs canonical.
func canonical() bool { return sandbox.Engines()[0] == sandbox.Wasmtime }

// diagnoseDir looks at the data directory, the key and the settings.
func (a *app) diagnoseDir(d *diagnosis, dir string, flags map[string]any) (cfg configs.Config, err error) {
	src, err := a.sources(dir, flags)
	if err == nil {
		cfg, err = configs.Load(src)
	}
	if err != nil {
		d.add("settings", fault, failure(err), phrase.New("doc_mend", "mend what it says (talka config explain)"))
	} else {
		d.add("settings", healthy, phrase.New("doc_network", "network {name}", "name", cfg.Network))
	}
	switch key, kerr := loadKey(dir); {
	case errors.Is(kerr, fs.ErrNotExist):
		d.add("data directory", warning, phrase.New("doc_no_key", "{dir} has no key yet", "dir", dir), phrase.New("doc_init", "talka init, or talka up, makes it"))
	case kerr != nil:
		d.add("data directory", fault, failure(kerr))
	default:
		d.add("data directory", healthy, phrase.New("doc_dir", "{dir}, of node {node}", "dir", dir, "node", workunits.NodeIDOf(key)))
		if f, werr := os.CreateTemp(dir, "doctor-"); werr != nil {
			d.add("data directory", fault, failure(werr), phrase.New("doc_may_write", "give this user the right to write there"))
		} else if werr := errors.Join(f.Close(), os.Remove(f.Name())); werr != nil {
			d.add("data directory", fault, failure(werr))
		}
	}
	return cfg, err
}

// diagnoseDisk compares the room on the disk with the quota.
func diagnoseDisk(d *diagnosis, dir string, cfg configs.Config) {
	for dir != filepath.Dir(dir) {
		if _, err := os.Stat(dir); err == nil {
			break
		}
		dir = filepath.Dir(dir) // it is not made yet
	}
	free, err := freeBytes(dir)
	if err != nil {
		return // nothing is known
	}
	lacks := int64(cfg.Disk) - int64(sandbox.DiskUse(filepath.Join(dir, chunksDir))) - int64(min(free, 1<<62))
	remedy := phrase.New("doc_make_room", "make room, or lower the setting disk (talka config set disk SIZE)")
	switch {
	case free < uint64(configs.MinDisk):
		d.add("disk", fault, phrase.New("doc_disk_full", "{free} are free, a node needs {least}", "free", size(int64(free)), "least", configs.MinDisk), remedy)
	case lacks > 0:
		d.add("disk", warning, phrase.New("doc_disk_less", "{lacks} less than the quota of {quota} can be used", "lacks", size(lacks), "quota", cfg.Disk), remedy)
	default:
		d.add("disk", healthy, phrase.New("doc_disk", "{free} free, quota {quota}", "free", size(int64(min(free, 1<<62))), "quota", cfg.Disk))
	}
}

// firstDay is before any node that speaks this protocol was built.
var firstDay = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// diagnoseClock: leases and announcements end by the clock, and one that is wrong
// keeps a node from all work.
func diagnoseClock(d *diagnosis) {
	t := time.Now().UTC().Format(time.RFC3339)
	known, synchronised := clockState()
	switch remedy := phrase.New("doc_set_clock", "set the clock, and keep it right with NTP (timedatectl set-ntp true)"); {
	case time.Now().Before(firstDay):
		d.add("clock", fault, phrase.New("doc_clock_wrong", "it says {time}", "time", t), remedy)
	case known && !synchronised:
		d.add("clock", warning, phrase.New("doc_clock_free", "{time}; the system does not keep it synchronised", "time", t), remedy)
	default:
		d.add("clock", healthy, phrase.New("doc_clock", "{time}", "time", t))
	}
}

// diagnoseEngine executes a unit, behind the walls that a volunteer's have, and
// tells what the sandbox warns of.
func diagnoseEngine(ctx context.Context, d *diagnosis, dir, engine string) {
	said := &warnings{}
	r, err := tryEngine(ctx, dir, engine, slog.New(said))
	for _, text := range said.list {
		d.add("engine "+engine, warning, failure(text))
	}
	switch {
	case err != nil:
		d.add("engine "+engine, fault, failure(err), phrase.New("doc_can_start", "see that this binary can be started, and that the disk is not full"))
	case r.Kind != workunits.Exited || r.Code != 0:
		d.add("engine "+engine, fault, phrase.New("doc_unit_wrong", "a unit that runs elsewhere ended with {ending}", "ending", ending(r)),
			phrase.New("doc_report", "report this with the machine's processor and system"))
	default:
		d.add("engine "+engine, healthy, phrase.New("doc_unit", "executed a unit in {time}", "time", r.Wall.Round(100*time.Microsecond)))
	}
}

func tryEngine(ctx context.Context, dir, engine string, log *slog.Logger) (r sandbox.Report, err error) {
	tmp, remove, err := scratchIn(dir)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	program := filepath.Join(tmp, "lj.wasm")
	if err := os.WriteFile(program, apps.LJ(), 0o600); err != nil {
		return r, err
	}
	run := filepath.Join(tmp, "run")
	pool, err := sandbox.New(sandbox.Config{
		CacheDir: filepath.Join(tmp, "cache"), Slots: 1, Engine: engine, Nice: volunteerNice, Logger: log,
	})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, pool.Close()) }()
	return pool.Run(ctx, sandbox.Task{
		Program: program, ProgramID: workunits.Sum(apps.LJ()), Args: []string{"--atoms", "5", "--seed", "1", "--steps", "2"}, Dir: run,
		Limits: sandbox.Limits{Memory: 64 << 20, Output: 1 << 20, Wall: time.Minute},
	}, nil)
}

// warnings keeps what is logged as a warning or worse.
type warnings struct{ list []string }

// Enabled implements slog.Handler.
func (*warnings) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }

// Handle implements slog.Handler. The sandbox is closed before the list is read.
func (w *warnings) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool {
		text += fmt.Sprintf(", %s: %v", a.Key, a.Value)
		return true
	})
	w.list = append(w.list, text)
	return nil
}

// WithAttrs implements slog.Handler.
func (w *warnings) WithAttrs([]slog.Attr) slog.Handler { return w }

// WithGroup implements slog.Handler.
func (w *warnings) WithGroup(string) slog.Handler { return w }

// diagnoseGroups looks whether the running node has control groups for its units.
func diagnoseGroups(d *diagnosis, dir string) {
	f, err := os.Open(filepath.Join(dir, lockName))
	if err != nil || runtime.GOOS != "linux" {
		return
	}
	defer f.Close()
	if sandbox.Grouped(readPID(f)) {
		d.add("wall", healthy, phrase.New("doc_grouped", "units cannot take more memory or threads than they may, not for a moment"))
		return
	}
	d.add("wall", warning, phrase.New("doc_ungrouped", "no control group keeps units from taking more memory or threads than they may for a moment; the node looks every second"),
		phrase.New("doc_delegate", "run it as the service in configs/systemd, or systemd-run --user --scope -p Delegate=yes talka up"))
}

// diagnoseNode asks the running node about its store and its network.
func (a *app) diagnoseNode(ctx context.Context, d *diagnosis, dir string) {
	c := api.NewClient(dir)
	defer c.Close()
	r, err := c.Netcheck(ctx)
	if api.KindOf(err) == api.KindNotRunning {
		d.add("node", warning, phrase.New("doc_not_running", "it does not run, so that nothing is known of its network"), phrase.New("doc_up", "talka up"))
		return
	}
	if err != nil {
		d.add("node", fault, phrase.New("doc_silent", "it does not answer: {error}", "error", err), phrase.New("doc_restart", "start it again; talka status"))
		return
	}
	diagnoseGroups(d, dir)
	data, err := c.DataInfo(ctx)
	if err == nil && data.Damaged > 0 {
		d.add("store", warning, phrase.New("doc_damaged", "{n|chunk|chunks} damaged", "n", data.Damaged), phrase.New("doc_disk_ill", "look at the disk's health: they are fetched again"))
	}
	if r.OK {
		d.add("network", healthy, r.Said.State)
	} else {
		d.add("network", warning, r.Said.State, append(r.Said.Next, phrase.New("doc_netcheck", "talka netcheck"))[0])
	}
}
