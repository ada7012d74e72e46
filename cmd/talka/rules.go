package main

import (
	"cmp"
	"runtime"

	"github.com/pbnjay/memory"

	"github.com/talka-grid/talka/configs"
	"github.com/talka-grid/talka/grid/sensors"
	"github.com/talka-grid/talka/grid/volunteer/policy"
	"github.com/talka-grid/talka/workunits"
)

// ownerRules are the settings as rules of this machine.
func ownerRules(cfg configs.Config) (policy.Rules, error) {
	free, freePercent := cfg.Compute(runtime.NumCPU())
	use, percent := cfg.InUse.Compute(runtime.NumCPU())
	r := policy.Rules{
		Free:      policy.Limits{Processors: free, Percent: freePercent, Memory: unitMemory(cfg.Memory, free)},
		InUse:     policy.Limits{Processors: use, Percent: percent, Memory: unitMemory(cfg.InUse.Memory, use)},
		FreeNet:   policy.Traffic{Up: int64(cfg.Upload), Down: int64(cfg.Download)},
		UseNet:    policy.Traffic{Up: int64(cfg.InUse.Upload), Down: int64(cfg.InUse.Download)},
		Month:     policy.Traffic{Up: int64(cfg.UploadMonth), Down: int64(cfg.DownloadMonth)},
		IdleAfter: cfg.Rules.IdleAfter, Mains: !cfg.Rules.Battery, Unmetered: !cfg.Rules.Metered,
		MaxHeat: cfg.Rules.MaxHeat, MaxLoad: cfg.Rules.MaxLoad, Exclusive: cfg.Rules.Exclusive,
	}
	for _, s := range cfg.Rules.Hours {
		h, err := policy.ParseHours(s)
		if err != nil {
			return r, err
		}
		r.Hours = append(r.Hours, h)
	}
	return r, nil
}

// unitMemory is what one of so many units may hold.
func unitMemory(all configs.Portion, slots int) uint64 {
	of := all.Of(int64(min(memory.TotalMemory(), 1<<62)))
	return min(uint64(max(of, 0))/uint64(max(slots, 1)), workunits.MaxMemory)
}

// commonWatts is what a processor of a common machine draws when it is busy.
const commonWatts = 6

// watts is what a busy processor of this machine draws, as far as is known.
func watts(cfg configs.Config, m *sensors.Machine) float64 {
	return cmp.Or(float64(cfg.Rules.Watts), m.Watts(runtime.NumCPU()), commonWatts)
}
