package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/api"
	"github.com/talka-grid/talka/workunits"
)

// Times and sizes of the demo.
const (
	demoTime       = 5 * time.Minute // after which it gives up
	demoAway       = 3 * time.Second // how long the killed volunteer is away
	demoVolunteers = 6
	demoStewards   = 3 // of the volunteers
	demoLiarAt     = 3 // which volunteer lies
	demoVictimAt   = 4 // which is killed in the middle of a unit
)

func (a *app) demoCmd() *cobra.Command {
	d := &demo{app: a}
	cmd := &cobra.Command{
		Use: "demo", Short: "Start seven nodes on this machine, run a real job, and see it survive", Args: argCount(0, 0),
		Long: "Start a publisher and six volunteers as processes in a temporary directory, on loopback.\n" +
			"They run a real job while one volunteer lies, one is killed in the middle of a unit,\n" +
			"and the publisher itself is away for more than half of the job.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), demoTime, errors.New("the demo took too long"))
			defer cancel()
			return d.run(ctx)
		},
	}
	f := cmd.Flags()
	f.StringVar(&d.appName, "app", "lj", "what to run: lj or search")
	f.StringVar(&d.data, "data", "", "folder to search (default: the Go standard library's source)")
	f.IntVar(&d.units, "units", 0, "units of the job (default: 60, for search 24)")
	f.IntVar(&d.atoms, "atoms", 13, "atoms of the cluster, for lj")
	f.Uint64Var(&d.seed, "seed", 1, "draws the units on which the liar lies")
	f.BoolVar(&d.keep, "keep", false, "leave the nodes' directories behind")
	return cmd
}

// demo is one run.
type demo struct {
	app     *app
	appName string
	data    string
	units   int
	atoms   int
	seed    uint64
	keep    bool

	job   demoApp
	dir   string
	exe   string
	begun time.Time

	publisher  *demoNode
	volunteers []*demoNode
	restarts   int
	story      *narrator
}

func (d *demo) run(ctx context.Context) (err error) {
	switch d.appName {
	case "lj":
		d.job = &demoLJ{atoms: d.atoms}
	case "search":
		d.job = &demoSearch{data: d.data}
	default:
		return usage("--app %s: want lj or search", d.appName)
	}
	if d.units == 0 {
		d.units = map[string]int{"lj": 60, "search": 24}[d.appName]
	}
	if d.units < 1 || d.units > 10_000 {
		return usage("--units %d: want 1 to 10000", d.units)
	}
	if d.exe, err = os.Executable(); err != nil {
		return err
	}
	// Socket paths are short, so the directory is too.
	if d.dir, err = os.MkdirTemp("", "talka"); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			d.tellLogs()
		}
		err = errors.Join(err, d.clean())
	}()
	d.begun = time.Now()
	if err := d.startAll(ctx); err != nil {
		return err
	}
	id, err := d.publish(ctx)
	if err != nil {
		return err
	}
	if err := d.trouble(ctx, id); err != nil {
		return err
	}
	return d.finish(ctx, id)
}

// say prints a line of the story; with --json it is not the result.
func (d *demo) say(format string, args ...any) {
	w := d.app.out
	if d.app.json {
		w = d.app.err
	}
	fmt.Fprintf(w, "%5.1fs  %s\n", time.Since(d.begun).Seconds(), fmt.Sprintf(format, args...))
}

// command runs a talka command on a node's directory, as its user would.
func (d *demo) command(ctx context.Context, n *demoNode, out any, args ...string) error {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, d.exe, append([]string{"--dir", n.dir, "--json"}, args...)...)
	cmd.Stdout, cmd.Stderr, cmd.Env = &stdout, &stderr, d.env()
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("talka %s: %w: %s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return json.Unmarshal(stdout.Bytes(), out)
}

// env is the environment without settings that are meant for another node.
func (d *demo) env() (env []string) {
	for _, kv := range d.app.env {
		if !strings.HasPrefix(kv, "TALKA_") {
			env = append(env, kv)
		}
	}
	return env
}

// up is the command line of a node.
func (d *demo) up(command string, more ...string) []string {
	return append([]string{command, "--network", "demo", "--preset", "all-out", "--processors", "1",
		"--listen", "/ip4/127.0.0.1/udp/0/quic-v1", "--listen", "/ip4/127.0.0.1/tcp/0"}, more...)
}

