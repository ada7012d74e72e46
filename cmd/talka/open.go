package main

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"runtime"

	"github.com/spf13/cobra"
)

func (a *app) openCmd() *cobra.Command {
	var onlyPrint bool
	cmd := &cobra.Command{
		Use: "open", Short: "Open the node's page in a browser", Args: argCount(0, 0),
		Long: "Open the node's page in a browser, signed in. The link is good once, within a minute;\n" +
			"the browser stays signed in for 30 days. From another machine, forward its port\n" +
			"(ssh -L 8300:127.0.0.1:PORT HOST), or set api.listen with a certificate.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			url, err := c.OpenPage(cmd.Context())
			if err != nil {
				return err
			}
			if !onlyPrint && !a.json && a.browse(cmd.Context(), url) == nil {
				return nil
			}
			return a.show(map[string]string{"url": url}, func(w io.Writer) { fmt.Fprintln(w, line(url)) })
		},
	}
	cmd.Flags().BoolVar(&onlyPrint, "print", false, "print the link instead")
	return cmd
}

// browse starts the user's browser. Other users of this machine may see the link
// among its processes; the node signs out whom a used link let in when it comes
// again, so that it is of no use to them.
func (a *app) browse(ctx context.Context, url string) error {
	var argv []string
	switch runtime.GOOS {
	case "darwin":
		argv = []string{"open", url}
	case "windows":
		argv = []string{"rundll32", "url.dll,FileProtocolHandler", url}
	default:
		if a.getenv("DISPLAY") == "" && a.getenv("WAYLAND_DISPLAY") == "" {
			return exec.ErrNotFound
		}
		argv = []string{"xdg-open", url}
	}
	return exec.CommandContext(ctx, argv[0], argv[1:]...).Run()
}
