package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"log/slog"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/talka-grid/talka/configs"
	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/machines"
	"github.com/talka-grid/talka/grid/sensors"
	"github.com/talka-grid/talka/grid/sensors/login"
	"github.com/talka-grid/talka/grid/volunteer/policy"
	"github.com/talka-grid/talka/p2p"
	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/sandbox"
)

// settled is when what only a start needs goes back to the system.
const settled = 20 * time.Second

// volunteerNice is added to the niceness of what executes units.
const volunteerNice = 19

// Folders of a data directory.
const (
	cacheDir = "cache" // compiled programs
	workDir  = "work"  // running units, content that they see, scratch files
)

// node is a running node: the driver and what it stands on.
type node struct {
	*grid.Node
	host     *p2p.Host
	machines *machines.Set
	bus      *login.Bus
	log      *slog.Logger
	watts    float64      // of a busy processor
	metrics  *metricsPage // nil without
	close    func() error // gives back what openNode opened; call it after run
}

// openNode puts a node together. The order is that of dependence: network,
// store, executor, driver; close goes the other way.
func (a *app) openNode(ctx context.Context, dir string, key ed25519.PrivateKey, cfg configs.Config, log *slog.Logger) (_ *node, err error) {
	var closers []func() error
	closeAll := func() error {
		var errs []error
		for i := len(closers) - 1; i >= 0; i-- {
			errs = append(errs, closers[i]())
		}
		return errors.Join(errs...)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, closeAll())
		}
	}()
	page, err := newMetricsPage(ctx, cfg.Metrics.Listen, log)
	if err != nil {
		return nil, err
	}
	closers = append(closers, page.close)
	host, err := openHost(dir, key, cfg, a.getenv(discoveryVar), page.registerer(), log)
	if err != nil {
		return nil, err
	}
	closers = append(closers, host.Close)
	data, closeData, err := openData(ctx, dir, cfg, host, log)
	if err != nil {
		return nil, err
	}
	closers = append(closers, closeData)
	trust, owner, err := wishes(cfg)
	if err != nil {
		return nil, err
	}
	pool, err := openPool(dir, owner.Free.Percent, log)
	if err != nil {
		return nil, err
	}
	closers = append(closers, pool.Close)
	bus := login.New()
	closers = append(closers, bus.Close)
	machine := sensors.New(bus)
	of := grid.Config{
		Key: key, Network: cfg.Network, Dir: dir, Net: network{host}, Data: data, Exec: pool,
		Arch: sandbox.Platform(pool.Engine()), Canonical: pool.Engine() == sandbox.Wasmtime,
		Slots: owner.Free.Processors, Percent: owner.Free.Percent, Memory: owner.Free.Memory, Checkpoints: checkpointShare(cfg), Rules: owner, Sensors: machine, Steward: cfg.Steward, Work: cfg.Work(), Trust: trust, Sample: sample(),
		KeepShare: int64(cfg.Disk) / 100 * int64(cfg.DiskShare), Rand: rand.Reader, Logger: log,
	}
	if a.change != nil {
		a.change(&of)
	}
	driver, err := grid.New(of)
	if err != nil {
		return nil, err
	}
	closers = append(closers, driver.Close)
	connect(host, driver, log)
	others, err := openMachines(dir, cfg, host, driver, log)
	if err != nil {
		return nil, err
	}
	return &node{Node: driver, host: host, machines: others, bus: bus, log: log, watts: watts(cfg, machine), metrics: page, close: closeAll}, nil
}

// connect gives the driver what comes from the network.
func connect(host *p2p.Host, driver *grid.Node, log *slog.Logger) {
	host.HandleFrames(func(_ context.Context, from workunits.NodeID, frame []byte) { driver.Frame(from, frame) })
	host.Announcements(judge(driver), func(data []byte) {
		if err := driver.Learn(data); err != nil {
			log.Debug("refused an announcement", "err", err)
		}
	})
	host.SetCatalogue(driver)
}

// wishes are whose units the owner wants to execute, and when.
func wishes(cfg configs.Config) ([]workunits.ProjectID, policy.Rules, error) {
	trust, err1 := trusted(cfg)
	rules, err2 := ownerRules(cfg)
	return trust, rules, errors.Join(err1, err2)
}

// openPool makes the sandbox. The owner may let it use all processors at any time.
func openPool(dir string, percent int, log *slog.Logger) (*sandbox.Pool, error) {
	return sandbox.New(sandbox.Config{
		CacheDir: filepath.Join(dir, cacheDir), Slots: runtime.NumCPU(), Percent: percent, Nice: volunteerNice, Groups: true, Logger: log,
	})
}

func trusted(cfg configs.Config) (list []workunits.ProjectID, err error) {
	for _, s := range cfg.Trust {
		p, err := workunits.ParseProjectID(s)
		if err != nil {
			return nil, usage("trust: %w", err)
		}
		list = append(list, p)
	}
	return list, nil
}

// setRules has the settings that are live count.
func (n *node) setRules(cfg configs.Config) error {
	r, err := ownerRules(cfg)
	if err == nil {
		n.SetRules(r)
	}
	return err
}

// run drives the node until ctx ends or a part of it fails. The driver stops
// before the network does, so that its last words are sent.
func (n *node) run(ctx context.Context) error {
	hostCtx, stopHost := context.WithCancel(context.WithoutCancel(ctx))
	defer stopHost()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 3)
	go func() {
		ended <- n.host.Run(hostCtx)
		stop()
	}()
	go func() { ended <- n.machines.Run(hostCtx) }()
	go func() {
		err := n.metrics.run(hostCtx)
		if err != nil {
			stop()
		}
		ended <- err
	}()
	watched, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		n.bus.Watch(ctx, login.Watcher{Sleep: n.Sleep, Wake: n.Wake, Off: func() { stop(); <-stopped }}, n.log)
	}()
	rest := time.AfterFunc(settled, debug.FreeOSMemory)
	defer rest.Stop()
	err := n.Node.Run(ctx)
	close(stopped)
	stop()
	stopHost()
	<-watched
	return errors.Join(err, <-ended, <-ended, <-ended)
}
