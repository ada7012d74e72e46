package main

import (
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func (a *app) versionCmd() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show the version", Args: argCount(0, 0),
		RunE: func(*cobra.Command, []string) error {
			out := versionInfo()
			return a.show(out, func(w io.Writer) {
				_, _ = io.WriteString(w, "talka "+out["version"]+" ("+out["go"]+", "+out["platform"]+")\n")
			})
		},
	}
}

func versionInfo() map[string]string {
	return map[string]string{"version": version(), "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH}
}

// version is what the build knows of itself: a release, or the revision.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	if v != "" && v != "(devel)" {
		return v
	}
	v = "devel"
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v += "-" + s.Value[:min(12, len(s.Value))]
		}
	}
	return v
}
