package api

import (
	"runtime"

	"github.com/talka-grid/talka/configs"
)

// PresetInfo is what a preset gives of this machine.
type PresetInfo struct {
	Preset configs.Preset `json:"preset"`
	Free   ShareInfo      `json:"free" doc:"While nobody uses the machine"`
	InUse  ShareInfo      `json:"in_use"`
	// What pauses units.
	IdleAfter float64 `json:"idle_after" doc:"Seconds without input until the machine counts as not in use; 0: use does not count"`
	Battery   bool    `json:"battery" doc:"Executes units on battery"`
	Metered   bool    `json:"metered" doc:"Executes units on a metered network"`
	MaxHeat   int     `json:"max_heat" doc:"Degrees Celsius from which units pause; 0: none"`
}

// ShareInfo is a part of this machine's processors.
type ShareInfo struct {
	Processors int     `json:"processors"`
	Percent    int     `json:"percent" doc:"Of its time that each may work"`
	Watts      float64 `json:"watts" doc:"Estimate of what that draws beyond idling"`
}

func (s *Server) presets() ([]PresetInfo, error) {
	var list []PresetInfo
	for _, p := range configs.Presets() {
		c, err := configs.Load(configs.Sources{Flags: map[string]any{"preset": string(p)}})
		if err != nil {
			return nil, err
		}
		list = append(list, PresetInfo{
			Preset: p, Free: s.share(c.Compute(runtime.NumCPU())), InUse: s.share(c.InUse.Compute(runtime.NumCPU())),
			IdleAfter: c.Rules.IdleAfter.Seconds(), Battery: c.Rules.Battery, Metered: c.Rules.Metered, MaxHeat: c.Rules.MaxHeat,
		})
	}
	return list, nil
}

func (s *Server) share(processors, percent int) ShareInfo {
	return ShareInfo{processors, percent, float64(processors*percent) / 100 * s.cfg.Watts}
}
