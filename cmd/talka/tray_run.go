package main

import (
	"cmp"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/api"
	"github.com/talka-grid/talka/grid/desktop"
	"github.com/talka-grid/talka/grid/tray"
	"github.com/talka-grid/talka/workunits"
)

const (
	trayLook   = 2 * time.Second        // between two looks at the node
	trayWait   = 30 * time.Second       // for a node that it starts
	trayLog    = "node.log"             // what a node says that the tray started
	awayLook   = 400 * time.Millisecond // between two looks for a user who may come back
	presentFor = 30 * time.Second       // without input until a user may be away
	lostAfter  = 3                      // looks without an answer until the user is told
)

// trayRun is a running tray. Its loops end with ctx; see run.
type trayRun struct {
	app     *app
	dir     string
	client  *api.Client
	text    trayText
	quit    func()
	session *desktop.Session // the loops': see watchUser
	views   chan tray.View   // to the tray, the newest
	poke    chan struct{}    // has one when a look is due
	notices chan string      // for the user, see watchUser

	mu   sync.Mutex
	own  *exec.Cmd     // the node that this tray started, or nil
	over chan struct{} // closed when own has ended
}

// run does everything beside the icon until ctx ends.
func (t *trayRun) run(ctx context.Context) {
	var loops sync.WaitGroup
	loops.Go(func() { t.startIfNone(ctx) })
	loops.Go(func() { t.watchNode(ctx) })
	loops.Go(func() { t.watchUser(ctx) })
	loops.Go(func() { t.watchEvents(ctx) })
	loops.Wait()
	t.session.Close()
}

// watchNode keeps the icon true.
func (t *trayRun) watchNode(ctx context.Context) {
	tick := time.NewTicker(trayLook)
	defer tick.Stop()
	var m trayModel
	for {
		st, err := t.client.Status(ctx)
		view, notice := m.look(st, err, t.text)
		if ctx.Err() != nil {
			return
		}
		if notice != "" {
			t.notices <- notice
		}
		select { // nobody may be looking
		case <-t.views:
		default:
		}
		t.views <- view
		select {
		case <-tick.C:
		case <-t.poke:
		case <-ctx.Done():
			return
		}
	}
}

// trayModel is what the tray has seen of the node.
type trayModel struct {
	seen   bool
	silent int // looks in a row
}

// look is what the tray shows of an answer, and what the user must be told.
func (m *trayModel) look(st grid.Status, err error, text trayText) (v tray.View, notice string) {
	if err != nil {
		if m.silent++; m.seen && m.silent == lostAfter {
			notice = text.lost
		}
		return tray.View{Face: tray.Lost, Tip: text.faces[tray.Lost], Offer: []tray.Action{tray.Start, tray.Quit}}, notice
	}
	m.seen, m.silent = true, 0
	v = tray.View{Face: tray.Working, Offer: []tray.Action{tray.Open, tray.PauseOpen, tray.Quit}}
	switch st.State {
	case grid.StatePaused:
		v.Face = tray.Paused
	case grid.StateIdle:
		v.Face = tray.Waiting
	}
	if st.PausedByOwner {
		v.Offer[1] = tray.Resume
	}
	v.Tip = text.faces[v.Face] + ": " + shortReason(st.Reason)
	return v, ""
}

// act does what was chosen.
func (t *trayRun) act(ctx context.Context, x tray.Action) {
	var err error
	switch x {
	case tray.Quit:
		t.quit()
		return
	case tray.Open:
		err = t.open(ctx)
	case tray.Start:
		t.startIfNone(ctx)
	case tray.Resume:
		_, err = t.client.Resume(ctx)
	case tray.PauseHalfHour:
		_, err = t.client.Pause(ctx, 30*time.Minute)
	case tray.PauseTwoHours:
		_, err = t.client.Pause(ctx, 2*time.Hour)
	case tray.PauseTomorrow:
		_, err = t.client.Pause(ctx, untilTomorrow(time.Now()))
	case tray.PauseSave:
		_, err = t.client.Save(ctx)
	case tray.PauseFinish:
		_, err = t.client.Finish(ctx)
	case tray.PauseOpen:
		_, err = t.client.Pause(ctx, 0)
	}
	if err != nil && ctx.Err() == nil {
		t.notices <- line(err.Error()) // who clicked wants to know
	}
	select {
	case t.poke <- struct{}{}:
	default:
	}
}

