package sensors

import (
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/talka-grid/talka/grid/sensors/login"
	"github.com/talka-grid/talka/grid/volunteer/policy"
)

// twin is a machine made of files.
func twin(files map[string]string) *Machine {
	tree := fstest.MapFS{}
	for name, text := range files {
		tree[name] = &fstest.MapFile{Data: []byte(text + "\n")}
	}
	return &Machine{files: tree, bus: login.New()}
}

func TestPower(t *testing.T) {
	t.Parallel()
	const dir = "sys/class/power_supply/"
	for name, c := range map[string]struct {
		files map[string]string
		want  policy.Power
	}{
		"desktop":         {nil, policy.PowerUnknown},
		"unplugged":       {map[string]string{dir + "AC/type": "Mains", dir + "AC/online": "0", dir + "BAT0/type": "Battery", dir + "BAT0/status": "Discharging"}, policy.OnBattery},
		"plugged":         {map[string]string{dir + "AC/type": "Mains", dir + "AC/online": "1", dir + "BAT0/type": "Battery", dir + "BAT0/status": "Discharging"}, policy.OnMains},
		"full":            {map[string]string{dir + "BAT0/type": "Battery", dir + "BAT0/status": "Full"}, policy.PowerUnknown},
		"a mouse":         {map[string]string{dir + "hid/type": "Battery", dir + "hid/status": "Discharging", dir + "hid/scope": "Device"}, policy.PowerUnknown},
		"an empty folder": {map[string]string{dir + "AC/uevent": ""}, policy.PowerUnknown},
	} {
		if got := twin(c.files).power(); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestHeat(t *testing.T) {
	t.Parallel()
	const zone, mon = "sys/class/thermal/thermal_zone", "sys/class/hwmon/hwmon"
	for name, c := range map[string]struct {
		files map[string]string
		want  int
	}{
		"none":        {nil, 0},
		"warmest":     {map[string]string{zone + "0/temp": "41000", zone + "1/temp": "62999"}, 62},
		"nonsense":    {map[string]string{zone + "0/temp": "hot", zone + "1/temp": "255000"}, 0},
		"processor":   {map[string]string{mon + "0/name": "k10temp", mon + "0/temp1_input": "71000"}, 71},
		"not a board": {map[string]string{mon + "0/name": "nvme", mon + "0/temp1_input": "71000"}, 0},
	} {
		if got := twin(c.files).heat(); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// TestLoad wants units' own time, which is nice, left out.
func TestLoad(t *testing.T) {
	t.Parallel()
	now := time.Unix(1, 0)
	look := func(m *Machine, line string) int {
		m.files = fstest.MapFS{"proc/stat": {Data: []byte(line + "\ncpu0 1 2 3\n")}}
		now = now.Add(loadTime)
		return m.loadAt(now)
	}
	m := &Machine{}
	for i, c := range []struct {
		line string
		want int
	}{
		{"cpu  100 0 100 800 0 0 0 0 0 0", 0},
		{"cpu  100 1000 100 800 0 0 0 0 0 0", 0},  // units alone
		{"cpu  140 1000 110 850 0 0 0 0 0 0", 50}, // half
		{"cpu  140 1000 110 900 50 0 0 0 0 0", 0}, // waits for a disk
		{"cpu  1 2 nonsense 3 4 5 6 7 8", 0},      // whatever that is
		{"cpu  0 0 0 1 0 0 0 0 0 0", 0},           // the counters began again
		{"cpu  100 0 0 1 0 0 0 0 0 0", 100},       // all
		{"intr 100 0 0 1 0 0 0 0 0 0", 0},
	} {
		if got := look(m, c.line); got != c.want {
			t.Errorf("look %d: %d %%, want %d", i, got, c.want)
		}
	}
}

func TestPrograms(t *testing.T) {
	t.Parallel()
	m := twin(map[string]string{"proc/1/comm": "init", "proc/22/comm": "game", "proc/self/comm": "no", "proc/stat": "cpu"})
	got := m.running()
	slices.Sort(got)
	if want := []string{"game", "init"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestMetered(t *testing.T) {
	t.Parallel()
	for v, want := range []bool{false, true, false, true, false, false} {
		if got := isMetered(uint32(v)); got != want {
			t.Errorf("%d: %v", v, got)
		}
	}
}

func TestUsed(t *testing.T) {
	t.Parallel()
	const rest = " S 7 1 1 0 -1 4194560 0 0 0 0 150 25 0 0 39 19 1 0 100 4096000 300 18446744073709551615"
	m := twin(map[string]string{
		"proc/8/stat": "8 (a) S 1 (b)" + rest, "proc/9/stat": strings.Replace("9 (x)"+rest, "S 7", "S 1", 1), "proc/10/stat": "10 (x) S 7",
		"proc/11/stat": strings.Replace("11 (x)"+rest, "150", "-15", 1),
	})
	m.self = 7
	if cpu, memory, ok := m.Used(8); cpu != 1750*time.Millisecond || memory != 300*uint64(os.Getpagesize()) || !ok {
		t.Errorf("%v, %d bytes, %v", cpu, memory, ok)
	}
	for _, pid := range []int{9, 10, 11, 12} { // of another, cut off, broken, none
		if cpu, _, ok := m.Used(pid); ok {
			t.Errorf("process %d used %v", pid, cpu)
		}
	}
}

func TestWatts(t *testing.T) {
	t.Parallel()
	const dir, limit = "sys/class/powercap/intel-rapl:", "/constraint_0_power_limit_uw"
	for name, c := range map[string]struct {
		files map[string]string
		want  float64
	}{
		"unknown":      {nil, 0},
		"two packages": {map[string]string{dir + "0" + limit: "20000000", dir + "1" + limit: "20000000", dir + "0:0" + limit: "1000000"}, 10},
		"switched off": {map[string]string{dir + "0" + limit: "4095000000"}, 0},
		"nonsense":     {map[string]string{dir + "0" + limit: "-1"}, 0},
	} {
		if got := twin(c.files).Watts(4); got != c.want {
			t.Errorf("%s: %g W, want %g", name, got, c.want)
		}
	}
}

// all rules ask about everything.
var all = policy.Rules{Mains: true, Unmetered: true, MaxHeat: 80, MaxLoad: 50, Exclusive: []string{"game"}, IdleAfter: time.Minute}

// TestReadsWhatIsAsked wants no file opened for a rule that nobody made, and a
// new rule to count at once.
func TestReadsWhatIsAsked(t *testing.T) {
	t.Parallel()
	m := twin(map[string]string{"sys/class/thermal/thermal_zone0/temp": "62000", "proc/1/comm": "init"})
	if f := m.Read(t.Context(), policy.Rules{}); f.Heat != 0 || f.Programs != nil {
		t.Errorf("without rules: %+v", f)
	}
	if f := m.Read(t.Context(), all); f.Heat != 62 || len(f.Programs) != 1 {
		t.Errorf("with all rules: %+v", f)
	}
	m.files = fstest.MapFS{}
	if f := m.Read(t.Context(), all); f.Heat != 62 || f.Now.IsZero() {
		t.Errorf("read again within two seconds: %+v", f)
	}
}

// TestThisMachine reads whatever this is: no fact is an error.
func TestThisMachine(t *testing.T) {
	t.Parallel()
	m := New(login.New())
	f := m.Read(t.Context(), all)
	t.Logf("power %v, %d °C, load %d %%, %d programs, %d sessions, metered %v", f.Power, f.Heat, f.Load, len(f.Programs), len(f.Sessions), f.Metered)
	if f.Now.IsZero() || f.Heat < 0 || f.Load < 0 || f.Load > 100 {
		t.Errorf("%+v", f)
	}
}

// BenchmarkRead is what a node that waits pays at every look.
func BenchmarkRead(b *testing.B) {
	m := New(login.New())
	for b.Loop() {
		m.Read(b.Context(), all)
	}
}
