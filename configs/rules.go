package configs

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/talka-grid/talka/grid/volunteer/policy"
)

// Share is what Talka may take while somebody uses the machine; they
// never get more than at other times.
type Share struct {
	// Processors is a count or a share of all; zero pauses units.
	Processors Portion
	// CPUPercent is how much of its time each processor may work, 1 to 100.
	CPUPercent int
	// Memory is bytes or a share of what the machine has. Never zero.
	Memory Portion
	// Upload and Download limit traffic of content as Config's do.
	Upload, Download Rate
}

// Rules say when units pause. What a node cannot know never pauses it.
type Rules struct {
	// IdleAfter is how long nobody must have used the machine until it counts
	// as not in use. Zero: use does not count.
	IdleAfter time.Duration
	// Battery and Metered let units run on battery and on a metered network, where
	// without Metered no content is exchanged either.
	Battery, Metered bool
	// MaxHeat is the temperature in degrees Celsius from which units pause; zero
	// for none.
	MaxHeat int
	// MaxLoad is how many percent of the processors other programs may use before
	// units pause; zero for any. Units give way to others by their priority
	// in any case.
	MaxLoad int
	// Exclusive are names of programs while which run units pause.
	Exclusive []string
	// Watts is what a busy processor draws, for estimates. Zero: what the machine
	// says of itself.
	Watts int
	// Hours are spans in which units may run, see policy.ParseHours; empty for always.
	Hours []string
}

func inUseSettings() []setting {
	return []setting{
		{
			key: "in_use.processors", live: true, doc: "The same while somebody uses the machine; 0 pauses units.",
			set: func(c *Config, v any) error { return setProcessors(&c.InUse.Processors, v, 0) },
			get: func(c Config) any { return c.InUse.Processors.count() },
		},
		{
			key: "in_use.cpu_percent", live: true, doc: "Percent of its time that each may work, while somebody uses the machine.",
			set: func(c *Config, v any) error { return setPercent(&c.InUse.CPUPercent, v) },
			get: func(c Config) any { return c.InUse.CPUPercent },
		},
		{
			key: "in_use.memory", live: true, doc: "Memory that running units may hold together, while somebody uses the machine.",
			set: func(c *Config, v any) error { return setMemory(&c.InUse.Memory, v) },
			get: func(c Config) any { return c.InUse.Memory.text(Bytes(c.InUse.Memory.Fixed).String()) },
		},
		{
			key: "in_use.upload", live: true, doc: "Bytes a second to all peers together, while somebody uses the machine; none: nothing at all.",
			set: func(c *Config, v any) (err error) { c.InUse.Upload, err = ParseRate(scalar(v)); return err },
			get: func(c Config) any { return c.InUse.Upload.String() },
		},
		{
			key: "in_use.download", live: true, doc: "Bytes a second from all peers together, while somebody uses the machine; none: nothing at all, and no unit begins.",
			set: func(c *Config, v any) (err error) { c.InUse.Download, err = ParseRate(scalar(v)); return err },
			get: func(c Config) any { return c.InUse.Download.String() },
		},
	}
}

func ruleSettings() []setting {
	return []setting{
		{
			key: "rules.idle_after", live: true, doc: "How long without input until the machine counts as not in use; 0s: use does not count.",
			set: setIdleAfter, get: func(c Config) any { return c.Rules.IdleAfter.String() },
		},
		{
			key: "rules.battery", live: true, doc: "Execute units on battery.",
			set: func(c *Config, v any) error { return boolean(&c.Rules.Battery, v) }, get: func(c Config) any { return c.Rules.Battery },
		},
		{
			key: "rules.metered", live: true, doc: "Execute units on a metered network, and exchange content there.",
			set: func(c *Config, v any) error { return boolean(&c.Rules.Metered, v) }, get: func(c Config) any { return c.Rules.Metered },
		},
		{
			key: "rules.max_heat", live: true, doc: "Degrees Celsius from which units pause; 0: none.",
			set: func(c *Config, v any) (err error) { c.Rules.MaxHeat, err = integer(v, 0, 150); return err },
			get: func(c Config) any { return c.Rules.MaxHeat },
		},
		{
			key: "rules.max_load", live: true, doc: "Percent of the processors that other programs use, from which units pause; 0: none.",
			set: func(c *Config, v any) (err error) { c.Rules.MaxLoad, err = integer(v, 0, 100); return err },
			get: func(c Config) any { return c.Rules.MaxLoad },
		},
		{
			key: "rules.exclusive", live: true, doc: "Names of programs while which run units pause.",
			set: func(c *Config, v any) error { return list(&c.Rules.Exclusive, v, validProgram) },
			get: func(c Config) any { return c.Rules.Exclusive },
		},
		{
			key: "rules.watts", doc: "Watts that a busy processor draws, for estimates of energy; 0: what the machine says of itself.",
			set: func(c *Config, v any) (err error) { c.Rules.Watts, err = integer(v, 0, 1000); return err },
			get: func(c Config) any { return c.Rules.Watts },
		},
		{
			key: "rules.hours", live: true, doc: `When units may run, such as "mon-fri 18:00-08:00"; empty: always.`,
			set: func(c *Config, v any) error {
				return list(&c.Rules.Hours, v, func(s string) error { _, err := policy.ParseHours(s); return err })
			},
			get: func(c Config) any { return c.Rules.Hours },
		},
	}
}

func setIdleAfter(c *Config, v any) error {
	d, err := time.ParseDuration(scalar(v))
	if err != nil || d < 0 || d > 24*time.Hour {
		return errors.New(`want a time from 0s to 24h, such as "3m"`)
	}
	c.Rules.IdleAfter = d
	return nil
}

func validProgram(s string) error {
	if s == "" || len(s) > 255 || strings.ContainsAny(s, "/\\\x00") {
		return errors.New("want the name of a program without its folder")
	}
	return nil
}

func setPercent(to *int, v any) error {
	n, err := integer(v, 1, 100)
	*to = n
	return err
}

func setProcessors(to *Portion, v any, least int64) error {
	s := scalar(v)
	p, isShare, err := percentage(s)
	if !isShare {
		p.Fixed, err = whole(s)
	}
	if err != nil || !isShare && (p.Fixed < least || p.Fixed > maxProcessors) {
		return fmt.Errorf(`want a count from %d to %d, or a share such as "50%%"`, least, maxProcessors)
	}
	*to = p
	return nil
}