// startAll starts the nodes. All but the first know the first one only.
func (d *demo) startAll(ctx context.Context) error {
	seed := &demoNode{name: "volunteer 1", dir: filepath.Join(d.dir, "v1"), args: d.up("up", "--seed", "--steward")}
	d.volunteers = append(d.volunteers, seed)
	if err := seed.start(ctx, d.exe, d.env()); err != nil {
		return err
	}
	var invite struct{ Invite string }
	if err := d.command(ctx, seed, &invite, "invite"); err != nil {
		return err
	}
	d.publisher = &demoNode{name: "the publisher", dir: filepath.Join(d.dir, "p"), args: d.up("up", "--join", invite.Invite)}
	if err := d.publisher.start(ctx, d.exe, d.env()); err != nil {
		return err
	}
	var project struct{ Project workunits.ProjectID }
	if err := d.command(ctx, d.publisher, &project, "project", "new", "demo"); err != nil {
		return err
	}
	if err := seed.client.Trust(ctx, project.Project, true); err != nil {
		return err
	}
	seed.args = append(seed.args, "--trust", project.Project.String())
	for i := 1; i < demoVolunteers; i++ {
		command := d.up("up")
		if i == demoLiarAt {
			command = d.up("demo-liar", "--lie-seed", fmt.Sprint(d.seed), "--lie-file", d.lies())
		}
		n := &demoNode{name: fmt.Sprintf("volunteer %d", i+1), dir: filepath.Join(d.dir, fmt.Sprintf("v%d", i+1)),
			args: append(command, "--join", invite.Invite, "--trust", project.Project.String(), fmt.Sprintf("--steward=%t", i < demoStewards))}
		d.volunteers = append(d.volunteers, n)
		if err := n.start(ctx, d.exe, d.env()); err != nil {
			return err
		}
	}
	d.say("seven nodes are up: a publisher and six volunteers, three of them stewards too")
	err := poll(ctx, func() (bool, error) {
		st, err := d.publisher.client.Status(ctx)
		return st.Peers >= demoVolunteers, err
	})
	if err != nil {
		return fmt.Errorf("nodes do not find each other: %w", err)
	}
	d.say("each was told of volunteer 1 only; they found each other through the DHT")
	return nil
}

func (d *demo) lies() string { return filepath.Join(d.dir, "lies") }

// publish submits the job and kills its publisher.
func (d *demo) publish(ctx context.Context) (workunits.JobID, error) {
	work := filepath.Join(d.dir, "job")
	if err := os.MkdirAll(work, 0o700); err != nil {
		return workunits.JobID{}, err
	}
	if err := d.job.prepare(ctx, work, d.units); err != nil {
		return workunits.JobID{}, err
	}
	var job struct{ Job workunits.JobID }
	if err := d.command(ctx, d.publisher, &job, "job", "submit", filepath.Join(work, "job.toml"), "--project", "demo"); err != nil {
		return job.Job, err
	}
	d.say("the publisher has published %d units: %s", d.units, job.Job)
	d.publisher.kill()
	d.say("the publisher is killed, right after publishing; its stewards go on")
	return job.Job, nil
}

// trouble lets the volunteers work while the publisher is away, kills one of
// them in the middle of a unit, and brings both back.
func (d *demo) trouble(ctx context.Context, id workunits.JobID) error {
	follow, stop := context.WithCancel(ctx)
	defer stop()
	watch := d.volunteers[0]
	d.story = newNarrator(d)
	go d.story.follow(follow, watch, id)
	victim := d.volunteers[demoVictimAt]
	when := "between two units" // if they are too short to be seen
	err := poll(ctx, func() (bool, error) {
		st, err1 := victim.client.Status(ctx)
		info, err2 := watch.client.Job(ctx, id)
		if st.RunningUnits > 0 {
			when = "in the middle of a unit"
		}
		return st.RunningUnits > 0 || info.Units.Accepted >= d.units/3, errors.Join(err1, err2)
	})
	if err != nil {
		return err
	}
	victim.kill()
	d.say("%s is killed %s", victim.name, when)
	back := time.Now().Add(demoAway)
	if err := poll(ctx, func() (bool, error) { return time.Now().After(back), nil }); err != nil {
		return err
	}
	if err := d.restart(ctx, victim); err != nil {
		return err
	}
	err = poll(ctx, func() (bool, error) {
		info, err := watch.client.Job(ctx, id)
		return info.Units.Accepted > d.units/2, err
	})
	if err != nil {
		return err
	}
	return d.restart(ctx, d.publisher)
}

func (d *demo) restart(ctx context.Context, n *demoNode) error {
	d.restarts++
	if err := n.start(ctx, d.exe, d.env()); err != nil {
		return err
	}
	d.say("%s is back", n.name)
	return nil
}

