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
//	units     /proc/PID/stat
//	use       logind, see package login: desktops that tell it, terminals,
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

	"github.com/talka-grid/talka/grid/sensors/login"
	"github.com/talka-grid/talka/grid/volunteer/policy"
)

const (
	maxFile  = 4096             // bytes of a file that is read
	loadTime = 10 * time.Second // over which load is averaged

	slowEvery = 2 * time.Second // between two looks at what changes slowly
)

// Machine reads this machine. Make it with New; one goroutine may use it at a
// time.
type Machine struct {
	files fs.FS // the root folder
	self  int   // process
	bus   *login.Bus

	slow     policy.Facts // as of the last look
	slowNext time.Time
	slowFor  asked

	load        float64
	busy, total uint64 // of /proc/stat, at the last look
	looked      time.Time
}

// asked are the facts that rules ask about and that change slowly or take long
// to read. The others are read at every look.
type asked struct{ power, heat, load, programs, metered bool }

// New makes a Machine that asks the system's services by bus.
func New(bus *login.Bus) *Machine {
	return &Machine{files: os.DirFS("/"), self: os.Getpid(), bus: bus}
}

// Read says what is known now of what the rules ask about. Whether the machine
// is in use is asked every time, the rest every two seconds: an idle node asks
// several times a second for days.
func (m *Machine) Read(ctx context.Context, r policy.Rules) policy.Facts {
	now := time.Now()
	want := asked{power: r.Mains, heat: r.MaxHeat > 0, load: r.MaxLoad > 0, programs: len(r.Exclusive) > 0, metered: r.Unmetered}
	if !now.Before(m.slowNext) || want != m.slowFor {
		m.slow, m.slowNext, m.slowFor = m.readSlow(ctx, now, want), now.Add(slowEvery), want
	}
	f := m.slow
	f.Now = now
	if r.IdleAfter > 0 {
		f.Sessions = m.bus.Sessions(ctx)
	}
	return f
}

func (m *Machine) readSlow(ctx context.Context, now time.Time, want asked) (f policy.Facts) {
	if want.power {
		f.Power = m.power()
	}
	if want.heat {
		f.Heat = m.heat()
	}
	if want.load {
		f.Load = m.loadAt(now)
	}
	if want.programs {
		f.Programs = m.running()
	}
	if want.metered {
		const manager = "org.freedesktop.NetworkManager"
		var metered uint32
		m.bus.Property(ctx, manager, "/org/freedesktop/NetworkManager", manager, "Metered", &metered)
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

// Watts is what each of so many processors draws when all are busy, as the
// machine says of itself; 0 if it does not. Sources: /sys/class/powercap, the power
// limits of its packages.
func (m *Machine) Watts(processors int) float64 {
	var micro float64
	for _, dir := range m.glob("sys/class/powercap/intel-rapl:?") { // AMD's have that name, too
		if n, err := strconv.ParseUint(m.text(path.Join(dir, "constraint_0_power_limit_uw")), 10, 40); err == nil {
			micro += float64(n)
		}
	}
	each := micro / 1e6 / float64(max(processors, 1))
	if each < 0.5 || each > 100 { // a limit that somebody switched off says nothing
		return 0
	}
	return each
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

// Used is what a child of this process has used of the processors and holds of memory.
func (m *Machine) Used(pid int) (cpu time.Duration, memory uint64, ok bool) {
	const tick = time.Second / 100 // USER_HZ, of every architecture that Go runs on
	stat := m.text(path.Join("proc", strconv.Itoa(pid), "stat"))
	// The name before the last bracket may hold anything.
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 22 || fields[1] != strconv.Itoa(m.self) {
		return 0, 0, false
	}
	user, err1 := strconv.ParseUint(fields[11], 10, 40)
	system, err2 := strconv.ParseUint(fields[12], 10, 40)
	pages, err3 := strconv.ParseUint(fields[21], 10, 40)
	if err1 != nil || err2 != nil || err3 != nil {
		return 0, 0, false
	}
	return time.Duration(user+system) * tick, pages * uint64(os.Getpagesize()), true
}

// isMetered reads NetworkManager's NMMetered: 1 is yes, 3 a guess that it is.
func isMetered(v uint32) bool { return v == 1 || v == 3 }
