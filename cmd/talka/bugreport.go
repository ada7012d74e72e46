package main

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/talka-grid/talka/configs"
	"github.com/talka-grid/talka/grid/api"
)

// reportTime bounds the answers of the node that a report waits for.
const reportTime = 30 * time.Second

const reportReadme = `What a Talka node and its commands say of themselves, for those who look into a problem.

It holds no key, token or invite. IP addresses have numbers in place of themselves, the
same one wherever one stands; loopback ones stay. Ids of nodes, projects and jobs stay:
they are public on the node's network. Read the files before you give them away.
`

func (a *app) bugreportCmd() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use: "bugreport", Short: "Write what is known of the node to a file, to go with a report of a problem", Args: argCount(0, 0),
		Long: "Write a zip file of what doctor, status, why, netcheck, peers, config explain, job ls, project ls,\n" +
			"data stat and the end of the node's log say. It holds no keys, and numbers in place of IP addresses.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" {
				out = "talka-bugreport-" + time.Now().UTC().Format("20060102-150405") + ".zip"
			}
			dir, err := a.dir()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), reportTime)
			defer cancel()
			names, err := a.writeReport(out, a.report(ctx, dir), dir)
			if err != nil {
				return err
			}
			return a.show(map[string]any{"path": out, "files": names}, func(w io.Writer) {
				fields(w, "written", out, "holds", strings.Join(names, " "))
			})
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "file to write; must not exist (default: talka-bugreport-TIME.zip)")
	return cmd
}

// part is one file of a report: a value, or why there is none.
type part struct {
	name  string
	value any
}

// report asks for everything; what cannot be had says why.
func (a *app) report(ctx context.Context, dir string) []part {
	c := api.NewClient(dir)
	defer c.Close()
	var parts []part
	add := func(name string, value any, err error) {
		if err != nil {
			value = map[string]string{"error": err.Error()}
		}
		parts = append(parts, part{name, value})
	}
	add("version", versionInfo(), nil)
	add("doctor", a.diagnose(ctx, dir, nil), nil)
	src, err := a.sources(dir, nil)
	var list []configs.Setting
	if err == nil {
		list, err = configs.Explain(src)
	}
	add("settings", list, err)
	status, err := c.Status(ctx)
	add("status", status, err)
	why, err := c.Why(ctx)
	add("why", why, err)
	net, err := c.Netcheck(ctx)
	add("network", net, err)
	peers, err := c.Peers(ctx)
	add("peers", peers, err)
	projects, err := c.Projects(ctx)
	add("projects", projects, err)
	jobs, err := c.Jobs(ctx)
	add("jobs", jobs, err)
	data, err := c.DataInfo(ctx)
	add("data", data, err)
	return parts
}

// writeReport writes the parts to a new file, whole or not at all.
func (a *app) writeReport(path string, parts []part, dir string) (names []string, err error) {
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	write := func(name string, content []byte) {
		names = append(names, name)
		w, werr := z.Create(name)
		if werr == nil {
			_, werr = w.Write(content)
		}
		err = errors.Join(err, werr)
	}
	write("README.txt", []byte(reportReadme))
	h := hider{dir: dir}
	for _, p := range parts {
		raw, merr := json.MarshalIndent(p.value, "", "  ")
		err = errors.Join(err, merr)
		write(p.name+".json", append([]byte(h.hide(string(raw))), '\n'))
	}
	if err = errors.Join(err, z.Close()); err != nil {
		return names, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return names, err
	}
	if _, err = f.Write(buf.Bytes()); err != nil {
		err = errors.Join(err, os.Remove(path))
	}
	return names, errors.Join(err, f.Close())
}

// hider takes out of a text what tells where somebody lives, or lets others in.
type hider struct {
	dir   string
	known []netip.Addr
}

// address finds what could be an IP address: IPv4, or IPv6 with two colons at least.
var address = regexp.MustCompile(`[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*`)

// invitation finds invites, which tell addresses and let into private networks.
var invitation = regexp.MustCompile(`(?i)talka1[a-z2-7]{20,}`)

func (h *hider) hide(s string) string {
	s = invitation.ReplaceAllString(s, "INVITE")
	s = strings.ReplaceAll(s, h.dir, "DIR")
	if home, err := os.UserHomeDir(); err == nil && home != "" && home != string(filepath.Separator) {
		s = strings.ReplaceAll(s, home, "~")
	}
	return address.ReplaceAllStringFunc(s, func(text string) string {
		ip, err := netip.ParseAddr(text)
		if err != nil || ip.IsLoopback() || ip.IsUnspecified() {
			return text
		}
		i := slices.Index(h.known, ip)
		if i < 0 {
			i = len(h.known)
			h.known = append(h.known, ip)
		}
		kind := "ip"
		if ip.IsPrivate() || ip.IsLinkLocalUnicast() {
			kind = "lan-ip"
		}
		return fmt.Sprintf("%s-%d", kind, i+1)
	})
}