// finish waits for the sealed job, checks its results and tells the outcome.
func (d *demo) finish(ctx context.Context, id workunits.JobID) error {
	follow, stop := context.WithCancel(ctx)
	defer stop()
	go d.story.follow(follow, d.publisher, id)
	var info grid.JobInfo
	err := poll(ctx, func() (done bool, err error) {
		info, err = d.publisher.client.Job(ctx, id)
		return info.Settled, err
	})
	if err != nil {
		return fmt.Errorf("%w: %+v", err, info.Units)
	}
	seconds := time.Since(d.begun).Seconds()
	d.story.flush()
	d.say("the publisher has sealed the job")
	accepted := map[string]bool{}
	err = d.publisher.client.Results(ctx, id, func(r api.Result) error {
		accepted[string(r.Stdout.Data)] = true
		return d.job.add(r, func(f api.File) ([]byte, error) { return d.content(ctx, f) })
	})
	if err != nil {
		return err
	}
	told, believed, err := d.countLies(accepted)
	if err != nil {
		return err
	}
	rows, fields, wrong := d.job.report()
	out := map[string]any{"units": info.Units.Total, "accepted": info.Units.Accepted, "copies": info.Copies, "lies": told,
		"lies_accepted": believed, "expired": info.Expired, "restarts": d.restarts, "seconds": seconds, "job": id}
	for k, v := range fields {
		out[k] = v
	}
	rows = append([][2]string{
		{"units accepted", fmt.Sprintf("%d of %d", info.Units.Accepted, info.Units.Total)},
		{"copies executed", fmt.Sprint(info.Copies)},
		{"lies told / caught / accepted", fmt.Sprintf("%d / %d / %d", told, told-believed, believed)},
		{"leases expired", fmt.Sprint(info.Expired)},
		{"nodes restarted", fmt.Sprint(d.restarts)},
		{"seconds", fmt.Sprintf("%.1f", seconds)},
	}, rows...)
	err = d.app.show(out, func(w io.Writer) { d.table(w, rows) })
	if info.Units.Accepted != info.Units.Total || believed > 0 {
		err = errors.Join(err, fmt.Errorf("%d of %d units accepted, %d lies among them", info.Units.Accepted, info.Units.Total, believed))
	}
	return errors.Join(err, wrong)
}

// content is what a unit wrote to a file.
func (d *demo) content(ctx context.Context, f api.File) ([]byte, error) {
	if f.Cid == "" {
		return f.Data, nil
	}
	c, err := cid.Decode(f.Cid)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(d.dir, "file")
	defer os.Remove(path)
	if err := d.publisher.client.GetData(ctx, c, path, startTime, nil); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

func (d *demo) table(w io.Writer, rows [][2]string) {
	fmt.Fprintln(w)
	for _, r := range rows {
		fmt.Fprintf(w, "  %-30s %s\n", r[0], r[1])
	}
	fmt.Fprint(w, `
Next:
  bin/talka up                     run a node of your own
  bin/talka invite                 what a second machine joins with
  bin/talka project new NAME       a project of yours
  bin/talka job new                an example job file to fill in
  bin/talka demo --app search      search Go's source for some words
`)
}

// countLies counts the lies that the liar told, and those among the results.
func (d *demo) countLies(accepted map[string]bool) (told, believed int, err error) {
	f, err := os.Open(d.lies())
	if errors.Is(err, os.ErrNotExist) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var x lie
		if err := json.Unmarshal(s.Bytes(), &x); err != nil {
			return 0, 0, err
		}
		told++
		if accepted[string(x.Told)] && !accepted[string(x.True)] {
			believed++
		}
	}
	return told, believed, nil
}

// tellLogs prints the ends of the nodes' logs, for whoever asks why it failed.
func (d *demo) tellLogs() {
	for _, n := range append([]*demoNode{d.publisher}, d.volunteers...) {
		if n != nil {
			fmt.Fprintf(d.app.err, "log of %s:\n%s\n", n.name, tail(filepath.Join(n.dir, "log")))
		}
	}
}

// clean ends every process and removes the directory.
func (d *demo) clean() error {
	var err error
	var group sync.WaitGroup // a tree of ten thousand files a node takes a while to remove
	for _, n := range append([]*demoNode{d.publisher}, d.volunteers...) {
		if n == nil {
			continue
		}
		err = errors.Join(err, n.stop())
		if !d.keep {
			group.Go(func() { _ = os.RemoveAll(n.dir) }) // tried again below
		}
	}
	group.Wait()
	if d.keep {
		fmt.Fprintln(d.app.err, "left behind:", d.dir)
		return err
	}
	return errors.Join(err, os.RemoveAll(d.dir))
}
