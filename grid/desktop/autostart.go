package desktop

import (
	"encoding/xml"
	"fmt"
	"path/filepath"
	"strings"
)

// Autostart is the file that has a desktop start a command at log-in, and what
// stands in it.
type Autostart struct{ Path, Text string }

// AutostartOf makes the file of an operating system as runtime.GOOS names it. Home
// is the user's folder, config the one for settings (XDG_CONFIG_HOME, APPDATA).
func AutostartOf(goos, home, config string, argv []string) (a Autostart, err error) {
	for _, arg := range argv {
		if strings.ContainsAny(arg, "\x00\r\n") {
			return a, fmt.Errorf("%q cannot stand in a file for log-in", arg)
		}
	}
	switch goos {
	case "windows":
		a.Path = filepath.Join(config, "Microsoft", "Windows", "Start Menu", "Programs", "Startup", "talka.cmd")
		a.Text = "@start \"Talka\" /min"
		for _, arg := range argv {
			if strings.ContainsAny(arg, "\"%^&|<>") {
				return a, fmt.Errorf("%q cannot stand in a file for log-in", arg)
			}
			a.Text += ` "` + arg + `"`
		}
		a.Text += "\r\n"
	case "darwin":
		a.Path = filepath.Join(home, "Library", "LaunchAgents", "io.github.talka-grid.tray.plist")
		var list strings.Builder
		for _, arg := range argv {
			list.WriteString("\t\t<string>")
			if err := xml.EscapeText(&list, []byte(arg)); err != nil {
				return a, err
			}
			list.WriteString("</string>\n")
		}
		a.Text = fmt.Sprintf(launchAgent, list.String())
	default:
		a.Path = filepath.Join(config, "autostart", "talka.desktop")
		var line []string
		for _, arg := range argv {
			line = append(line, quote(arg))
		}
		a.Text = fmt.Sprintf(desktopEntry, strings.Join(line, " "))
	}
	return a, nil
}

const launchAgent = `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
	<key>Label</key>
	<string>io.github.talka-grid.tray</string>
	<key>ProgramArguments</key>
	<array>
%s	</array>
	<key>RunAtLoad</key>
	<true/>
</dict>
</plist>
`

const desktopEntry = `[Desktop Entry]
Type=Application
Name=Talka
Comment=Share computing with neighbours
Comment[de]=Rechenzeit mit Nachbarn teilen
Exec=%s
Terminal=false
Categories=Network;Science;
X-GNOME-Autostart-enabled=true
`

// quote writes an argument as the Desktop Entry Specification has it: in quotes,
// with four characters escaped, backslashes once more as in any of its strings.
func quote(arg string) string {
	arg = strings.NewReplacer(`\`, `\\\\`, `"`, `\\"`, "`", "\\\\`", `$`, `\\$`, `%`, `%%`).Replace(arg)
	return `"` + arg + `"`
}
