// Package bustest runs D-Bus daemons and X servers for tests, real ones.
package bustest

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
)

// need skips the test where a program is not installed; it must be in CI.
func need(t *testing.T, program, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is missing: install %s", program, pkg)
	}
	t.Skipf("needs %s, of the package %s", program, pkg)
	return ""
}

const config = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:dir=DIR</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`

// Bus starts a bus of the test's own, which anybody may own any name of, and
// returns its address.
func Bus(t *testing.T) string {
	t.Helper()
	daemon := need(t, "dbus-daemon", "dbus-daemon")
	dir := t.TempDir()
	file := filepath.Join(dir, "conf")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(config, "DIR", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	return start(t, exec.CommandContext(t.Context(), daemon, "--nofork", "--print-address=1", "--config-file="+file))
}

// Display starts an X server without a screen to look at, and returns its display.
func Display(t *testing.T) string {
	t.Helper()
	server := need(t, "Xvfb", "xvfb")
	return ":" + start(t, exec.CommandContext(t.Context(), server, "-displayfd", "1", "-screen", "0", "640x480x24", "-nolisten", "tcp"))
}

// start runs a server until the test ends and returns its first line.
func start(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("%s says nothing: %v", cmd.Path, err)
	}
	return strings.TrimSpace(line)
}

// Dial connects to a bus and takes names there.
func Dial(t *testing.T, address string, names ...string) *dbus.Conn {
	t.Helper()
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	for _, n := range names {
		if r, err := conn.RequestName(n, dbus.NameFlagDoNotQueue); err != nil || r != dbus.RequestNameReplyPrimaryOwner {
			t.Fatalf("%s: %v, %v", n, r, err)
		}
	}
	return conn
}