// open shows the node's page.
func (t *trayRun) open(ctx context.Context) error {
	url, err := t.client.OpenPage(ctx)
	if err != nil {
		return err
	}
	return t.app.browse(ctx, url)
}

// watchUser tells the node whether the user is there, and the user what must be
// known. It owns the session.
func (t *trayRun) watchUser(ctx context.Context) {
	var said time.Time
	var last desktop.Use
	who := "tray-" + strconv.Itoa(os.Getpid())
	known := false
	for {
		u, ok := t.session.Use(ctx)
		back := u.Locked != last.Locked || u.Idle+time.Second < last.Idle+time.Since(said)
		switch {
		case ctx.Err() != nil:
		case ok && (!known || back || time.Since(said) >= grid.DesktopEvery):
			d := api.Desktop{Who: who, Session: t.session.ID(), Source: u.Source, Idle: u.Idle.Seconds(), Locked: u.Locked}
			if t.client.Desktop(ctx, d) == nil {
				known, said, last = true, time.Now(), u
			}
		case !ok && known:
			known = t.client.Desktop(ctx, api.Desktop{Who: who, End: true}) != nil
		}
		wait := trayLook
		if ok && u.Idle > presentFor || u.Locked {
			wait = awayLook
		}
		select {
		case <-time.After(wait):
		case text := <-t.notices:
			t.session.Notify(ctx, "dialog-information", "Talka", text)
		case <-ctx.Done():
			t.sayGone(ctx, who)
			return
		}
	}
}

// sayGone takes back what was told.
func (t *trayRun) sayGone(ctx context.Context, who string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = t.client.Desktop(ctx, api.Desktop{Who: who, End: true}) // silence does that, too
}

// watchEvents looks for what the user must know among what happens.
func (t *trayRun) watchEvents(ctx context.Context) {
	began, after := time.Now(), uint64(0)
	told := map[workunits.JobID]bool{}
	for ctx.Err() == nil {
		st, err := t.client.Status(ctx)
		if err == nil {
			_ = t.client.Events(ctx, after, workunits.JobID{}, func(e api.Event) error {
				after = e.Seq
				wrong := e.Kind == "fault" && e.Text == string(workunits.FaultWrong) && e.Node == st.PeerID
				if wrong && e.Time.After(began) && !told[e.Job] {
					told[e.Job] = true
					t.notices <- t.text.wrong
				}
				return nil
			}) // it ends with the node, and is tried again
		}
		select {
		case <-time.After(trayLook):
		case <-ctx.Done():
		}
	}
}

// startIfNone starts a node of the user's where none answers, and waits for it.
// A user who has not chosen yet how much it may take sees its page.
func (t *trayRun) startIfNone(ctx context.Context) {
	if _, err := t.client.Status(ctx); err == nil {
		return
	}
	over, err := t.start(ctx)
	if err != nil {
		t.notices <- line(err.Error())
		return
	}
	ctx, cancel := context.WithTimeout(ctx, trayWait)
	defer cancel()
	for {
		if list, err := t.client.Settings(ctx); err == nil {
			for _, s := range list {
				if s.Key == "preset" && s.Source == "default" {
					_ = t.open(ctx) // there may be no browser: the menu has it, too
				}
			}
			return
		}
		select {
		case <-over:
			t.notices <- t.text.failed + " " + filepath.Join(t.dir, trayLog)
			return
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return
		}
	}
}

// start starts a node, and returns what is closed when it has ended.
func (t *trayRun) start(ctx context.Context) (<-chan struct{}, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	exe, err := os.Executable()
	if err != nil || ctx.Err() != nil {
		return nil, cmp.Or(err, ctx.Err())
	}
	log, err := os.OpenFile(filepath.Join(t.dir, trayLog), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(exe, "--dir", t.dir, "up") //nolint:noctx // it is asked to end, and given time for it
	cmd.Env, cmd.Stdout, cmd.Stderr = t.app.env, log, log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	over := make(chan struct{})
	t.own, t.over = cmd, over
	go func() {
		_ = cmd.Wait() // how it ended stands in its log
		close(over)
	}()
	return over, nil
}

// stopOwn ends the node that this tray started, if any.
func (t *trayRun) stopOwn() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.own == nil {
		return nil
	}
	select {
	case <-t.over:
		return nil
	default:
	}
	if err := t.own.Process.Signal(os.Interrupt); err != nil { // Windows knows no other way
		err = t.own.Process.Kill()
		if err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
	}
	<-t.over
	return nil
}
