// Package sensors finds out what the rules of a node's owner ask about: power,
// heat, load, the network's price, who uses the machine and what runs on it.
//
// What cannot be found out is unknown, never an error: the files and services
// asked are those of Linux, and any of them may be missing.
//
//	power     /sys/class/power_supply
//	heat      /sys/class/thermal, /sys/class/hwmon
//	load      /proc/stat, without what runs at raised niceness, as units do
//	programs  /proc/PID/comm
//	use       logind, over the system's D-Bus: desktops that tell it, terminals,
//	          SSH and remote desktops
//	network   NetworkManager, over the same
package sensors

import (
	"context"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/talka-grid/talka/grid/volunteer/policy"
)

const (
	busTime  = 200 * time.Millisecond // a service that has not answered by then is unknown
	busRetry = 30 * time.Second       // between attempts to reach the bus
	maxFile  = 4096                   // bytes of a file that is read
	loadTime = 10 * time.Second       // over which load is averaged
)

// Machine reads this machine. Make it with New; one goroutine may use it at a
// time.
type Machine struct {
	files    fs.FS // the root folder
	bus      *dbus.Conn
	busNext  time.Time
	programs bool

	load        float64
	busy, total uint64 // of /proc/stat, at the last look
	looked      time.Time
}

// New makes a Machine. Programs are looked for only if asked.
func New(programs bool) *Machine { return &Machine{files: os.DirFS("/"), programs: programs} }

// Close gives back the connection to the bus.
func (m *Machine) Close() error {
	if m.bus == nil {
		return nil
	}
	return m.bus.Close()
}

// Read says what is known now.
func (m *Machine) Read(ctx context.Context) policy.Facts {
	f := policy.Facts{Now: time.Now(), Power: m.power(), Heat: m.heat()}
	f.Load = m.loadAt(f.Now)
	if m.programs {
		f.Programs = m.running()
	}
	if m.connect(f.Now) {
		m.use(ctx, &f)
		var metered uint32
		m.ask(ctx, "org.freedesktop.NetworkManager", "/org/freedesktop/NetworkManager", "Metered", &metered)
		f.Metered = isMetered(metered)
	}
	return f
}

// text is the contents of a small file, empty if there is none.
func (m *Machine) text(name string) string {
	f, err := m.files.Open(name)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	buf := make([]byte, maxFile)
	n, _ := f.Read(buf) // these files come in one piece
	return strings.TrimSpace(string(buf[:n]))
}

func (m *Machine) glob(pattern string) []string {
	list, _ := fs.Glob(m.files, pattern)
	return list
}

// power is on mains where any supply is, and on battery where one of the
// machine's own batteries discharges.
func (m *Machine) power() policy.Power {
	p := policy.PowerUnknown
	for _, dir := range m.glob("sys/class/power_supply/*") {
		switch m.text(path.Join(dir, "type")) {
		case "Mains", "USB":
			if m.text(path.Join(dir, "online")) == "1" {
				return policy.OnMains
			}
		case "Battery":
			// A mouse has a battery too, of scope Device.
			if m.text(path.Join(dir, "scope")) != "Device" && m.text(path.Join(dir, "status")) == "Discharging" {
				p = policy.OnBattery
			}
		}
	}
	return p
}

// heat is the warmest sensor of the processors and the board.
func (m *Machine) heat() (celsius int) {
	names := m.glob("sys/class/thermal/thermal_zone*/temp")
	for _, dir := range m.glob("sys/class/hwmon/hwmon*") {
		switch m.text(path.Join(dir, "name")) {
		case "coretemp", "k10temp", "zenpower", "cpu_thermal":
			names = append(names, m.glob(path.Join(dir, "temp*_input"))...)
		}
	}
	for _, name := range names {
		if milli, err := strconv.Atoi(m.text(name)); err == nil && milli < 150_000 { // some broken sensors say more
			celsius = max(celsius, milli/1000)
		}
	}
	return celsius
}

// loadAt is how many percent of the processors' time others took lately.
func (m *Machine) loadAt(now time.Time) int {
	line, _, _ := strings.Cut(m.text("proc/stat"), "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0
	}
	var busy, total uint64
	for i, f := range fields[1:9] {
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return 0
		}
		total += n
		if i != 1 && i != 3 && i != 4 { // nice, idle, waiting for disks
			busy += n
		}
	}
	if m.total != 0 && total > m.total && busy >= m.busy {
		share := float64(busy-m.busy) / float64(total-m.total) * 100
		m.load += (share - m.load) * min(float64(now.Sub(m.looked))/float64(loadTime), 1)
	}
	m.busy, m.total, m.looked = busy, total, now
	return int(m.load)
}

// running are the names of the programs that run.
func (m *Machine) running() (names []string) {
	for _, name := range m.glob("proc/[0-9]*/comm") {
		names = append(names, m.text(name))
	}
	return names
}

// connect reaches for the bus now and then.
func (m *Machine) connect(now time.Time) bool {
	if m.bus != nil && m.bus.Connected() {
		return true
	}
	if now.Before(m.busNext) {
		return false
	}
	m.busNext = now.Add(busRetry)
	bus, err := dbus.ConnectSystemBus()
	m.bus = bus
	return err == nil
}

// ask reads a property of a service; what it does not answer stays as it is.
func (m *Machine) ask(ctx context.Context, service, object, property string, to any) bool {
	ctx, cancel := context.WithTimeout(ctx, busTime)
	defer cancel()
	iface := service
	if service == login {
		iface += ".Manager"
	}
	var v dbus.Variant
	call := m.bus.Object(service, dbus.ObjectPath(object)).
		CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", dbus.FlagNoAutoStart, iface, property)
	return call.Store(&v) == nil && v.Store(to) == nil
}

const login = "org.freedesktop.login1"

func (m *Machine) use(ctx context.Context, f *policy.Facts) {
	var idle bool
	var since uint64
	if !m.ask(ctx, login, "/org/freedesktop/login1", "IdleHint", &idle) {
		return
	}
	if idle && !m.ask(ctx, login, "/org/freedesktop/login1", "IdleSinceHint", &since) {
		return
	}
	f.Input, f.Source, f.Idle = true, "logind", idleFor(idle, since, f.Now)
}

// idleFor reads what logind says; since is in microseconds, zero where nobody
// ever logged in.
func idleFor(idle bool, since uint64, now time.Time) time.Duration {
	switch {
	case !idle:
		return 0
	case since == 0:
		return 24 * time.Hour
	}
	return max(now.Sub(time.UnixMicro(int64(min(since, 1<<62)))), 0)
}

// isMetered reads NetworkManager's NMMetered: 1 is yes, 3 a guess that it is.
func isMetered(v uint32) bool { return v == 1 || v == 3 }
