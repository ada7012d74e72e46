package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/grid"
	"github.com/talka-grid/talka/grid/api"
	"github.com/talka-grid/talka/workunits"
)

const (
	topEvery  = time.Second
	topEvents = 64 // that are kept for tall screens
)

func (a *app) topCmd() *cobra.Command {
	return &cobra.Command{
		Use: "top", Short: "Watch the node at work, full screen", Args: argCount(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.json || !isTerminal(a.in) || !isTerminal(a.out) {
				return usage("talka top wants a terminal: talka status --watch does not")
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			if _, err := c.Status(cmd.Context()); err != nil {
				return err
			}
			return a.top(cmd.Context(), c)
		},
	}
}

func (a *app) top(ctx context.Context, c *api.Client) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := tea.NewProgram(topModel{ctx: ctx, client: c}, tea.WithContext(ctx), tea.WithInput(a.in), tea.WithOutput(a.out))
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		// The looks notice if the node is gone.
		_ = c.Events(ctx, 0, workunits.JobID{}, func(e api.Event) error { p.Send(e); return nil })
	}()
	end, err := p.Run()
	cancel()
	<-followed
	if m, ok := end.(topModel); ok && m.err != nil {
		return m.err
	}
	if errors.Is(err, tea.ErrProgramKilled) || errors.Is(err, tea.ErrInterrupted) {
		return context.Canceled
	}
	return err
}

// topLook is what the node says at one moment.
type topLook struct {
	status grid.Status
	why    grid.Why
	jobs   []grid.JobInfo
	err    error
}

// topModel is the screen's state: Update takes what happens, View draws it.
type topModel struct {
	ctx    context.Context //nolint:containedctx // of the program, for its commands
	client *api.Client

	now           topLook
	events        []api.Event // the newest last
	width, height int
	err           error // that ended it
}

// Init implements tea.Model.
func (m topModel) Init() tea.Cmd { return m.look }

// look asks the node.
func (m topModel) look() tea.Msg {
	var l topLook
	var err1, err2, err3 error
	l.status, err1 = m.client.Status(m.ctx)
	l.why, err2 = m.client.Why(m.ctx)
	l.jobs, err3 = m.client.Jobs(m.ctx)
	l.err = errors.Join(err1, err2, err3)
	return l
}

// order has the node do something and looks at once.
func (m topModel) order(do func(context.Context) error) tea.Cmd {
	return func() tea.Msg {
		if err := do(m.ctx); err != nil {
			return topLook{err: err}
		}
		return m.look()
	}
}

// Update implements tea.Model.
func (m topModel) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case topLook:
		if msg.err != nil {
			m.err = msg.err
			return m, tea.Quit
		}
		m.now = msg
		return m, tea.Tick(topEvery, func(time.Time) tea.Msg { return topTick{} })
	case topTick:
		return m, m.look
	case api.Event:
		m.events = append(m.events, msg)
		m.events = m.events[max(0, len(m.events)-topEvents):]
	case tea.KeyPressMsg:
		switch msg.String() {
		case "q", "esc", "ctrl+c":
			return m, tea.Quit
		case "p":
			return m, m.order(func(ctx context.Context) error { _, err := m.client.Pause(ctx, 0); return err })
		case "r":
			return m, m.order(func(ctx context.Context) error { _, err := m.client.Resume(ctx); return err })
		}
	}
	return m, nil
}

type topTick struct{}

// View implements tea.Model.
func (m topModel) View() tea.View {
	v := tea.NewView(m.screen())
	v.AltScreen = true
	v.WindowTitle = "talka"
	return v
}

// screen draws as many lines as there is room for, none longer than the width.
func (m topModel) screen() string {
	if m.width == 0 || m.now.status.Network == "" {
		return ""
	}
	var top []string
	say := func(format string, args ...any) { top = append(top, fmt.Sprintf(format, args...)) }
	st, w := m.now.status, m.now.why
	say("talka  %s on %s, %s", who(st.PeerID), st.Network, plural(st.Peers, "peer"))
	say("")
	say("%s", st.Reason)
	say("")
	if w.Measured.Known {
		say("processors  %s %.2f of %d", gauge(w.Measured.Processors, float64(w.Processors)), w.Measured.Processors, w.Processors)
		say("memory      %s", size(int64(min(w.Measured.Memory, 1<<62))))
	}
	say("store       %s", size(st.StoreBytes))
	say("accepted    %s of this node's copies", plural(st.AcceptedUnits, "unit"))
	say("")
	for i, x := range w.Executions {
		if i == 0 {
			say("EXECUTES")
		}
		say("  %-24.24s unit %-7d %6.1f s of processor time", line(x.Name), x.Unit, x.CPU)
	}
	for i, j := range m.now.jobs {
		if i == 0 {
			say("JOBS")
		}
		say("  %-24.24s %-9s %s %s", line(j.Name), j.State, gauge(float64(j.Units.Accepted), float64(j.Units.Total)), acceptedOf(j.State, j.Units))
	}
	const keys = "p pause   r resume   q quit"
	room := max(m.height-2, 0) // of the keys and the line above them
	if len(top) > room {
		top = top[:room]
	}
	if left := room - len(top) - 1; left > 0 && len(m.events) > 0 {
		say("")
		for _, e := range m.events[max(0, len(m.events)-left):] {
			what := ""
			if !e.Job.IsZero() {
				what = fmt.Sprintf("unit %-6d %s  ", e.Unit, who(e.Node))
			}
			say("  %s  %-10s %s%s", e.Time.Local().Format(time.TimeOnly), line(e.Kind), what, line(e.Text))
		}
	}
	for len(top) < room {
		top = append(top, "")
	}
	top = append(top, "", keys)
	for i, s := range top {
		top[i] = ansi.Truncate(s, m.width, "…")
	}
	return strings.Join(top[max(0, len(top)-m.height):], "\n")
}

// gauge draws how much of a whole there is, ten cells wide.
func gauge(part, whole float64) string {
	cells := 0
	if whole > 0 {
		cells = int(min(max(part/whole, 0), 1)*10 + 0.5)
	}
	return strings.Repeat("█", cells) + strings.Repeat("░", 10-cells)
}
